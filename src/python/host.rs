//! The module's side, seen from Python's: the [`HostTable`] behind safe functions.
//!
//! The table is set once, when the engine starts; the unit tests set one of their own.

use std::ffi::c_void;
use std::sync::OnceLock;

use wsgi_abi::{
    Arenas, Bytes, Fault, GilChoice, GroupOptions, HostRequest, HostResult, HostStatus, HostTable,
    Presence, ResponseHead, Retire, Slice, WriteEnd,
};

use crate::request::response::Head;

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
    if let Some(host) = HOST.get() {
        (host.log_server)(level as i32, Bytes::new(line.as_bytes()));
    }
}

/// The arenas of the calling thread.
pub(crate) fn arenas(now: u64) -> Arenas {
    HOST.get().map_or(Arenas::NONE, |host| (host.arenas)(now))
}

/// See [`HostTable::gil_choice`]; to be called while detached.
pub(crate) fn gil_choice(group: &[u8]) -> GilChoice {
    HOST.get().map_or(GilChoice::Shared, |host| {
        (host.gil_choice)(Bytes::new(group))
    })
}

/// See [`HostTable::gil_chosen`].
pub(crate) fn gil_chosen(group: &[u8], choice: GilChoice, module: &[u8]) {
    if let Some(host) = HOST.get() {
        (host.gil_chosen)(Bytes::new(group), choice, Bytes::new(module));
    }
}

/// Has this child replaced.
pub(crate) fn retire(why: Retire) {
    if let Some(host) = HOST.get() {
        (host.retire)(why);
    }
}

/// Asks for the options of an application group.
pub(crate) fn group_options(group: &[u8]) -> GroupOptions {
    HOST.get().map_or_else(GroupOptions::default, |host| {
        (host.group_options)(Bytes::new(group))
    })
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
pub struct Failure {
    /// What happened.
    pub fault: Fault,
    /// The same in words of httpd; empty for none.
    pub reason: String,
}

/// What was taken of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All of it.
    All,
    /// Nothing of the body will be sent: httpd makes a page of its own.
    Unwanted,
}

/// The host's side of one request. Calls for one request must not overlap (`crate::request` sees to it).
#[derive(Clone, Copy)]
pub(crate) struct Request(*const HostRequest);

// SAFETY: the pointer is only handed back to the host, which allows calls from any thread as long as they do not
// overlap (`HostTable`).
unsafe impl Send for Request {}
// SAFETY: as above.
unsafe impl Sync for Request {}

impl Request {
    /// # Safety
    /// The request must not have ended for as long as the value is used, and calls must not overlap.
    pub(crate) unsafe fn new(request: *const HostRequest) -> Self {
        Self(request)
    }

    /// Logs to the request's log.
    pub(crate) fn log(self, level: Level, line: &[u8]) {
        if let Some(host) = HOST.get() {
            // SAFETY: the request has not ended, by the contract of `new`.
            unsafe { (host.log)(self.0, level as i32, Bytes::new(line)) }
        }
    }

    /// The same while another thread is in a call for the request, or may be: the one call that may overlap others.
    pub(crate) fn log_beside(self, level: Level, line: &[u8]) {
        if let Some(host) = HOST.get() {
            // SAFETY: the request has not ended, by the contract of `new`.
            unsafe { (host.log_beside)(self.0, level as i32, Bytes::new(line)) }
        }
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

    /// Reads a part of the body that has come already; 0 at its end, `None` where there is nothing yet.
    pub(crate) fn read_at_hand(self, into: &mut [u8]) -> Result<Option<usize>, Failure> {
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        // SAFETY: pointer and length describe `into`; the request has not ended, by the contract of `new`.
        let result = unsafe { (host.read_at_hand)(self.0, into.as_mut_ptr(), into.len()) };
        if result.status == HostStatus::Later {
            return Ok(None);
        }
        outcome(result).map(|()| Some(result.count.min(into.len())))
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
                headers: Slice::new(headers),
                content_length: content_length
                    .and_then(|length| i64::try_from(length).ok())
                    .unwrap_or(-1),
            };
            // SAFETY: the request has not ended.
            outcome(unsafe { (host.start_response)(self.0, &raw) })
        })
    }

    /// Sends a part of the body.
    pub(crate) fn write(self, data: &[u8], end: WriteEnd) -> Result<Taken, Failure> {
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        let chunks = [Bytes::new(data)];
        let chunks = Slice::new(if data.is_empty() { &[] } else { &chunks[..] });
        // SAFETY: the request has not ended.
        let result = unsafe { (host.write)(self.0, chunks, end) };
        if result.status == HostStatus::Unwanted {
            return Ok(Taken::Unwanted);
        }
        outcome(result).map(|()| Taken::All)
    }

    /// Has what was written so far go out.
    pub(crate) fn flush(self) -> Result<(), Failure> {
        let Some(host) = HOST.get() else {
            return Err(no_host());
        };
        // SAFETY: the request has not ended.
        outcome(unsafe { (host.flush)(self.0) })
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

    /// Whether the client is there. Does not wait.
    pub(crate) fn client_presence(self) -> Presence {
        // SAFETY: the request has not ended.
        HOST.get().map_or(Presence::Here, |host| unsafe {
            (host.client_presence)(self.0)
        })
    }

    /// Cuts a started response.
    pub(crate) fn cut_response(self) {
        if let Some(host) = HOST.get() {
            // SAFETY: the request has not ended.
            unsafe { (host.cut_response)(self.0) }
        }
    }

    /// Answers in place of a thread that is stuck with the request.
    pub(crate) fn give_up(self) {
        if let Some(host) = HOST.get() {
            // SAFETY: the request has not ended, by the contract of `new`.
            unsafe { (host.give_up)(self.0) }
        }
    }

    /// A variable of mod_ssl.
    pub(crate) fn ssl_variable(self, name: &[u8]) -> Option<Vec<u8>> {
        unsafe extern "C" fn take(data: *mut c_void, value: Bytes<'_>) {
            // SAFETY: the place below.
            unsafe { *data.cast::<Option<Vec<u8>>>() = value.get().map(<[u8]>::to_vec) }
        }
        let host = HOST.get()?;
        let mut answer: Option<Vec<u8>> = None;
        // SAFETY: the request has not ended; `take` is called, at most, before the call returns.
        unsafe {
            (host.ssl_variable)(self.0, Bytes::new(name), (&raw mut answer).cast(), take);
        }
        answer
    }
}

fn outcome(result: HostResult) -> Result<(), Failure> {
    match result.status {
        HostStatus::Ok | HostStatus::Unwanted => Ok(()),
        HostStatus::Failed | HostStatus::Later => Err(Failure {
            fault: result.fault,
            reason: result.reason(),
        }),
    }
}

fn no_host() -> Failure {
    Failure {
        fault: Fault::Server,
        reason: String::from("the engine has no host"),
    }
}
