//! A process of a process group, which the supervisor forks.
//!
//! The new process is a copy of the supervisor, which has one thread and none of httpd's descriptors. It gets back the
//! signals that the supervisor blocks or ignores, and ends when the supervisor ends. It leaves httpd's process group, to
//! which prefork sends the signals of its restart and stop, and a terminal those of its keys: only the supervisor decides
//! when the process ends.

use std::ffi::{CStr, CString};
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use wsgi_core::messages::Message;

use crate::log::{self, LogServer};
use crate::{fork, forked};

/// Proof that its thread is the only one of a process that was just forked. The value neither leaves that thread nor
/// outlives its only moment.
pub struct Alone(PhantomData<*mut ()>);

impl Alone {
    /// Sets a variable of the environment. A name or value with a NUL byte is ignored.
    pub fn set_variable(&self, name: &str, value: &str) {
        if !name.contains('\0') && !name.is_empty() && !name.contains('=') && !value.contains('\0')
        {
            // SAFETY: no other thread reads the environment, as there is none.
            unsafe { std::env::set_var(name, value) };
        }
    }

    /// Sets the locale of the C library. Returns whether the system has it.
    pub fn set_locale(&self, locale: &str) -> bool {
        let Ok(locale) = CString::new(locale) else {
            return false;
        };
        // SAFETY: a C string; no other thread uses the locale.
        unsafe { !libc::setlocale(libc::LC_ALL, locale.as_ptr()).is_null() }
    }

    /// Makes lines that belong to no request go to the log of this server, which is open in this process. The process
    /// keeps its copy of the configuration until it ends.
    pub fn log_to(&self, server: LogServer) {
        server.put_in_place();
    }

    /// Makes `ps` show `title` in place of httpd's command line; it is cut where that command line ended.
    pub fn set_title(&self, title: &str) {
        let (start, length) = (TITLE.load(Relaxed), TITLE_LENGTH.load(Relaxed));
        if start.is_null() || length == 0 {
            return;
        }
        let count = title.len().min(length - 1);
        // SAFETY: the memory of the command line, which the kernel has laid out as one piece of `length` bytes that
        // ends with a NUL, and which this process does not read any more.
        unsafe {
            std::ptr::write_bytes(start, 0, length);
            std::ptr::copy_nonoverlapping(title.as_ptr(), start, count);
        }
    }

    /// Makes the kernel end this process when its parent ends. To be called after the last change of user, which resets
    /// it. Returns `false` if the parent has ended already.
    pub fn end_with_parent(&self, parent: u32) -> bool {
        // SAFETY: plain system calls.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0
                && libc::getppid() == parent.cast_signed()
        }
    }
}

/// Ends this process at once, without any clean-up. For when its main thread runs code that cannot be waited for: what
/// that thread uses must not be destroyed.
pub fn leave(status: u8) -> ! {
    // SAFETY: ends the process without running any code in it. [S-56]
    unsafe { libc::_exit(status.into()) }
}

/// The command line of httpd, and its length with the last NUL.
static TITLE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static TITLE_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Finds the command line that [`Alone::set_title`] may write to. For the parent, at its start.
pub(crate) fn find_command_line() {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    if let Some((start, end)) = command_line(&stat)
        && start < end
    {
        TITLE.store(std::ptr::with_exposed_provenance_mut(start), Relaxed);
        TITLE_LENGTH.store(end - start, Relaxed);
    }
}

/// Returns where the command line begins and ends in the memory of a process; `stat` is its `/proc/.../stat`.
fn command_line(stat: &str) -> Option<(usize, usize)> {
    /// Numbers 48 and 49 of proc_pid_stat(5), `arg_start` and `arg_end`, counted behind the name, which is number 2.
    const ARG_START: usize = 48 - 3;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut numbers = behind_name.split_ascii_whitespace().skip(ARG_START);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Forks a process called `name` that runs `body` and ends with its result as the status. It gets no descriptors but
/// the standard ones, `keep`, and that of `log`. Returns its number.
///
/// # Errors
/// Those of `fork(2)`, and another error if this process has more than one thread.
pub fn start(
    name: &CStr,
    keep: &[BorrowedFd<'_>],
    log: LogServer,
    body: impl FnOnce(&Alone) -> u8,
) -> io::Result<u32> {
    let pid = fork::alone(|| match prepare(name, keep, log) {
        Ok(()) => body(&Alone(PhantomData)),
        Err(error) => {
            let line = Message::HelperStart.line(&[&name.to_string_lossy(), &error]);
            log::server(log::Level::Error, line.as_bytes());
            1
        }
    })?;
    Ok(pid.cast_unsigned())
}

/// Gives the new process the signals of a program that was just started, and closes what it does not need.
fn prepare(name: &CStr, keep: &[BorrowedFd<'_>], log: LogServer) -> io::Result<()> {
    let open = fork::open_descriptors(keep, &[log])?;
    // SAFETY: plain system calls with live arguments, on descriptors that this process does not use.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        if libc::setpgid(0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The supervisor ignores `SIGHUP`, `SIGUSR1` and `SIGUSR2`, too. They stay ignored until the process handles them,
        // so that none of them ends it before.
        for signal in [libc::SIGINT, libc::SIGWINCH] {
            libc::signal(signal, libc::SIG_DFL);
        }
        for descriptor in open {
            libc::close(descriptor);
        }
    }
    fork::unblock_signals();
    forked::note();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_found() {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("this system has it");
        let (start, end) = command_line(&stat).expect("the kernel shows them");
        let shown = std::fs::read("/proc/self/cmdline").expect("this system has it");
        assert_eq!(end - start, shown.len());
        assert_eq!(command_line("7 (a b) c) S 1"), None);
    }
}
