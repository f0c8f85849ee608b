//! How a child leaves: the MPM ends it gracefully, as it ends a child that has served `MaxConnectionsPerChild`.
//!
//! | MPM | how |
//! |---|---|
//! | prefork | the signal of a graceful stop, sent to the main thread while it waits for a connection |
//! | worker, event | the accept function of the listeners, which is wrapped, answers `APR_EGENERAL` before it accepts |
//!
//! A connection that is refused waits in the queue of the kernel for another child. An MPM calls its accept function when a
//! connection comes; where none comes, [`dummy_connection`] makes one, as httpd does.
//!
//! After `APR_EGENERAL` the MPM ends the child with a status that says that resources were short. If that comes while the
//! children of a new configuration begin, the parent ends the whole server. So a child that leaves in this way ends with status 0
//! instead, at the end of its clean-up ([`child_exit`](super::child_exit)). [S-16]

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

/// Listeners, by address, and the function that each of them had.
static WRAPPED: OnceLock<Vec<(usize, Accept)>> = OnceLock::new();
/// Whether connections are refused.
static REFUSES: AtomicBool = AtomicBool::new(false);
/// Whether the MPM has called the accept function since then, and was told to end the child.
static REFUSED: AtomicBool = AtomicBool::new(false);
/// The thread that waits for connections under prefork.
static MAIN_THREAD: AtomicU64 = AtomicU64::new(0);

/// A child begins, on its main thread.
pub(crate) fn child_begins() {
    // SAFETY: asks for the calling thread.
    MAIN_THREAD.store(unsafe { libc::pthread_self() }, Relaxed);
}

/// Whether the accept function has refused a connection, so that the MPM ends this child for it.
pub(crate) fn has_refused() -> bool {
    REFUSED.load(Acquire)
}

/// The listeners of this process that accept.
fn listeners() -> impl Iterator<Item = *mut sys::ap_listen_rec> {
    // SAFETY: the list is changed only while the configuration is read, and ends with null.
    let mut next = unsafe { sys::ap_listeners };
    std::iter::from_fn(move || {
        let listener = next;
        // SAFETY: as above.
        next = unsafe { listener.as_ref() }?.next;
        Some(listener)
    })
}

/// Whether there is more than one.
pub fn has_several_listeners() -> bool {
    listeners().nth(1).is_some()
}

/// Where a listener keeps its function.
///
/// # Safety
/// `listener` must be one of [`listeners`].
unsafe fn function<'a>(listener: *mut sys::ap_listen_rec) -> &'a AtomicPtr<c_void> {
    // SAFETY: by contract; an aligned pointer that lives as long as the process. The MPM writes it once, as a whole,
    // before it reads it for the first connection. [S-17]
    unsafe { AtomicPtr::from_ptr((&raw mut (*listener).accept_func).cast()) }
}

/// Wraps the accept functions, once the MPM has filled all of them in. Returns whether they are wrapped now. Called by one
/// thread.
pub fn wrap() -> bool {
    if WRAPPED.get().is_some() {
        return true;
    }
    let listeners: Vec<_> = listeners().collect();
    let mut found = Vec::with_capacity(listeners.len());
    for &listener in &listeners {
        // SAFETY: a listener; what is there is null or such a function.
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
        // SAFETY: a listener, in the table that the function looks at.
        unsafe { function(listener).store(accept as Accept as *mut c_void, Release) };
    }
    true
}

/// Called in place of the function that the MPM has chosen.
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
            // The worker MPM looks at this whatever the status says, and would find the connection before this one.
            // SAFETY: where the MPM wants the connection. [S-17]
            unsafe { *connection = std::ptr::null_mut() };
            refused
        }
    }
}

/// Asks the MPM to end this child, with the next connection at the latest. Called again until [`is_leaving`].
pub fn leave(way: LeaveBy) {
    match way {
        LeaveBy::Accept => REFUSES.store(true, Release),
        // In the middle of a connection, the signal would close it sooner than the client was told.
        LeaveBy::Signal if scoreboard::own_worker_waits() => {
            // SAFETY: the main thread lives as long as the process; it handles the signal. [S-18]
            unsafe {
                libc::pthread_kill(MAIN_THREAD.load(Relaxed), sys::AP_SIG_GRACEFUL as c_int);
            }
        }
        LeaveBy::Signal => {}
    }
}

/// Whether this child has begun to end, for whatever reason.
pub fn is_leaving() -> bool {
    query::is_stopping()
}

/// Makes a connection to a listener of this server, so that an MPM which waits for one looks at its accept function.
///
/// # Errors
/// Those of `connect(2)` and `send(2)`.
pub fn dummy_connection() -> io::Result<()> {
    /// A whole TLS alert "close notify", which ends a connection without an entry in the error log.
    const CLOSE_NOTIFY: [u8; 7] = [21, 3, 1, 0, 2, 1, 0];
    // SAFETY: listeners live as long as the process; their protocol is null or a C string.
    let protocol = |listener: *mut sys::ap_listen_rec| unsafe { c_bytes((*listener).protocol) };
    let is_plain = |listener: &*mut sys::ap_listen_rec| {
        let protocol = protocol(*listener);
        protocol.is_empty() || protocol.eq_ignore_ascii_case(b"http")
    };
    let Some(listener) = listeners().find(is_plain).or_else(|| listeners().next()) else {
        return Ok(());
    };
    // SAFETY: a listener has an address.
    let Some(address) = (unsafe { socket_address((*listener).bind_addr) }) else {
        return Err(io::Error::other("the address of the listener is not known"));
    };
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_write_timeout(Some(limit))?;
    if protocol(listener).eq_ignore_ascii_case(b"https") {
        return stream.write_all(&CLOSE_NOTIFY);
    }
    // A whole request, as the kernel may hold a connection back until data have come (AcceptFilter), with the words by which
    // log filters know httpd's own connections.
    let server = query::description();
    let server = String::from_utf8_lossy(&server);
    let request =
        format!("OPTIONS * HTTP/1.0\r\nUser-Agent: {server} (internal dummy connection)\r\n\r\n");
    stream.write_all(request.as_bytes())
}

/// An address of APR.
///
/// # Safety
/// `address` must be null or an address that lives.
unsafe fn socket_address(address: *const sys::apr_sockaddr_t) -> Option<SocketAddr> {
    // SAFETY: by contract; the family says which one of the union is there.
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
