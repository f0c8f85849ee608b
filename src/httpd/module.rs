//! The record of our own module, as far as the wrappers need it: the index under which httpd keeps our
//! configurations and our log level.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::sys;

static RECORD: AtomicPtr<sys::module> = AtomicPtr::new(std::ptr::null_mut());

/// Remembers the record. To be called when hooks are registered, before anything else here.
///
/// # Safety
/// `record` must be the module record that httpd loaded, and live for ever (the module is linked `nodelete`). [S-1]
pub unsafe fn set_record(record: *mut sys::module) {
    RECORD.store(record, Ordering::Release);
}

/// Our index, or `APLOG_NO_MODULE` before the module is registered.
pub fn index() -> c_int {
    let record = RECORD.load(Ordering::Acquire);
    if record.is_null() {
        return sys::APLOG_NO_MODULE;
    }
    // SAFETY: a record that lives for ever; httpd writes the index while it is single-threaded. [S-1]
    unsafe { (*record).module_index }
}

/// Our entry in a vector of configurations (`ap_get_module_config`).
///
/// # Safety
/// `vector` must be a configuration vector of httpd, and `T` what our creators put there. The result lives as long
/// as the vector's pool, which must cover `'a`.
pub unsafe fn config<'a, T>(vector: *const sys::ap_conf_vector_t) -> Option<&'a T> {
    // SAFETY: a vector is an array of pointers with an entry for each module index. [S-2]
    unsafe { entry(vector).cast::<T>().as_ref() }
}

/// The same, to be changed while the configuration is read, when httpd has one thread.
///
/// # Safety
/// As for [`config`], and nobody else may look at the entry during `'a`.
pub unsafe fn config_mut<'a, T>(vector: *const sys::ap_conf_vector_t) -> Option<&'a mut T> {
    // SAFETY: as above.
    unsafe { entry(vector).cast::<T>().as_mut() }
}

/// Sets our entry (`ap_set_module_config`).
///
/// # Safety
/// As for [`config`].
pub unsafe fn set_config(vector: *mut sys::ap_conf_vector_t, value: *mut c_void) {
    if let Ok(index) = usize::try_from(index()) {
        // SAFETY: as above. [S-2]
        unsafe { vector.cast::<*mut c_void>().add(index).write(value) }
    }
}

unsafe fn entry(vector: *const sys::ap_conf_vector_t) -> *mut c_void {
    match usize::try_from(index()) {
        // SAFETY: by contract of the callers. [S-2]
        Ok(index) if !vector.is_null() => unsafe { vector.cast::<*mut c_void>().add(index).read() },
        _ => std::ptr::null_mut(),
    }
}
