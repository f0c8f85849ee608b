//! A task: a process that a helper forks for something that may go wrong, and that it ends when it likes.

use std::ffi::{CStr, c_int};
use std::io;

use crate::guard::guard_or;

/// A process that does one thing. Killed by drop.
pub struct Task {
    pid: libc::pid_t,
}

impl Task {
    /// Forks a process called `name` that runs `body` and ends with its answer as the status. For processes with one
    /// thread: helpers.
    ///
    /// # Errors
    /// Those of `fork(2)`.
    pub fn start(name: &CStr, body: impl FnOnce() -> u8) -> io::Result<Self> {
        let parent = std::process::id().cast_signed();
        // SAFETY: the caller has one thread, so the new process has all of it; it never returns from here.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let status = guard_or(2, || prepare(name, parent).map_or(2, |()| body()));
                // SAFETY: ends the process without the clean-up of httpd, which has none here.
                unsafe { libc::_exit(c_int::from(status)) }
            }
            pid => Ok(Self { pid }),
        }
    }

    /// Number of the process.
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// How it ended, if it has: its status, or what became of it in words.
    pub fn ended(&mut self) -> Option<Result<u8, String>> {
        let mut status = 0;
        // SAFETY: a process that we have started and whose status nobody has taken yet.
        match unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } {
            0 => None,
            pid if pid == self.pid => {
                self.pid = 0;
                Some(if libc::WIFSIGNALED(status) {
                    Err(format!("was ended by signal {}", libc::WTERMSIG(status)))
                } else {
                    Ok(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
                })
            }
            _ => {
                self.pid = 0;
                Some(Err(String::from("ended unnoticed")))
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.pid != 0 {
            // SAFETY: as above.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// Signals as in a program that was just started, and an end together with the helper.
fn prepare(name: &CStr, parent: libc::pid_t) -> Option<()> {
    // SAFETY: plain system calls with live arguments.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        let tied = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if tied != 0 || libc::getppid() != parent {
            return None;
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
    Some(())
}
