//! The error log.

use std::ffi::{CString, c_int};

use crate::{module, sys};

/// Levels of `http_log.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub c_int);

impl Level {
    /// `APLOG_ERR`
    pub const ERROR: Level = Level(sys::APLOG_ERR as c_int);
    /// `APLOG_WARNING`
    pub const WARNING: Level = Level(sys::APLOG_WARNING as c_int);
    /// `APLOG_NOTICE`
    pub const NOTICE: Level = Level(sys::APLOG_NOTICE as c_int);
    /// `APLOG_INFO`
    pub const INFO: Level = Level(sys::APLOG_INFO as c_int);
}

/// Name that stands for the source file in `ErrorLogFormat`'s `%F`; the lines carry numbers of their own.
const FILE: &std::ffi::CStr = c"mod_wsgi_rs";

/// Logs a line to a server's log. `server` may be null for the main one.
///
/// # Safety
/// `server` must be null or a live server_rec.
pub unsafe fn server(server: *const sys::server_rec, level: Level, line: &[u8]) {
    let line = c_line(line);
    // SAFETY: by contract; the format takes one C string.
    unsafe {
        if !server.is_null() && sys::wsgi_shim_server_log_level(server, module::index()) < level.0 {
            return;
        }
        sys::ap_log_error_(
            FILE.as_ptr(),
            0,
            module::index(),
            level.0,
            0,
            server,
            c"%s".as_ptr(),
            line.as_ptr(),
        );
    }
}

/// Logs a line while the server starts: to the log, and to the terminal that it is started from.
pub fn startup(level: Level, line: &str) {
    let line = c_line(line.as_bytes());
    // SAFETY: no server is needed; the format takes one C string.
    unsafe {
        sys::ap_log_error_(
            FILE.as_ptr(),
            0,
            module::index(),
            level.0 | sys::APLOG_STARTUP as c_int,
            0,
            std::ptr::null(),
            c"%s".as_ptr(),
            line.as_ptr(),
        );
    }
}

/// Logs a line to the log of a request.
///
/// # Safety
/// `request` must be a live request_rec.
pub unsafe fn request(request: *const sys::request_rec, level: Level, line: &[u8]) {
    // SAFETY: by contract; the format takes one C string.
    unsafe {
        if sys::wsgi_shim_log_level(request, module::index()) < level.0 {
            return;
        }
        let line = c_line(line);
        sys::ap_log_rerror_(
            FILE.as_ptr(),
            0,
            module::index(),
            level.0,
            0,
            request,
            c"%s".as_ptr(),
            line.as_ptr(),
        );
    }
}

/// A line as C wants it; NUL bytes are shown as `\0`.
fn c_line(line: &[u8]) -> CString {
    CString::new(line).unwrap_or_else(|error| {
        let shown: Vec<u8> = error
            .into_vec()
            .into_iter()
            .flat_map(|byte| if byte == 0 { b"\\0".to_vec() } else { vec![byte] })
            .collect();
        CString::new(shown).unwrap_or_default()
    })
}
