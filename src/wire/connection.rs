//! A connection between a child of httpd and a process of a group, with the buffers of both directions.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::frame::{Frame, FrameHeader, HEADER, Kind, append};
use crate::pack::{Malformed, Packer};

/// Why a connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The other side has closed it, or has died.
    Closed {
        /// Whether the other side had not read all that was sent to it.
        was_unread: bool,
    },
    /// The other side neither read nor sent anything for too long.
    TimedOut,
    /// The other side has sent what it may not send.
    Violation(&'static str),
    /// The system has refused a call.
    System(Errno),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Closed { .. } => f.write_str("the other side has closed the connection"),
            WireError::TimedOut => f.write_str("the other side has not moved for too long"),
            WireError::Violation(what) => write!(f, "the other side breaks the protocol: {what}"),
            WireError::System(errno) => errno.fmt(f),
        }
    }
}

impl From<Malformed> for WireError {
    fn from(Malformed(what): Malformed) -> Self {
        WireError::Violation(what)
    }
}

impl From<Errno> for WireError {
    fn from(errno: Errno) -> Self {
        match errno {
            // A peer that is gone with bytes unread resets the connection; one that had read everything ends it.
            Errno::CONNRESET => WireError::Closed { was_unread: true },
            Errno::PIPE => WireError::Closed { was_unread: false },
            Errno::AGAIN => WireError::TimedOut,
            errno => WireError::System(errno),
        }
    }
}

/// How long a read waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// One tick, after which the caller looks at other things.
    Tick,
}

/// How long a read with [`Wait::Tick`] waits.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// A connection. A thread that sends holds the lock of that direction for one frame, a thread that receives the other
/// lock.
pub struct Connection {
    socket: OwnedFd,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

impl Connection {
    /// Makes a connection of a connected Unix stream socket. A send fails if the other side does not read for
    /// `patience`.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn new(socket: OwnedFd, patience: Duration) -> Result<Self, WireError> {
        set_socket_timeout(&socket, Timeout::Recv, Some(TICK))?;
        set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        Ok(Self {
            socket,
            incoming: Mutex::new(Incoming::default()),
            outgoing: Mutex::new(Outgoing::default()),
        })
    }

    pub(crate) fn incoming(&self) -> Receiving<'_> {
        Receiving {
            socket: self.socket.as_fd(),
            incoming: self.incoming.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(crate) fn outgoing(&self) -> Sending<'_> {
        Sending {
            socket: self.socket.as_fd(),
            outgoing: self.outgoing.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Bytes that have arrived.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    /// The received bytes that no frame has used yet are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The descriptor that has come. The kernel hands it over together with bytes that were sent before it, so it may be
    /// there some frames before its file.
    descriptor: Option<OwnedFd>,
}

/// The direction from the other side, locked.
pub(crate) struct Receiving<'c> {
    socket: BorrowedFd<'c>,
    incoming: MutexGuard<'c, Incoming>,
}

/// A buffer that has grown for one frame is given back to the system after that frame.
const KEPT: usize = 128 << 10;
/// The first size of the buffer.
const FIRST: usize = 16 << 10;

impl Receiving<'_> {
    /// Returns the next frame; `None` if it has not arrived within the wait.
    pub(crate) fn next(&mut self, wait: Wait) -> Result<Option<Frame<'_>>, WireError> {
        let header = loop {
            if let Some(header) = self.incoming.header()?
                && self.incoming.len() >= HEADER + header.length
            {
                break header;
            }
            if !self.fill(wait)? {
                return Ok(None);
            }
        };
        let incoming = &mut *self.incoming;
        let start = incoming.start + HEADER;
        let end = start + header.length;
        incoming.start = end;
        Ok(Some(Frame {
            kind: header.kind,
            detail: header.detail,
            body: &incoming.buffer[start..end],
        }))
    }

    /// Takes the descriptor that has come.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.incoming.descriptor.take()
    }

    /// Receives some bytes. Returns `false` if none came within the wait.
    fn fill(&mut self, wait: Wait) -> Result<bool, WireError> {
        let incoming = &mut *self.incoming;
        incoming.make_room()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = match wait {
            Wait::No => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            Wait::Tick => RecvFlags::CMSG_CLOEXEC,
        };
        let end = incoming.end;
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut incoming.buffer[end..])];
            match recvmsg(self.socket, &mut parts, &mut beside, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                other => break other?,
            }
        };
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(WireError::Violation(
                "several descriptors come for one file",
            ));
        }
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    if incoming.descriptor.replace(descriptor).is_some() {
                        return Err(WireError::Violation(
                            "several descriptors come for one file",
                        ));
                    }
                }
            }
        }
        if received.bytes == 0 {
            return Err(WireError::Closed { was_unread: false });
        }
        incoming.end += received.bytes;
        Ok(true)
    }
}

impl Incoming {
    fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns the header of the next frame, if it has arrived.
    fn header(&self) -> Result<Option<FrameHeader>, Malformed> {
        let arrived = &self.buffer[self.start..self.end];
        arrived
            .first_chunk::<HEADER>()
            .map(|header| FrameHeader::parse(*header))
            .transpose()
    }

    /// Makes room for the rest of the next frame.
    fn make_room(&mut self) -> Result<(), Malformed> {
        let wanted = self
            .header()?
            .map_or(FIRST, |header| (HEADER + header.length).max(FIRST));
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT && wanted <= KEPT {
                self.buffer = Vec::new();
            }
        }
        if self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        Ok(())
    }
}

/// Frames that have not been sent yet.
#[derive(Default)]
struct Outgoing {
    buffer: Vec<u8>,
}

/// The direction to the other side, locked.
pub(crate) struct Sending<'c> {
    socket: BorrowedFd<'c>,
    outgoing: MutexGuard<'c, Outgoing>,
}

/// More than this is not held back.
const HELD_BACK: usize = 64 << 10;

impl Sending<'_> {
    /// Appends a frame to what is held back.
    pub(crate) fn append(
        &mut self,
        kind: Kind,
        detail: u8,
        pack: impl FnOnce(&mut Packer<'_>),
    ) -> Result<(), Malformed> {
        append(&mut self.outgoing.buffer, kind, detail, pack)
    }

    /// Returns the buffer of what is held back, to append frames to it.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing.buffer
    }

    /// Returns whether so much is held back that it should be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.outgoing.buffer.len() >= HELD_BACK
    }

    /// Sends all that is held back.
    pub(crate) fn send(&mut self) -> Result<(), WireError> {
        self.send_with(None)
    }

    /// Sends all that is held back, and a descriptor with the first byte.
    pub(crate) fn send_with(
        &mut self,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), WireError> {
        let sent = send_all(self.socket, &self.outgoing.buffer, descriptor);
        self.outgoing.buffer.clear();
        if self.outgoing.buffer.capacity() > 2 * HELD_BACK {
            self.outgoing.buffer = Vec::new();
        }
        sent
    }
}

/// Sends `bytes`, and a descriptor with the first of them.
fn send_all(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptors) = &descriptors {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    while !bytes.is_empty() {
        match sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut beside,
            SendFlags::NOSIGNAL,
        ) {
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                beside.clear();
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Measures how long the other side has been silent.
pub(crate) struct Silence {
    since: Instant,
    limit: Duration,
}

impl Silence {
    pub(crate) fn begin(limit: Duration) -> Self {
        Self {
            since: Instant::now(),
            limit,
        }
    }

    /// Returns an error once the silence has lasted too long.
    pub(crate) fn check(&self) -> Result<(), WireError> {
        if self.since.elapsed() >= self.limit {
            return Err(WireError::TimedOut);
        }
        Ok(())
    }
}
