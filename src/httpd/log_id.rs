//! Log ids (`%L`), made as httpd makes them, but without a system call for the process number, which httpd makes for
//! each id. Each request that runs an application has an id (`mod_wsgi.request_id`), whether a line is logged for it or
//! not.
//!
//! This hook runs after the hooks of all modules that make other ids (mod_unique_id), and before httpd's.

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::guard::guard_or;
use crate::pool::Pool;
use crate::sys;

/// The number of this process; 0 where httpd makes the ids: in the parent, and in a process that a child has forked.
static PID: AtomicU32 = AtomicU32::new(0);

/// Notes the process number. Called when a child starts.
pub(crate) fn child_begins() {
    PID.store(std::process::id(), Relaxed);
}

/// Leaves the ids to httpd. Called in a process that a child has forked; does only what a signal handler may.
pub(crate) fn child_forked() {
    PID.store(0, Relaxed);
}

/// The `generate_log_id` hook.
pub(crate) unsafe extern "C" fn generate(
    connection: *const sys::conn_rec,
    request: *const sys::request_rec,
    id: *mut *const c_char,
) -> c_int {
    guard_or(sys::DECLINED, || {
        let pid = PID.load(Relaxed);
        if pid == 0 {
            return sys::DECLINED;
        }
        // SAFETY: httpd lends a connection, and null or a request of it; only this thread uses them. [S-57]
        unsafe {
            let (time, pool) = match request.as_ref() {
                Some(request) if request.request_time != 0 => (request.request_time, request.pool),
                Some(request) => (sys::apr_time_now(), request.pool),
                None => (sys::apr_time_now(), (*connection).pool),
            };
            let thread = (*connection).current_thread.addr();
            let text = wsgi_core::log::log_id::text(time.cast_unsigned(), pid, thread);
            *id = Pool::from_raw(pool).dup(&text);
        }
        sys::OK as c_int
    })
}
