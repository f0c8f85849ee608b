//! The calls that the engine makes for one request, behind safe functions.

use std::ffi::c_void;

use wsgi_abi::{
    Bytes, Fault, HostResult, HostStatus, HostTable, Presence, ResponseHead, Slice, WriteEnd,
};

use crate::host::Level;
use crate::request::response::Head;

/// Why a call of the host failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What happened.
    pub(crate) fault: Fault,
    /// The reason in httpd's words; empty for none.
    pub(crate) reason: String,
}

/// How much of a write was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// All of it.
    All,
    /// Nothing of the body will be sent, because httpd makes its own page.
    Unwanted,
}

/// The host's side of one request. Calls for one request must not overlap (`request::state` sees to it).
#[derive(Clone, Copy)]
pub(crate) struct HostRequest {
    table: &'static HostTable,
    request: *const wsgi_abi::HostRequest,
}

// SAFETY: the pointer is only handed back to the host, which allows calls from any thread as long as they do not
// overlap (`HostTable`).
unsafe impl Send for HostRequest {}
// SAFETY: as above.
unsafe impl Sync for HostRequest {}

impl HostRequest {
    /// # Safety
    /// `request` must be a request of the host of this table that does not end while the value is used, and calls must
    /// not overlap.
    pub(crate) unsafe fn new(
        table: &'static HostTable,
        request: *const wsgi_abi::HostRequest,
    ) -> Self {
        Self { table, request }
    }

    /// Logs to the request's log.
    pub(crate) fn log(self, level: Level, line: &[u8]) {
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
        unsafe { (self.table.log)(self.request, level, Bytes::new(line)) }
    }

    /// Logs to the request's log while another thread may be in a call for the request. The only call that may overlap
    /// others.
    pub(crate) fn log_beside(self, level: Level, line: &[u8]) {
        // SAFETY: the request has not ended, by the contract of `new`.
        unsafe { (self.table.log_beside)(self.request, level, Bytes::new(line)) }
    }

    /// Reads a part of the body. Returns the number of bytes; 0 at the end of the body.
    pub(crate) fn read_body(self, into: &mut [u8]) -> Result<usize, Failure> {
        // SAFETY: pointer and length describe `into`; the request has not ended, and no other call for it is under way,
        // by the contract of `new`.
        let result = unsafe { (self.table.read_body)(self.request, into.as_mut_ptr(), into.len()) };
        outcome(result).map(|()| result.count.min(into.len()))
    }

    /// Reads a part of the body that has already arrived. Returns the number of bytes, 0 at the end of the body, `None`
    /// if nothing has arrived.
    pub(crate) fn read_at_hand(self, into: &mut [u8]) -> Result<Option<usize>, Failure> {
        // SAFETY: pointer and length describe `into`; the request has not ended, and no other call for it is under way,
        // by the contract of `new`.
        let result =
            unsafe { (self.table.read_at_hand)(self.request, into.as_mut_ptr(), into.len()) };
        if result.status == HostStatus::Later {
            return Ok(None);
        }
        outcome(result).map(|()| Some(result.count.min(into.len())))
    }

    /// Hands status and headers to the host.
    pub(crate) fn start_response(
        self,
        head: &Head,
        content_length: Option<u64>,
    ) -> Result<(), Failure> {
        head.with_raw(|status_line, headers| {
            let raw = ResponseHead {
                status: head.status(),
                status_line: Bytes::new(status_line),
                headers: Slice::new(headers),
                content_length: content_length
                    .and_then(|length| i64::try_from(length).ok())
                    .unwrap_or(-1),
            };
            // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
            outcome(unsafe { (self.table.start_response)(self.request, &raw) })
        })
    }

    /// Sends a part of the body.
    pub(crate) fn write(self, data: &[u8], end: WriteEnd) -> Result<Accepted, Failure> {
        let chunks = [Bytes::new(data)];
        let chunks = Slice::new(if data.is_empty() { &[] } else { &chunks[..] });
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
        let result = unsafe { (self.table.write)(self.request, chunks, end) };
        if result.status == HostStatus::Unwanted {
            return Ok(Accepted::Unwanted);
        }
        outcome(result).map(|()| Accepted::All)
    }

    /// Flushes what was written so far.
    pub(crate) fn flush(self) -> Result<(), Failure> {
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
        outcome(unsafe { (self.table.flush)(self.request) })
    }

    /// Sends a part of a file as the rest of the body. Takes ownership of `fd`.
    pub(crate) fn send_file(
        self,
        fd: std::os::fd::OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), Failure> {
        use std::os::fd::IntoRawFd;
        // SAFETY: the descriptor is owned here and given away; the request has not ended, and no other call for it is
        // under way, by the contract of `new`.
        outcome(unsafe { (self.table.send_file)(self.request, fd.into_raw_fd(), offset, length) })
    }

    /// Returns whether the client is still connected. Does not wait.
    pub(crate) fn client_presence(self) -> Presence {
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
        unsafe { (self.table.client_presence)(self.request) }
    }

    /// Cuts off a response that has started.
    pub(crate) fn cut_response(self) {
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
        unsafe { (self.table.cut_response)(self.request) }
    }

    /// Answers in place of a thread that is stuck with the request.
    pub(crate) fn give_up(self) {
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`.
        unsafe { (self.table.give_up)(self.request) }
    }

    /// Returns the value of a variable of mod_ssl.
    pub(crate) fn ssl_variable(self, name: &[u8]) -> Option<Vec<u8>> {
        unsafe extern "C" fn take(data: *mut c_void, value: Bytes<'_>) {
            // SAFETY: `data` points to `answer` below.
            unsafe { *data.cast::<Option<Vec<u8>>>() = value.get().map(<[u8]>::to_vec) }
        }
        let mut answer: Option<Vec<u8>> = None;
        // SAFETY: the request has not ended, and no other call for it is under way, by the contract of `new`; `take` is
        // called at most once, before the call returns.
        unsafe {
            (self.table.ssl_variable)(
                self.request,
                Bytes::new(name),
                (&raw mut answer).cast(),
                take,
            );
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
