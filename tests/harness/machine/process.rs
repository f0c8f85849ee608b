//! What `/proc` tells about httpd's processes, and the signals that httpd understands.

use std::fs;

use rustix::process::{Pid as RawPid, Signal, kill_process};

/// A process number.
pub type Pid = i32;

/// The living children of a process, zombies left out.
pub fn children_of(parent: Pid) -> Vec<Pid> {
    let mut children: Vec<Pid> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(*pid).is_some_and(|(state, ppid)| ppid == parent && state != 'Z'))
        .collect();
    children.sort_unstable();
    children
}

/// Whether the process exists and is not a zombie.
pub fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The name of a process as the module sets it for those of its own, which are no children of the MPM.
pub(crate) fn name(pid: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// The process's memory map, as text.
pub fn maps(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default()
}

/// Resident memory in KiB.
pub fn rss_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// KiB of memory that a process shares with nobody: of the segment, everybody has as much as it has looked at.
pub fn own_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Number of open file descriptors.
pub fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// `kill -9`.
pub fn kill(pid: Pid) {
    signal(pid, Signal::KILL);
}

/// `SIGUSR1`: httpd lets its children finish and starts new ones with the configuration of now.
pub fn graceful(pid: Pid) {
    signal(pid, Signal::USR1);
}

/// `SIGHUP`: httpd ends its children at once and starts new ones.
pub fn hang_up(pid: Pid) {
    signal(pid, Signal::HUP);
}

pub(crate) fn terminate(pid: Pid) {
    signal(pid, Signal::TERM);
}

fn signal(pid: Pid, signal: Signal) {
    if let Some(pid) = RawPid::from_raw(pid) {
        // A process that is gone already is no mistake of the caller.
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process holds a connection whose own end is this port.
pub(crate) fn has_connections(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, .., inode] = fields[..10.min(fields.len())] else {
            return false;
        };
        let own = local
            .rsplit(':')
            .next()
            .and_then(|port| u16::from_str_radix(port, 16).ok());
        own == Some(port) && state != LISTENING && inode != "0"
    })
}

/// State and parent from `/proc/PID/stat`; the name in between may hold spaces and parentheses.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text[text.rfind(')')? + 1..].split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// TCP_LISTEN in the kernel's table.
const LISTENING: &str = "0A";
