//! What CPython's garbage collector does, for the metrics: a function for `gc.callbacks`, in each interpreter.

use std::cell::Cell;
use std::ffi::CStr;

use pyo3::ffi;
use wsgi_telemetry::catalogue::{GENERATION, Id};

use super::{State, guard_object, state_of};
use crate::host;
use crate::object::{Attached, Obj, PyResult};
use crate::{telemetry, visit};

thread_local! {
    /// When the collection that the thread is in began; 0 outside. Collections do not nest.
    static SINCE: Cell<u64> = const { Cell::new(0) };
}

struct Definition(ffi::PyMethodDef);
// SAFETY: constant data that CPython does not write to.
unsafe impl Sync for Definition {}

static DEFINITION: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"_collector".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer {
        PyCFunctionFast: callback,
    },
    ml_flags: ffi::METH_FASTCALL,
    ml_doc: c"For gc.callbacks.".as_ptr(),
});

/// The function, of the module `mod_wsgi` of this interpreter.
pub(crate) fn new_collector_callback<'i>(py: &Attached<'i>, module: &Obj<'i>) -> PyResult<Obj<'i>> {
    // SAFETY: attached; the definition lives for ever, and the function keeps the module alive.
    unsafe {
        py.own(ffi::PyCFunction_NewEx(
            (&raw const DEFINITION.0).cast_mut(),
            module.as_ptr(),
            std::ptr::null_mut(),
        ))
    }
}

unsafe extern "C" fn callback(
    module: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython with that many live arguments; the module is the one that the function was made with,
    // whose state lives for ever. [S-25]
    unsafe {
        guard_object(|py| {
            let state = &*state_of(&py.share(module)?);
            if let [phase, info] = *host::slice(args, usize::try_from(count).unwrap_or(0)) {
                let (phase, info) = (py.share(phase)?, py.share(info)?);
                if ffi::PyUnicode_Check(phase.as_ptr()) != 0 {
                    observe(py, state, &phase, &info);
                }
            }
            Ok(py.none())
        })
    }
}

/// `phase` is a `str`.
fn observe<'i>(py: &Attached<'i>, state: &State, phase: &Obj<'i>, info: &Obj<'i>) {
    let now = telemetry::now();
    // SAFETY: attached, and a live `str`.
    let starts =
        unsafe { ffi::PyUnicode_CompareWithASCIIString(phase.as_ptr(), c"start".as_ptr()) == 0 };
    if starts {
        SINCE.set(now);
        return;
    }
    let since = SINCE.replace(0);
    if since == 0 {
        return;
    }
    let number = |name: &CStr| -> u64 {
        let value = info.item(py, name).map(|value| value.as_i64());
        match value {
            Some(Ok(value)) => u64::try_from(value).unwrap_or(0),
            Some(Err(raised)) => {
                py.clear(raised);
                0
            }
            None => 0,
        }
    };
    let oldest = GENERATION.values.len() - 1;
    let generation = usize::try_from(number(c"generation")).map_or(oldest, |at| at.min(oldest));
    let (collected, uncollectable) = (number(c"collected"), number(c"uncollectable"));
    // It ran on the thread, and so at the cost, of whatever request made the objects.
    let app = visit::current_app().unwrap_or(state.home.get());
    telemetry::count(app, |block| {
        block.observe(Id::GcPause, generation, now.saturating_sub(since));
        block.add(Id::GcCollected, generation, collected);
        block.add(Id::GcUncollectable, generation, uncollectable);
    });
}
