//! The client at the other end of a request's connection.

use std::ffi::c_int;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;

use wsgi_core::request::fault::Presence;

use crate::request::Request;
use crate::sys;

/// How long a write of the last bytes to a client may block, in microseconds.
const SHORT: i64 = 1_000_000;

/// The value that stands for a descriptor that httpd has closed.
const CLOSED: c_int = -2;

/// Returns whether the client is still connected, as far as its connection shows. A client whose connection httpd has
/// closed while it stops counts as gone. Does not block.
pub fn presence(request: Request<'_>) -> Presence {
    // SAFETY: only this thread uses the request; the `aborted` flag of its connection is a hint. [S-45] [S-64]
    if unsafe { sys::wsgi_shim_aborted(request.as_ptr()) } != 0 {
        return Presence::Gone;
    }
    let Some(socket) = socket(request) else {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        let closed = unsafe { sys::wsgi_shim_client_socket(request.as_ptr()) } == CLOSED;
        return if closed {
            Presence::Gone
        } else {
            Presence::Here
        };
    };
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let seen = match poll(&mut polled, Some(&now)) {
        Ok(1..) => polled[0].revents(),
        _ => PollFlags::empty(),
    };
    if seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        Presence::Gone
    } else if seen.contains(PollFlags::RDHUP) {
        // HTTP/2 cannot go on with half a connection.
        if is_shared(request) {
            Presence::Gone
        } else {
            Presence::HalfClosed
        }
    } else {
        Presence::Here
    }
}

/// Limits each later write to a wait of `SHORT` for the client. It has no effect where other requests share the
/// connection (HTTP/2): their writes do not wait for clients.
pub fn wait_little(request: Request<'_>) {
    // SAFETY: only this thread uses the request and its connection. [S-64]
    unsafe { sys::wsgi_shim_client_timeout(request.as_ptr(), SHORT) }
}

/// Lets each write wait for the client for at most this time, in place of httpd's `Timeout`, until it is dropped. It has no
/// effect where other requests share the connection (HTTP/2).
pub struct WriteLimit<'r> {
    request: Request<'r>,
}

impl<'r> WriteLimit<'r> {
    /// Sets the limit, which is above 0.
    pub fn new(request: Request<'r>, limit: Duration) -> Self {
        let limit = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::wsgi_shim_client_timeout(request.as_ptr(), limit) }
        Self { request }
    }
}

impl Drop for WriteLimit<'_> {
    fn drop(&mut self) {
        let timeout = self.request.server().timeout;
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::wsgi_shim_client_timeout(self.request.as_ptr(), timeout) }
    }
}

/// Ends the connection, unless other requests share it.
pub fn hang_up(request: Request<'_>) {
    // SAFETY: only this thread uses the request and its connection. [S-64]
    unsafe { sys::wsgi_shim_keepalive_off(request.as_ptr()) };
    if is_shared(request) {
        return;
    }
    if let Some(socket) = socket(request) {
        // An error means that the connection is already closed.
        let _ = rustix::net::shutdown(socket, Shutdown::Both);
    }
    // SAFETY: only this thread uses the request and its connection. [S-64]
    unsafe { sys::wsgi_shim_set_aborted(request.as_ptr()) };
}

/// Returns whether other requests share the connection (HTTP/2).
fn is_shared(request: Request<'_>) -> bool {
    // SAFETY: only this thread uses the request and its connection. [S-64]
    unsafe { sys::wsgi_shim_shares_connection(request.as_ptr()) != 0 }
}

/// Returns the socket of the connection, which is open as long as the request.
fn socket(request: Request<'_>) -> Option<std::os::fd::BorrowedFd<'_>> {
    // SAFETY: only this thread uses the request, whose connection keeps its socket open. [S-45] [S-64]
    unsafe {
        let fd: c_int = sys::wsgi_shim_client_socket(request.as_ptr());
        (fd >= 0).then(|| std::os::fd::BorrowedFd::borrow_raw(fd))
    }
}
