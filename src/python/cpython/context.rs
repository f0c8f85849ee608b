//! A context (PEP 567) for each request, so that no other request sees what it sets in context variables, whichever
//! thread runs it.

use pyo3::ffi;

use crate::cpython::object::{Attached, Obj, PyResult, Raised};

/// The current context. [`Context::leave`] ends it; after a panic it stays current, and the next request enters its
/// own.
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

    /// Makes the previous context current again.
    pub(crate) fn leave(self, py: &Attached<'i>) {
        // SAFETY: attached and alive.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            // An application has exchanged the context by C code; its context stays.
            py.clear(Raised);
        }
    }
}
