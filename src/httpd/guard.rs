//! No panic crosses into C: each function that httpd calls runs its body inside [`guard`] or [`guard_or`].

use std::ffi::{c_char, c_int, c_void};

use crate::sys;

/// A return type that has a value for "the body panicked".
pub trait Panicked {
    /// Returns that value.
    fn panicked() -> Self;
}

impl Panicked for () {
    fn panicked() -> Self {}
}

/// A hook or handler returns a status.
impl Panicked for c_int {
    fn panicked() -> Self {
        sys::HTTP_INTERNAL_SERVER_ERROR as c_int
    }
}

/// The function of a directive returns the text of an error, or null.
impl Panicked for *const c_char {
    fn panicked() -> Self {
        c"internal error of mod_wsgi_rs; the error log says where".as_ptr()
    }
}

/// The creator of a configuration returns a pointer. httpd takes null for "none".
impl Panicked for *mut c_void {
    fn panicked() -> Self {
        std::ptr::null_mut()
    }
}

/// Runs `body`; a panic becomes the value that its type has for it.
pub fn guard<R: Panicked>(body: impl FnOnce() -> R) -> R {
    wsgi_abi::guard(R::panicked, body)
}

/// Runs `body`; a panic becomes `panicked`. For types that mean nothing by themselves.
pub fn guard_or<R>(panicked: R, body: impl FnOnce() -> R) -> R {
    wsgi_abi::guard(|| panicked, body)
}
