//! Events for `mod_wsgi.subscribe_events`. Nothing is built unless somebody subscribed in this interpreter.

use std::sync::Arc;

use pyo3::ffi;
use wsgi_core::outcome::Message;

use crate::errors::{self, is_system_exit, log_traceback};
use crate::interpreter::Interpreter;
use crate::object::{Attached, Obj, PyResult};
use crate::request::RequestState;
use crate::types::State;

/// Whether anybody listens in this interpreter.
pub(crate) fn wanted(state: &State) -> bool {
    // SAFETY: callers are attached to the interpreter of `state`; the list is kept for its life.
    unsafe { ffi::PyList_Size(state.event_callbacks.as_ptr()) > 0 }
}

/// Publishes an event. What subscribers raise is logged and has no other effect; what they return is merged into
/// `payload`.
pub(crate) fn publish<'i>(
    py: &Attached<'i>,
    state: &State,
    interpreter: Option<&Interpreter>,
    request: Option<&RequestState>,
    name: &str,
    payload: &Obj<'i>,
) -> PyResult<()> {
    // SAFETY: kept in this interpreter.
    let publish = unsafe { state.publish.get(py) };
    let failures = publish.call(py, [&py.str(name)?, payload])?;
    for at in 0..failures.len()? {
        // SAFETY: `_publish` returns a list, and the index is in range.
        let exception = unsafe { py.share(ffi::PyList_GetItem(failures.as_ptr(), at as isize))? };
        let exit = is_system_exit(&exception);
        let message = if exit {
            Message::SubscriberSystemExit
        } else {
            Message::SubscriberException
        };
        errors::log_message(request, message, &message.line(&[&name]));
        if !exit {
            log_traceback(py, &exception, request, interpreter);
        }
    }
    Ok(())
}

/// `response_started`, from inside `start_response`, when status and headers are known to be valid.
pub(crate) fn response_started<'i>(
    py: &Attached<'i>,
    state: &State,
    request: &Arc<RequestState>,
    status: &Obj<'i>,
    headers: &Obj<'i>,
    exc_info: Option<&Obj<'i>>,
) -> PyResult<()> {
    if !wanted(state) {
        return Ok(());
    }
    let payload = py.dict()?;
    payload.set_item(c"response_status", status)?;
    payload.set_item(c"response_headers", headers)?;
    payload.set_item(c"exception_info", exc_info.unwrap_or(&py.none()))?;
    publish(py, state, None, Some(request), "response_started", &payload)
}
