//! Registration of hooks, with httpd's own names and orders.

use std::ffi::{CStr, c_char, c_int};

use crate::sys;

/// A list of module files for an order, ended by null.
#[repr(transparent)]
pub struct Modules<const N: usize>(pub [*const c_char; N]);

// SAFETY: static strings.
unsafe impl<const N: usize> Sync for Modules<N> {}

const NONE: *const *const c_char = std::ptr::null();

/// `pre_config`
pub fn pre_config(
    hook: unsafe extern "C" fn(*mut sys::apr_pool_t, *mut sys::apr_pool_t, *mut sys::apr_pool_t) -> c_int,
) {
    // SAFETY: registers a function that lives for ever. [S-1]
    unsafe { sys::ap_hook_pre_config(Some(hook), NONE, NONE, sys::APR_HOOK_MIDDLE as c_int) }
}

/// `check_config`
pub fn check_config(
    hook: unsafe extern "C" fn(
        *mut sys::apr_pool_t,
        *mut sys::apr_pool_t,
        *mut sys::apr_pool_t,
        *mut sys::server_rec,
    ) -> c_int,
) {
    // SAFETY: as above. [S-1]
    unsafe { sys::ap_hook_check_config(Some(hook), NONE, NONE, sys::APR_HOOK_MIDDLE as c_int) }
}

/// `post_config`
pub fn post_config(
    hook: unsafe extern "C" fn(
        *mut sys::apr_pool_t,
        *mut sys::apr_pool_t,
        *mut sys::apr_pool_t,
        *mut sys::server_rec,
    ) -> c_int,
) {
    // SAFETY: as above. [S-1]
    unsafe { sys::ap_hook_post_config(Some(hook), NONE, NONE, sys::APR_HOOK_MIDDLE as c_int) }
}

/// `child_init`
pub fn child_init(hook: unsafe extern "C" fn(*mut sys::apr_pool_t, *mut sys::server_rec)) {
    // SAFETY: as above. [S-1]
    unsafe { sys::ap_hook_child_init(Some(hook), NONE, NONE, sys::APR_HOOK_MIDDLE as c_int) }
}

/// `translate_name`, after and before the modules of these files.
pub fn translate_name<const A: usize, const B: usize>(
    hook: unsafe extern "C" fn(*mut sys::request_rec) -> c_int,
    after: &'static Modules<A>,
    before: &'static Modules<B>,
) {
    // SAFETY: as above, and lists that end with null. [S-1]
    unsafe {
        sys::ap_hook_translate_name(
            Some(hook),
            after.0.as_ptr(),
            before.0.as_ptr(),
            sys::APR_HOOK_MIDDLE as c_int,
        );
    }
}

/// `handler`
pub fn handler(hook: unsafe extern "C" fn(*mut sys::request_rec) -> c_int) {
    // SAFETY: as above. [S-1]
    unsafe { sys::ap_hook_handler(Some(hook), NONE, NONE, sys::APR_HOOK_MIDDLE as c_int) }
}

/// A function that another module offers (`APR_RETRIEVE_OPTIONAL_FN`).
pub fn optional_function(name: &CStr) -> sys::apr_opt_fn_t {
    // SAFETY: a lookup by name.
    unsafe { sys::apr_dynamic_fn_retrieve(name.as_ptr()) }
}
