//! A process that an application has forked is a copy of this child with one thread. The copy may do as it likes while it is
//! inside the application, and many go on for long or end with `os._exit()`. One that comes back from the application has
//! nothing to come back to: the request is answered by the process that it was forked from. It ends here, as `sys.exit()`
//! ends a program of Python, and with that status.
//!
//! Nothing is waited for that another thread of the child would have to do, as the others are not there: a lock that one of
//! them had stays locked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::ffi;
use wsgi_core::messages::Message;

use crate::cpython::interpreter;
use crate::cpython::object::{Attached, Obj, PyResult, Raised};
use crate::host;
use crate::lifecycle::stop;
use crate::metrics::telemetry;
use crate::request::log;
use crate::request::log::level_of;
use crate::request::state::{try_lock, with_current};

/// Whether this process is a copy.
#[inline]
pub(crate) fn is_copy() -> bool {
    telemetry::is_detached()
}

/// Ends the process if it is a copy. To be called wherever code of an application has returned to the module, or has raised,
/// before anything is done about that.
#[inline]
pub(crate) fn ends(py: &Attached<'_>) {
    if is_copy() {
        end(py);
    }
}

/// What is asked of a copy that only the process can give that it was forked from.
pub(crate) const REFUSAL: &str = "this process was forked by the application: the request belongs to the process \
     that it was forked from, which alone can read its body and answer it";

#[cold]
fn end(py: &Attached<'_>) -> ! {
    let patience = stop::patience();
    end_by_then(patience);
    let status = catch_unwind(AssertUnwindSafe(|| leave(py, patience)));
    exit(status.unwrap_or(1))
}

/// Ends the process at once.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: ends the process; the clean-up of httpd is for the child to do.
    unsafe { libc::_exit(status) }
}

/// Sets the alarm that ends this process: exit functions may never return, and no other process would end it.
fn end_by_then(patience: Duration) {
    let seconds = u32::try_from(patience.as_secs()).unwrap_or(u32::MAX).max(1);
    // SAFETY: plain system calls with live arguments. The signal ends the process.
    unsafe {
        let mut alarm: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut alarm);
        libc::sigaddset(&mut alarm, libc::SIGALRM);
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &alarm, std::ptr::null_mut());
        libc::alarm(seconds);
    }
}

/// Does what Python does before a process ends; its status.
fn leave(py: &Attached<'_>, patience: Duration) -> i32 {
    // SAFETY: attached.
    let has_raised = unsafe { !ffi::PyErr_Occurred().is_null() };
    let exception = has_raised.then(|| py.take(Raised)).flatten();
    let request = with_current(|request| request.map(|request| request.line()));
    let request = request.unwrap_or_else(|| String::from("no request"));
    let pid = std::process::id();
    match &exception {
        None => {
            let line = Message::CopyReturned.line(&[&pid, &request]);
            host::log(level_of(Message::CopyReturned), &line);
        }
        Some(exception) if log::is_system_exit(exception) => {}
        Some(exception) => {
            let line = Message::CopyRaised.line(&[&exception.type_name(), &pid, &request]);
            host::log(level_of(Message::CopyRaised), &line);
            log::log_traceback(py, exception, None, None);
        }
    }
    let status = status_of(py, exception, patience / 2);
    status.unwrap_or_else(|raised| {
        py.clear(raised);
        1
    })
}

/// Has `bootstrap.py` do it.
fn status_of<'i>(
    py: &Attached<'i>,
    exception: Option<Obj<'i>>,
    patience: Duration,
) -> PyResult<i32> {
    // SAFETY: attached, so there is a current state.
    let here = unsafe { ffi::PyThreadState_GetInterpreter(ffi::PyThreadState_Get()) };
    let all = interpreter::all();
    let Some(interpreter) = all.iter().find(|known| known.as_ptr() == here) else {
        // One that is being set up has run nothing of an application.
        return Ok(1);
    };
    let exception = exception.unwrap_or_else(|| py.none());
    let patience = py.float(patience.as_secs_f64())?;
    // SAFETY: kept in the interpreter that the thread is attached to.
    let end_copy = unsafe { interpreter.module(py).end_copy.get(py) };
    let status = end_copy.call(py, [&exception, &patience])?.as_i64()?;
    Ok(i32::try_from(status).unwrap_or(1))
}

/// Takes a lock that somebody has. In a copy it may be held by a thread that is not there; then it ends.
#[cold]
pub(crate) fn lock_in_use<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if !is_copy() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    match lock_of_copy(mutex) {
        Some(guard) => guard,
        None => exit(1),
    }
}

/// Takes a lock in a copy; `None` where it is held by a thread that is not there.
pub(crate) fn lock_of_copy<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    /// Threads of the copy itself hold locks for short steps only.
    const SHORT: Duration = Duration::from_millis(200);
    let until = Instant::now() + SHORT;
    loop {
        let guard = try_lock(mutex);
        if guard.is_some() || Instant::now() >= until {
            return guard;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
