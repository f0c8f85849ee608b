//! `mod_wsgi.Adapter`: the object behind `start_response` and the `write` that it returns.

use std::sync::Arc;

use pyo3::ffi;
use wsgi_abi::WriteEnd;
use wsgi_core::outcome::Message;

use super::{
    Methods, Slots, State, arguments, fast_method, guard_object, instantiate, new_type,
    state_of_class, value,
};
use crate::host::{Failure, Level};
use crate::object::{Attached, ExceptionClass, Obj, PyResult, Raised, type_name};
use crate::request::RequestState;
use crate::response::Head;

type Adapter = Arc<RequestState>;

static METHODS: Methods<5> = Methods([
    fast_method(
        c"start_response",
        start_response,
        c"start_response(status, headers[, exc_info]) -> write",
    ),
    fast_method(c"write", write, c"write(bytes)"),
    fast_method(
        c"ssl_is_https",
        ssl_is_https,
        c"ssl_is_https() -> whether the connection uses TLS",
    ),
    fast_method(
        c"ssl_var_lookup",
        ssl_var_lookup,
        c"ssl_var_lookup(name) -> a variable of mod_ssl",
    ),
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
pub(crate) fn new_adapter<'i>(
    py: &Attached<'i>,
    state: &State,
    request: &Arc<RequestState>,
) -> PyResult<Obj<'i>> {
    // SAFETY: the type was made by `new_adapter_type`.
    unsafe { instantiate::<Adapter>(py, state.adapter_type, Arc::clone(request)) }
}

unsafe extern "C" fn start_response(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type, with live arguments.
    unsafe {
        guard_object(|py| {
            let request = value::<Adapter>(slf);
            check_open(py, request)?;
            let (status, headers, exc_info) = match *arguments(args, count) {
                [status, headers] => (status, headers, None),
                [status, headers, exc_info] => (
                    status,
                    headers,
                    (exc_info != ffi::Py_None()).then_some(exc_info),
                ),
                ref other => {
                    let text = format!(
                        "start_response() takes 2 or 3 arguments ({} given)",
                        other.len()
                    );
                    return Err(py.raise(ExceptionClass::Type, &text));
                }
            };
            if ffi::PyList_Check(headers) == 0 {
                let text = format!(
                    "start_response() argument 2 must be list, not {}",
                    type_name(headers)
                );
                return Err(py.raise(ExceptionClass::Type, &text));
            }
            if exc_info.is_some_and(|exc_info| ffi::PyTuple_Check(exc_info) == 0) {
                return Err(py.raise(
                    ExceptionClass::Runtime,
                    "start_response() argument 'exc_info' must be a 3-tuple or None",
                ));
            }
            if request.response().is_committed() {
                return Err(already_committed(py, exc_info));
            }
            let head = read_head(py, request, status, headers)?;
            let state = &*state_of_class(ffi::Py_TYPE(slf));
            crate::events::response_started(py, state, request, status, headers, exc_info)?;
            // A subscriber may have run, or another thread.
            if !request.response().start(head) {
                return Err(already_committed(py, exc_info));
            }
            py.own(ffi::PyObject_GetAttrString(slf, c"write".as_ptr()))
        })
    }
}

unsafe extern "C" fn write(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type, with live arguments.
    unsafe {
        guard_object(|py| {
            let request = value::<Adapter>(slf);
            check_open(py, request)?;
            let [data] = *arguments(args, count) else {
                let text = format!("write() takes exactly 1 argument ({count} given)");
                return Err(py.raise(ExceptionClass::Type, &text));
            };
            if ffi::PyBytes_Check(data) == 0 {
                let text = format!("write() argument 1 must be bytes, not {}", type_name(data));
                return Err(py.raise(ExceptionClass::Type, &text));
            }
            let data = py.share(data)?;
            crate::output::send(py, request, bytes_of(&data), WriteEnd::Flush)?;
            Ok(py.none())
        })
    }
}

unsafe extern "C" fn ssl_is_https(
    slf: *mut ffi::PyObject,
    _args: *mut *mut ffi::PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type.
    unsafe {
        guard_object(|py| {
            Ok(py.bool(
                ssl_variable(py, value::<Adapter>(slf), b"HTTPS")?.is_some_and(|on| on == b"on"),
            ))
        })
    }
}

unsafe extern "C" fn ssl_var_lookup(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type, with live arguments.
    unsafe {
        guard_object(|py| {
            let [name] = *arguments(args, count) else {
                let text = format!("ssl_var_lookup() takes exactly 1 argument ({count} given)");
                return Err(py.raise(ExceptionClass::Type, &text));
            };
            let name = py.share(name)?;
            let name = with_latin1(py, &name, <[u8]>::to_vec)?;
            match ssl_variable(py, value::<Adapter>(slf), &name)? {
                Some(text) => py.latin1(&text),
                None => Ok(py.none()),
            }
        })
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

/// The request has ended, so its response cannot be touched any more.
pub(crate) fn request_ended(py: &Attached<'_>) -> Raised {
    py.raise(
        ExceptionClass::Runtime,
        "the request of this start_response() has ended",
    )
}

/// The error of a `start_response` that comes too late.
///
/// # Safety
/// `exc_info` must be a live tuple, if there is one.
unsafe fn already_committed(py: &Attached<'_>, exc_info: Option<*mut ffi::PyObject>) -> Raised {
    match exc_info {
        // SAFETY: by contract.
        Some(exc_info) => unsafe { raise_again(py, exc_info) },
        None => py.raise(
            ExceptionClass::Runtime,
            "start_response() called more than once without exc_info",
        ),
    }
}

/// Raises what `sys.exc_info()` gave.
///
/// # Safety
/// `exc_info` must be a live tuple.
unsafe fn raise_again(py: &Attached<'_>, exc_info: *mut ffi::PyObject) -> Raised {
    // SAFETY: the items of a live tuple; PyErr_Restore steals a reference to each.
    unsafe {
        if ffi::PyTuple_Size(exc_info) != 3 {
            return py.raise(
                ExceptionClass::Runtime,
                "start_response() argument 'exc_info' must be a 3-tuple or None",
            );
        }
        let value = ffi::PyTuple_GetItem(exc_info, 1);
        if ffi::PyExceptionInstance_Check(value) == 0 {
            return py.raise(
                ExceptionClass::Runtime,
                "start_response() argument 'exc_info' holds no exception",
            );
        }
        let trace = ffi::PyTuple_GetItem(exc_info, 2);
        if trace != ffi::Py_None() && ffi::PyException_SetTraceback(value, trace) != 0 {
            return Raised;
        }
        ffi::PyErr_SetObject(ffi::Py_TYPE(value).cast(), value);
        Raised
    }
}

/// Validates status and headers, in mod_wsgi's order.
///
/// # Safety
/// `status` must be a live object and `headers` a live list.
unsafe fn read_head(
    py: &Attached<'_>,
    request: &RequestState,
    status: *mut ffi::PyObject,
    headers: *mut ffi::PyObject,
) -> PyResult<Head> {
    // SAFETY: by contract; items are shared before anything else can happen to the list.
    unsafe {
        let status = py.share(status)?;
        let mut head = with_latin1(py, &status, Head::new)?
            .map_err(|text| py.raise(ExceptionClass::Value, &text))?;
        let mut at = 0;
        while at < ffi::PyList_Size(headers) {
            let header = py.share(ffi::PyList_GetItem(headers, at))?;
            at += 1;
            if ffi::PyTuple_Check(header.as_ptr()) == 0 {
                let text = format!("each header must be a 2-tuple, not {}", header.type_name());
                return Err(py.raise(ExceptionClass::Type, &text));
            }
            let len = ffi::PyTuple_Size(header.as_ptr());
            if len != 2 {
                let text = format!("each header must be a 2-tuple, got length {len}");
                return Err(py.raise(ExceptionClass::Value, &text));
            }
            let name = py.share(ffi::PyTuple_GetItem(header.as_ptr(), 0))?;
            let content = py.share(ffi::PyTuple_GetItem(header.as_ptr(), 1))?;
            let kept = with_latin1(py, &name, |name| {
                with_latin1(py, &content, |content| head.add(name, content))
            })??
            .map_err(|text| py.raise(ExceptionClass::Value, &text))?;
            if !kept {
                let line = Message::HopByHopDropped.line(&[&name.to_text()]);
                request.log_line(Level::Info, line.as_bytes());
            }
        }
        Ok(head)
    }
}

/// Gives the latin-1 bytes of a `str`, without a copy where CPython keeps them in that form.
fn with_latin1<R>(py: &Attached<'_>, text: &Obj<'_>, with: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    // SAFETY: attached and alive; the buffer belongs to `text`, which lives until `with` has returned.
    unsafe {
        if ffi::PyUnicode_Check(text.as_ptr()) == 0 {
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

/// The content of a `bytes`, which never changes.
pub(crate) fn bytes_of<'a>(bytes: &'a Obj<'_>) -> &'a [u8] {
    // SAFETY: callers have checked the type; the content lives as long as the object.
    unsafe {
        let data = ffi::PyBytes_AsString(bytes.as_ptr());
        let len = ffi::PyBytes_Size(bytes.as_ptr());
        crate::host::slice(data.cast(), usize::try_from(len).unwrap_or(0))
    }
}

/// The exception for a failed write.
pub(crate) fn write_failed(py: &Attached<'_>, failure: &Failure) -> Raised {
    match failure {
        Failure::Aborted => py.raise(ExceptionClass::Os, "client connection closed"),
        Failure::Other(reason) => py.raise(
            ExceptionClass::Os,
            &format!("failed to write response data: {reason}"),
        ),
    }
}
