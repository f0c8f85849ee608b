//! Events for `mod_wsgi.subscribe_events`. Nothing is built unless there is a subscriber in this interpreter.

use pyo3::ffi;
use wsgi_abi::RunRequest;
use wsgi_core::messages::Message;

use crate::cpython::object::{Attached, Obj, PyResult};
use crate::cpython::traceback::is_system_exit;
use crate::process::thread_id;
use crate::request::log::{log_message, log_traceback};
use crate::request::state::RequestState;
use crate::wsgi::environ;

/// The request whose events are published.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) request: &'a RequestState,
}

impl Source<'_> {
    /// Whether there is a subscriber in this interpreter.
    pub(crate) fn wanted(self, py: &Attached<'_>) -> bool {
        // SAFETY: attached and alive.
        unsafe { ffi::PyList_Size(py.state().event_callbacks.as_ptr()) > 0 }
    }

    /// Publishes the event before the application is called. A subscriber may replace the callable; returns the one to
    /// call.
    pub(crate) fn request_started<'i>(
        self,
        py: &Attached<'i>,
        raw: &RunRequest<'_>,
        environ: &Obj<'i>,
        callable: Obj<'i>,
    ) -> PyResult<Obj<'i>> {
        let payload = about(py, raw, environ)?;
        payload.set_item(c"application_object", &callable)?;
        let name = py.latin1(raw.target.callable.get_or_empty())?;
        payload.set_item(c"callable_object", &name)?;
        payload.set_item(c"request_environ", environ)?;
        payload.set_item(c"application_start", &py.float(environ::now())?)?;
        self.publish(py, "request_started", &payload)?;
        Ok(payload.item(py, c"application_object").unwrap_or(callable))
    }

    /// Publishes the event from inside `start_response`, when status and headers are known to be valid.
    pub(crate) fn response_started<'i>(
        self,
        py: &Attached<'i>,
        status: &Obj<'i>,
        headers: &Obj<'i>,
        exc_info: Option<&Obj<'i>>,
    ) -> PyResult<()> {
        let payload = py.dict()?;
        payload.set_item(c"response_status", status)?;
        payload.set_item(c"response_headers", headers)?;
        payload.set_item(c"exception_info", exc_info.unwrap_or(&py.none()))?;
        self.publish(py, "response_started", &payload)
    }

    /// Publishes the event after `close()`, however the request ended.
    pub(crate) fn request_finished<'i>(
        self,
        py: &Attached<'i>,
        raw: &RunRequest<'_>,
        environ: &Obj<'i>,
    ) -> PyResult<()> {
        let payload = about(py, raw, environ)?;
        payload.set_item(c"application_finish", &py.float(environ::now())?)?;
        let status = self.request.response().status();
        payload.set_item(c"status", &py.int(status.into())?)?;
        self.publish(py, "request_finished", &payload)
    }

    /// Publishes the event when the application raised.
    pub(crate) fn request_exception<'i>(
        self,
        py: &Attached<'i>,
        exception: &Obj<'i>,
    ) -> PyResult<()> {
        let payload = py.dict()?;
        // SAFETY: attached and alive; the type outlives the exception.
        let info = unsafe {
            let class = py.share(ffi::Py_TYPE(exception.as_ptr()).cast())?;
            let trace = ffi::PyException_GetTraceback(exception.as_ptr());
            let trace = if trace.is_null() {
                py.none()
            } else {
                py.own(trace)?
            };
            py.tuple([class, exception.clone(), trace])?
        };
        payload.set_item(c"exception_info", &info)?;
        self.publish(py, "request_exception", &payload)
    }

    /// Calls the subscribers. What they raise is logged and has no other effect; what they return is merged into
    /// `payload`.
    fn publish<'i>(self, py: &Attached<'i>, name: &str, payload: &Obj<'i>) -> PyResult<()> {
        let publish = py.state().publish.get(py);
        let failures = publish.call(py, [&py.str(name)?, payload])?;
        log_failures(py, name, &failures, Some(self.request))
    }
}

/// Logs the exceptions in a list, which the subscribers of an event have raised.
pub(super) fn log_failures(
    py: &Attached<'_>,
    name: &str,
    failures: &Obj<'_>,
    request: Option<&RequestState>,
) -> PyResult<()> {
    for at in 0..failures.len()? {
        // SAFETY: `_publish` returns a list, and the index is in range.
        let exception = unsafe { ffi::PyList_GetItem(failures.as_ptr(), at as isize) };
        // SAFETY: a live item.
        let exception = unsafe { py.share(exception)? };
        let exit = is_system_exit(&exception);
        let message = if exit {
            Message::SubscriberSystemExit
        } else {
            Message::SubscriberException
        };
        log_message(request, message, &message.line(&[&name]));
        if !exit {
            log_traceback(py, &exception, request);
        }
    }
    Ok(())
}

/// Makes a payload with the entries that say which request it is about.
fn about<'i>(py: &Attached<'i>, raw: &RunRequest<'_>, environ: &Obj<'i>) -> PyResult<Obj<'i>> {
    let payload = py.dict()?;
    if let Some(id) = environ.item(py, c"mod_wsgi.request_id") {
        payload.set_item(c"request_id", &id)?;
    }
    if let Some(pid) = environ.item(py, c"mod_wsgi.server_pid") {
        payload.set_item(c"server_pid", &pid)?;
    }
    payload.set_item(c"thread_id", &py.int(thread_id().into())?)?;
    for (name, time) in [
        (c"request_start", raw.timing.received),
        (c"queue_start", raw.timing.queue_start),
        (c"daemon_start", raw.timing.daemon_start),
    ] {
        payload.set_item(name, &py.float(environ::seconds(time))?)?;
    }
    Ok(payload)
}
