//! `mod_wsgi.Input`, the `wsgi.input` of a request: a stream over the body as httpd's input filters deliver it.
//!
//! The end of the body comes from the filters, not from `Content-Length`, so reading on is safe. All reads of the host
//! happen with the GIL released, once for each call from Python, however many pieces the body comes in.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use pyo3::ffi;

use crate::cpython::forked;
use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult, Raised};
use crate::process;
use crate::request::host::{Failure, HostRequest};
use crate::request::state::RequestState;
use crate::sync::lock;
use crate::wsgi::faults;
use crate::wsgi::native::{
    Call, Method, Methods, Slots, guard_object, guard_slot, instantiate, method, new_type, value,
};
use wsgi_core::request::fault::{Fault, Transfer};

/// Step in which lines are searched, and smallest step in which the body is read. Bytes.
const STEP: usize = 8192;
/// Largest step in which memory is allocated ahead of reading. Bytes.
const MAX_STEP: usize = 1 << 20;

type Input = Arc<RequestState>;

static METHODS: Methods<5> = Methods([
    method::<Read>(),
    method::<Readline>(),
    method::<Readlines>(),
    method::<Close>(),
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
pub(crate) fn new_input<'i>(py: &Attached<'i>, request: &Arc<RequestState>) -> PyResult<Obj<'i>> {
    // SAFETY: the type was made by `new_input_type`.
    unsafe { instantiate::<Input>(py, py.state().input_type, Arc::clone(request)) }
}

struct Read;

impl Method for Read {
    type Value = Input;
    const NAME: &'static CStr = c"read";
    const DOC: &'static CStr = c"read([size]) -> bytes";

    fn call<'i>(call: &Call<'_, 'i, Input>) -> PyResult<Obj<'i>> {
        check_open(call.py, call.value, "read")?;
        read_bytes(call.py, call.value, size_argument(call, "read")?)
    }
}

struct Readline;

impl Method for Readline {
    type Value = Input;
    const NAME: &'static CStr = c"readline";
    const DOC: &'static CStr = c"readline([size]) -> bytes";

    fn call<'i>(call: &Call<'_, 'i, Input>) -> PyResult<Obj<'i>> {
        check_open(call.py, call.value, "readline")?;
        read_line(call.py, call.value, size_argument(call, "readline")?)
    }
}

struct Readlines;

impl Method for Readlines {
    type Value = Input;
    const NAME: &'static CStr = c"readlines";
    const DOC: &'static CStr = c"readlines([hint]) -> list of bytes";

    fn call<'i>(call: &Call<'_, 'i, Input>) -> PyResult<Obj<'i>> {
        check_open(call.py, call.value, "readlines")?;
        let hint = size_argument(call, "readlines")?.unwrap_or(0);
        let mut lines = Vec::new();
        let mut total = 0;
        loop {
            let line = read_line(call.py, call.value, None)?;
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
        call.py.list(lines)
    }
}

struct Close;

impl Method for Close {
    type Value = Input;
    const NAME: &'static CStr = c"close";
    const DOC: &'static CStr = c"close(): does nothing, httpd ends the body";

    fn call<'i>(call: &Call<'_, 'i, Input>) -> PyResult<Obj<'i>> {
        check_open(call.py, call.value, "close")?;
        Ok(call.py.none())
    }
}

unsafe extern "C" fn iter(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a slot of the type.
    unsafe {
        guard_object(slf, |py| {
            check_open(py, value::<Input>(slf), "__iter__")?;
            py.share(slf)
        })
    }
}

unsafe extern "C" fn next(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a slot of the type; null without an exception ends the iteration.
    unsafe {
        guard_slot(slf, |py| {
            let request = value::<Input>(slf);
            check_open(py, request, "__next__")?;
            let line = read_line(py, request, None)?;
            Ok(if line.len()? == 0 {
                std::ptr::null_mut()
            } else {
                line.into_ptr()
            })
        })
    }
}

fn check_open(py: &Attached<'_>, request: &RequestState, method: &str) -> PyResult<()> {
    if request.is_finished() {
        Err(ended(py, method))
    } else {
        Ok(())
    }
}

fn ended(py: &Attached<'_>, method: &str) -> Raised {
    if process::is_copy() {
        return py.raise(ExceptionClass::Runtime, forked::REFUSAL);
    }
    py.raise(
        ExceptionClass::Runtime,
        &format!("{method}() called on wsgi.input after request completed"),
    )
}

/// Returns the one optional argument; `None`, as for a negative number, means all.
fn size_argument(call: &Call<'_, '_, Input>, method: &str) -> PyResult<Option<usize>> {
    if call.count() > 1 {
        let text = format!(
            "{method}() takes at most 1 argument ({} given)",
            call.count()
        );
        return Err(call.py.raise(ExceptionClass::Type, &text));
    }
    let Some(size) = call.arg(0) else {
        return Ok(None);
    };
    // SAFETY: attached and alive.
    unsafe {
        let size = ffi::PyNumber_AsSsize_t(size.as_ptr(), ffi::PyExc_OverflowError);
        if size == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        Ok(usize::try_from(size).ok())
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
        (data, ()) = fetch(py, request, "read", data, move |host, data| {
            if want == 0 {
                // Sends a pending "100 Continue" without reading anything.
                return host.read_body(&mut []).map(|_| (false, ()));
            }
            // Memory is only added, and cleared, once the existing memory is full: pieces may be small.
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
            ended.map(|ended| (ended, ()))
        })?;
    }
    py.bytes(&data)
}

/// Reads the next line. Each byte is examined once and moved at most once, however many lines have arrived.
fn read_line<'i>(
    py: &Attached<'i>,
    request: &RequestState,
    size: Option<usize>,
) -> PyResult<Obj<'i>> {
    let want = size.unwrap_or(usize::MAX);
    if want == 0 {
        return py.bytes(b"");
    }
    if let Some(line) = line_at_hand(py, request, want)? {
        return Ok(line);
    }
    // The leftover is the beginning of the line.
    let data = take_leftover(py, request, usize::MAX)?;
    let (data, end) = fetch(py, request, "readline", data, move |host, data| {
        loop {
            let at = data.len();
            data.resize(at + STEP, 0);
            let got = host.read_body(&mut data[at..]);
            data.truncate(at + *got.as_ref().unwrap_or(&0));
            if got? == 0 {
                return Ok((true, data.len()));
            }
            if let Some(end) = line_end(&data[at..], want - at) {
                return Ok((false, at + end));
            }
        }
    })?;
    let line = py.bytes(&data[..end])?;
    if end < data.len() {
        let mut input = lock(&request.input);
        input.buffer = data;
        input.at = end;
    }
    Ok(line)
}

/// Returns the next line, or `want` bytes of it, if the leftover of an earlier read holds it or nothing more comes.
fn line_at_hand<'i>(
    py: &Attached<'i>,
    request: &RequestState,
    want: usize,
) -> PyResult<Option<Obj<'i>>> {
    let mut input = lock(&request.input);
    if let Some(fault) = input.failed {
        drop(input);
        return Err(still_failed(py, request, fault));
    }
    let left = &input.buffer[input.at..];
    let len = match line_end(left, want) {
        Some(len) => len,
        None if input.ended || !request.has_body => left.len(),
        None => return Ok(None),
    };
    let line = py.bytes(&left[..len])?;
    input.at += len;
    Ok(Some(line))
}

/// Returns where the line at the start of `data` ends: behind its newline, or after `want` bytes.
fn line_end(data: &[u8], want: usize) -> Option<usize> {
    let data = &data[..data.len().min(want)];
    match data.iter().position(|&byte| byte == b'\n') {
        Some(at) => Some(at + 1),
        None => (data.len() == want).then_some(want),
    }
}

fn more_may_come(request: &RequestState) -> bool {
    request.has_body && !lock(&request.input).ended
}

/// Takes at most `want` of the bytes that are left over from an earlier read.
fn take_leftover(py: &Attached<'_>, request: &RequestState, want: usize) -> PyResult<Vec<u8>> {
    let mut input = lock(&request.input);
    if let Some(fault) = input.failed {
        drop(input);
        return Err(still_failed(py, request, fault));
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

/// Raises again, because an earlier read has failed.
fn still_failed(py: &Attached<'_>, request: &RequestState, fault: Fault) -> Raised {
    let failure = Failure {
        fault,
        reason: String::from("input is already in error state"),
    };
    read_failed(py, request, &failure)
}

fn read_failed(py: &Attached<'_>, request: &RequestState, failure: &Failure) -> Raised {
    let reason = match &*failure.reason {
        "" => "Connection was terminated",
        reason => reason,
    };
    let text = format!("mod_wsgi request data read error: {reason}");
    faults::raise(py, request, failure, Transfer::Read, &text)
}

/// Adds to `data` from the host. `step` returns whether the end of the body was reached, and a value for the caller.
fn fetch<R: Send>(
    py: &Attached<'_>,
    request: &RequestState,
    method: &str,
    mut data: Vec<u8>,
    step: impl FnOnce(HostRequest, &mut Vec<u8>) -> Result<(bool, R), Failure> + Send,
) -> PyResult<(Vec<u8>, R)> {
    let (data, result) = request
        .host_call(py, move |host| {
            // The client may wait for the owed chunk before it sends more. The read finds out if the client is gone.
            let _ = request.pace.settle(host);
            // The lock is not held while the read waits for the client: a thread that waits for the lock may hold the
            // GIL.
            let ahead = lock(&request.input).failure.take();
            let result = match ahead {
                Some(failure) => Err(failure),
                None => step(host, &mut data),
            };
            (data, result)
        })
        .map_err(|_| ended(py, method))?;
    match result {
        Ok((end, result)) => {
            if end {
                lock(&request.input).ended = true;
            }
            Ok((data, result))
        }
        Err(failure) => {
            lock(&request.input).failed = Some(failure.fault);
            Err(read_failed(py, request, &failure))
        }
    }
}
