//! Python exceptions in the log: a numbered line that says what happened where, then the traceback's own lines.

use pyo3::ffi;
use wsgi_core::messages::{Level as CoreLevel, Message};

use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::{Attached, Obj, Raised};
use crate::host::{self, Level};
use crate::request::state::RequestState;

/// The level of a message, for the host.
pub(crate) fn level_of(message: Message) -> Level {
    match message.level() {
        CoreLevel::Critical => Level::Critical,
        CoreLevel::Error => Level::Error,
        CoreLevel::Warning => Level::Warning,
        CoreLevel::Notice | CoreLevel::Info => Level::Info,
    }
}

/// Logs a message to the request's log, or without one to the server's.
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
    interpreter: Option<&Interpreter>,
) {
    log_message(request, message, line);
    if let Some(exception) = py.take(raised) {
        log_traceback(py, &exception, request, interpreter);
    }
}

/// Logs the lines of a traceback as errors.
pub(crate) fn log_traceback(
    py: &Attached<'_>,
    exception: &Obj<'_>,
    request: Option<&RequestState>,
    interpreter: Option<&Interpreter>,
) {
    log_traceback_at(py, exception, request, interpreter, Level::Error);
}

/// Logs the lines of a traceback at this level.
pub(crate) fn log_traceback_at(
    py: &Attached<'_>,
    exception: &Obj<'_>,
    request: Option<&RequestState>,
    interpreter: Option<&Interpreter>,
    level: Level,
) {
    let log = |line: &[u8]| match request {
        Some(request) => request.log_line(level, line),
        None => host::log(level, &String::from_utf8_lossy(line)),
    };
    match format(py, exception, interpreter) {
        Some(lines) => lines.iter().for_each(|line| log(line.as_bytes())),
        // The traceback module fails only in a broken interpreter; name and text are better than nothing.
        None => log(plain(exception).as_bytes()),
    }
}

/// `SystemExit` is treated apart: it ends nothing.
pub(crate) fn is_system_exit(exception: &Obj<'_>) -> bool {
    // SAFETY: attached, by the brand of the object; the class is one of CPython's statics.
    unsafe { ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), ffi::PyExc_SystemExit) != 0 }
}

fn format(
    py: &Attached<'_>,
    exception: &Obj<'_>,
    interpreter: Option<&Interpreter>,
) -> Option<Vec<String>> {
    let lines = match interpreter {
        Some(interpreter) => {
            // SAFETY: kept in the interpreter that the thread is attached to.
            let format = unsafe { interpreter.module(py).format.get(py) };
            call_format(py, &format, exception)
        }
        None => {
            let module = py
                .import(crate::wsgi::module::MODULE_NAME)
                .and_then(|module| module.attr(py, c"_format"));
            match module {
                Ok(format) => call_format(py, &format, exception),
                Err(raised) => {
                    py.clear(raised);
                    None
                }
            }
        }
    };
    lines.filter(|lines| !lines.is_empty())
}

fn call_format(py: &Attached<'_>, format: &Obj<'_>, exception: &Obj<'_>) -> Option<Vec<String>> {
    // SAFETY: the exception is alive and of this attachment; it gets a reference under the token's brand.
    let shared = unsafe { py.share(exception.as_ptr()) };
    // SAFETY: as above.
    let format = unsafe { py.share(format.as_ptr()) };
    let lines = shared.and_then(|shared| format?.call(py, [&shared]));
    match lines {
        Ok(lines) => {
            let count = lines.len().unwrap_or(0);
            // SAFETY: `_format` returns a list, whose items are borrowed for the copy.
            let texts = (0..count).map(|at| unsafe {
                py.share(ffi::PyList_GetItem(lines.as_ptr(), at as isize))
                    .map(|line| line.to_text())
            });
            texts
                .collect::<Result<_, _>>()
                .map_err(|raised| py.clear(raised))
                .ok()
        }
        Err(raised) => {
            py.clear(raised);
            None
        }
    }
}

fn plain(exception: &Obj<'_>) -> String {
    // SAFETY: attached and alive; the new reference is given back.
    unsafe {
        let text = ffi::PyObject_Str(exception.as_ptr());
        if text.is_null() {
            ffi::PyErr_Clear();
            return exception.type_name();
        }
        let mut len = 0;
        let utf8 = ffi::PyUnicode_AsUTF8AndSize(text, &mut len);
        let said = if utf8.is_null() {
            ffi::PyErr_Clear();
            String::new()
        } else {
            String::from_utf8_lossy(host::slice(utf8.cast(), usize::try_from(len).unwrap_or(0)))
                .into_owned()
        };
        ffi::Py_DECREF(text);
        format!("{}: {said}", exception.type_name())
    }
}
