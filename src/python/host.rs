//! The module's side, seen from Python's: the [`HostTable`] behind safe functions.
//!
//! The table is set once, when the engine starts; the unit tests set one of their own.

use std::sync::OnceLock;

use wsgi_abi::{
    Bytes, GroupOptions, HostRequest, HostResult, HostStatus, HostTable, ResponseHead, WriteEnd,
};

use crate::response::Head;

static HOST: OnceLock<&'static HostTable> = OnceLock::new();

/// Levels of `http_log.h`, as far as the engine uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// `APLOG_CRIT`
    Critical = 2,
    /// `APLOG_ERR`
    Error = 3,
    /// `APLOG_WARNING`
    Warning = 4,
    /// `APLOG_INFO`
    Info = 6,
    /// `APLOG_DEBUG`
    Debug = 7,
}

/// Sets the table; a second call is ignored.
///
/// # Safety
/// Every function of the table must keep the contract that `wsgi_abi` states for it.
pub unsafe fn set(table: &'static HostTable) {
    let _ = HOST.set(table);
}

/// Logs to the server's log.
pub fn log(level: Level, line: &str) {
    log_bytes(std::ptr::null_mut(), level, line.as_bytes());
}

fn log_bytes(request: *mut HostRequest, level: Level, line: &[u8]) {
    if let Some(host) = HOST.get() {
        // SAFETY: `set` vouched for the table; `request` is null or, by `Request`, of a request that has not ended.
        unsafe { (host.log)(request, level as i32, Bytes::new(line)) }
    }
}

/// Options of an application group, as Rust values.
#[derive(Debug, Default)]
pub struct Options {
    /// Directories of each layer, least specific layer first.
    pub python_path: Vec<Vec<Vec<u8>>>,
    /// Seconds, where set.
    pub switch_interval: Option<f64>,
    /// See [`GroupOptions::restrict_stdin`].
    pub restrict_stdin: bool,
    /// See [`GroupOptions::restrict_stdout`].
    pub restrict_stdout: bool,
    /// See [`GroupOptions::restrict_signal`].
    pub restrict_signal: bool,
}

/// Asks for the options of an application group.
pub fn group_options(group: &[u8]) -> Options {
    let Some(host) = HOST.get() else {
        return Options::default();
    };
    let mut raw = GroupOptions {
        python_path: std::ptr::null(),
        python_path_len: 0,
        switch_interval: 0.0,
        restrict_stdin: false,
        restrict_stdout: false,
        restrict_signal: true,
    };
    // SAFETY: `set` vouched for the table, whose answer points at memory that lives as long as the process.
    unsafe {
        (host.group_options)(Bytes::new(group), &mut raw);
        Options {
            python_path: slice(raw.python_path, raw.python_path_len)
                .iter()
                .map(|layer| {
                    slice(layer.dirs, layer.dirs_len)
                        .iter()
                        .map(|dir| dir.get_or_empty().to_vec())
                        .collect()
                })
                .collect(),
            switch_interval: (raw.switch_interval > 0.0).then_some(raw.switch_interval),
            restrict_stdin: raw.restrict_stdin,
            restrict_stdout: raw.restrict_stdout,
            restrict_signal: raw.restrict_signal,
        }
    }
}

/// A slice from pointer and length, where null means empty.
///
/// # Safety
/// Pointer and length must describe values that live for `'a`.
pub(crate) unsafe fn slice<'a, T>(ptr: *const T, len: usize) -> &'a [T] {
    if ptr.is_null() {
        &[]
    } else {
        // SAFETY: the caller vouches for pointer and length.
        unsafe { std::slice::from_raw_parts(ptr, len) }
    }
}

/// Why a call of the host failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The client is gone.
    Aborted,
    /// Another reason, in words.
    Other(String),
}

/// The host's side of one request. Calls for one request must not overlap (`crate::request` sees to it).
#[derive(Clone, Copy)]
pub(crate) struct Request(*mut HostRequest);

// SAFETY: the pointer is only handed back to the host, which allows calls from any thread as long as they do not
// overlap (`HostTable`).
unsafe impl Send for Request {}
// SAFETY: as above.
unsafe impl Sync for Request {}

impl Request {
    /// # Safety
    /// The request must not have ended for as long as the value is used, and calls must not overlap.
    pub(crate) unsafe fn new(request: *mut HostRequest) -> Self {
        Self(request)
    }

    /// Logs to the request's log.
    pub(crate) fn log(self, level: Level, line: &[u8]) {
        log_bytes(self.0, level, line);
    }

    /// Reads a part of the body; 0 at its end.
    pub(crate) fn read_body(self, into: &mut [u8]) -> Result<usize, Failure> {
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        // SAFETY: pointer and length describe `into`; the request has not ended, by the contract of `new`.
        let result = unsafe { (host.read_body)(self.0, into.as_mut_ptr(), into.len()) };
        outcome(result).map(|()| result.count.min(into.len()))
    }

    /// Hands over status and headers.
    pub(crate) fn start_response(
        self,
        head: &Head,
        content_length: Option<u64>,
    ) -> Result<(), Failure> {
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        head.with_raw(|status_line, headers| {
            let raw = ResponseHead {
                status: head.status(),
                status_line: Bytes::new(status_line),
                headers: headers.as_ptr(),
                headers_len: headers.len(),
                content_length: content_length
                    .and_then(|length| i64::try_from(length).ok())
                    .unwrap_or(-1),
            };
            // SAFETY: the head and what it points at outlive the call; the request has not ended.
            outcome(unsafe { (host.start_response)(self.0, &raw) })
        })
    }

    /// Sends a part of the body.
    pub(crate) fn write(self, data: &[u8], end: WriteEnd) -> Result<(), Failure> {
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        let chunk = Bytes::new(data);
        let count = usize::from(!data.is_empty());
        // SAFETY: the chunk outlives the call; the request has not ended.
        outcome(unsafe { (host.write)(self.0, &chunk, count, end) })
    }

    /// Sends a part of a file as the rest of the body; takes `fd` over.
    pub(crate) fn send_file(
        self,
        fd: std::os::fd::OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), Failure> {
        use std::os::fd::IntoRawFd;
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        // SAFETY: the descriptor is ours and given away; the request has not ended.
        outcome(unsafe { (host.send_file)(self.0, fd.into_raw_fd(), offset, length) })
    }

    /// Cuts a started response.
    pub(crate) fn cut_response(self) {
        if let Some(host) = HOST.get() {
            // SAFETY: the request has not ended.
            unsafe { (host.cut_response)(self.0) }
        }
    }

    /// A variable of mod_ssl.
    pub(crate) fn ssl_variable(self, name: &[u8]) -> Option<Vec<u8>> {
        let host = HOST.get()?;
        let mut value = Bytes::ABSENT;
        // SAFETY: the request has not ended, so the answer is valid until it is copied.
        unsafe {
            (host.ssl_variable)(self.0, Bytes::new(name), &mut value);
            value.get().map(<[u8]>::to_vec)
        }
    }
}

fn outcome(result: HostResult) -> Result<(), Failure> {
    match result.status {
        HostStatus::Ok => Ok(()),
        HostStatus::Aborted => Err(Failure::Aborted),
        HostStatus::Failed => {
            // SAFETY: a reason is valid until the request ends, which is after this call.
            let reason = unsafe { result.reason.get_or_empty() };
            Err(Failure::Other(String::from_utf8_lossy(reason).into_owned()))
        }
    }
}

fn no_host() -> Failure {
    Failure::Other(String::from("the engine has no host"))
}
