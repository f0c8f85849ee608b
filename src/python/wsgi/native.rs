//! Native types and functions of the Python module `mod_wsgi`: their memory, and the C functions that CPython calls.
//! Everything that Python can see is in the state of an interpreter; no object is kept in a process-wide static.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;

use pyo3::ffi;

use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::{Attached, ExceptionClass, Immortal, Obj, PyResult, slice};

/// An instance of one of our types: CPython's header, then the Rust value.
#[repr(C)]
pub(super) struct Instance<T> {
    base: ffi::PyObject,
    value: T,
}

/// Returns the interpreter whose module made the type of the object.
///
/// # Safety
/// `object` must be alive, of a type made by [`new_type`] for the module `mod_wsgi`, on an attached thread.
unsafe fn interpreter_of(object: *mut ffi::PyObject) -> &'static Interpreter {
    // SAFETY: by contract; an instance can only exist once the module's `exec` has written its interpreter. [S-25]
    unsafe { *ffi::PyType_GetModuleState(ffi::Py_TYPE(object)).cast() }
}

/// Runs the body of a slot or method that CPython called. A panic becomes `RuntimeError`; on failure returns `error`,
/// the slot's error value.
///
/// # Safety
/// The calling thread must be attached to that interpreter.
pub(super) unsafe fn guard<R>(
    interpreter: &'static Interpreter,
    error: R,
    body: impl for<'i> FnOnce(&Attached<'i>) -> PyResult<R>,
) -> R {
    // SAFETY: by contract; `'i` is fresh.
    let py = unsafe { Attached::assume(interpreter) };
    let panicked = || {
        let text = "mod_wsgi_rs panicked; the error log says where";
        Err(py.raise(ExceptionClass::Runtime, text))
    };
    wsgi_abi::guard(panicked, || body(&py)).unwrap_or(error)
}

/// Runs the slot body of an instance. The body may return null without an exception, which ends an iteration.
///
/// # Safety
/// The same as for [`interpreter_of`].
pub(super) unsafe fn guard_slot(
    this: *mut ffi::PyObject,
    body: impl for<'i> FnOnce(&Attached<'i>) -> PyResult<*mut ffi::PyObject>,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls slots on threads that are attached to the interpreter of the instance.
    unsafe { guard(interpreter_of(this), std::ptr::null_mut(), body) }
}

/// Runs a slot body that returns an object.
///
/// # Safety
/// The same as for [`interpreter_of`].
pub(super) unsafe fn guard_object(
    this: *mut ffi::PyObject,
    body: impl for<'i> FnOnce(&Attached<'i>) -> PyResult<Obj<'i>>,
) -> *mut ffi::PyObject {
    // SAFETY: passed on.
    unsafe { guard_slot(this, |py| body(py).map(Obj::into_ptr)) }
}

/// Returns the value inside an instance.
///
/// # Safety
/// `object` must be an instance of the type made by [`new_type`] for `T`, alive for `'a`.
pub(super) unsafe fn value<'a, T>(object: *mut ffi::PyObject) -> &'a T {
    // SAFETY: by contract.
    unsafe { &(*object.cast::<Instance<T>>()).value }
}

/// Makes an instance. Our types are final and cannot be constructed from Python.
///
/// # Safety
/// `class` must be the type made by [`new_type`] for `T`.
pub(super) unsafe fn instantiate<'i, T>(
    py: &Attached<'i>,
    class: Immortal<'i>,
    value: T,
) -> PyResult<Obj<'i>> {
    // SAFETY: the object is allocated with the size of `Instance<T>`, and `value` is written before any other code has
    // the object.
    unsafe {
        let object = py.own(ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0))?;
        (&raw mut (*object.as_ptr().cast::<Instance<T>>()).value).write(value);
        Ok(object)
    }
}

pub(super) unsafe extern "C" fn dealloc<T>(object: *mut ffi::PyObject) {
    // SAFETY: CPython calls this once, for an instance of a type made for `T`; heap types are owned by their
    // instances. [S-23]
    unsafe {
        let class = ffi::Py_TYPE(object);
        // `guard` has logged the panic, if there was one.
        let value = &raw mut (*object.cast::<Instance<T>>()).value;
        wsgi_abi::guard(|| (), || std::ptr::drop_in_place(value));
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// The slots of a type, for [`new_type`].
pub(super) struct Slots<T> {
    list: Vec<ffi::PyType_Slot>,
    value: PhantomData<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        let mut slots = Self {
            list: Vec::new(),
            value: PhantomData,
        };
        slots.add(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void);
        slots
    }

    pub(super) fn add(&mut self, slot: c_int, function: *mut c_void) {
        self.list.push(ffi::PyType_Slot {
            slot,
            pfunc: function,
        });
    }
}

/// Makes a type in the interpreter of `module`.
///
/// # Safety
/// Slot functions and tables must fit their slots, live as long as the process, and treat instances as `Instance<T>`.
pub(super) unsafe fn new_type<'i, T>(
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

/// A method of a native type, as an ordinary function; [`method`] makes the C function.
pub(super) trait Method {
    /// The value inside the type's instances.
    type Value;
    /// The method's name in Python.
    const NAME: &'static CStr;
    /// The method's `__doc__`.
    const DOC: &'static CStr;

    /// Runs the method and returns its result.
    fn call<'i>(call: &Call<'_, 'i, Self::Value>) -> PyResult<Obj<'i>>;
}

/// A call of a [`Method`].
pub(super) struct Call<'a, 'i, T> {
    pub(super) py: &'a Attached<'i>,
    /// The value inside the instance.
    pub(super) value: &'a T,
    pub(super) this: *mut ffi::PyObject,
    pub(super) args: &'a [*mut ffi::PyObject],
}

impl<'i, T> Call<'_, 'i, T> {
    /// Returns the instance itself.
    pub(super) fn this(&self) -> PyResult<Obj<'i>> {
        // SAFETY: CPython keeps the instance alive during the call.
        unsafe { self.py.share(self.this) }
    }

    /// Returns the number of arguments.
    pub(super) fn count(&self) -> usize {
        self.args.len()
    }

    /// Returns the argument at this index, if there is one.
    pub(super) fn arg(&self, at: usize) -> Option<Obj<'i>> {
        let arg = self.args.get(at)?;
        // SAFETY: CPython keeps the arguments alive during the call.
        unsafe { self.py.share(*arg) }.ok()
    }

    /// Returns the argument of a method that takes exactly one.
    pub(super) fn only_arg(&self, method: &str) -> PyResult<Obj<'i>> {
        self.arg(0).filter(|_| self.count() == 1).ok_or_else(|| {
            let text = format!(
                "{method}() takes exactly 1 argument ({} given)",
                self.count()
            );
            self.py.raise(ExceptionClass::Type, &text)
        })
    }
}

/// Makes the entry of a [`Method`] in a table of methods.
pub(super) const fn method<M: Method>() -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: trampoline::<M>,
        },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: M::DOC.as_ptr(),
    }
}

pub(super) unsafe extern "C" fn trampoline<M: Method>(
    this: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a method of the type for `M::Value`, with `count` live arguments.
    unsafe {
        guard_object(this, |py| {
            M::call(&Call {
                py,
                value: value(this),
                this,
                args: slice(args, usize::try_from(count).unwrap_or(0)),
            })
        })
    }
}

/// Makes the entry of a function of the module, which is a [`Method`] without a value.
pub(super) const fn function<M: Method<Value = ()>>() -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: function_trampoline::<M>,
        },
        ..method::<M>()
    }
}

/// Makes a function of the module that is not an attribute of it.
pub(super) fn new_function<'i, M: Method<Value = ()>>(
    py: &Attached<'i>,
    module: &Obj<'i>,
) -> PyResult<Obj<'i>> {
    let definition: &'static Methods<1> = const { &Methods([function::<M>()]) };
    // SAFETY: attached; the definition is a constant of the process, CPython does not write to it, and the function
    // keeps the module alive.
    unsafe {
        py.own(ffi::PyCFunction_NewEx(
            definition.0.as_ptr().cast_mut(),
            module.as_ptr(),
            std::ptr::null_mut(),
        ))
    }
}

pub(super) unsafe extern "C" fn function_trampoline<M: Method<Value = ()>>(
    module: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython as a function of the module, with `count` live arguments; `exec`, which calls none of
    // these functions, has written the interpreter. [S-25]
    unsafe {
        let interpreter: &'static Interpreter = *ffi::PyModule_GetState(module).cast();
        guard(interpreter, std::ptr::null_mut(), |py| {
            M::call(&Call {
                py,
                value: &(),
                this: module,
                args: slice(args, usize::try_from(count).unwrap_or(0)),
            })
            .map(Obj::into_ptr)
        })
    }
}

/// A table of methods, for `Py_tp_methods`.
#[repr(transparent)]
pub(super) struct Methods<const N: usize>(pub(super) [ffi::PyMethodDef; N]);

// SAFETY: constant data: names, functions and texts that live as long as the process. CPython does not write to it.
unsafe impl<const N: usize> Sync for Methods<N> {}

impl<const N: usize> Methods<N> {
    pub(super) fn as_slot(&'static self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }
}
