//! The threads of an interpreter whose GIL cannot be acquired, for example while a C function does not release it.
//!
//! CPython's `faulthandler` can look at threads without the GIL, but the data may change while it reads, which can
//! crash the process and lose everything that it serves. So it looks at a copy: the process forks, and in the copy,
//! where only the calling thread runs and all others stand still, `faulthandler` writes to a pipe. If it meets broken
//! data, or a lock that another thread held during the fork, only the copy is lost, and another one is made.
//!
//! `faulthandler` has no function to call for this, only the handler of a signal. The handler is registered in the main
//! interpreter when Python starts, and the signal gets its previous disposition back, so that the registration has no
//! visible effect. The handler shows the interpreter of which the calling thread has a state; the copy makes one.
//! [S-29]

use std::ffi::{c_int, c_ulong};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pyo3::ffi;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::application::free_threading;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::{Attached, PyResult};
use crate::cpython::threads as own_threads;
use crate::watch::thread_list::{self, MOST_FRAMES, Thread, Threads, frame};

/// Returns a signal that no part of httpd, glibc or CPython uses, so that an application's own use of `faulthandler`
/// has another one.
fn signal() -> c_int {
    libc::SIGRTMAX() - 3
}

/// How many copies are made while they write nothing.
const TRIES: u32 = 3;
/// How long each copy may take.
const PATIENCE: Duration = Duration::from_millis(700);
/// The most bytes that are read.
const MOST: usize = 1 << 20;

/// Makes CPython write the stacks of all threads to a descriptor.
struct Shower {
    show: extern "C" fn(c_int),
    /// The descriptor, which stays open. It refers to `/dev/null`, except in the copy.
    file: c_int,
}

static SHOWER: OnceLock<Shower> = OnceLock::new();

/// Prepares snapshots in the main interpreter.
pub(super) fn begin(py: &Attached<'_>, is_main: bool) -> PyResult<()> {
    // Without a GIL, `attached` shows stacks by the module `faulthandler` itself, in each interpreter.
    if !is_main && cfg!(not(Py_GIL_DISABLED)) {
        return Ok(());
    }
    let faulthandler = py.import(c"faulthandler")?;
    // Without a GIL the handler shows only its own thread.
    if !is_main || free_threading::may_be_off() || SHOWER.get().is_some() {
        return Ok(());
    }
    let Ok(file) = File::options().write(true).open("/dev/null") else {
        return Ok(());
    };
    let descriptor = py.int(file.as_raw_fd().into())?;
    let number = py.int(signal().into())?;
    let Some(before) = disposition() else {
        return Ok(());
    };
    faulthandler.call_method(
        py,
        c"register",
        [&number, &descriptor, &py.bool(true), &py.bool(false)],
    )?;
    let registered = disposition();
    // SAFETY: `before` is the disposition that was read just now.
    unsafe { libc::sigaction(signal(), &before, std::ptr::null_mut()) };
    if let Some(registered) = registered
        && registered.sa_sigaction != libc::SIG_DFL
        && registered.sa_sigaction != libc::SIG_IGN
        && registered.sa_flags & libc::SA_SIGINFO == 0
    {
        // SAFETY: the handler of a signal has this type if `SA_SIGINFO` is not set. [S-29]
        let show = unsafe {
            std::mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(registered.sa_sigaction)
        };
        let file = file.into_raw_fd();
        let _ = SHOWER.set(Shower { show, file });
    }
    Ok(())
}

/// Returns the disposition of the signal.
fn disposition() -> Option<libc::sigaction> {
    // SAFETY: a plain structure, which is filled in; nothing is changed.
    unsafe {
        let mut found = std::mem::zeroed();
        (libc::sigaction(signal(), std::ptr::null(), &mut found) == 0).then_some(found)
    }
}

/// Returns the threads of an interpreter, as they stand. The error is text for after a colon, and says why there is
/// nothing.
pub(super) fn threads(
    interpreter: &'static Interpreter,
    until: Instant,
) -> Result<Threads, String> {
    let shower = SHOWER.get().ok_or(match free_threading::may_be_off() {
        true => "without a GIL they can only be taken while all threads stand still",
        false => "faulthandler could not be set up when Python started",
    })?;
    let (tell, told) = mpsc::channel();
    // On a thread that has no state of any interpreter. It never attaches, so it ends.
    let begun = own_threads::background("wsgi-snapshot", move || {
        let _ = tell.send(attempt(shower, interpreter, until));
    });
    if !begun {
        return Err(String::from("there is no thread for it"));
    }
    // The kernel may take some time to end the copy.
    let left = until.saturating_duration_since(Instant::now()) + PATIENCE;
    told.recv_timeout(left)
        .unwrap_or_else(|_| Err(String::from("the copy of the process does not end")))
}

fn attempt(shower: &Shower, interpreter: &Interpreter, until: Instant) -> Result<Threads, String> {
    let mut problem = String::from("there was no time left for it");
    for _ in 0..TRIES {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let text = copy(shower, interpreter, left.min(PATIENCE))
            .map_err(|error| format!("the process could not be copied: {error}"))?;
        let threads = parse(&text, false);
        if !threads.all.is_empty() {
            return Ok(threads);
        }
        problem = match text.trim() {
            "" => String::from("the copy of the process said nothing"),
            said => format!("CPython says {said:?}"),
        };
    }
    Err(problem)
}

/// Makes a copy of the process and returns what it writes.
fn copy(shower: &Shower, interpreter: &Interpreter, patience: Duration) -> std::io::Result<String> {
    let (reader, writer) = std::io::pipe()?;
    // SAFETY: the copy runs only `in_copy`, which never returns.
    let pid = unsafe { fork() };
    match pid {
        -1 => return Err(std::io::Error::last_os_error()),
        // SAFETY: in the copy.
        0 => unsafe { in_copy(shower, interpreter.as_ptr(), &writer) },
        _ => {}
    }
    drop(writer);
    let text = read(reader, Instant::now() + patience);
    if let Some(pid) = Pid::from_raw(pid) {
        // The copy is not reaped yet, so the number is still its own. If the application waits for any process, it may
        // have reaped a copy that has ended.
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
    Ok(text)
}

/// Forks, if the C library can do so, without the handlers of `pthread_atfork`, some of which wait for threads
/// (OpenBLAS).
///
/// # Safety
/// The copy must do only what a signal handler may do.
unsafe fn fork() -> libc::pid_t {
    // SAFETY: looks up a name; if there is such a function, it has this type.
    unsafe {
        let plain = libc::dlsym(libc::RTLD_DEFAULT, c"_Fork".as_ptr());
        if plain.is_null() {
            libc::fork()
        } else {
            std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> libc::pid_t>(plain)()
        }
    }
}

/// # Safety
/// The process must be a copy with this thread alone, which has no state of any interpreter.
unsafe fn in_copy(
    shower: &Shower,
    interpreter: *mut ffi::PyInterpreterState,
    writer: &PipeWriter,
) -> ! {
    // SAFETY: only calls that a signal handler may make, except for the new state: that allocates memory and takes a
    // lock of CPython. If either is never released, the process is killed from outside, or by the alarm. [S-29]
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // A crash of the copy is expected, and must leave no core dump.
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGABRT,
            libc::SIGALRM,
        ] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut alarms: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut alarms);
        libc::sigaddset(&mut alarms, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_UNBLOCK, &alarms, std::ptr::null_mut());
        libc::alarm(5);
        // The messages with which CPython gives up go into the answer, not into the server's log.
        if libc::dup2(writer.as_raw_fd(), shower.file) >= 0
            && libc::dup2(writer.as_raw_fd(), libc::STDERR_FILENO) >= 0
            && !ffi::PyThreadState_New(interpreter).is_null()
        {
            (shower.show)(signal());
        }
        libc::_exit(0)
    }
}

/// Reads up to the end, or until the time `until`.
fn read(mut reader: PipeReader, until: Instant) -> String {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while text.len() < MOST {
        let left = until.saturating_duration_since(Instant::now());
        let mut files = [PollFd::new(&reader, PollFlags::IN)];
        let time = Timespec::try_from(left).ok();
        match poll(&mut files, time.as_ref()) {
            Ok(1..) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) | Err(_) => break,
        }
        match reader.read(&mut part) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Parses the threads in a text of `faulthandler`; includes the thread that has written it if `with_current`.
pub(super) fn parse(text: &str, with_current: bool) -> Threads {
    let mut threads: Vec<Thread> = Vec::new();
    let (mut is_wanted, mut is_cut) = (false, false);
    for line in text.lines() {
        if let Some((ident, is_current)) = heading(line) {
            is_wanted = with_current || !is_current;
            if is_wanted {
                threads.push(Thread {
                    ident,
                    native: None,
                    frames: Vec::new(),
                    is_cut: false,
                });
            }
            continue;
        }
        // Without an indent the line is not about frames but about threads.
        if line == "..." {
            is_cut = true;
            continue;
        }
        let Some(thread) = threads.last_mut().filter(|_| is_wanted) else {
            continue;
        };
        match line.trim() {
            "" | "<no Python frame>" => {}
            "..." => thread.is_cut = true,
            other => thread.frames.push(frame_of(other)),
        }
    }
    for thread in &mut threads {
        // Some versions do not say that there are more frames than they show.
        thread.is_cut |= thread.frames.len() >= MOST_FRAMES;
    }
    Threads::merged(threads, is_cut)
}

/// Parses `Thread 0x00007f00 [name] (most recent call first):`. Returns the identity, and whether the thread is the one
/// that writes.
fn heading(line: &str) -> Option<(c_ulong, bool)> {
    let current = line.strip_prefix("Current thread 0x");
    let rest = current.or_else(|| line.strip_prefix("Thread 0x"))?;
    let digits = rest.split(|character: char| !character.is_ascii_hexdigit());
    let ident = c_ulong::from_str_radix(digits.into_iter().next()?, 16).ok()?;
    Some((ident, current.is_some()))
}

/// Converts `File "x.py", line 3 in name` to the format of [`frame`]; any other line stays as it is.
fn frame_of(line: &str) -> String {
    let parts = line.strip_prefix("File \"").and_then(|rest| {
        let (file, rest) = rest.rsplit_once("\", line ")?;
        let (number, function) = rest.split_once(" in ")?;
        Some(frame(file, &number, function))
    });
    parts.unwrap_or_else(|| {
        format!(
            "  {}",
            thread_list::printable(line, thread_list::MOST_OF_NAME)
        )
    })
}
