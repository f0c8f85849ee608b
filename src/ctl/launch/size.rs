//! The numbers of children and threads, as directives and as a sentence.

use std::fmt;

use crate::cli::Mpm;
use crate::output::failure::{Failure, Outcome};

/// A server of a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) mpm: Mpm,
    processes: u32,
    threads: u32,
}

impl Size {
    /// Returns the requested size, or the defaults.
    pub(crate) fn new(mpm: Mpm, processes: Option<u32>, threads: Option<u32>) -> Outcome<Size> {
        let (default_processes, default_threads) = match mpm {
            Mpm::Prefork => (10, 1),
            Mpm::Event | Mpm::Worker => (2, 10),
        };
        let threads = threads.unwrap_or(default_threads);
        if mpm == Mpm::Prefork && threads != 1 {
            return Err(Failure::new(format!(
                "--threads {threads}: a child of the prefork MPM has one thread."
            ))
            .remedy("Leave --threads out and give --processes, or choose --mpm event."));
        }
        Ok(Size {
            mpm,
            processes: processes.unwrap_or(default_processes),
            threads,
        })
    }

    /// Returns the size of an httpd whose children only speak with clients, for an application in processes of its own:
    /// each child alone can keep them all busy.
    pub(crate) fn beside(mpm: Mpm, group: GroupSize) -> Outcome<Size> {
        if mpm == Mpm::Prefork {
            return Err(Failure::new(
                "--daemon: under the prefork MPM, each client would take a process of httpd, too.",
            )
            .remedy(
                "Leave --mpm out; --threads 1 gives each process of the application one thread.",
            ));
        }
        let threads = group.processes.saturating_mul(group.threads);
        Size::new(mpm, Some(2), Some(threads.clamp(25, 1000)))
    }

    /// Returns the directives that fix this size.
    ///
    /// All children start at once, and httpd never ends one as superfluous. The spare minimum is 1: with a higher one,
    /// httpd logs an error about MaxRequestWorkers on a server that is busy but not full. A lost child is replaced when
    /// no other is idle.
    pub(crate) fn directives(&self) -> Vec<(&'static str, u32)> {
        let Size {
            processes, threads, ..
        } = *self;
        let workers = processes * threads;
        match self.mpm {
            Mpm::Prefork => vec![
                ("ServerLimit", processes),
                ("StartServers", processes),
                ("MinSpareServers", 1),
                // httpd requires more than the minimum.
                ("MaxSpareServers", processes.max(2)),
                ("MaxRequestWorkers", workers),
                ("MaxConnectionsPerChild", 0),
            ],
            Mpm::Event | Mpm::Worker => vec![
                // Under event, old children keep their slots while they finish after a graceful restart.
                (
                    "ServerLimit",
                    if self.mpm == Mpm::Event {
                        processes * 2
                    } else {
                        processes
                    },
                ),
                ("ThreadLimit", threads),
                ("StartServers", processes),
                ("ThreadsPerChild", threads),
                ("MinSpareThreads", 1),
                // httpd requires room for one child more than the minimum.
                ("MaxSpareThreads", workers + 1),
                ("MaxRequestWorkers", workers),
                ("MaxConnectionsPerChild", 0),
            ],
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = sentence(self.processes, ["child", "children"], self.threads);
        write!(f, "{} MPM, {size}", self.mpm.name())
    }
}

/// Says how many processes, threads and requests there are. `noun`: one process, and several.
fn sentence(processes: u32, noun: [&str; 2], threads: u32) -> String {
    let of = |count: u32, [one, many]: [&str; 2]| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    };
    format!(
        "{} x {}: {} at once",
        of(processes, noun),
        of(threads, ["thread", "threads"]),
        of(processes.saturating_mul(threads), ["request", "requests"]),
    )
}

/// The numbers of processes and threads of an application that has its own processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupSize {
    pub(crate) processes: u32,
    pub(crate) threads: u32,
}

impl GroupSize {
    /// Returns the requested size, or the defaults.
    pub(crate) fn new(processes: Option<u32>, threads: Option<u32>) -> GroupSize {
        GroupSize {
            processes: processes.unwrap_or(2),
            threads: threads.unwrap_or(10),
        }
    }
}

impl fmt::Display for GroupSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sentence(
            self.processes,
            ["process", "processes"],
            self.threads,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn httpd_beside_a_group_has_threads_for_all_of_it() {
        for (processes, threads, expected) in
            [(1, 1, 25), (2, 10, 25), (8, 10, 80), (1000, 1000, 1000)]
        {
            let group = GroupSize::new(Some(processes), Some(threads));
            let size = Size::beside(Mpm::Event, group).expect("a valid size");
            assert_eq!(
                size,
                Size::new(Mpm::Event, Some(2), Some(expected)).expect("a valid size")
            );
        }
        let group = GroupSize::new(None, None);
        assert_eq!(
            group.to_string(),
            "2 processes x 10 threads: 20 requests at once"
        );
        let one = GroupSize::new(Some(1), Some(1));
        assert_eq!(one.to_string(), "1 process x 1 thread: 1 request at once");
        assert!(Size::beside(Mpm::Prefork, group).is_err());
    }

    #[test]
    fn httpd_never_has_to_correct_a_size() {
        for mpm in [Mpm::Event, Mpm::Worker, Mpm::Prefork] {
            for processes in [1, 2, 7] {
                let threads = if mpm == Mpm::Prefork { 1 } else { 5 };
                let size = Size::new(mpm, Some(processes), Some(threads)).expect("a valid size");
                let directives = size.directives();
                let of = |name: &str| {
                    directives
                        .iter()
                        .find(|(known, _)| *known == name)
                        .map(|(_, value)| *value)
                };
                assert_eq!(of("MaxRequestWorkers"), Some(processes * threads));
                assert_eq!(of("StartServers"), Some(processes));
                assert!(of("ServerLimit") >= Some(processes));
                if mpm == Mpm::Prefork {
                    assert!(of("MaxSpareServers") > of("MinSpareServers"));
                    assert!(of("MaxSpareServers") >= Some(processes));
                } else {
                    assert_eq!(of("ThreadLimit"), of("ThreadsPerChild"));
                    assert!(of("MaxSpareThreads") >= Some(1 + threads));
                    assert!(of("MaxSpareThreads") >= Some(processes * threads));
                }
            }
        }
    }

    #[test]
    fn the_size_in_one_sentence() {
        let sentence = |mpm, processes, threads| {
            Size::new(mpm, processes, threads).map(|size| size.to_string())
        };
        assert_eq!(
            sentence(Mpm::Event, None, None).as_deref(),
            Ok("event MPM, 2 children x 10 threads: 20 requests at once")
        );
        assert_eq!(
            sentence(Mpm::Prefork, Some(1), None).as_deref(),
            Ok("prefork MPM, 1 child x 1 thread: 1 request at once")
        );
    }

    #[test]
    fn a_prefork_child_has_one_thread() {
        assert!(Size::new(Mpm::Prefork, None, Some(1)).is_ok());
        assert!(Size::new(Mpm::Prefork, None, Some(2)).is_err());
    }
}
