//! The `mod_wsgi` Python module and its native types. Everything that Python can see lives in the module's state of
//! each interpreter; no object is kept in a process-wide static.

mod adapter;
mod input;
mod log;
mod module;

pub(crate) use adapter::new_adapter;
pub(crate) use adapter::{bytes_of, request_ended, write_failed};
pub(crate) use input::new_input;
pub(crate) use log::{ErrorsStream, new_std_log};
pub(crate) use module::{MODULE_NAME, State, init, interned_latin1, state_of, state_of_class};

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::ffi;

use crate::object::{Attached, ExceptionClass, Kept, Obj, PyResult, Raised};

/// An instance of one of our types: CPython's header, then the Rust value.
#[repr(C)]
struct Instance<T> {
    base: ffi::PyObject,
    value: T,
}

/// A slot or method body, called by CPython: panics become `SystemError`, and failures the slot's error value.
///
/// # Safety
/// To be called by CPython only, on an attached thread.
unsafe fn guard<R>(error: R, body: impl for<'i> FnOnce(&Attached<'i>) -> PyResult<R>) -> R {
    // SAFETY: CPython calls slots on attached threads; `'i` is fresh.
    let py = unsafe { Attached::assume() };
    match catch_unwind(AssertUnwindSafe(|| body(&py))) {
        Ok(Ok(value)) => value,
        Ok(Err(Raised)) => error,
        Err(_) => {
            let Raised = py.raise(
                ExceptionClass::Runtime,
                "mod_wsgi_rs panicked; the error log says where",
            );
            error
        }
    }
}

/// The same, for bodies that return an object.
///
/// # Safety
/// As for [`guard`].
pub(crate) unsafe fn guard_object(
    body: impl for<'i> FnOnce(&Attached<'i>) -> PyResult<Obj<'i>>,
) -> *mut ffi::PyObject {
    // SAFETY: passed on.
    unsafe { guard(std::ptr::null_mut(), |py| body(py).map(Obj::into_ptr)) }
}

/// The value inside an instance.
///
/// # Safety
/// `object` must be an instance of the type made by [`new_type`] for `T`, alive for `'a`.
unsafe fn value<'a, T>(object: *mut ffi::PyObject) -> &'a T {
    // SAFETY: by contract.
    unsafe { &(*object.cast::<Instance<T>>()).value }
}

/// Makes an instance. Types of ours are final and not constructible from Python.
///
/// # Safety
/// `class` must be the type made by [`new_type`] for `T` in this interpreter.
unsafe fn instantiate<'i, T>(py: &Attached<'i>, class: Kept, value: T) -> PyResult<Obj<'i>> {
    // SAFETY: the object is allocated with the size of `Instance<T>`, and `value` is written before anybody can
    // look.
    unsafe {
        let object = py.own(ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0))?;
        (&raw mut (*object.as_ptr().cast::<Instance<T>>()).value).write(value);
        Ok(object)
    }
}

unsafe extern "C" fn dealloc<T>(object: *mut ffi::PyObject) {
    // SAFETY: CPython calls this once, for an instance of a type made for `T`; heap types are owned by their
    // instances. [S-23]
    unsafe {
        let class = ffi::Py_TYPE(object);
        guard((), |_| {
            std::ptr::drop_in_place(&raw mut (*object.cast::<Instance<T>>()).value);
            Ok(())
        });
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// Slots of a type, for [`new_type`].
struct Slots<T> {
    list: Vec<ffi::PyType_Slot>,
    value: PhantomData<T>,
}

impl<T> Slots<T> {
    fn new() -> Self {
        let mut slots = Self {
            list: Vec::new(),
            value: PhantomData,
        };
        slots.add(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void);
        slots
    }

    fn add(&mut self, slot: c_int, function: *mut c_void) {
        self.list.push(ffi::PyType_Slot {
            slot,
            pfunc: function,
        });
    }
}

/// Makes a type in the interpreter of `module`.
///
/// # Safety
/// Slot functions and tables must fit their slots, live for ever, and treat instances as `Instance<T>`.
unsafe fn new_type<'i, T>(
    py: &Attached<'i>,
    module: *mut ffi::PyObject,
    name: &'static CStr,
    mut slots: Slots<T>,
) -> PyResult<Obj<'i>> {
    slots.add(0, std::ptr::null_mut());
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_IMMUTABLETYPE
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size_of::<Instance<T>>() as c_int,
        itemsize: 0,
        flags: flags as _,
        slots: slots.list.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and only read during the call.
    unsafe {
        py.own(ffi::PyType_FromModuleAndSpec(
            module,
            &mut spec,
            std::ptr::null_mut(),
        ))
    }
}

/// A method that takes its arguments as an array.
const fn fast_method(
    name: &'static CStr,
    function: ffi::PyCFunctionFast,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: function,
        },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: doc.as_ptr(),
    }
}

/// Arguments of a fast method.
///
/// # Safety
/// `args` and `count` must be those that CPython gave.
unsafe fn arguments<'a>(
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> &'a [*mut ffi::PyObject] {
    // SAFETY: by contract.
    unsafe { crate::host::slice(args, usize::try_from(count).unwrap_or(0)) }
}

/// A table of methods, for `Py_tp_methods`.
#[repr(transparent)]
struct Methods<const N: usize>([ffi::PyMethodDef; N]);

// SAFETY: constant data: names, functions and texts that live for ever. CPython does not write to it.
unsafe impl<const N: usize> Sync for Methods<N> {}

impl<const N: usize> Methods<N> {
    fn as_slot(&'static self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }
}
