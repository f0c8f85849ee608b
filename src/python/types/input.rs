//! `mod_wsgi.Input`, the `wsgi.input` of a request: a stream over the body as httpd's input filters give it.
//!
//! The end of the body comes from the filters, not from `Content-Length`, so reading on is safe. Every read of the
//! host happens with the GIL released, once for each call from Python, however many pieces the body comes in.

use std::ffi::c_void;
use std::sync::Arc;

use pyo3::ffi;

use super::{
    Methods, Slots, State, arguments, fast_method, guard, guard_object, instantiate, new_type,
    value,
};
use crate::host::{Failure, Request};
use crate::object::{Attached, ExceptionClass, Obj, PyResult, Raised};
use crate::request::{RequestState, lock};

/// Step in which lines are looked for, and least step in which the body is read. Bytes.
const STEP: usize = 8192;
/// Largest step in which memory grows ahead of what was read. Bytes.
const MAX_STEP: usize = 1 << 20;

type Input = Arc<RequestState>;

static METHODS: Methods<5> = Methods([
    fast_method(c"read", read, c"read([size]) -> bytes"),
    fast_method(c"readline", readline, c"readline([size]) -> bytes"),
    fast_method(
        c"readlines",
        readlines,
        c"readlines([hint]) -> list of bytes",
    ),
    fast_method(
        c"close",
        close,
        c"close(): does nothing, httpd ends the body",
    ),
    ffi::PyMethodDef::zeroed(),
]);

/// Makes the type.
pub(super) fn new_input_type<'i>(
    py: &Attached<'i>,
    module: *mut ffi::PyObject,
) -> PyResult<Obj<'i>> {
    let mut slots = Slots::<Input>::new();
    slots.add(ffi::Py_tp_methods, METHODS.as_slot());
    slots.add(ffi::Py_tp_iter, iter as *mut c_void);
    slots.add(ffi::Py_tp_iternext, next as *mut c_void);
    // SAFETY: the functions fit their slots and treat instances as `Instance<Input>`.
    unsafe { new_type(py, module, c"mod_wsgi.Input", slots) }
}

/// Makes the input of a request.
pub(crate) fn new_input<'i>(
    py: &Attached<'i>,
    state: &State,
    request: &Arc<RequestState>,
) -> PyResult<Obj<'i>> {
    // SAFETY: the type was made by `new_input_type`.
    unsafe { instantiate::<Input>(py, state.input_type, Arc::clone(request)) }
}

unsafe extern "C" fn read(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type.
    unsafe {
        guard_object(|py| {
            let request = open(py, slf, "read")?;
            let size = size_argument(py, "read", arguments(args, count))?;
            read_bytes(py, request, size)
        })
    }
}

unsafe extern "C" fn readline(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type.
    unsafe {
        guard_object(|py| {
            let request = open(py, slf, "readline")?;
            let size = size_argument(py, "readline", arguments(args, count))?;
            read_line(py, request, size)
        })
    }
}

unsafe extern "C" fn readlines(
    slf: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type.
    unsafe {
        guard_object(|py| {
            let request = open(py, slf, "readlines")?;
            let hint = size_argument(py, "readlines", arguments(args, count))?.unwrap_or(0);
            let mut lines = Vec::new();
            let mut total = 0;
            loop {
                let line = read_line(py, request, None)?;
                let len = line.len()?;
                if len == 0 {
                    break;
                }
                lines.push(line);
                total += len;
                if hint > 0 && total >= hint {
                    break;
                }
            }
            py.list(lines)
        })
    }
}

unsafe extern "C" fn close(
    slf: *mut ffi::PyObject,
    _args: *mut *mut ffi::PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type.
    unsafe {
        guard_object(|py| {
            open(py, slf, "close")?;
            Ok(py.none())
        })
    }
}

unsafe extern "C" fn iter(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a slot of the type.
    unsafe {
        guard_object(|py| {
            open(py, slf, "__iter__")?;
            py.share(slf)
        })
    }
}

unsafe extern "C" fn next(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a slot of the type; null without an exception ends the iteration.
    unsafe {
        guard(std::ptr::null_mut(), |py| {
            let request = open(py, slf, "__next__")?;
            let line = read_line(py, request, None)?;
            Ok(if line.len()? == 0 {
                std::ptr::null_mut()
            } else {
                line.into_ptr()
            })
        })
    }
}

/// The request behind the object, if it has not ended.
///
/// # Safety
/// `slf` must be an instance of the type, alive for `'a`.
unsafe fn open<'a>(
    py: &Attached<'_>,
    slf: *mut ffi::PyObject,
    method: &str,
) -> PyResult<&'a Arc<RequestState>> {
    // SAFETY: by contract.
    let request = unsafe { value::<Input>(slf) };
    if request.is_finished() {
        Err(ended(py, method))
    } else {
        Ok(request)
    }
}

fn ended(py: &Attached<'_>, method: &str) -> Raised {
    py.raise(
        ExceptionClass::Runtime,
        &format!("{method}() called on wsgi.input after request completed"),
    )
}

/// The one optional argument; negative means all, which is `None`.
fn size_argument(
    py: &Attached<'_>,
    method: &str,
    args: &[*mut ffi::PyObject],
) -> PyResult<Option<usize>> {
    match *args {
        [] => Ok(None),
        [size] => {
            // SAFETY: an argument is a live object.
            let size = unsafe { ffi::PyNumber_AsSsize_t(size, ffi::PyExc_OverflowError) };
            // SAFETY: attached.
            if size == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
                return Err(Raised);
            }
            Ok(usize::try_from(size).ok())
        }
        _ => Err(py.raise(
            ExceptionClass::Type,
            &format!("{method}() takes at most 1 argument ({} given)", args.len()),
        )),
    }
}

fn read_bytes<'i>(
    py: &Attached<'i>,
    request: &RequestState,
    size: Option<usize>,
) -> PyResult<Obj<'i>> {
    let want = size.unwrap_or(usize::MAX);
    let mut data = take_leftover(py, request, want)?;
    if more_may_come(request) && (data.len() < want || want == 0) {
        data = fetch(py, request, "read", data, move |host, data| {
            if want == 0 {
                // Sends a pending "100 Continue" without reading anything.
                return host.read_body(&mut []).map(|_| false);
            }
            // Memory is only added, and cleared, once what is there was filled: pieces may be small.
            let mut filled = data.len();
            let ended = loop {
                if filled == want {
                    break Ok(false);
                }
                if filled == data.len() {
                    let step = (want - filled).min(filled.clamp(STEP, MAX_STEP));
                    data.resize(filled + step, 0);
                }
                match host.read_body(&mut data[filled..]) {
                    Ok(0) => break Ok(true),
                    Ok(got) => filled += got,
                    Err(failure) => break Err(failure),
                }
            };
            data.truncate(filled);
            ended
        })?;
    }
    py.bytes(&data)
}

fn read_line<'i>(
    py: &Attached<'i>,
    request: &RequestState,
    size: Option<usize>,
) -> PyResult<Obj<'i>> {
    let want = size.unwrap_or(usize::MAX);
    if want == 0 {
        return py.bytes(b"");
    }
    // All of the leftover; what is behind the line goes back.
    let mut data = take_leftover(py, request, usize::MAX)?;
    if line_end(&data, want).is_none() && more_may_come(request) {
        data = fetch(py, request, "readline", data, move |host, data| {
            loop {
                let at = data.len();
                data.resize(at + STEP, 0);
                let got = host.read_body(&mut data[at..]);
                data.truncate(at + *got.as_ref().unwrap_or(&0));
                if got? == 0 {
                    return Ok(true);
                }
                if data.len() >= want || data[at..].contains(&b'\n') {
                    return Ok(false);
                }
            }
        })?;
    }
    let end = line_end(&data, want).unwrap_or(data.len());
    let line = py.bytes(&data[..end])?;
    if end < data.len() {
        let mut input = lock(&request.input);
        input.buffer = data;
        input.at = end;
    }
    Ok(line)
}

/// Where the line at the start of `data` ends: behind its newline, or after `want` bytes.
fn line_end(data: &[u8], want: usize) -> Option<usize> {
    match data.iter().take(want).position(|&byte| byte == b'\n') {
        Some(at) => Some(at + 1),
        None => (data.len() >= want).then_some(want),
    }
}

fn more_may_come(request: &RequestState) -> bool {
    request.has_body && !lock(&request.input).ended
}

/// At most `want` of the bytes that are left over from an earlier read.
fn take_leftover(py: &Attached<'_>, request: &RequestState, want: usize) -> PyResult<Vec<u8>> {
    let mut input = lock(&request.input);
    if input.failed {
        drop(input);
        return Err(py.raise(
            ExceptionClass::Os,
            "mod_wsgi request data read error: input is already in error state",
        ));
    }
    let left = input.buffer.len() - input.at;
    if left == 0 {
        return Ok(Vec::new());
    }
    if want < left {
        let at = input.at;
        input.at += want;
        return Ok(input.buffer[at..at + want].to_vec());
    }
    let at = std::mem::take(&mut input.at);
    let mut data = std::mem::take(&mut input.buffer);
    data.drain(..at);
    Ok(data)
}

/// Adds to `data` from the host. `step` says whether the end was reached.
fn fetch(
    py: &Attached<'_>,
    request: &RequestState,
    method: &str,
    mut data: Vec<u8>,
    step: impl FnOnce(Request, &mut Vec<u8>) -> Result<bool, Failure> + Send,
) -> PyResult<Vec<u8>> {
    let (data, result) = request
        .host_call(py, move |host| {
            let result = step(host, &mut data);
            (data, result)
        })
        .map_err(|_| ended(py, method))?;
    match result {
        Ok(end) => {
            if end {
                lock(&request.input).ended = true;
            }
            Ok(data)
        }
        Err(failure) => {
            lock(&request.input).failed = true;
            let reason = match failure {
                Failure::Aborted => String::from("Connection was terminated"),
                Failure::Other(reason) => reason,
            };
            Err(py.raise(
                ExceptionClass::Os,
                &format!("mod_wsgi request data read error: {reason}"),
            ))
        }
    }
}
