//! A task: a process that a helper forks for work that may fail in any way, and may be killed at any time.

use std::ffi::{CStr, c_int};
use std::io;

use crate::fork;

/// A process that does one thing. Dropping the value kills the process. What the process has started, and left in its
/// process group, is killed when the process ends.
pub struct Task {
    pid: libc::pid_t,
}

impl Task {
    /// Forks a process called `name` that runs `body` and ends with its result as the status.
    ///
    /// # Errors
    /// Those of `fork(2)`, and another error if this process has more than one thread.
    pub fn start(name: &CStr, body: impl FnOnce() -> u8) -> io::Result<Self> {
        let parent = std::process::id().cast_signed();
        let pid = fork::alone(|| prepare(name, parent).map_or(2, |()| body()))?;
        Ok(Self { pid })
    }

    /// Returns the number of the process.
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// If the process has ended, returns its status, or a sentence that says how it ended otherwise.
    pub fn ended(&mut self) -> Option<Result<u8, String>> {
        match self.wait(libc::WNOHANG)? {
            Some(status) if libc::WIFSIGNALED(status) => Some(Err(format!(
                "was ended by signal {}",
                libc::WTERMSIG(status)
            ))),
            Some(status) => Some(Ok(
                u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX)
            )),
            None => Some(Err(String::from("ended unnoticed"))),
        }
    }

    /// Kills the process if it runs. Returns whether it ran.
    pub fn kill(&mut self) -> bool {
        if self.pid == 0 {
            return false;
        }
        // SAFETY: a process that this process has started, and whose status has not been taken yet.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        let _ = self.wait(0);
        true
    }

    /// Returns `None` while the process runs. Otherwise kills its process group and returns its status, if that is
    /// available.
    fn wait(&mut self, flags: c_int) -> Option<Option<c_int>> {
        let (pid, id) = (self.pid, self.pid.cast_unsigned());
        let mut status = 0;
        // SAFETY: a process that this process has started. Until its status has been taken, no other process can get
        // its number, which is also the number of its group.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = flags | libc::WEXITED | libc::WNOWAIT;
            if libc::waitid(libc::P_PID, id, &mut info, flags) == 0 && info.si_pid() == 0 {
                return None;
            }
            libc::kill(-pid, libc::SIGKILL);
            self.pid = 0;
            Some((libc::waitpid(pid, &mut status, 0) == pid).then_some(status))
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Unblocks all signals, as in a program that was just started, and makes the process end when the helper ends.
fn prepare(name: &CStr, parent: libc::pid_t) -> Option<()> {
    // SAFETY: plain system calls with live arguments.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::setpgid(0, 0);
        let tied = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if tied != 0 || libc::getppid() != parent {
            return None;
        }
    }
    fork::unblock_signals();
    Some(())
}
