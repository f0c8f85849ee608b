//! The frames that arrive on a connection.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::MutexGuard;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::connection::WireError;
use crate::deadline::Deadline;
use crate::frame::{Frame, FrameHeader, HEADER};
use crate::pack::Malformed;

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

/// The first size of the buffer, and the largest one of a connection without a request.
pub(crate) const FIRST: usize = 16 << 10;
/// A buffer that has grown larger for one frame is given back to the system after that frame.
pub(crate) const KEPT: usize = 128 << 10;

const TOO_MANY_DESCRIPTORS: WireError =
    WireError::Violation("several descriptors come for one file");
const DESCRIPTOR_LOST: WireError = WireError::Violation(
    "several descriptors come for one file, or this side may open no more (RLIMIT_NOFILE)",
);

/// Bytes that have arrived.
#[derive(Default)]
pub(crate) struct Incoming {
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

impl<'c> Receiving<'c> {
    pub(crate) fn new(socket: BorrowedFd<'c>, incoming: MutexGuard<'c, Incoming>) -> Self {
        Self { socket, incoming }
    }

    /// Returns the next frame; `None` if it has not arrived whole by the end of the wait.
    pub(crate) fn next(&mut self, wait: Wait) -> Result<Option<Frame<'_>>, WireError> {
        self.incoming.give_back(KEPT);
        let mut begun = None;
        let header = loop {
            if let Some(header) = self.incoming.header()?
                && self.incoming.len() >= HEADER + header.length
            {
                break header;
            }
            let goes_on = match (wait, begun) {
                (Wait::No, _) => self.fill(RecvFlags::DONTWAIT)?,
                (Wait::Tick, None) => {
                    begun = Some(Deadline::after(TICK));
                    // This call waits for a tick itself, unless bytes or a signal come, so most frames need no other.
                    self.fill(RecvFlags::empty())?;
                    true
                }
                (Wait::Tick, Some(deadline)) => {
                    let is_ready = deadline.wait_for(self.socket, PollFlags::IN)?;
                    is_ready && {
                        self.fill(RecvFlags::DONTWAIT)?;
                        true
                    }
                }
            };
            if !goes_on {
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

    /// Whether nothing has come behind the last frame, as far as it was received.
    pub(crate) fn is_empty(&self) -> bool {
        self.incoming.len() == 0 && self.incoming.descriptor.is_none()
    }

    /// Gives back the memory that a long frame has needed.
    pub(crate) fn give_back(&mut self) {
        self.incoming.give_back(FIRST);
    }

    /// Returns the size of the buffer.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.incoming.buffer.capacity()
    }

    /// Receives some bytes. Returns `false` if none have come before the end of the tick or a signal.
    fn fill(&mut self, flags: RecvFlags) -> Result<bool, WireError> {
        let incoming = &mut *self.incoming;
        incoming.make_room()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let end = incoming.end;
        let mut parts = [IoSliceMut::new(&mut incoming.buffer[end..])];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(self.socket, &mut parts, &mut beside, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            other => other?,
        };
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(DESCRIPTOR_LOST);
        }
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    if incoming.descriptor.replace(descriptor).is_some() {
                        return Err(TOO_MANY_DESCRIPTORS);
                    }
                }
            }
        }
        if received.bytes == 0 {
            return Err(WireError::CLOSED);
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

    /// Makes room for more of the next frame, which has not arrived whole. The buffer grows with what has arrived: a
    /// length that was only announced costs no memory.
    fn make_room(&mut self) -> Result<(), Malformed> {
        let wanted = self
            .header()?
            .map_or(FIRST, |header| (HEADER + header.length).max(FIRST));
        if self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let size = (2 * self.buffer.len()).clamp(FIRST, wanted);
            self.buffer.resize(size, 0);
        }
        Ok(())
    }

    /// Gives back a buffer of more than `kept` bytes, if what is in it needs less.
    fn give_back(&mut self, kept: usize) {
        if self.buffer.len() > kept && self.len() < kept {
            self.buffer = self.buffer[self.start..self.end].to_vec();
            (self.start, self.end) = (0, self.buffer.len());
        }
    }
}
