//! The function by which `bootstrap.py`, on free-threaded builds, reports the module that has switched the GIL on.

use std::ffi::CStr;

use crate::application::free_threading;
use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult};
use crate::wsgi::native::{Call, Method, new_function};

struct GilNotice;

impl Method for GilNotice {
    type Value = ();
    const NAME: &'static CStr = c"_gil_notice";
    const DOC: &'static CStr = c"_gil_notice(module)\n--\n\nA module has switched the GIL on.";

    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        let module = call.only_arg("_gil_notice")?;
        if !module.is_str() {
            return Err(call
                .py
                .raise(ExceptionClass::Type, "the module must be str"));
        }
        free_threading::switched_on(&module.to_text());
        Ok(call.py.none())
    }
}

/// Makes this interpreter, whose `mod_wsgi` is `module`, report when its GIL is switched on.
pub(super) fn watch<'i>(py: &Attached<'i>, module: &Obj<'i>) -> PyResult<()> {
    if free_threading::may_be_off() {
        let notice = new_gil_notice(py, module)?;
        module.call_method(py, c"_watch_gil", [&notice])?;
    }
    Ok(())
}

fn new_gil_notice<'i>(py: &Attached<'i>, module: &Obj<'i>) -> PyResult<Obj<'i>> {
    new_function::<GilNotice>(py, module)
}
