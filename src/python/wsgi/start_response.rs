//! `mod_wsgi.Adapter`: the object behind `start_response` and the `write` that it returns.

use std::ffi::CStr;
use std::sync::Arc;

use pyo3::ffi;
use wsgi_core::messages::Message;
use wsgi_core::request::fault::{Fault, Transfer};

use crate::cpython::forked;
use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult, Raised, slice};
use crate::host::Level;
use crate::metrics::telemetry;
use crate::process;
use crate::request::host::Failure;
use crate::request::response::Head;
use crate::request::state::RequestState;
use crate::wsgi::events::Source;
use crate::wsgi::native::{Call, Method, Methods, Slots, instantiate, method, new_type};
use crate::wsgi::{faults, output};

type Adapter = Arc<RequestState>;

static METHODS: Methods<5> = Methods([
    method::<StartResponse>(),
    method::<Write>(),
    method::<SslIsHttps>(),
    method::<SslVarLookup>(),
    ffi::PyMethodDef::zeroed(),
]);

/// Makes the type.
pub(super) fn new_adapter_type<'i>(
    py: &Attached<'i>,
    module: *mut ffi::PyObject,
) -> PyResult<Obj<'i>> {
    let mut slots = Slots::<Adapter>::new();
    slots.add(ffi::Py_tp_methods, METHODS.as_slot());
    // SAFETY: the functions fit their slots and treat instances as `Instance<Adapter>`.
    unsafe { new_type(py, module, c"mod_wsgi.Adapter", slots) }
}

/// Makes the adapter of a request.
pub(crate) fn new_adapter<'i>(py: &Attached<'i>, request: &Arc<RequestState>) -> PyResult<Obj<'i>> {
    // SAFETY: the type was made by `new_adapter_type`.
    unsafe { instantiate::<Adapter>(py, py.state().adapter_type, Arc::clone(request)) }
}

struct StartResponse;

impl Method for StartResponse {
    type Value = Adapter;
    const NAME: &'static CStr = c"start_response";
    const DOC: &'static CStr = c"start_response(status, headers[, exc_info]) -> write";

    fn call<'i>(call: &Call<'_, 'i, Adapter>) -> PyResult<Obj<'i>> {
        let (py, request) = (call.py, call.value);
        check_open(py, request)?;
        let (Some(status), Some(headers), 2 | 3) = (call.arg(0), call.arg(1), call.count()) else {
            let text = format!(
                "start_response() takes 2 or 3 arguments ({} given)",
                call.count()
            );
            return Err(broken(request, py.raise(ExceptionClass::Type, &text)));
        };
        let exc_info = call.arg(2).filter(|exc_info| !exc_info.is_none());
        if !headers.is_list() {
            let theirs = headers.type_name();
            let text = format!("start_response() argument 2 must be list, not {theirs}");
            return Err(broken(request, py.raise(ExceptionClass::Type, &text)));
        }
        if exc_info
            .as_ref()
            .is_some_and(|exc_info| !exc_info.is_tuple())
        {
            let raised = py.raise(ExceptionClass::Runtime, NOT_EXC_INFO);
            return Err(broken(request, raised));
        }
        if request.response().has_output() {
            return Err(already_committed(py, request, exc_info.as_ref()));
        }
        let head =
            read_head(py, request, &status, &headers).map_err(|raised| broken(request, raised))?;
        let events = Source { request };
        if events.wanted(py) {
            events.response_started(py, &status, &headers, exc_info.as_ref())?;
        }
        // A subscriber, or another thread, may have started the response since the check.
        if !request.response().start(head) {
            return Err(already_committed(py, request, exc_info.as_ref()));
        }
        call.this()?.attr_named(py, &py.state().names.write.get(py))
    }
}

struct Write;

impl Method for Write {
    type Value = Adapter;
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write(bytes)";

    fn call<'i>(call: &Call<'_, 'i, Adapter>) -> PyResult<Obj<'i>> {
        let (py, request) = (call.py, call.value);
        check_open(py, request)?;
        let data = call.only_arg("write")?;
        if !data.is_bytes() {
            let text = format!("write() argument 1 must be bytes, not {}", data.type_name());
            return Err(broken(request, py.raise(ExceptionClass::Type, &text)));
        }
        output::send(py, request, bytes_of(&data))?;
        Ok(py.none())
    }
}

struct SslIsHttps;

impl Method for SslIsHttps {
    type Value = Adapter;
    const NAME: &'static CStr = c"ssl_is_https";
    const DOC: &'static CStr = c"ssl_is_https() -> whether the connection uses TLS";

    fn call<'i>(call: &Call<'_, 'i, Adapter>) -> PyResult<Obj<'i>> {
        let value = ssl_variable(call.py, call.value, b"HTTPS")?;
        Ok(call.py.bool(value.is_some_and(|on| on == b"on")))
    }
}

struct SslVarLookup;

impl Method for SslVarLookup {
    type Value = Adapter;
    const NAME: &'static CStr = c"ssl_var_lookup";
    const DOC: &'static CStr = c"ssl_var_lookup(name) -> a variable of mod_ssl";

    fn call<'i>(call: &Call<'_, 'i, Adapter>) -> PyResult<Obj<'i>> {
        let name = call.only_arg("ssl_var_lookup")?;
        let name = with_latin1(call.py, &name, <[u8]>::to_vec)?;
        match ssl_variable(call.py, call.value, &name)? {
            Some(text) => call.py.latin1(&text),
            None => Ok(call.py.none()),
        }
    }
}

fn ssl_variable(
    py: &Attached<'_>,
    request: &RequestState,
    name: &[u8],
) -> PyResult<Option<Vec<u8>>> {
    request
        .host_call(py, |host| host.ssl_variable(name))
        .map_err(|_| request_ended(py))
}

fn check_open(py: &Attached<'_>, request: &RequestState) -> PyResult<()> {
    if request.is_finished() {
        Err(request_ended(py))
    } else {
        Ok(())
    }
}

/// Raises the error of a call after the end of the request, when its response cannot be touched any more.
pub(crate) fn request_ended(py: &Attached<'_>) -> Raised {
    let text = if process::is_copy() {
        forked::REFUSAL
    } else {
        "the request of this start_response() has ended"
    };
    py.raise(ExceptionClass::Runtime, text)
}

/// Counts an error of the application against WSGI.
fn broken(request: &RequestState, raised: Raised) -> Raised {
    telemetry::protocol_error(request.app());
    raised
}

const NOT_EXC_INFO: &str = "start_response() argument 'exc_info' must be a 3-tuple or None";

/// Raises the error of a `start_response` that comes too late: the exception in `exc_info`, if that was passed.
fn already_committed(
    py: &Attached<'_>,
    request: &RequestState,
    exc_info: Option<&Obj<'_>>,
) -> Raised {
    let Some(exc_info) = exc_info else {
        let raised = py.raise(
            ExceptionClass::Runtime,
            "start_response() called more than once without exc_info",
        );
        return broken(request, raised);
    };
    // SAFETY: the items of a live tuple; PyErr_SetObject takes references of its own.
    unsafe {
        if ffi::PyTuple_Size(exc_info.as_ptr()) != 3 {
            return py.raise(ExceptionClass::Runtime, NOT_EXC_INFO);
        }
        let value = ffi::PyTuple_GetItem(exc_info.as_ptr(), 1);
        if ffi::PyExceptionInstance_Check(value) == 0 {
            let text = "start_response() argument 'exc_info' holds no exception";
            return py.raise(ExceptionClass::Runtime, text);
        }
        let trace = ffi::PyTuple_GetItem(exc_info.as_ptr(), 2);
        if trace != ffi::Py_None() && ffi::PyException_SetTraceback(value, trace) != 0 {
            return Raised;
        }
        ffi::PyErr_SetObject(ffi::Py_TYPE(value).cast(), value);
        Raised
    }
}

/// Validates status and headers, in mod_wsgi's order. `headers` is a list.
fn read_head<'i>(
    py: &Attached<'i>,
    request: &RequestState,
    status: &Obj<'i>,
    headers: &Obj<'i>,
) -> PyResult<Head> {
    let invalid = |text: String| py.raise(ExceptionClass::Value, &text);
    let mut head = with_latin1(py, status, Head::new)?.map_err(invalid)?;
    let mut at = 0;
    // SAFETY: a live list, and tuples of two; items are shared before anything else can happen to the list.
    unsafe {
        while at < ffi::PyList_Size(headers.as_ptr()) {
            let header = py.own(ffi::compat::PyList_GetItemRef(headers.as_ptr(), at))?;
            at += 1;
            if !header.is_tuple() {
                let text = format!("each header must be a 2-tuple, not {}", header.type_name());
                return Err(py.raise(ExceptionClass::Type, &text));
            }
            let len = ffi::PyTuple_Size(header.as_ptr());
            if len != 2 {
                let text = format!("each header must be a 2-tuple, got length {len}");
                return Err(invalid(text));
            }
            let name = py.share(ffi::PyTuple_GetItem(header.as_ptr(), 0))?;
            let content = py.share(ffi::PyTuple_GetItem(header.as_ptr(), 1))?;
            let kept = with_latin1(py, &name, |name| {
                with_latin1(py, &content, |content| head.add(name, content))
            })??
            .map_err(invalid)?;
            if !kept {
                let line = Message::HopByHopDropped.line(&[&name.to_text()]);
                request.log_line(Level::Info, line.as_bytes());
            }
        }
    }
    Ok(head)
}

/// Passes the latin-1 bytes of a `str` to `with`, without a copy if CPython stores them in that form.
fn with_latin1<R>(py: &Attached<'_>, text: &Obj<'_>, with: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    // SAFETY: attached and alive; the buffer belongs to `text`, which lives until `with` has returned. [S-26]
    unsafe {
        if !text.is_str() {
            return Err(py.raise(
                ExceptionClass::Type,
                &format!("must be str, not {}", text.type_name()),
            ));
        }
        if ffi::PyUnicode_READY(text.as_ptr()) != 0 {
            return Err(Raised);
        }
        if ffi::PyUnicode_KIND(text.as_ptr()) as u32 != ffi::PyUnicode_1BYTE_KIND {
            // Sets the UnicodeEncodeError that says which character is not latin-1.
            let bytes = py.own(ffi::PyUnicode_AsLatin1String(text.as_ptr()))?;
            return Ok(with(bytes_of(&bytes)));
        }
        let len = usize::try_from(ffi::PyUnicode_GET_LENGTH(text.as_ptr())).unwrap_or(0);
        Ok(with(std::slice::from_raw_parts(
            ffi::PyUnicode_1BYTE_DATA(text.as_ptr()),
            len,
        )))
    }
}

/// Returns the content of a `bytes`, which never changes.
pub(crate) fn bytes_of<'a>(bytes: &'a Obj<'_>) -> &'a [u8] {
    // SAFETY: the caller has checked the type; the content lives as long as the object.
    unsafe {
        let data = ffi::PyBytes_AsString(bytes.as_ptr());
        let len = ffi::PyBytes_Size(bytes.as_ptr());
        slice(data.cast(), usize::try_from(len).unwrap_or(0))
    }
}

/// Raises the exception for a failed write.
pub(crate) fn write_failed(py: &Attached<'_>, request: &RequestState, failure: &Failure) -> Raised {
    let text = match failure.fault {
        Fault::Gone | Fault::Slow => "client connection closed",
        _ => &*format!("failed to write response data: {}", failure.reason),
    };
    faults::raise(py, request, failure, Transfer::Write, text)
}
