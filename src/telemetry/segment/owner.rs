//! Owners of arenas: processes, identified by pid and start time.

use std::fs::File;
use std::io::Read;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// A process that claims arenas: a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Start of the process, in clock ticks since the machine started.
    pub ticks: u64,
    /// Generation of the configuration that the process serves.
    pub generation: u64,
}

impl Owner {
    /// Returns the calling process as an owner.
    pub fn of_this_process(generation: u64) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            ticks: start_ticks(pid).unwrap_or(0),
            generation,
        }
    }

    pub(crate) fn word(&self, thread: u32) -> u64 {
        u64::from(self.pid) << 32 | u64::from(thread)
    }

    pub(crate) fn pid_of(word: u64) -> u32 {
        (word >> 32) as u32
    }

    pub(crate) fn thread_of(word: u64) -> u32 {
        word as u32
    }

    /// Returns whether the process `pid` that started at `ticks` (0: unknown) still exists. If in doubt, it does: an
    /// arena with two writers is worse than an arena with none.
    pub(crate) fn is_alive(pid: u32, ticks: u64) -> bool {
        Self::is_alive_by(pid, ticks, u64::MAX)
    }

    /// Does the same if only the bits of `mask` are known of `ticks`.
    pub(crate) fn is_alive_by(pid: u32, ticks: u64, mask: u64) -> bool {
        match start_ticks(pid) {
            Some(found) => ticks == 0 || found & mask == ticks,
            // The process may be hidden, or there may be no file descriptor left to open the file with.
            None => Self::exists(pid),
        }
    }

    /// Returns whether a process with this pid exists.
    pub(crate) fn exists(pid: u32) -> bool {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }
}

/// Returns field 22 of `/proc/<pid>/stat` (proc(5)). The second field may contain any character and ends at the last
/// parenthesis.
fn start_ticks(pid: u32) -> Option<u64> {
    // One read is enough and cheap: the field lies within the first few hundred bytes.
    let mut stat = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat"))
        .and_then(|mut file| file.read(&mut stat))
        .ok()?;
    let stat = &stat[..length];
    let rest = &stat[stat.iter().rposition(|&byte| byte == b')')? + 1..];
    let field = rest
        .split(|&byte| byte == b' ')
        .filter(|field| !field.is_empty())
        .nth(19)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}
