//! A small safe layer over CPython's objects: a token that proves that the thread is attached to an interpreter, and
//! owned references that cannot leave the attachment they were made in.
//!
//! [`Attached`] carries an invariant lifetime `'i`, new for every attachment, so objects of two interpreters, or of two
//! attachments, do not mix. [`Obj`] is an owned reference; borrowed ones stay raw pointers inside one function. A
//! failed call leaves CPython's exception set and returns [`Raised`], which only says so.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use pyo3::ffi;

use crate::cpython::gil_clock;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::module_state::State;

/// Invariant in `'i`, and neither `Send` nor `Sync`.
type Brand<'i> = PhantomData<(fn(&'i ()) -> &'i (), *mut ())>;

/// Proof that the calling thread is attached to an interpreter (holds its GIL), and which interpreter that is.
pub(crate) struct Attached<'i> {
    interpreter: &'static Interpreter,
    brand: Brand<'i>,
}

/// A Python exception is set on this thread. The code that receives it passes it on, logs it, or clears it.
#[derive(Debug)]
#[must_use = "a Python exception is set: pass it on, log it, or clear it"]
pub(crate) struct Raised;

/// Result of a call into Python.
pub(crate) type PyResult<T> = Result<T, Raised>;

impl<'i> Attached<'i> {
    /// Makes the token.
    ///
    /// # Safety
    /// The calling thread must be attached to `interpreter`, and stay attached, except in [`Attached::detach`], until
    /// the token and everything made from it are dropped. `'i` must not be chosen by the caller: call this only where
    /// `'i` is a fresh lifetime of a closure (`for<'i>`).
    pub(crate) unsafe fn assume(interpreter: &'static Interpreter) -> Self {
        Self {
            interpreter,
            brand: PhantomData,
        }
    }

    /// Returns the interpreter that the thread is attached to.
    #[inline]
    pub(crate) fn interpreter(&self) -> &'static Interpreter {
        self.interpreter
    }

    /// Returns the engine's state for that interpreter.
    ///
    /// # Panics
    /// If the interpreter is not set up yet. Then it has no request and no object of our types.
    #[inline]
    pub(crate) fn state(&self) -> &'i State<'i> {
        match self.interpreter.state(self) {
            Some(state) => state,
            None => not_set_up(),
        }
    }

    /// Releases the GIL while `work` runs. `work` is `Send`, which objects and tokens are not, so it cannot touch
    /// Python.
    pub(crate) fn detach<R>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.detach_timed(|_| (work(), 0))
    }

    /// Releases the GIL while `work` runs. `work` gets a stamp of its beginning and returns one of its end, or 0.
    pub(crate) fn detach_timed<R>(&self, work: impl FnOnce(u64) -> (R, u64) + Send) -> R {
        let left = gil_clock::leaving();
        // SAFETY: the token proves that this thread is attached; the guard attaches it again on every way out, also
        // when `work` panics. [S-20]
        let state = unsafe { ffi::PyEval_SaveThread() };
        let mut guard = Detached { state, back: 0 };
        let (result, back) = work(left);
        guard.back = back;
        drop(guard);
        result
    }

    /// Takes ownership of a new reference; null means that an exception is set.
    ///
    /// # Safety
    /// `ptr` must be null with an exception set, or a reference that the caller owns and gives away.
    pub(crate) unsafe fn own(&self, ptr: *mut ffi::PyObject) -> PyResult<Obj<'i>> {
        match NonNull::new(ptr) {
            Some(ptr) => Ok(Obj {
                ptr,
                brand: PhantomData,
            }),
            None => Err(Raised),
        }
    }

    /// Makes an owned reference from a borrowed one.
    ///
    /// # Safety
    /// `ptr` must be null with an exception set, or point to a live object of this interpreter.
    pub(crate) unsafe fn share(&self, ptr: *mut ffi::PyObject) -> PyResult<Obj<'i>> {
        // SAFETY: a live object by contract; the new reference is owned by the result.
        unsafe {
            ffi::Py_XINCREF(ptr);
            self.own(ptr)
        }
    }

    /// Returns `None`.
    pub(crate) fn none(&self) -> Obj<'i> {
        // SAFETY: the singleton lives as long as the interpreter.
        unsafe {
            let none = ffi::Py_None();
            ffi::Py_INCREF(none);
            Obj {
                ptr: NonNull::new_unchecked(none),
                brand: PhantomData,
            }
        }
    }

    /// Makes a `str` from latin-1 bytes.
    pub(crate) fn latin1(&self, bytes: &[u8]) -> PyResult<Obj<'i>> {
        // SAFETY: pointer and length describe `bytes`.
        unsafe {
            self.own(ffi::PyUnicode_DecodeLatin1(
                bytes.as_ptr().cast(),
                bytes.len() as isize,
                std::ptr::null(),
            ))
        }
    }

    /// Makes an interned `str` from latin-1 bytes.
    pub(crate) fn interned_latin1(&self, bytes: &[u8]) -> PyResult<Obj<'i>> {
        let mut text = self.latin1(bytes)?.into_ptr();
        // SAFETY: the reference is exchanged for one of the interned string.
        unsafe {
            ffi::PyUnicode_InternInPlace(&mut text);
            self.own(text)
        }
    }

    /// Makes a `str` from bytes in the file-system encoding, or as latin-1 if they do not decode.
    pub(crate) fn fs_path(&self, bytes: &[u8]) -> PyResult<Obj<'i>> {
        // SAFETY: pointer and length describe `bytes`.
        let decoded = unsafe {
            self.own(ffi::PyUnicode_DecodeFSDefaultAndSize(
                bytes.as_ptr().cast(),
                bytes.len() as isize,
            ))
        };
        decoded.or_else(|raised| {
            self.clear(raised);
            self.latin1(bytes)
        })
    }

    /// Makes a `str`.
    pub(crate) fn str(&self, text: &str) -> PyResult<Obj<'i>> {
        // SAFETY: pointer and length describe `text`.
        unsafe {
            self.own(ffi::PyUnicode_FromStringAndSize(
                text.as_ptr().cast(),
                text.len() as isize,
            ))
        }
    }

    /// Makes a `bytes`.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> PyResult<Obj<'i>> {
        // SAFETY: pointer and length describe `bytes`.
        unsafe {
            self.own(ffi::PyBytes_FromStringAndSize(
                bytes.as_ptr().cast(),
                bytes.len() as isize,
            ))
        }
    }

    /// Makes an `int`.
    pub(crate) fn int(&self, value: i64) -> PyResult<Obj<'i>> {
        // SAFETY: attached.
        unsafe { self.own(ffi::PyLong_FromLongLong(value)) }
    }

    /// Makes a `float`.
    pub(crate) fn float(&self, value: f64) -> PyResult<Obj<'i>> {
        // SAFETY: attached.
        unsafe { self.own(ffi::PyFloat_FromDouble(value)) }
    }

    /// Makes a `bool`.
    pub(crate) fn bool(&self, value: bool) -> Obj<'i> {
        // SAFETY: attached; never fails, and True and False live as long as the interpreter.
        unsafe {
            let ptr = ffi::PyBool_FromLong(value.into());
            Obj {
                ptr: NonNull::new_unchecked(ptr),
                brand: PhantomData,
            }
        }
    }

    /// Makes a `tuple` that holds `items`.
    pub(crate) fn tuple<const N: usize>(&self, items: [Obj<'i>; N]) -> PyResult<Obj<'i>> {
        // SAFETY: attached; each item's reference is stolen by PyTuple_SetItem.
        unsafe {
            let tuple = self.own(ffi::PyTuple_New(N as isize))?;
            for (at, item) in items.into_iter().enumerate() {
                if ffi::PyTuple_SetItem(tuple.as_ptr(), at as isize, item.into_ptr()) != 0 {
                    return Err(Raised);
                }
            }
            Ok(tuple)
        }
    }

    /// Makes a `list` that holds `items`.
    pub(crate) fn list(&self, items: impl IntoIterator<Item = Obj<'i>>) -> PyResult<Obj<'i>> {
        // SAFETY: attached; PyList_Append takes its own reference.
        unsafe {
            let list = self.own(ffi::PyList_New(0))?;
            for item in items {
                if ffi::PyList_Append(list.as_ptr(), item.as_ptr()) != 0 {
                    return Err(Raised);
                }
            }
            Ok(list)
        }
    }

    /// Makes an empty `dict`.
    pub(crate) fn dict(&self) -> PyResult<Obj<'i>> {
        // SAFETY: attached.
        unsafe { self.own(ffi::PyDict_New()) }
    }

    /// Imports a module.
    pub(crate) fn import(&self, name: &CStr) -> PyResult<Obj<'i>> {
        // SAFETY: attached.
        unsafe { self.own(ffi::PyImport_ImportModule(name.as_ptr())) }
    }

    /// Clears the exception.
    pub(crate) fn clear(&self, _raised: Raised) {
        // SAFETY: attached.
        unsafe { ffi::PyErr_Clear() }
    }

    /// Takes the exception off the thread. Returns the exception object, with its traceback attached.
    pub(crate) fn take(&self, _raised: Raised) -> Option<Obj<'i>> {
        // SAFETY: attached; each function's new references are owned here.
        #[cfg(Py_3_12)]
        unsafe {
            self.own(ffi::PyErr_GetRaisedException()).ok()
        }
        // SAFETY: as above; PyErr_Fetch gives three owned references, any of which may be null.
        #[cfg(not(Py_3_12))]
        unsafe {
            let (mut kind, mut value, mut trace) = (
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
            ffi::PyErr_Fetch(&mut kind, &mut value, &mut trace);
            ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut trace);
            if !value.is_null() && !trace.is_null() {
                ffi::PyException_SetTraceback(value, trace);
            }
            ffi::Py_XDECREF(kind);
            ffi::Py_XDECREF(trace);
            self.own(value).ok()
        }
    }

    /// Raises an exception of one of CPython's own classes, with a text.
    pub(crate) fn raise(&self, class: ExceptionClass, text: &str) -> Raised {
        if let Ok(text) = self.str(text) {
            // SAFETY: attached; the class is one of CPython's statics.
            unsafe { ffi::PyErr_SetObject(class.as_ptr(), text.as_ptr()) };
        }
        Raised
    }
}

/// The exceptions that the module itself raises.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ExceptionClass {
    /// `TypeError`
    Type,
    /// `ValueError`
    Value,
    /// `RuntimeError`
    Runtime,
    /// `OSError`
    Os,
}

impl ExceptionClass {
    fn as_ptr(self) -> *mut ffi::PyObject {
        // SAFETY: reads statics that are set when Python starts, and every caller is attached.
        unsafe {
            match self {
                Self::Type => ffi::PyExc_TypeError,
                Self::Value => ffi::PyExc_ValueError,
                Self::Runtime => ffi::PyExc_RuntimeError,
                Self::Os => ffi::PyExc_OSError,
            }
        }
    }
}

/// Attaches again when dropped.
struct Detached {
    state: *mut ffi::PyThreadState,
    /// A stamp of the moment when the work was done, or 0.
    back: u64,
}

impl Drop for Detached {
    fn drop(&mut self) {
        gil_clock::waiting(self.back);
        // SAFETY: the state was taken off this very thread by PyEval_SaveThread, and nothing else uses it. [S-20]
        unsafe { ffi::PyEval_RestoreThread(self.state) };
        gil_clock::attached();
    }
}

/// An owned reference to an object of the attachment's interpreter.
pub(crate) struct Obj<'i> {
    ptr: NonNull<ffi::PyObject>,
    brand: Brand<'i>,
}

impl Drop for Obj<'_> {
    fn drop(&mut self) {
        // SAFETY: owned, and the lifetime keeps it inside its attachment.
        unsafe { ffi::Py_DECREF(self.ptr.as_ptr()) }
    }
}

impl Clone for Obj<'_> {
    fn clone(&self) -> Self {
        // SAFETY: alive, and attached by the lifetime of the object.
        unsafe { ffi::Py_INCREF(self.ptr.as_ptr()) };
        Self {
            ptr: self.ptr,
            brand: PhantomData,
        }
    }
}

impl<'i> Obj<'i> {
    /// Returns the pointer, borrowed.
    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.ptr.as_ptr()
    }

    /// Returns the pointer and gives the reference away.
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        ManuallyDrop::new(self).ptr.as_ptr()
    }

    /// Returns an attribute.
    pub(crate) fn attr(&self, py: &Attached<'i>, name: &CStr) -> PyResult<Obj<'i>> {
        // SAFETY: attached and alive.
        unsafe { py.own(ffi::PyObject_GetAttrString(self.as_ptr(), name.as_ptr())) }
    }

    /// Returns an attribute, named by an existing `str`.
    pub(crate) fn attr_named(&self, py: &Attached<'i>, name: &Obj<'i>) -> PyResult<Obj<'i>> {
        // SAFETY: attached, and both are alive.
        unsafe { py.own(ffi::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }

    /// Sets an attribute.
    pub(crate) fn set_attr(&self, name: &CStr, value: &Obj<'i>) -> PyResult<()> {
        // SAFETY: attached, by the lifetimes of both objects, and alive.
        done(unsafe { ffi::PyObject_SetAttrString(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// Sets an item of a `dict`.
    pub(crate) fn set_item(&self, key: &CStr, value: &Obj<'i>) -> PyResult<()> {
        // SAFETY: attached and alive; a wrong type raises SystemError.
        done(unsafe { ffi::PyDict_SetItemString(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// Returns the dictionary of a module.
    pub(crate) fn module_dict(&self, py: &Attached<'i>) -> PyResult<Obj<'i>> {
        // SAFETY: attached; borrowed from the module, and an object that is not a module raises SystemError.
        unsafe { py.share(ffi::PyModule_GetDict(self.as_ptr())) }
    }

    /// Returns an item of a `dict`, if it is there.
    pub(crate) fn item(&self, py: &Attached<'i>, key: &CStr) -> Option<Obj<'i>> {
        // SAFETY: attached; the text is only read.
        let key = unsafe { py.own(ffi::PyUnicode_FromString(key.as_ptr())) };
        // A failure counts as no item.
        key.and_then(|key| self.item_named(py, &key))
            .unwrap_or_else(|raised| {
                py.clear(raised);
                None
            })
    }

    /// Returns an item of a `dict` by an existing `str`, if it is there.
    pub(crate) fn item_named(&self, py: &Attached<'i>, key: &Obj<'i>) -> PyResult<Option<Obj<'i>>> {
        let mut item = std::ptr::null_mut();
        // SAFETY: attached and alive; the item is a new reference, or null.
        unsafe {
            done(ffi::compat::PyDict_GetItemRef(
                self.as_ptr(),
                key.as_ptr(),
                &mut item,
            ))?;
            if item.is_null() {
                return Ok(None);
            }
            py.own(item).map(Some)
        }
    }

    /// Calls the object.
    pub(crate) fn call<const N: usize>(
        &self,
        py: &Attached<'i>,
        args: [&Obj<'i>; N],
    ) -> PyResult<Obj<'i>> {
        let args = args.map(Obj::as_ptr);
        // SAFETY: attached; the arguments outlive the call.
        unsafe {
            py.own(ffi::PyObject_Vectorcall(
                self.as_ptr(),
                args.as_ptr(),
                N,
                std::ptr::null_mut(),
            ))
        }
    }

    /// Calls a method.
    pub(crate) fn call_method<const N: usize>(
        &self,
        py: &Attached<'i>,
        name: &CStr,
        args: [&Obj<'i>; N],
    ) -> PyResult<Obj<'i>> {
        self.attr(py, name)?.call(py, args)
    }

    /// Returns the value of an `int`.
    pub(crate) fn as_i64(&self) -> PyResult<i64> {
        // SAFETY: attached and alive.
        let value = unsafe { ffi::PyLong_AsLongLong(self.as_ptr()) };
        // SAFETY: attached.
        if value == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
            Err(Raised)
        } else {
            Ok(value)
        }
    }

    /// Returns the truth value.
    pub(crate) fn is_true(&self) -> PyResult<bool> {
        // SAFETY: attached and alive.
        match unsafe { ffi::PyObject_IsTrue(self.as_ptr()) } {
            -1 => Err(Raised),
            truth => Ok(truth != 0),
        }
    }

    /// Whether it is a `list` or an instance of a subclass.
    pub(crate) fn is_list(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyList_Check(self.as_ptr()) != 0 }
    }

    /// Whether it is a `tuple` or an instance of a subclass.
    pub(crate) fn is_tuple(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyTuple_Check(self.as_ptr()) != 0 }
    }

    /// Whether it is a `bytes` or an instance of a subclass.
    pub(crate) fn is_bytes(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyBytes_Check(self.as_ptr()) != 0 }
    }

    /// Whether it is a `str` or an instance of a subclass.
    pub(crate) fn is_str(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyUnicode_Check(self.as_ptr()) != 0 }
    }

    /// Whether it is `None`.
    pub(crate) fn is_none(&self) -> bool {
        // SAFETY: compares with the singleton.
        self.as_ptr() == unsafe { ffi::Py_None() }
    }

    /// Returns the name of the object's type, for messages.
    pub(crate) fn type_name(&self) -> String {
        // SAFETY: attached and alive; `tp_name` is a C string that lives with the type.
        let name = unsafe { CStr::from_ptr((*ffi::Py_TYPE(self.as_ptr())).tp_name) };
        name.to_string_lossy().into_owned()
    }

    /// Returns the length of a sequence.
    pub(crate) fn len(&self) -> PyResult<usize> {
        // SAFETY: attached and alive.
        usize::try_from(unsafe { ffi::PyObject_Size(self.as_ptr()) }).map_err(|_| Raised)
    }

    /// Returns the text of a `str`; "?" if it holds surrogates.
    pub(crate) fn to_text(&self) -> String {
        let mut len = 0;
        // SAFETY: attached and alive; the buffer belongs to the object.
        unsafe {
            let utf8 = ffi::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut len);
            if utf8.is_null() {
                ffi::PyErr_Clear();
                return String::from("?");
            }
            String::from_utf8_lossy(std::slice::from_raw_parts(utf8.cast(), len as usize))
                .into_owned()
        }
    }

    /// Returns the bytes of a path, which is a `str`, in the file-system encoding; `None` if it cannot be encoded.
    pub(crate) fn to_fs_path(&self, py: &Attached<'i>) -> Option<Vec<u8>> {
        // SAFETY: attached and alive; the content belongs to the new `bytes`.
        unsafe {
            match py.own(ffi::PyUnicode_EncodeFSDefault(self.as_ptr())) {
                Ok(bytes) => {
                    let data = ffi::PyBytes_AsString(bytes.as_ptr()).cast::<u8>();
                    let len = usize::try_from(ffi::PyBytes_Size(bytes.as_ptr())).unwrap_or(0);
                    Some(std::slice::from_raw_parts(data, len).to_vec())
                }
                Err(raised) => {
                    py.clear(raised);
                    None
                }
            }
        }
    }
}

/// Converts CPython's status, which is negative if an exception is set.
pub(crate) fn done(status: std::ffi::c_int) -> PyResult<()> {
    if status < 0 { Err(Raised) } else { Ok(()) }
}

/// A reference that outlives attachments and is never released: it is kept in the state of an interpreter, which is
/// never ended. Its lifetime is that of an attachment to this interpreter, so it is not used in another one.
#[derive(Clone, Copy)]
pub(crate) struct Immortal<'i> {
    ptr: NonNull<ffi::PyObject>,
    brand: Brand<'i>,
}

impl<'i> Immortal<'i> {
    /// Keeps the object for the life of the interpreter.
    pub(crate) fn new(object: Obj<'i>) -> Self {
        Self {
            ptr: ManuallyDrop::new(object).ptr,
            brand: PhantomData,
        }
    }

    /// Returns the pointer, borrowed.
    pub(crate) fn as_ptr(self) -> *mut ffi::PyObject {
        self.ptr.as_ptr()
    }

    /// Returns an owned reference.
    pub(crate) fn get(self, _py: &Attached<'i>) -> Obj<'i> {
        // SAFETY: attached to the interpreter of the object, by the lifetime, and never released.
        unsafe { ffi::Py_INCREF(self.ptr.as_ptr()) };
        Obj {
            ptr: self.ptr,
            brand: PhantomData,
        }
    }
}

/// A reference that outlives attachments and may be released later, with the interpreter that it belongs to.
pub(crate) struct Stored {
    interpreter: &'static Interpreter,
    ptr: NonNull<ffi::PyObject>,
}

impl Stored {
    pub(crate) fn new(py: &Attached<'_>, object: Obj<'_>) -> Self {
        Self {
            interpreter: py.interpreter(),
            ptr: ManuallyDrop::new(object).ptr,
        }
    }

    /// Returns an owned reference; `None` if `py` is attached to another interpreter.
    pub(crate) fn get<'i>(&self, py: &Attached<'i>) -> Option<Obj<'i>> {
        if !std::ptr::eq(self.interpreter, py.interpreter()) {
            return None;
        }
        // SAFETY: alive, because this holds a reference, and of the interpreter that the thread is attached to.
        unsafe { ffi::Py_INCREF(self.ptr.as_ptr()) };
        Some(Obj {
            ptr: self.ptr,
            brand: PhantomData,
        })
    }

    /// Returns the reference itself; if `py` is attached to another interpreter, returns `None` and never releases it.
    pub(crate) fn take<'i>(self, py: &Attached<'i>) -> Option<Obj<'i>> {
        std::ptr::eq(self.interpreter, py.interpreter()).then(|| Obj {
            ptr: self.ptr,
            brand: PhantomData,
        })
    }
}

#[cold]
fn not_set_up() -> ! {
    panic!("an interpreter is used before it is set up")
}

/// Makes a slice from pointer and length, where null means empty.
///
/// # Safety
/// Pointer and length must describe values that live for `'a`.
pub(crate) unsafe fn slice<'a, T>(ptr: *const T, len: usize) -> &'a [T] {
    if ptr.is_null() {
        &[]
    } else {
        // SAFETY: the caller vouches for pointer and length.
        unsafe { std::slice::from_raw_parts(ptr, len) }
    }
}
