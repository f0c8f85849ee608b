//! The connections of a child that may still send another request.
//!
//! A child that is leaving ends the connection with each response. Connections that were told earlier that they stay
//! open are counted: once all of them are closed, no further request can reach the child.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{
    AtomicBool, AtomicI64,
    Ordering::{Relaxed, SeqCst},
};

use crate::guard::{guard, guard_or};
use crate::pool::Pool;
use crate::sys;

/// Open connections that were accepted before the child began to leave.
static OPEN: AtomicI64 = AtomicI64::new(0);
/// All open connections.
static ALL: AtomicI64 = AtomicI64::new(0);
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Makes each later response end its connection.
pub fn begin_leaving() {
    LEAVING.store(true, SeqCst);
}

/// Returns whether [`begin_leaving`] was called.
#[inline]
pub fn are_leaving() -> bool {
    LEAVING.load(Relaxed)
}

/// Returns the number of open connections that were accepted before [`begin_leaving`].
pub fn open_before() -> usize {
    usize::try_from(OPEN.load(SeqCst)).unwrap_or(0)
}

/// Returns the number of open connections.
pub fn open() -> usize {
    usize::try_from(ALL.load(SeqCst)).unwrap_or(0)
}

/// Counts an accepted connection. Never refuses it.
pub(crate) unsafe extern "C" fn pre_connection(
    connection: *mut sys::conn_rec,
    _: *mut c_void,
) -> c_int {
    unsafe extern "C" fn closed(_: *mut c_void) -> sys::apr_status_t {
        OPEN.fetch_sub(1, SeqCst);
        ALL.fetch_sub(1, SeqCst);
        0
    }
    unsafe extern "C" fn closed_late(_: *mut c_void) -> sys::apr_status_t {
        ALL.fetch_sub(1, SeqCst);
        0
    }
    guard_or(sys::OK as c_int, || {
        // SAFETY: httpd lends the connection for the duration of the hook; the clean-ups take no data. A connection of
        // a mod_http2 stream has a master, which is counted instead. [S-1]
        unsafe {
            if (*connection).master.is_null() {
                let pool = Pool::from_raw((*connection).pool);
                OPEN.fetch_add(1, SeqCst);
                ALL.fetch_add(1, SeqCst);
                if LEAVING.load(SeqCst) {
                    OPEN.fetch_sub(1, SeqCst);
                    pool.cleanup(std::ptr::null_mut(), closed_late);
                } else {
                    pool.cleanup(std::ptr::null_mut(), closed);
                }
            }
        }
        sys::OK as c_int
    })
}

/// Ends the connection with this response if the child is leaving. Called when the head of a request has been read.
/// Over HTTP/2, mod_http2 itself tells the client that the child ends.
pub(crate) unsafe extern "C" fn post_read_request(request: *mut sys::request_rec) -> c_int {
    guard(|| {
        if are_leaving() {
            // SAFETY: httpd lends the request for the duration of the hook, and the request has a connection.
            unsafe { end_connection(request) };
        }
        sys::DECLINED
    })
}

/// Makes the response end its connection.
///
/// # Safety
/// `request` must be a live request of this thread whose head has not been sent.
pub(crate) unsafe fn end_connection(request: *mut sys::request_rec) {
    // SAFETY: by contract; every request has a connection.
    unsafe {
        if (*(*request).connection).master.is_null() {
            sys::wsgi_shim_keepalive_off(request);
        }
    }
}
