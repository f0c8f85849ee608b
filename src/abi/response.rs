//! The response on its way back to the host, and what the host answers to a call.

use crate::{Bytes, Slice};

/// One header of a response.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header<'a> {
    /// Name as the application gave it, a token.
    pub name: Bytes<'a>,
    /// Value without control characters.
    pub value: Bytes<'a>,
}

/// Status line and headers of a response, validated by the engine.
#[repr(C)]
pub struct ResponseHead<'a> {
    /// Status code, three digits.
    pub status: u16,
    /// The whole of the status line, "200 OK".
    pub status_line: Bytes<'a>,
    /// The headers in the application's order, without `Content-Length`.
    pub headers: Slice<'a, Header<'a>>,
    /// Length of the body; negative where unknown.
    pub content_length: i64,
}

/// How a call of the host ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// Done.
    Ok = 0,
    /// The call failed; `fault` and `reason` say why.
    Failed = 1,
    /// Only for `read_at_hand`: nothing has arrived yet.
    Later = 2,
    /// Only for `write`: done, but the body is not sent, as httpd sends an error page instead.
    Unwanted = 3,
}

/// Why a call of the host failed. `wsgi_core::request::fault` says what follows from each.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client is gone, or has ended its half of the connection before its body was whole.
    Gone = 0,
    /// The client took longer than httpd allows.
    Slow = 1,
    /// The body is longer than `LimitRequestBody` allows.
    TooLarge = 2,
    /// httpd cannot decode the body.
    Malformed = 3,
    /// The body has an encoding that httpd does not implement.
    Unsupported = 4,
    /// A filter of httpd has answered the request.
    Answered = 5,
    /// httpd itself has failed.
    Server = 6,
    /// The response is complete, and the application still writes. Only the engine itself uses this.
    Whole = 7,
}

impl Fault {
    /// All faults, by number.
    pub const ALL: [Self; 8] = [
        Self::Gone,
        Self::Slow,
        Self::TooLarge,
        Self::Malformed,
        Self::Unsupported,
        Self::Answered,
        Self::Server,
        Self::Whole,
    ];
}

/// Whether a client is there.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing shows that the client has left.
    Here = 0,
    /// The client sends nothing more. A client that waits for its answer and one that has closed its connection look
    /// the same until something is sent to them.
    HalfClosed = 1,
    /// The connection is closed.
    Gone = 2,
}

/// Result of a call of the host.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostResult {
    /// How the call ended.
    pub status: HostStatus,
    /// Why the call failed, if `status` is [`HostStatus::Failed`].
    pub fault: Fault,
    /// Bytes read, for `read_body`; 0 at the end of the body. 0 otherwise.
    pub count: usize,
    reason_len: u32,
    reason: [u8; 160],
}

impl HostResult {
    /// Done.
    pub const fn done(count: usize) -> Self {
        Self {
            status: HostStatus::Ok,
            fault: Fault::Server,
            count,
            reason_len: 0,
            reason: [0; 160],
        }
    }

    /// Nothing has arrived yet.
    pub const fn later() -> Self {
        Self {
            status: HostStatus::Later,
            ..Self::done(0)
        }
    }

    /// Done, but the body is not sent.
    pub const fn unwanted() -> Self {
        Self {
            status: HostStatus::Unwanted,
            ..Self::done(0)
        }
    }

    /// The client is gone.
    pub const fn aborted() -> Self {
        Self {
            status: HostStatus::Failed,
            fault: Fault::Gone,
            ..Self::done(0)
        }
    }

    /// Returns a failure with its reason `why`, which is cut after 160 bytes.
    pub fn failed(fault: Fault, why: &str) -> Self {
        let mut result = Self {
            status: HostStatus::Failed,
            fault,
            ..Self::done(0)
        };
        let len = why.len().min(result.reason.len());
        result.reason[..len].copy_from_slice(&why.as_bytes()[..len]);
        result.reason_len = len as u32;
        result
    }

    /// Returns why the call failed.
    pub fn reason(&self) -> String {
        let len = (self.reason_len as usize).min(self.reason.len());
        String::from_utf8_lossy(&self.reason[..len]).into_owned()
    }
}

/// What follows the chunks of a [`HostTable::write`](crate::HostTable::write).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// More chunks will come; httpd may hold these back.
    More = 0,
    /// More chunks will come; these are sent now.
    Flush = 1,
    /// The body ends here.
    End = 2,
    /// The body ends here and is sent at once, while the application goes on; the connection serves other requests
    /// after that.
    EndNow = 3,
}
