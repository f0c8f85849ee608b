//! Ends a copy, a process that an application has forked ([`forked`](crate::cpython::forked)), as `sys.exit()` ends a
//! Python program, and with the same exit status.
//!
//! The copy does not wait for anything that another thread of the child would have to do, because it has only one
//! thread: a lock that another thread held stays locked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pyo3::ffi;
use wsgi_core::messages::Message;

use crate::cpython::object::{Attached, Obj, PyResult, Raised};
use crate::cpython::traceback::is_system_exit;
use crate::host::{self, level_of};
use crate::lifecycle::stop;
use crate::request::log::log_traceback;
use crate::request::state::with_current;

/// Does what Python does before a process ends. Returns the exit status.
pub(super) fn end(py: &Attached<'_>) -> i32 {
    let patience = stop::patience();
    end_by_then(patience);
    catch_unwind(AssertUnwindSafe(|| leave(py, patience))).unwrap_or(1)
}

/// Sets the alarm that ends this process: exit functions may never return, and no other process would end this one.
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
        Some(exception) if is_system_exit(exception) => {}
        Some(exception) => {
            let line = Message::CopyRaised.line(&[&exception.type_name(), &pid, &request]);
            host::log(level_of(Message::CopyRaised), &line);
            log_traceback(py, exception, None);
        }
    }
    let status = status_of(py, exception, patience / 2);
    status.unwrap_or_else(|raised| {
        py.clear(raised);
        1
    })
}

/// Calls `bootstrap.py` to end the copy. Returns the exit status.
fn status_of<'i>(
    py: &Attached<'i>,
    exception: Option<Obj<'i>>,
    patience: Duration,
) -> PyResult<i32> {
    let Some(state) = py.interpreter().state(py) else {
        // An interpreter that is being set up has run no code of an application.
        return Ok(1);
    };
    let exception = exception.unwrap_or_else(|| py.none());
    let patience = py.float(patience.as_secs_f64())?;
    let end_copy = state.end_copy.get(py);
    let status = end_copy.call(py, [&exception, &patience])?.as_i64()?;
    Ok(i32::try_from(status).unwrap_or(1))
}
