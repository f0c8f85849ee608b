//! For `bootstrap.py`, on free-threaded builds: the function that is told which module has switched the GIL on.

use std::ffi::CStr;

use super::module::State;
use super::native::{Call, Method, new_function};
use crate::application::free_threading;
use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult};

struct GilNotice;

impl Method for GilNotice {
    type Value = State;
    const NAME: &'static CStr = c"_gil_notice";
    const DOC: &'static CStr = c"_gil_notice(module)\n--\n\nA module has switched the GIL on.";

    fn call<'i>(call: &Call<'_, 'i, State>) -> PyResult<Obj<'i>> {
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

/// The function, of the module `mod_wsgi` of this interpreter.
pub(crate) fn new_gil_notice<'i>(py: &Attached<'i>, module: &Obj<'i>) -> PyResult<Obj<'i>> {
    new_function::<GilNotice>(py, module)
}
