//! Forks of processes with one thread, and what their copies must not keep.

use std::collections::HashSet;
use std::ffi::c_int;
use std::os::fd::AsRawFd;
use std::{fs, io};

use crate::guard::guard_or;
use crate::log::LogServer;

/// Forks a process that runs `body` and ends with its result as the status; a panic counts as status 2. Returns its
/// number.
///
/// # Errors
/// Those of `fork(2)`, and another error if this process has more than one thread.
pub(crate) fn alone(body: impl FnOnce() -> u8) -> io::Result<libc::pid_t> {
    // In a copy of a process with more threads, locks that the other threads held would stay locked.
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let what = format!("this process has {threads} threads, and its copy would have one");
        return Err(io::Error::other(what));
    }
    // SAFETY: this thread was just counted as the only one, and only it could start another: so the new process has a
    // copy of all threads. The new process never returns from here.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = guard_or(2, body);
            // SAFETY: ends the process without httpd's clean-up, which is not for this process.
            unsafe { libc::_exit(c_int::from(status)) }
        }
        pid => Ok(pid),
    }
}

/// Unblocks all signals, as in a program that was just started.
pub(crate) fn unblock_signals() {
    // SAFETY: plain system calls with live arguments.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Returns the open descriptors, except the standard ones, `keep`, and those of `logs`.
pub(crate) fn open_descriptors(
    keep: &[impl AsRawFd],
    logs: &[LogServer],
) -> io::Result<Vec<c_int>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let of_logs = logs.iter().filter_map(|log| log.descriptor());
    let kept: HashSet<c_int> = keep.iter().map(AsRawFd::as_raw_fd).chain(of_logs).collect();
    let entries = fs::read_dir("/proc/self/fd")?;
    Ok(entries
        .flatten()
        .filter_map(number)
        .filter(|open| *open > 2 && !kept.contains(open))
        .collect())
}
