//! The frames of a response: its head, its failures, and how the request ended.

use wsgi_abi::{
    Bytes, Fault, Header, HostResult, Level, Presence, ResponseHead, RunOutcome, Slice, WriteEnd,
};
use wsgi_core::request::response::{
    check_header_name, check_header_value, check_status, is_hop_by_hop,
};

use crate::frame::limits;
use crate::pack::{Malformed, Packer, Unpacker};

/// The values of these enumerations, by the number on the wire.
pub(crate) const PRESENCES: [Presence; 3] = [Presence::Here, Presence::HalfClosed, Presence::Gone];
pub(crate) const LEVELS: [Level; 6] = [
    Level::Critical,
    Level::Error,
    Level::Warning,
    Level::Notice,
    Level::Info,
    Level::Debug,
];
pub(crate) const WRITE_ENDS: [WriteEnd; 4] = [
    WriteEnd::More,
    WriteEnd::Flush,
    WriteEnd::End,
    WriteEnd::EndNow,
];
pub(crate) const OUTCOMES: [RunOutcome; 13] = [
    RunOutcome::Responded,
    RunOutcome::Failed,
    RunOutcome::CallableMissing,
    RunOutcome::TimedOut,
    RunOutcome::LoadTimedOut,
    RunOutcome::Draining,
    RunOutcome::QueueFull,
    RunOutcome::QueueTimedOut,
    RunOutcome::ClientGone,
    RunOutcome::GivenUp,
    RunOutcome::ClientLeft,
    RunOutcome::Faulted,
    RunOutcome::NoInterpreter,
];

/// Returns the value that a frame's detail stands for.
pub(crate) fn of_detail<T: Copy>(values: &[T], detail: u8) -> Result<T, Malformed> {
    Unpacker::new(&[detail]).one_of(values)
}

/// Returns the number of a level on the wire.
pub(crate) fn number_of(level: Level) -> u8 {
    let at = LEVELS.iter().position(|known| *known == level);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

pub(crate) fn pack_head(to: &mut Packer<'_>, head: &ResponseHead<'_>) {
    to.u16(head.status);
    to.bytes(head.status_line.get_or_empty());
    to.i64(head.content_length);
    let headers = head.headers.get_or_empty();
    to.u32(u32::try_from(headers.len()).unwrap_or(u32::MAX));
    for header in headers {
        to.bytes(header.name.get_or_empty());
        to.bytes(header.value.get_or_empty());
    }
}

/// The fewest bytes of a header: the lengths of name and value.
const LEAST_HEADER: usize = 8;

/// Returns whether a response has more headers than a process may send.
pub(crate) fn has_too_many_headers(head: &ResponseHead<'_>) -> bool {
    head.headers.get_or_empty().len() > limits::HEADERS
}

/// Whether the engine never passes such a header on: hop-by-hop headers are httpd's business, but for `Connection:
/// close`, and the length is not among the headers.
fn is_httpds(name: &[u8], value: &[u8]) -> bool {
    let is_close = name.eq_ignore_ascii_case(b"connection")
        && value.trim_ascii().eq_ignore_ascii_case(b"close");
    is_hop_by_hop(name) && !is_close || name.eq_ignore_ascii_case(b"content-length")
}

/// The head of a response as it arrives in the child. It is checked as the engine checks it, as another program may
/// have taken the place of the engine.
pub(crate) struct UnpackedHead<'a> {
    pub(crate) status: u16,
    status_line: &'a [u8],
    pub(crate) content_length: i64,
    headers: Vec<Header<'a>>,
}

impl<'a> UnpackedHead<'a> {
    pub(crate) fn unpack(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Unpacker::new(body);
        let (status, status_line) = (from.u16()?, from.bytes()?);
        let content_length = from.i64()?;
        if check_status(status_line) != Ok(status) {
            return Err(Malformed("a status line is not valid"));
        }
        let count = from.count(LEAST_HEADER)?;
        if count > limits::HEADERS {
            return Err(Malformed("a response has too many headers"));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, value) = (from.bytes()?, from.bytes()?);
            if check_header_name(name).is_err() || check_header_value(value).is_err() {
                return Err(Malformed("a header is not valid"));
            }
            if is_httpds(name, value) {
                return Err(Malformed("a header that only httpd may set"));
            }
            headers.push(Header {
                name: Bytes::new(name),
                value: Bytes::new(value),
            });
        }
        from.end()?;
        Ok(Self {
            status,
            status_line,
            content_length,
            headers,
        })
    }

    pub(crate) fn as_head(&self) -> ResponseHead<'_> {
        ResponseHead {
            status: self.status,
            status_line: Bytes::new(self.status_line),
            headers: Slice::new(&self.headers),
            content_length: self.content_length,
        }
    }
}

/// A failed call of the host.
pub(crate) fn pack_failure(to: &mut Packer<'_>, result: &HostResult) {
    to.byte(result.fault as u8);
    to.bytes(result.reason().as_bytes());
}

pub(crate) fn unpack_failure(body: &[u8]) -> Result<HostResult, Malformed> {
    let mut from = Unpacker::new(body);
    let fault = from.one_of(&Fault::ALL)?;
    let reason = String::from_utf8_lossy(from.bytes()?);
    from.end()?;
    Ok(HostResult::failed(fault, &reason))
}

/// How a request ended in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What the engine returned.
    pub outcome: RunOutcome,
    /// The fields of [`Times`](wsgi_abi::Times), nanoseconds; all zero for a request that was not timed.
    pub times: EndedTimes,
}

/// What a process has measured of a request, nanoseconds and bytes, as in [`Times`](wsgi_abi::Times).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedTimes {
    /// How long the application ran.
    pub application: u64,
    /// How long the request waited for the GIL.
    pub gil_wait: u64,
    /// How long the request waited for a permit.
    pub queue: u64,
    /// How many bytes of the body were read and not used.
    pub body_unread: u64,
}

pub(crate) fn pack_end(to: &mut Packer<'_>, ended: &Ended) {
    to.byte(ended.outcome as u8);
    let times = &ended.times;
    for value in [
        times.application,
        times.gil_wait,
        times.queue,
        times.body_unread,
    ] {
        to.u64(value);
    }
}

pub(crate) fn unpack_end(body: &[u8]) -> Result<Ended, Malformed> {
    let mut from = Unpacker::new(body);
    let ended = Ended {
        outcome: from.one_of(&OUTCOMES)?,
        times: EndedTimes {
            application: from.u64()?,
            gil_wait: from.u64()?,
            queue: from.u64()?,
            body_unread: from.u64()?,
        },
    };
    from.end()?;
    Ok(ended)
}

/// A file: the number of the first byte, and how many bytes.
pub(crate) fn unpack_file(body: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut from = Unpacker::new(body);
    let part = (from.u64()?, from.u64()?);
    from.end()?;
    Ok(part)
}

/// How many bytes the application asks for.
pub(crate) fn unpack_want(body: &[u8]) -> Result<usize, Malformed> {
    let mut from = Unpacker::new(body);
    let count = from.u32()? as usize;
    from.end()?;
    Ok(count)
}
