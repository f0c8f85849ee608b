//! Which connections of a child may still come with another request.
//!
//! A child that will leave says with each response that the connection ends. The connections whose clients were told otherwise
//! before are counted: once they are gone, no request can come to a child that has left.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{
    AtomicBool, AtomicI64,
    Ordering::{Relaxed, SeqCst},
};

use crate::guard::{guard, guard_or};
use crate::pool::Pool;
use crate::sys;

/// Connections that were opened before the child began to leave, and are open.
static OPEN: AtomicI64 = AtomicI64::new(0);
/// All that are open.
static ALL: AtomicI64 = AtomicI64::new(0);
static LEAVING: AtomicBool = AtomicBool::new(false);

/// From now on every response ends its connection.
pub fn begin_leaving() {
    LEAVING.store(true, SeqCst);
}

/// Whether that is so.
#[inline]
pub fn are_leaving() -> bool {
    LEAVING.load(Relaxed)
}

/// How many connections are open that were opened before [`begin_leaving`].
pub fn open_before() -> usize {
    usize::try_from(OPEN.load(SeqCst)).unwrap_or(0)
}

/// How many connections are open.
pub fn open() -> usize {
    usize::try_from(ALL.load(SeqCst)).unwrap_or(0)
}

/// A connection was accepted. Never refuses it.
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
        // SAFETY: httpd lends the connection for the time of the hook; the clean-up takes no data. Those of mod_http2's
        // streams have a master, which is counted. [S-1]
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

/// The head of a request has been read. Over HTTP/2, mod_http2 itself tells the client that the child ends.
pub(crate) unsafe extern "C" fn post_read_request(request: *mut sys::request_rec) -> c_int {
    guard(|| {
        if are_leaving() {
            // SAFETY: httpd lends the request for the time of the hook, and it has a connection.
            unsafe { end_connection(request) };
        }
        sys::DECLINED
    })
}

/// Has the response say that the connection ends with it.
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
