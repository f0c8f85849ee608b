//! How a child leaves: the MPM ends it gracefully, as it ends a child that has reached `MaxConnectionsPerChild`.
//!
//! | MPM | how |
//! |---|---|
//! | prefork | the main thread gets the signal of a graceful stop while it waits for a connection |
//! | worker, event | the accept function of each listener is wrapped; the wrapper returns `APR_EGENERAL` instead of accepting |
//!
//! A refused connection stays in the kernel's queue for another child. An MPM calls its accept function only when a
//! connection arrives, so [`dummy_connection`] makes a connection if no client does. httpd itself does the same.
//!
//! After `APR_EGENERAL` the MPM ends the child with a status that means "short of resources". If the parent sees that
//! status while the children of a new configuration start, it ends the whole server. So a child that leaves in this way
//! ends with status 0, in its last clean-up ([`child_exit`](super::child_exit)). [S-16]

use std::ffi::{c_int, c_void};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

use super::{LeaveBy, query, scoreboard};
use crate::guard::guard_or;
use crate::{c_bytes, sys};

type Accept = unsafe extern "C" fn(
    *mut *mut c_void,
    *mut sys::ap_listen_rec,
    *mut sys::apr_pool_t,
) -> sys::apr_status_t;

/// The address of each wrapped listener, and its original accept function.
static WRAPPED: OnceLock<Vec<(usize, Accept)>> = OnceLock::new();
/// Whether the wrapper refuses connections.
static REFUSES: AtomicBool = AtomicBool::new(false);
/// Whether the wrapper has refused a connection, so that the MPM is ending this child.
static REFUSED: AtomicBool = AtomicBool::new(false);
/// The main thread, which waits for connections under prefork.
static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);

/// Notes the main thread. Called on it when a child starts.
pub(crate) fn child_begins() {
    // SAFETY: asks for the calling thread.
    MAIN_THREAD.store(unsafe { libc::pthread_self() }, Relaxed);
}

/// Returns whether the accept function has refused a connection, so that the MPM ends this child.
pub(crate) fn has_refused() -> bool {
    REFUSED.load(Acquire)
}

/// Returns the listeners of this process.
fn listeners() -> impl Iterator<Item = *mut sys::ap_listen_rec> {
    // SAFETY: httpd changes the list only while it reads the configuration; the list ends with null.
    let mut next = unsafe { sys::ap_listeners };
    std::iter::from_fn(move || {
        let listener = next;
        // SAFETY: as above.
        next = unsafe { listener.as_ref() }?.next;
        Some(listener)
    })
}

/// Returns whether this process has more than one listener.
pub fn has_several_listeners() -> bool {
    listeners().nth(1).is_some()
}

/// Returns the field of `listener` that holds its accept function.
///
/// # Safety
/// `listener` must be one of [`listeners`].
unsafe fn function<'a>(listener: *mut sys::ap_listen_rec) -> &'a AtomicPtr<c_void> {
    // SAFETY: by contract; the field is an aligned pointer that lives as long as the process. The MPM writes it once,
    // as a whole, before it reads it for the first connection. [S-17]
    unsafe { AtomicPtr::from_ptr((&raw mut (*listener).accept_func).cast()) }
}

/// Wraps the accept functions once the MPM has set all of them. Returns whether they are wrapped. Only one thread may
/// call it.
pub fn wrap() -> bool {
    if WRAPPED.get().is_some() {
        return true;
    }
    let listeners: Vec<_> = listeners().collect();
    let mut found = Vec::with_capacity(listeners.len());
    for &listener in &listeners {
        // SAFETY: a listener; its field holds null or an accept function.
        unsafe {
            let original = function(listener).load(Acquire);
            if original.is_null() {
                return false;
            }
            let original = std::mem::transmute::<*mut c_void, Accept>(original);
            found.push((listener.addr(), original));
        }
    }
    if found.is_empty() || WRAPPED.set(found).is_err() {
        return false;
    }
    for listener in listeners {
        // SAFETY: a listener that is in `WRAPPED`, where the wrapper looks up its original function.
        unsafe { function(listener).store(accept as Accept as *mut c_void, Release) };
    }
    true
}

/// The wrapper: the MPM calls it in place of the accept function that it has chosen.
unsafe extern "C" fn accept(
    connection: *mut *mut c_void,
    listener: *mut sys::ap_listen_rec,
    pool: *mut sys::apr_pool_t,
) -> sys::apr_status_t {
    let refused = sys::APR_EGENERAL as sys::apr_status_t;
    let original = guard_or(None, || {
        if REFUSES.load(Acquire) {
            REFUSED.store(true, Release);
            return None;
        }
        let known = WRAPPED.get()?.iter();
        let mut known = known.filter(|(address, _)| *address == listener.addr());
        known.next().map(|(_, original)| *original)
    });
    match original {
        // SAFETY: called as the MPM would have called it.
        Some(original) => unsafe { original(connection, listener, pool) },
        None => {
            // Worker uses the connection whatever the status is, and would find the previous one here. SAFETY:
            // `connection` is where the MPM wants the connection. [S-17]
            unsafe { *connection = std::ptr::null_mut() };
            refused
        }
    }
}

/// Asks the MPM to end this child, at the next connection at the latest. The caller repeats this until [`is_leaving`].
pub fn leave(way: LeaveBy) {
    match way {
        LeaveBy::Accept => REFUSES.store(true, Release),
        // While a connection is open, the signal would close it earlier than the client was told.
        LeaveBy::Signal if scoreboard::own_worker_waits() => {
            // SAFETY: the main thread lives as long as the process, and has a handler for the signal. [S-18]
            unsafe {
                libc::pthread_kill(MAIN_THREAD.load(Relaxed), sys::AP_SIG_GRACEFUL as c_int);
            }
        }
        LeaveBy::Signal => {}
    }
}

/// Returns whether this child has begun to end, for whatever reason.
pub fn is_leaving() -> bool {
    query::is_stopping()
}

/// Connects to a listener of this server, so that an MPM that waits for a connection calls its accept function.
///
/// # Errors
/// Those of `connect(2)` and `send(2)`.
pub fn dummy_connection() -> io::Result<()> {
    /// A complete TLS alert "close notify": it ends a connection without an entry in the error log.
    const CLOSE_NOTIFY: [u8; 7] = [21, 3, 1, 0, 2, 1, 0];
    // SAFETY: listeners live as long as the process; `protocol` is null or a C string.
    let protocol = |listener: *mut sys::ap_listen_rec| unsafe { c_bytes((*listener).protocol) };
    let is_plain = |listener: &*mut sys::ap_listen_rec| {
        let protocol = protocol(*listener);
        protocol.is_empty() || protocol.eq_ignore_ascii_case(b"http")
    };
    let Some(listener) = listeners().find(is_plain).or_else(|| listeners().next()) else {
        return Ok(());
    };
    // SAFETY: `bind_addr` is the address of a listener.
    let Some(address) = (unsafe { socket_address((*listener).bind_addr) }) else {
        return Err(io::Error::other("the address of the listener is not known"));
    };
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_write_timeout(Some(limit))?;
    if protocol(listener).eq_ignore_ascii_case(b"https") {
        return stream.write_all(&CLOSE_NOTIFY);
    }
    // A complete request, as the kernel may hold a connection back until data arrives (AcceptFilter). Log filters
    // recognise httpd's own connections by its user agent.
    let server = query::description();
    let server = String::from_utf8_lossy(&server);
    let request =
        format!("OPTIONS * HTTP/1.0\r\nUser-Agent: {server} (internal dummy connection)\r\n\r\n");
    stream.write_all(request.as_bytes())
}

/// Converts an address of APR; `None` for null and for families other than IPv4 and IPv6.
///
/// # Safety
/// `address` must be null or point to a live address.
unsafe fn socket_address(address: *const sys::apr_sockaddr_t) -> Option<SocketAddr> {
    // SAFETY: by contract; `family` says which member of the union is set.
    unsafe {
        let address = address.as_ref()?;
        match address.family {
            libc::AF_INET => {
                let raw = address.sa.sin;
                let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                let raw = address.sa.sin6;
                let ip = Ipv6Addr::from(raw.sin6_addr.__in6_u.__u6_addr8);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}
