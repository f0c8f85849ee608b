//! Facts from `/proc` about httpd's processes, and the signals that httpd understands.

use std::fs;
use std::time::Duration;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, Stat, Status, all_processes};
use rustix::process::{Pid as RawPid, Signal, kill_process};

use crate::wait::eventually::eventually_within;

/// A process number.
pub type Pid = i32;

/// Returns the living children of a process, without zombies.
pub fn children_of(parent: Pid) -> Vec<Pid> {
    let mut children: Vec<Pid> = all_processes()
        .expect("/proc can be read")
        // A process may end before it is read.
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.ppid == parent && stat.state != ZOMBIE)
        .map(|stat| stat.pid)
        .collect();
    children.sort_unstable();
    children
}

/// Whether the process exists and is not a zombie.
pub fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat.state != ZOMBIE)
}

/// Waits until a process has ended.
#[track_caller]
pub fn wait_until_ended(pid: Pid) {
    let ended = eventually_within(ENDS_WITHIN, || (!is_alive(pid)).then_some(()));
    assert!(
        ended.is_some(),
        "process {pid} has not ended in {ENDS_WITHIN:?}"
    );
}

/// The longest wait for the end of a child.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// Returns the name of a process. The module gives names to its own processes, which are not children of the MPM.
pub(crate) fn name(pid: Pid) -> String {
    stat(pid).map_or_else(String::new, |stat| stat.comm)
}

/// Whether the command line of a process contains this text.
pub(crate) fn was_started_with(pid: Pid, text: &str) -> bool {
    let command = Process::new(pid).and_then(|process| process.cmdline());
    command.is_ok_and(|words| words.iter().any(|word| word.contains(text)))
}

/// Returns the process's memory map, as text.
pub fn maps(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default()
}

/// Resident memory in KiB.
pub fn rss_kib(pid: Pid) -> u64 {
    status(pid).and_then(|status| status.vmrss).unwrap_or(0)
}

/// Anonymous resident memory in KiB, which the process shares with no other: pages of the segment do not count.
pub fn own_kib(pid: Pid) -> u64 {
    status(pid).and_then(|status| status.rssanon).unwrap_or(0)
}

/// Number of open file descriptors.
pub fn descriptors(pid: Pid) -> usize {
    let count = Process::new(pid).and_then(|process| process.fd_count());
    count.unwrap_or(0)
}

/// `kill -9`.
pub fn kill(pid: Pid) {
    signal(pid, Signal::KILL);
}

/// `SIGUSR1`: httpd lets its children finish and starts new ones with the current configuration.
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
        // If the process has already ended, that is not a mistake of the caller.
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process has a connection whose local port is this one.
pub(crate) fn has_connections(port: u16) -> bool {
    let table = procfs::net::tcp().expect("/proc can be read");
    table.iter().any(|entry| {
        entry.local_address.port() == port && entry.state != TcpState::Listen && entry.inode != 0
    })
}

/// Whether a process can take new connections on this port.
pub fn listens(pid: Pid, port: u16) -> bool {
    let Some(descriptors) = Process::new(pid).and_then(|process| process.fd()).ok() else {
        return false;
    };
    let open: Vec<FDTarget> = descriptors
        .flatten()
        .map(|descriptor| descriptor.target)
        .collect();
    let table = procfs::net::tcp().expect("/proc can be read");
    table.iter().any(|entry| {
        entry.state == TcpState::Listen
            && entry.local_address.port() == port
            && open.contains(&FDTarget::Socket(entry.inode))
    })
}

fn stat(pid: Pid) -> Option<Stat> {
    Process::new(pid).ok()?.stat().ok()
}

fn status(pid: Pid) -> Option<Status> {
    Process::new(pid).ok()?.status().ok()
}

/// The state of a process that has ended but that its parent has not waited for.
const ZOMBIE: char = 'Z';
