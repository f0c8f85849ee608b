//! A context (PEP 567) for each request: no other request sees what it sets in context variables, whichever thread runs
//! it.

use pyo3::ffi;

use crate::cpython::object::{Attached, Obj, PyResult, Raised};

/// The context that is current. Ended by [`Context::leave`]; after a panic it stays, and the next request has its own.
pub(crate) struct Context<'i>(Obj<'i>);

impl<'i> Context<'i> {
    /// Makes an empty context the current one of this thread.
    pub(crate) fn enter(py: &Attached<'i>) -> PyResult<Self> {
        // SAFETY: attached; a new reference or null.
        let context = unsafe { py.own(ffi::PyContext_New())? };
        // SAFETY: attached and alive.
        match unsafe { ffi::PyContext_Enter(context.as_ptr()) } {
            0 => Ok(Self(context)),
            _ => Err(Raised),
        }
    }

    /// The one before is current again.
    pub(crate) fn leave(self, py: &Attached<'i>) {
        // SAFETY: attached and alive.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            // An application has exchanged the context by C code; then that is how it wants it.
            py.clear(Raised);
        }
    }
}
