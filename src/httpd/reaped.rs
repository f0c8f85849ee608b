//! How a child ended. The MPM takes the status of a child and reports only that the child has ended. So the parent
//! learns the status from the kernel, by `SIGCHLD`, which is delivered before the MPM has waited for the child. [S-50]
//!
//! If several children end at the same moment, one signal may stand for all of them. The handler then looks at the
//! other children, and finds those that the MPM has not waited for yet. How the rest ended stays unknown.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::guard::guard_or;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Status(u8),
    /// By this signal.
    Signal(c_int),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            End::Status(status) => write!(f, "with status {status}"),
            End::Signal(signal) => match name(signal) {
                Some(name) => write!(f, "by {name}"),
                None => write!(f, "by signal {signal}"),
            },
        }
    }
}

impl End {
    /// Says how a process ended, also if that is not known.
    pub fn in_words(how: Option<Self>) -> String {
        how.map_or_else(
            || "in a way that is not known".into(),
            |how| how.to_string(),
        )
    }
}

/// Returns the name of a signal, if it is one that usually ends a process.
fn name(signal: c_int) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGALRM => "SIGALRM",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

/// Highest number of children that are followed at the same time; how others end stays unknown.
const MOST: usize = 4096;

/// One child each: its process number in the upper half, what is known of its end in the lower half.
static CHILDREN: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
/// All places from this index on are free.
static USED: AtomicU32 = AtomicU32::new(0);
/// The process that has these children.
static PARENT: AtomicU32 = AtomicU32::new(0);

/// Bits in the lower half of a place: the child has ended; a signal ended it. The lowest byte is the status or the
/// signal.
const ENDED: u64 = 1 << 16;
const BY_SIGNAL: u64 = 1 << 17;

fn places() -> &'static [AtomicU64] {
    let used = USED.load(Relaxed) as usize;
    &CHILDREN[..used.min(MOST)]
}

fn pid_of(place: u64) -> u32 {
    (place >> 32) as u32
}

/// Makes this process learn how its children end, unless another module handles `SIGCHLD`. For the parent.
pub(crate) fn watch() {
    PARENT.store(std::process::id(), Relaxed);
    let handler = child_ended as unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    // SAFETY: plain system calls with live arguments; the handler stays mapped and does only what a handler may. [S-1]
    // [S-50]
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut before) != 0
            || before.sa_sigaction != libc::SIG_DFL
        {
            return;
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut());
    }
}

/// Restores the default action of `SIGCHLD`, in a process that is not httpd's parent.
pub(crate) fn forget() {
    let handler = child_ended as unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    // SAFETY: plain system calls with live arguments.
    unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut found) == 0
            && found.sa_sigaction == handler as usize
        {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
    }
}

/// Follows a child that was started. For the parent.
pub(crate) fn follow(pid: u32) {
    let word = u64::from(pid) << 32;
    let known = places()
        .iter()
        .find(|place| pid_of(place.load(Relaxed)) == pid);
    let place = known.or_else(|| CHILDREN.iter().find(|place| place.load(Relaxed) == 0));
    let Some(place) = place else { return };
    place.store(word, Relaxed);
    let at = CHILDREN.iter().position(|other| std::ptr::eq(other, place));
    let used = at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(0);
    USED.fetch_max(used, Relaxed);
    // The child may have ended before it had a place.
    look_at(pid);
}

/// Returns how a reaped child ended, if that is known, and stops following the child. For the parent.
pub(crate) fn end_of(pid: u32) -> Option<End> {
    let is_its = |place: &&AtomicU64| pid_of(place.load(Relaxed)) == pid;
    let place = places().iter().find(is_its)?.swap(0, Relaxed);
    let value = (place & 0xff) as u8;
    match (place & ENDED != 0, place & BY_SIGNAL != 0) {
        (false, _) => None,
        (true, true) => Some(End::Signal(value.into())),
        (true, false) => Some(End::Status(value)),
    }
}

unsafe extern "C" fn child_ended(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    guard_or((), || {
        // SAFETY: a plain system call, and this thread's `errno`, which is restored below.
        let (me, errno) = unsafe { (libc::getpid(), libc::__errno_location()) };
        // SAFETY: as above.
        let before = unsafe { *errno };
        if me.cast_unsigned() == PARENT.load(Relaxed) {
            // SAFETY: the kernel passes information about a child.
            unsafe { note(&*info) };
            for place in places() {
                let word = place.load(Relaxed);
                if word != 0 && word & ENDED == 0 {
                    look_at(pid_of(word));
                }
            }
        }
        // SAFETY: as above.
        unsafe { *errno = before };
    });
}

/// Notes how a child ended, if it has ended and the MPM has not waited for it yet.
fn look_at(pid: u32) {
    // SAFETY: a plain system call with live arguments; `WNOWAIT` leaves the child to be waited for.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_PID, pid, &mut info, flags) == 0 && info.si_pid() != 0 {
            note(&info);
        }
    }
}

/// # Safety
/// `info` must be about a child.
unsafe fn note(info: &libc::siginfo_t) {
    // SAFETY: by contract.
    let (pid, status) = unsafe { (info.si_pid().cast_unsigned(), info.si_status()) };
    let value = u64::from(status.cast_unsigned() & 0xff);
    let what = match info.si_code {
        libc::CLD_EXITED => ENDED | value,
        libc::CLD_KILLED | libc::CLD_DUMPED => ENDED | BY_SIGNAL | value,
        _ => return,
    };
    let is_its = |place: &&AtomicU64| pid_of(place.load(Relaxed)) == pid;
    if let Some(place) = places().iter().find(is_its) {
        place.store(u64::from(pid) << 32 | what, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        for (end, text) in [
            (End::Status(3), "with status 3"),
            (End::Signal(libc::SIGSEGV), "by SIGSEGV"),
            (End::Signal(64), "by signal 64"),
        ] {
            assert_eq!(end.to_string(), text);
        }
    }

    #[test]
    fn the_end_of_a_child_is_known_once_it_was_waited_for() {
        watch();
        for (script, expected) in [
            ("read line; exit 3", End::Status(3)),
            ("read line; kill -KILL $$", End::Signal(libc::SIGKILL)),
            ("read line; kill -SEGV $$", End::Signal(libc::SIGSEGV)),
        ] {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("a shell");
            follow(child.id());
            drop(child.stdin.take());
            child.wait().expect("its status");
            // In this program another thread may get the signal, so it may arrive later than `wait` returns.
            let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
            let is_known = || {
                places().iter().any(|place| {
                    let place = place.load(Relaxed);
                    pid_of(place) == child.id() && place & ENDED != 0
                })
            };
            while !is_known() && std::time::Instant::now() < until {
                std::thread::yield_now();
            }
            assert_eq!(end_of(child.id()), Some(expected), "{script}");
            assert_eq!(end_of(child.id()), None, "{script}");
        }
        forget();
    }
}
