//! The error log.

use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

pub use wsgi_core::messages::Level;

use crate::{record, sys};

// The levels of the contract have the numbers of httpd's levels.
const _: () = assert!(
    Level::Critical as u32 == sys::APLOG_CRIT
        && Level::Error as u32 == sys::APLOG_ERR
        && Level::Warning as u32 == sys::APLOG_WARNING
        && Level::Notice as u32 == sys::APLOG_NOTICE
        && Level::Info as u32 == sys::APLOG_INFO
        && Level::Debug as u32 == sys::APLOG_DEBUG
);

/// Stands for the source file in `ErrorLogFormat`'s `%F`; our lines are identified by their message numbers.
const FILE: &std::ffi::CStr = c"mod_wsgi_rs";

/// The main server of the configuration in force. Lines that belong to no request use its log and level.
static MAIN: AtomicPtr<sys::server_rec> = AtomicPtr::new(std::ptr::null_mut());

/// # Safety
/// `main` must be the main server of the configuration in force, until [`forget_main`].
pub(crate) unsafe fn set_main(main: *mut sys::server_rec) {
    MAIN.store(main, Ordering::Release);
}

/// Forgets the main server, as its configuration is no longer in force.
pub(crate) fn forget_main() {
    MAIN.store(std::ptr::null_mut(), Ordering::Release);
}

/// Returns the main server of the configuration in force, or null.
pub(crate) fn main_server() -> *mut sys::server_rec {
    MAIN.load(Ordering::Acquire)
}

/// A server of the configuration in force, as the owner of an error log and of a log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogServer(*mut sys::server_rec);

// SAFETY: only an address, which is used by processes in which the configuration is in force. [S-8]
unsafe impl Send for LogServer {}
// SAFETY: as above.
unsafe impl Sync for LogServer {}

impl LogServer {
    /// # Safety
    /// `server` must be a server of the configuration in force.
    pub(crate) unsafe fn new(server: *mut sys::server_rec) -> Self {
        Self(server)
    }

    /// Makes lines that belong to no request go to the log of this server.
    pub(crate) fn put_in_place(self) {
        MAIN.store(self.0, Ordering::Release);
    }

    /// Returns the descriptor of the log; `None` if it is no file and no pipe, but the system's log.
    pub(crate) fn descriptor(self) -> Option<c_int> {
        let mut number = -1;
        // SAFETY: a server of the configuration in force; its log is null or an open file. [S-8]
        let status = unsafe {
            let file = (*self.0).error_log;
            if file.is_null() {
                return None;
            }
            sys::apr_os_file_get(&mut number, file)
        };
        (status == 0 && number >= 0).then_some(number)
    }
}

/// Writes a line to the server's log.
pub fn server(level: Level, line: &[u8]) {
    let server = MAIN.load(Ordering::Acquire);
    // SAFETY: null, or the main server of the configuration in force; the format takes one C string. [S-8]
    unsafe {
        if !server.is_null()
            && sys::wsgi_shim_server_log_level(server, record::index()) < level as c_int
        {
            return;
        }
        let line = c_line(line);
        sys::ap_log_error_(
            FILE.as_ptr(),
            0,
            record::index(),
            level as c_int,
            0,
            server,
            c"%s".as_ptr(),
            line.as_ptr(),
        );
    }
}

/// Writes a line while the server starts: to the log, and to the terminal that starts it.
pub fn startup(level: Level, line: &str) {
    let line = c_line(line.as_bytes());
    // SAFETY: no server is needed; the format takes one C string.
    unsafe {
        sys::ap_log_error_(
            FILE.as_ptr(),
            0,
            record::index(),
            level as c_int | sys::APLOG_STARTUP as c_int,
            0,
            std::ptr::null(),
            c"%s".as_ptr(),
            line.as_ptr(),
        );
    }
}

/// Returns the highest level of lines that the log of a request takes.
///
/// # Safety
/// `request` must be a live request_rec.
pub(crate) unsafe fn level_of(request: *const sys::request_rec) -> Level {
    // SAFETY: by contract.
    let level = unsafe { sys::wsgi_shim_log_level(request, record::index()) };
    let levels = [
        Level::Debug,
        Level::Info,
        Level::Notice,
        Level::Warning,
        Level::Error,
    ];
    let mut levels = levels.into_iter();
    let found = levels.find(|found| *found as c_int <= level);
    found.unwrap_or(Level::Critical)
}

/// Writes a line to the log of a request. httpd makes the log ids of the connection and of the request in their pools
/// if they have none yet, and passes the record to the `error_log` hooks of other modules.
///
/// # Safety
/// `request` must be a live request_rec; during the call, no other thread may use it or its connection. [S-55]
pub(crate) unsafe fn request(request: *const sys::request_rec, level: Level, line: &[u8]) {
    // SAFETY: by contract; the format takes one C string.
    unsafe {
        if sys::wsgi_shim_log_level(request, record::index()) < level as c_int {
            return;
        }
        let line = c_line(line);
        sys::ap_log_rerror_(
            FILE.as_ptr(),
            0,
            record::index(),
            level as c_int,
            0,
            request,
            c"%s".as_ptr(),
            line.as_ptr(),
        );
    }
}

/// Writes a line to the log of the request's server, prefixed with the client as lines of a request are. Uses only
/// fields that do not change while handlers run. [S-55]
///
/// # Safety
/// `request` must be a live request_rec that has reached its handler. Other threads may use it during the call.
pub(crate) unsafe fn beside(request: *const sys::request_rec, level: Level, line: &[u8]) {
    // SAFETY: by contract; the fields are read one by one, as other threads may write to other fields; the format takes
    // two C strings and a number.
    unsafe {
        if sys::wsgi_shim_log_level(request, record::index()) < level as c_int {
            return;
        }
        let line = c_line(line);
        let server = (&raw const (*request).server).read();
        let client = (&raw const (*request).useragent_ip).read();
        let address = (&raw const (*request).useragent_addr).read();
        let port = address
            .as_ref()
            .map_or(0, |address| c_int::from(address.port));
        sys::ap_log_error_(
            FILE.as_ptr(),
            0,
            record::index(),
            level as c_int,
            0,
            server,
            c"[client %s:%d] %s".as_ptr(),
            client,
            port,
            line.as_ptr(),
        );
    }
}

/// Returns the line as a C string, with NUL bytes shown as `\0`.
fn c_line(line: &[u8]) -> CString {
    CString::new(line).unwrap_or_else(|error| {
        let shown: Vec<u8> = error
            .into_vec()
            .into_iter()
            .flat_map(|byte| {
                if byte == 0 {
                    b"\\0".to_vec()
                } else {
                    vec![byte]
                }
            })
            .collect();
        CString::new(shown).unwrap_or_default()
    })
}
