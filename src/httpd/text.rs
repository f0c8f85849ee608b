//! C strings of httpd as bytes.

use std::ffi::{CStr, c_char};

/// Returns the bytes of a C string; empty for null.
///
/// # Safety
/// `text` must be null or a C string that stays unchanged for `'a`.
pub(crate) unsafe fn c_bytes<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: passed on.
    unsafe { c_bytes_opt(text) }.unwrap_or_default()
}

/// Returns the bytes of a C string; `None` for null.
///
/// # Safety
/// The same as for [`c_bytes`].
pub(crate) unsafe fn c_bytes_opt<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: by contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}
