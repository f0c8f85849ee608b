//! A frame: the length of its body as 32 bits, its kind, a byte for what the kind says, and the body.

use crate::pack::{Malformed, Packer};

/// The highest lengths, in bytes, and the highest number of headers.
pub mod limits {
    /// A request with its environ, without its body. mod_wsgi's daemon mode has the same limit.
    pub const REQUEST: usize = 16 << 20;
    /// How many requests a request is nested in. httpd's own limit (`LimitInternalRecursion`) is 10 of each kind.
    pub const OUTER: usize = 32;
    /// The part of a body that comes with the request, or as the answer to one `Want`.
    pub const BODY: usize = 64 << 10;
    /// Status line and headers of a response. mod_wsgi's default `header-buffer-size` is 32 KiB.
    pub const HEAD: usize = 1 << 20;
    /// The number of headers of a response.
    pub const HEADERS: usize = 4096;
    /// A part of a response; longer ones are sent as several.
    pub const CHUNK: usize = 64 << 10;
    /// A line of the log.
    pub const LINE: usize = 64 << 10;
}

/// The length of a frame without its body.
pub(crate) const HEADER: usize = 6;

/// What a frame is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Body,
    BodyEnd,
    BodyFailed,
    Presence,
    Unwanted,
    Stopped,
    Head,
    Chunk,
    Flush,
    File,
    Want,
    Log,
    Cut,
    GaveUp,
    End,
    Elsewhere,
    GoAway,
    Welcome,
}

impl Kind {
    pub(crate) const ALL: [Self; 19] = [
        Self::Request,
        Self::Body,
        Self::BodyEnd,
        Self::BodyFailed,
        Self::Presence,
        Self::Unwanted,
        Self::Stopped,
        Self::Head,
        Self::Chunk,
        Self::Flush,
        Self::File,
        Self::Want,
        Self::Log,
        Self::Cut,
        Self::GaveUp,
        Self::End,
        Self::Elsewhere,
        Self::GoAway,
        Self::Welcome,
    ];

    /// Returns the highest length of the body.
    pub(crate) fn limit(self) -> usize {
        /// Numbers, or the reason of a failed call.
        const SHORT: usize = 1024;
        match self {
            Self::Request => limits::REQUEST + limits::BODY,
            Self::Body => limits::BODY,
            Self::Head => limits::HEAD,
            Self::Chunk => limits::CHUNK,
            Self::Log => limits::LINE,
            Self::BodyFailed
            | Self::Stopped
            | Self::File
            | Self::Want
            | Self::End
            | Self::Welcome => SHORT,
            Self::BodyEnd
            | Self::Presence
            | Self::Unwanted
            | Self::Flush
            | Self::Cut
            | Self::GaveUp
            | Self::Elsewhere
            | Self::GoAway => 0,
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) kind: Kind,
    pub(crate) detail: u8,
}

impl FrameHeader {
    pub(crate) fn parse(header: [u8; HEADER]) -> Result<Self, Malformed> {
        let [a, b, c, d, kind, detail] = header;
        let kind = Kind::ALL
            .get(usize::from(kind))
            .copied()
            .ok_or(Malformed("a frame is of no known kind"))?;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > kind.limit() {
            return Err(Malformed("a frame is longer than its kind allows"));
        }
        Ok(Self {
            length,
            kind,
            detail,
        })
    }

    pub(crate) fn bytes(self) -> [u8; HEADER] {
        // The callers keep the limits of the kinds, which are far below.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_le_bytes();
        [a, b, c, d, self.kind as u8, self.detail]
    }
}

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) detail: u8,
    pub(crate) body: &'a [u8],
}

/// Appends a frame whose body is packed by `pack`. Appends nothing if the body is longer than its kind allows.
pub(crate) fn append(
    buffer: &mut Vec<u8>,
    kind: Kind,
    detail: u8,
    pack: impl FnOnce(&mut Packer<'_>),
) -> Result<(), Malformed> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    pack(&mut Packer(buffer));
    let length = buffer.len() - start - HEADER;
    if length > kind.limit() {
        buffer.truncate(start);
        return Err(Malformed("it is longer than its kind of frame allows"));
    }
    let header = FrameHeader {
        length,
        kind,
        detail,
    };
    buffer[start..start + HEADER].copy_from_slice(&header.bytes());
    Ok(())
}

/// Why a process has not begun a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ends, or is being replaced.
    Draining,
    /// It has as many requests as it may have.
    Full,
}

impl Why {
    pub(crate) const ALL: [Self; 2] = [Self::Draining, Self::Full];
}
