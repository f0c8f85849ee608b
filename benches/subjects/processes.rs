//! The processes of a server: its root, and all descendants of the root.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use procfs::process::{MMapPath, Process, Stat, all_processes};
use procfs::{ProcError, ProcResult};
use rustix::process::Signal;

use crate::subjects::interrupt::send;

/// A process. The time of its start tells it apart from a later process with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessKey {
    pub(crate) pid: u32,
    /// Clock ticks since the machine started
    pub(crate) started: u64,
}

/// A process, and the id of its parent.
#[derive(Clone, Copy)]
struct Entry {
    key: ProcessKey,
    parent: u32,
}

/// Returns the process with this id.
pub(crate) fn process(pid: u32) -> ProcResult<Process> {
    Process::new(i32::try_from(pid).map_err(|_| ProcError::NotFound(None))?)
}

/// Returns the running process with this id.
pub(crate) fn key_of(pid: u32) -> Result<ProcessKey> {
    Ok(ProcessKey {
        pid,
        started: process(pid)?.stat()?.starttime,
    })
}

/// Returns the children of a process and their names.
pub(crate) fn children_of(parent: u32) -> Result<Vec<(u32, String)>> {
    stats()?
        .filter(|stat| u32::try_from(stat.ppid) == Ok(parent))
        .map(|stat| Ok((stat.pid.try_into()?, stat.comm)))
        .collect()
}

/// Returns the processes with these ids and all of their descendants, except those that have ended.
pub(crate) fn trees_of(roots: &[u32]) -> Result<Vec<ProcessKey>> {
    let all: Vec<Entry> = stats()?
        .filter(|stat| !has_ended(stat))
        .map(|stat| {
            Ok(Entry {
                key: ProcessKey {
                    pid: stat.pid.try_into()?,
                    started: stat.starttime,
                },
                parent: stat.ppid.try_into()?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(trees(roots, &all))
}

fn trees(roots: &[u32], all: &[Entry]) -> Vec<ProcessKey> {
    let mut found: Vec<ProcessKey> = Vec::new();
    let is_root = |entry: &&Entry| roots.contains(&entry.key.pid);
    found.extend(all.iter().filter(is_root).map(|entry| entry.key));
    let mut next = 0;
    while let Some(&ProcessKey { pid, .. }) = found.get(next) {
        // A root may be the descendant of another root.
        for child in all.iter().filter(|entry| entry.parent == pid) {
            if !found.contains(&child.key) {
                found.push(child.key);
            }
        }
        next += 1;
    }
    found
}

/// Returns the file name of the libpython that one of the processes has mapped.
pub(crate) fn libpython(processes: &[ProcessKey]) -> Result<Option<String>> {
    for one in processes {
        let Some(maps) = unless_ended(process(one.pid).and_then(|process| process.maps()))? else {
            continue;
        };
        let name = maps.into_iter().find_map(|map| match map.pathname {
            MMapPath::Path(file) => libpython_name(&file),
            _ => None,
        });
        if name.is_some() {
            return Ok(name);
        }
    }
    Ok(None)
}

fn libpython_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    name.starts_with("libpython").then(|| name.to_owned())
}

/// Waits until all of the processes have ended, but not longer than `patience`; then kills those that still run.
pub(crate) fn wait_for_end(processes: &[ProcessKey], patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if !processes.iter().any(is_running) {
            return;
        }
        thread::sleep(POLL);
    }
    kill(processes);
}

/// Kills those of the processes that still run.
pub(crate) fn kill(processes: &[ProcessKey]) {
    for one in processes.iter().filter(|one| is_running(one)) {
        send(one.pid, Signal::KILL);
    }
}

fn is_running(key: &ProcessKey) -> bool {
    let stat = process(key.pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.starttime == key.started && !has_ended(&stat))
}

/// Whether the process has ended and only waits until its parent learns of it.
fn has_ended(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X')
}

fn stats() -> Result<impl Iterator<Item = Stat>> {
    // A process may end before it is read.
    Ok(all_processes()?.filter_map(|process| process.ok()?.stat().ok()))
}

/// Turns the error of a thread or a process that has ended into `None`: it may end between two reads.
pub(crate) fn unless_ended<T>(read: ProcResult<T>) -> ProcResult<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ProcError::NotFound(_)) => Ok(None),
        Err(ProcError::Io(error, _)) if error.raw_os_error() == Some(ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use anyhow::Context;

    use super::*;

    fn entry(pid: u32, parent: u32) -> Entry {
        Entry {
            key: ProcessKey { pid, started: 1 },
            parent,
        }
    }

    fn pids(roots: &[u32], all: &[Entry]) -> Vec<u32> {
        trees(roots, all).iter().map(|key| key.pid).collect()
    }

    #[test]
    fn a_tree_has_every_descendant_once() {
        let all = [
            entry(1, 0),
            entry(10, 1),
            entry(11, 10),
            // A process of a group: its parent is a helper of httpd's parent.
            entry(5, 12),
            entry(12, 10),
            entry(20, 1),
            entry(21, 20),
        ];
        assert_eq!(pids(&[10], &all), [10, 11, 12, 5]);
        assert_eq!(pids(&[10, 20], &all), [10, 20, 11, 12, 21, 5]);
        assert_eq!(pids(&[10, 12], &all), [10, 12, 11, 5]);
        assert!(pids(&[99], &all).is_empty());
    }

    #[test]
    fn grandchildren_are_found_and_ended() -> Result<()> {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & echo ready; wait'; true"])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = shell.stdout.take().context("a pipe")?;
        BufReader::new(output).read_line(&mut String::new())?;
        let tree = trees_of(&[shell.id()])?;
        assert!(tree.len() >= 3, "{tree:?}");
        wait_for_end(&tree, Duration::from_millis(20));
        shell.wait()?;
        wait_for_end(&tree, Duration::from_secs(10));
        assert!(!tree.iter().any(is_running));
        Ok(())
    }

    #[test]
    fn a_library_is_known_by_its_name() {
        let name = |path: &str| libpython_name(Path::new(path));
        let library = "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0";
        assert_eq!(name(library).as_deref(), Some("libpython3.11.so.1.0"));
        assert_eq!(name("/usr/lib/libc.so.6"), None);
    }
}
