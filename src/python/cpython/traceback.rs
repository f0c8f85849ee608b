//! Python exceptions as lines of text.

use pyo3::ffi;

use crate::cpython::object::{Attached, Obj, slice};

/// Whether the exception is `SystemExit`, which is treated separately: it ends nothing.
pub(crate) fn is_system_exit(exception: &Obj<'_>) -> bool {
    // SAFETY: attached, by the brand of the object; the class is one of CPython's statics.
    unsafe { ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), ffi::PyExc_SystemExit) != 0 }
}

/// Returns the lines of a traceback. The traceback module fails only in a broken interpreter; then the line is the name
/// and the text of the exception.
pub(crate) fn lines(py: &Attached<'_>, exception: &Obj<'_>) -> Vec<String> {
    let lines = format(py, exception).filter(|lines| !lines.is_empty());
    lines.unwrap_or_else(|| vec![plain(exception)])
}

fn format(py: &Attached<'_>, exception: &Obj<'_>) -> Option<Vec<String>> {
    // Before the interpreter is set up, it has no function for this.
    let format = py.interpreter().state(py)?.format.get(py);
    // SAFETY: the exception is alive and of this attachment.
    let shared = unsafe { py.share(exception.as_ptr()) };
    let lines = shared.and_then(|shared| format.call(py, [&shared]));
    match lines {
        Ok(lines) => {
            let count = lines.len().unwrap_or(0);
            // SAFETY: `_format` returns a list, whose items are borrowed for the copy.
            let texts = (0..count).map(|at| unsafe {
                py.share(ffi::PyList_GetItem(lines.as_ptr(), at as isize))
                    .map(|line| line.to_text())
            });
            texts
                .collect::<Result<_, _>>()
                .map_err(|raised| py.clear(raised))
                .ok()
        }
        Err(raised) => {
            py.clear(raised);
            None
        }
    }
}

fn plain(exception: &Obj<'_>) -> String {
    // SAFETY: attached and alive; the new reference is given back.
    unsafe {
        let text = ffi::PyObject_Str(exception.as_ptr());
        if text.is_null() {
            ffi::PyErr_Clear();
            return exception.type_name();
        }
        let mut len = 0;
        let utf8 = ffi::PyUnicode_AsUTF8AndSize(text, &mut len);
        let said = if utf8.is_null() {
            ffi::PyErr_Clear();
            String::new()
        } else {
            String::from_utf8_lossy(slice(utf8.cast(), usize::try_from(len).unwrap_or(0)))
                .into_owned()
        };
        ffi::Py_DECREF(text);
        format!("{}: {said}", exception.type_name())
    }
}
