//! `mod_wsgi.Log`: the binary stream under `wsgi.errors`, `sys.stdout` and `sys.stderr`, which are `io.TextIOWrapper`s
//! over it. Each line becomes a record of the log.
//!
//! Making a TextIOWrapper costs more than all the rest of an environ. So a request's wrapper is used again if the
//! application left no trace on it: no other code holds it, nothing was written, and no attribute was set.

use std::ffi::{CStr, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::ffi;
use wsgi_core::log::log_lines::LineBuffer;

use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult, Raised, Stored, slice};
use crate::host::{self, Level};
use crate::metrics::telemetry::{self, Stream};
use crate::request::state::{Ended, RequestState, with_current};
use crate::sync::GilCell;
use crate::wsgi::native::{
    Call, Method, Methods, Slots, guard_object, instantiate, method, new_function, new_type, value,
};
use crate::wsgi::start_response::bytes_of;

/// How many streams each interpreter keeps for further requests.
const MAX_SPARE: usize = 64;

struct Log {
    stream: Stream,
    target: GilCell<Target>,
    /// Whether a method was called since the stream was given to a request.
    touched: AtomicBool,
}

enum Target {
    /// `wsgi.errors` of a request; `None` while the stream is spare.
    Request(Option<Arc<RequestState>>),
    /// A standard stream: writes to the log of the calling thread's request, or to the server's log. Holds the partial
    /// line for the latter.
    Standard(LineBuffer),
}

impl Log {
    /// Returns the request whose log this is; `None` for a standard stream.
    fn request(&self) -> Option<Option<Arc<RequestState>>> {
        self.target.with(|target| match target {
            Target::Request(request) => Some(request.clone()),
            Target::Standard(_) => None,
        })
    }

    /// Makes it the log of a request, or of none.
    fn aim(&self, request: Option<Arc<RequestState>>) {
        let before = self
            .target
            .with(|target| std::mem::replace(target, Target::Request(request)));
        drop(before);
    }

    /// Passes the partial line of a standard stream that belongs to no request.
    fn with_own(&self, with: impl FnOnce(&mut LineBuffer)) {
        self.target.with(|target| {
            if let Target::Standard(own) = target {
                with(own);
            }
        });
    }
}

static METHODS: Methods<12> = Methods([
    method::<WriteLog>(),
    method::<Writelines>(),
    method::<Flush>(),
    method::<CloseLog>(),
    method::<Enter>(),
    method::<Exit>(),
    method::<Fileno>(),
    method::<Isatty>(),
    method::<Readable>(),
    method::<Seekable>(),
    method::<Writable>(),
    ffi::PyMethodDef::zeroed(),
]);

struct Members([ffi::PyGetSetDef; 4]);
// SAFETY: constant data that CPython does not write to.
unsafe impl Sync for Members {}

static MEMBERS: Members = Members([
    member(c"name", get_name, c"for messages"),
    member(c"mode", get_mode, c"always 'wb'"),
    member(c"closed", get_closed, c"always False"),
    member_end(),
]);

const fn member(name: &'static CStr, get: ffi::getter, doc: &'static CStr) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: doc.as_ptr(),
        closure: std::ptr::null_mut(),
    }
}

const fn member_end() -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: std::ptr::null(),
        get: None,
        set: None,
        doc: std::ptr::null(),
        closure: std::ptr::null_mut(),
    }
}

/// Makes the type.
pub(super) fn new_log_type<'i>(py: &Attached<'i>, module: *mut ffi::PyObject) -> PyResult<Obj<'i>> {
    let mut slots = Slots::<Log>::new();
    slots.add(ffi::Py_tp_methods, METHODS.as_slot());
    slots.add(
        ffi::Py_tp_getset,
        MEMBERS.0.as_ptr().cast_mut().cast::<c_void>(),
    );
    // SAFETY: the functions fit their slots and treat instances as `Instance<Log>`.
    unsafe { new_type(py, module, c"mod_wsgi.Log", slots) }
}

/// Makes the log under a standard stream.
pub(crate) fn new_std_log<'i>(py: &Attached<'i>, stream: Stream) -> PyResult<Obj<'i>> {
    new_log(py, stream, Target::Standard(LineBuffer::new()))
}

fn new_log<'i>(py: &Attached<'i>, stream: Stream, target: Target) -> PyResult<Obj<'i>> {
    let log = Log {
        stream,
        target: GilCell::new(target),
        touched: AtomicBool::new(false),
    };
    // SAFETY: the type was made by `new_log_type`.
    unsafe { instantiate(py, py.state().log_type, log) }
}

/// `wsgi.errors` of one request: the text stream and the log under it.
pub(crate) struct ErrorsStream<'i> {
    stream: Obj<'i>,
    log: Obj<'i>,
}

impl<'i> ErrorsStream<'i> {
    /// Takes a spare stream, or makes a new one.
    pub(crate) fn of_request(py: &Attached<'i>, request: &Arc<RequestState>) -> PyResult<Self> {
        let state = py.state();
        let spare = state.spare_errors.try_with(Vec::pop).flatten();
        let spare = spare.and_then(|(stream, log)| Some((stream.take(py)?, log.take(py)?)));
        let errors = match spare {
            Some((stream, log)) => Self { stream, log },
            None => {
                let log = new_log(py, Stream::Errors, Target::Request(None))?;
                let stream = state.new_stream.get(py).call(py, [&log])?;
                Self { stream, log }
            }
        };
        let log = errors.log();
        log.touched.store(false, Relaxed);
        log.aim(Some(Arc::clone(request)));
        Ok(errors)
    }

    /// Returns the text stream.
    pub(crate) fn stream(&self) -> &Obj<'i> {
        &self.stream
    }

    fn log(&self) -> &Log {
        // SAFETY: made by `new_log`.
        unsafe { value::<Log>(self.log.as_ptr()) }
    }

    /// Keeps the stream for another request, if it is as good as new. Called at the end of the request, after the
    /// environ was dropped.
    pub(crate) fn recycle(self, py: &Attached<'i>) {
        // SAFETY: attached, by the lifetime of the objects; only reads reference counts and slots.
        let pristine = unsafe {
            // Without a GIL a reference count proves nothing.
            cfg!(not(Py_GIL_DISABLED))
                && ffi::Py_REFCNT(self.stream.as_ptr()) == 1
                // One reference is ours and one the stream's: the log was not kept, and the stream was not given
                // another log.
                && ffi::Py_REFCNT(self.log.as_ptr()) == 2
                && !self.log().touched.load(Relaxed)
                && has_no_attributes(self.stream.as_ptr())
                && has_no_weak_references(self.stream.as_ptr())
        };
        if !pristine {
            return;
        }
        self.log().aim(None);
        // A stream that is not kept is dropped after `try_with`, because that runs Python code.
        let mut spare = Some(self);
        py.state().spare_errors.try_with(|all| {
            if all.len() < MAX_SPARE
                && let Some(spare) = spare.take()
            {
                all.push((Stored::new(py, spare.stream), Stored::new(py, spare.log)));
            }
        });
    }
}

unsafe extern "C" {
    /// `Include/cpython/object.h`: where an object keeps its `__dict__`, or null.
    fn _PyObject_GetDictPtr(object: *mut ffi::PyObject) -> *mut *mut ffi::PyObject;
}

/// # Safety
/// `object` must be alive and the thread attached.
unsafe fn has_no_attributes(object: *mut ffi::PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        let slot = _PyObject_GetDictPtr(object);
        slot.is_null() || (*slot).is_null() || ffi::PyDict_Size(*slot) == 0
    }
}

/// # Safety
/// The same as for [`has_no_attributes`].
unsafe fn has_no_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: by contract; where a type has such an offset, its instances have a pointer there.
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        offset <= 0 || (*object.byte_offset(offset).cast::<*mut ffi::PyObject>()).is_null()
    }
}

/// The Python function `_log`, by which `bootstrap.py` writes a line to the server's log.
struct LogLine;

impl Method for LogLine {
    type Value = ();
    const NAME: &'static CStr = c"_log";
    const DOC: &'static CStr = c"Logs a line.";

    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        let line = call.only_arg("_log")?;
        if !line.is_str() {
            return Err(call.py.raise(ExceptionClass::Type, "the line must be str"));
        }
        host::log(Level::Info, &line.to_text());
        Ok(call.py.none())
    }
}

/// Makes the function that logs a line to the server's log at level info.
pub(crate) fn new_log_function<'i>(py: &Attached<'i>, module: &Obj<'i>) -> PyResult<Obj<'i>> {
    new_function::<LogLine>(py, module)
}

struct WriteLog;

impl Method for WriteLog {
    type Value = Log;
    const NAME: &'static CStr = c"write";
    const DOC: &'static CStr = c"write(bytes) -> count";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        let written = write_object(call, &call.only_arg("write")?, "write")?;
        call.py.int(written as i64)
    }
}

struct Writelines;

impl Method for Writelines {
    type Value = Log;
    const NAME: &'static CStr = c"writelines";
    const DOC: &'static CStr = c"writelines(iterable of bytes)";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        let lines = call.only_arg("writelines")?;
        // SAFETY: attached and alive; null means the end, or an exception.
        unsafe {
            let lines = call.py.own(ffi::PyObject_GetIter(lines.as_ptr()))?;
            loop {
                let line = ffi::PyIter_Next(lines.as_ptr());
                if line.is_null() {
                    break;
                }
                write_object(call, &call.py.own(line)?, "writelines")?;
            }
            if ffi::PyErr_Occurred().is_null() {
                Ok(call.py.none())
            } else {
                Err(Raised)
            }
        }
    }
}

struct Flush;

impl Method for Flush {
    type Value = Log;
    const NAME: &'static CStr = c"flush";
    const DOC: &'static CStr = c"flush(): logs a partial line";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        call.value.touched.store(true, Relaxed);
        let log = call.value;
        match log.request() {
            // After the request nothing is left to be logged. A flush is not an error then: the stream flushes when it
            // is collected, and CPython 3.13 would report an exception.
            Some(request) => {
                if let Some(request) = request {
                    let _: Result<(), Ended> = request.log_flush(log.stream);
                }
            }
            None => with_current(|request| match request {
                Some(request) if request.log_flush(log.stream).is_ok() => {}
                _ => {
                    let mut lines = 0;
                    log.with_own(|own| {
                        own.flush(|line| {
                            lines += 1;
                            server_line(line);
                        });
                    });
                    count_lines(call, lines);
                }
            }),
        }
        Ok(call.py.none())
    }
}

struct CloseLog;

impl Method for CloseLog {
    type Value = Log;
    const NAME: &'static CStr = c"close";
    const DOC: &'static CStr = c"close(): does nothing, the log stays open";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        call.value.touched.store(true, Relaxed);
        Ok(call.py.none())
    }
}

struct Exit;

impl Method for Exit {
    type Value = Log;
    const NAME: &'static CStr = c"__exit__";
    const DOC: &'static CStr = c"does nothing";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        call.value.touched.store(true, Relaxed);
        Ok(call.py.none())
    }
}

struct Enter;

impl Method for Enter {
    type Value = Log;
    const NAME: &'static CStr = c"__enter__";
    const DOC: &'static CStr = c"the log itself";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        call.value.touched.store(true, Relaxed);
        call.this()
    }
}

struct Fileno;

impl Method for Fileno {
    type Value = Log;
    const NAME: &'static CStr = c"fileno";
    const DOC: &'static CStr = c"fileno(): raises OSError";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        let text = "Apache/mod_wsgi log object is not associated with a file descriptor.";
        Err(call.py.raise(ExceptionClass::Os, text))
    }
}

struct Isatty;

impl Method for Isatty {
    type Value = Log;
    const NAME: &'static CStr = c"isatty";
    const DOC: &'static CStr = c"isatty() -> False";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        Ok(call.py.bool(false))
    }
}

struct Readable;

impl Method for Readable {
    type Value = Log;
    const NAME: &'static CStr = c"readable";
    const DOC: &'static CStr = c"readable() -> False";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        Ok(call.py.bool(false))
    }
}

struct Seekable;

impl Method for Seekable {
    type Value = Log;
    const NAME: &'static CStr = c"seekable";
    const DOC: &'static CStr = c"seekable() -> False";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        Ok(call.py.bool(false))
    }
}

struct Writable;

impl Method for Writable {
    type Value = Log;
    const NAME: &'static CStr = c"writable";
    const DOC: &'static CStr = c"writable() -> True";

    fn call<'i>(call: &Call<'_, 'i, Log>) -> PyResult<Obj<'i>> {
        Ok(call.py.bool(true))
    }
}

unsafe extern "C" fn get_name(
    slf: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a getter of the type.
    unsafe { guard_object(slf, |py| py.str(value::<Log>(slf).stream.name())) }
}

unsafe extern "C" fn get_mode(
    slf: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython.
    unsafe { guard_object(slf, |py| py.str("wb")) }
}

unsafe extern "C" fn get_closed(
    slf: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython.
    unsafe { guard_object(slf, |py| Ok(py.bool(false))) }
}

/// Writes the bytes of a bytes-like object, or for old code a `str`.
fn write_object(call: &Call<'_, '_, Log>, data: &Obj<'_>, method: &str) -> PyResult<usize> {
    let py = call.py;
    call.value.touched.store(true, Relaxed);
    if data.is_bytes() {
        return write_bytes(call, bytes_of(data), method);
    }
    // SAFETY: attached and alive; a buffer is released before anything else happens.
    unsafe {
        if data.is_str() {
            let (utf8, replace) = (c"utf-8".as_ptr(), c"replace".as_ptr());
            let encoded = ffi::PyUnicode_AsEncodedString(data.as_ptr(), utf8, replace);
            return write_bytes(call, bytes_of(&py.own(encoded)?), method);
        }
        let mut view = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(data.as_ptr(), &mut view, ffi::PyBUF_SIMPLE) != 0 {
            return Err(Raised);
        }
        let len = usize::try_from(view.len).unwrap_or(0);
        let bytes = slice(view.buf.cast::<u8>(), len).to_vec();
        ffi::PyBuffer_Release(&mut view);
        write_bytes(call, &bytes, method)
    }
}

fn write_bytes(call: &Call<'_, '_, Log>, data: &[u8], method: &str) -> PyResult<usize> {
    let log = call.value;
    let written = match log.request() {
        Some(Some(request)) => request.log_write(data, log.stream),
        Some(None) => Err(Ended),
        None => {
            with_current(|request| match request {
                Some(request) if request.log_write(data, log.stream).is_ok() => {}
                _ => {
                    let mut lines = 0;
                    log.with_own(|own| {
                        own.push(data, |line| {
                            lines += 1;
                            server_line(line);
                        });
                    });
                    count_lines(call, lines);
                }
            });
            Ok(())
        }
    };
    // After the target was released: making an exception may run code that writes to this very log.
    written.map_err(|Ended| ended(call.py, log, method))?;
    Ok(data.len())
}

/// Counts lines that belong to no request for the interpreter's first application.
fn count_lines(call: &Call<'_, '_, Log>, lines: u64) {
    telemetry::count_lines(call.py.state().home(), call.value.stream, lines);
}

fn server_line(line: &[u8]) {
    host::log(Level::Error, &String::from_utf8_lossy(line));
}

fn ended(py: &Attached<'_>, log: &Log, method: &str) -> Raised {
    let name = log.stream.name().trim_matches(['<', '>']);
    py.raise(
        ExceptionClass::Runtime,
        &format!("{method}() called on {name} after request completed"),
    )
}
