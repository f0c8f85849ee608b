//! The status of CPython's start, and its version.

use std::ffi::CStr;

use pyo3::ffi;

/// Converts the status that CPython returned from a start.
pub(crate) fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: reads a status that CPython just returned; its message is a static C string or null.
    unsafe {
        if ffi::PyStatus_Exception(status) == 0 {
            return Ok(());
        }
        if ffi::PyStatus_IsExit(status) != 0 {
            return Err(format!(
                "Python wanted to exit with status {}",
                status.exitcode
            ));
        }
        if status.err_msg.is_null() {
            return Err(String::from("Python did not say why"));
        }
        Err(CStr::from_ptr(status.err_msg)
            .to_string_lossy()
            .into_owned())
    }
}

/// Returns the version of the loaded library, as "3.11.2".
pub(crate) fn running_version() -> String {
    // SAFETY: may be called before the initialization; returns a static C string.
    let running = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    let number = running.split_whitespace().next();
    number.unwrap_or_default().to_owned()
}
