//! No panic crosses into C: every function that httpd calls runs its body in here.

use std::ffi::{c_char, c_int, c_void};

use crate::sys;

/// What a function answers to httpd when its body panicked.
pub trait Panicked {
    /// That value.
    fn panicked() -> Self;
}

impl Panicked for () {
    fn panicked() -> Self {}
}

/// Hooks and handlers answer with a status.
impl Panicked for c_int {
    fn panicked() -> Self {
        sys::HTTP_INTERNAL_SERVER_ERROR as c_int
    }
}

/// Directives answer with the text of an error, or null.
impl Panicked for *const c_char {
    fn panicked() -> Self {
        c"internal error of mod_wsgi_rs; the error log says where".as_ptr()
    }
}

/// Creators of configurations answer with a pointer. httpd takes null for "none".
impl Panicked for *mut c_void {
    fn panicked() -> Self {
        std::ptr::null_mut()
    }
}

/// Runs `body`; a panic becomes the value of its type.
pub fn guard<R: Panicked>(body: impl FnOnce() -> R) -> R {
    wsgi_abi::guard(R::panicked, body)
}

/// The same, where the type of the answer does not say what a panic means.
pub fn guard_or<R>(panicked: R, body: impl FnOnce() -> R) -> R {
    wsgi_abi::guard(|| panicked, body)
}
