//! Messages and Python exceptions in the log of a request, or in the server's log without one: a numbered line that
//! says what happened where, then the lines of the traceback.

use wsgi_core::messages::Message;

use crate::cpython::object::{Attached, Obj, Raised};
use crate::cpython::traceback;
use crate::host::{self, Level, level_of};
use crate::request::state::RequestState;

/// Logs a message to the request's log, or to the server's without one.
pub(crate) fn log_message(request: Option<&RequestState>, message: Message, line: &str) {
    match request {
        Some(request) => request.log_line(level_of(message), line.as_bytes()),
        None => host::log(level_of(message), line),
    }
}

/// Takes the exception off the thread and logs it under a line that says what happened.
pub(crate) fn log_raised(
    py: &Attached<'_>,
    raised: Raised,
    request: Option<&RequestState>,
    message: Message,
    line: &str,
) {
    log_message(request, message, line);
    if let Some(exception) = py.take(raised) {
        log_traceback(py, &exception, request);
    }
}

/// Logs the lines of a traceback as errors.
pub(crate) fn log_traceback(
    py: &Attached<'_>,
    exception: &Obj<'_>,
    request: Option<&RequestState>,
) {
    log_traceback_at(py, exception, request, Level::Error);
}

/// Logs the lines of a traceback at this level.
pub(crate) fn log_traceback_at(
    py: &Attached<'_>,
    exception: &Obj<'_>,
    request: Option<&RequestState>,
    level: Level,
) {
    for line in traceback::lines(py, exception) {
        match request {
            Some(request) => request.log_line(level, line.as_bytes()),
            None => host::log(level, &line),
        }
    }
}
