//! Our module record, and the configurations that httpd stores under its index.
//!
//! This is a separate file so that code which needs only the index does not depend on the hooks.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::sys;

/// A module record. httpd writes its index, handle and name into it.
#[repr(transparent)]
pub struct Record(UnsafeCell<sys::module>);

// SAFETY: httpd writes to the record only while it has one thread. [S-1]
unsafe impl Sync for Record {}

impl Record {
    pub(crate) const fn new(module: sys::module) -> Self {
        Self(UnsafeCell::new(module))
    }

    /// Makes the index known. Called once httpd has registered the module.
    pub(crate) fn registered(&'static self) {
        RECORD.store(self.0.get(), Ordering::Release);
    }
}

static RECORD: AtomicPtr<sys::module> = AtomicPtr::new(std::ptr::null_mut());

/// Returns our index, or `APLOG_NO_MODULE` before the module is registered.
pub(crate) fn index() -> c_int {
    let record = RECORD.load(Ordering::Acquire);
    if record.is_null() {
        return sys::APLOG_NO_MODULE;
    }
    // SAFETY: a static of the module; httpd writes the index while it has one thread. [S-1]
    unsafe { (*record).module_index }
}

/// Sets our entry in a configuration vector (`ap_set_module_config`).
///
/// # Safety
/// `vector` must be null or a configuration vector of httpd, which nobody else uses at the same time.
pub(crate) unsafe fn set_entry(vector: *mut sys::ap_conf_vector_t, value: *mut c_void) {
    if let Ok(index) = usize::try_from(index())
        && !vector.is_null()
    {
        // SAFETY: by contract. [S-2]
        unsafe { vector.cast::<*mut c_void>().add(index).write(value) }
    }
}

/// Returns our entry in a configuration vector (`ap_get_module_config`).
///
/// # Safety
/// `vector` must be null or a configuration vector of httpd.
pub(crate) unsafe fn entry(vector: *const sys::ap_conf_vector_t) -> *mut c_void {
    match usize::try_from(index()) {
        // SAFETY: by contract. [S-2]
        Ok(index) if !vector.is_null() => unsafe { vector.cast::<*mut c_void>().add(index).read() },
        _ => std::ptr::null_mut(),
    }
}
