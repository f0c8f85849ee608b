//! The frames that a connection sends: at once, or held back until they are worth a call of the system.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::MutexGuard;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};

use crate::connection::WireError;
use crate::deadline::Deadline;
use crate::frame::{Kind, append};
use crate::incoming::{FIRST, KEPT};
use crate::pack::{Malformed, Packer};

/// Frames that have not been sent yet.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// Frames that go ahead of those that are held back. The first one may be the rest of a frame whose start was sent.
    ahead: Vec<u8>,
    /// Whole frames that wait for further ones.
    held_back: Vec<u8>,
    /// Nothing more is sent: a send has failed, maybe within a frame, or the last frame has been sent.
    is_over: bool,
}

/// The direction to the other side, locked.
pub(crate) struct Sending<'c> {
    socket: BorrowedFd<'c>,
    patience: Duration,
    outgoing: MutexGuard<'c, Outgoing>,
}

/// More than this is not held back.
const HELD_BACK: usize = 64 << 10;

/// How much of a frame was taken over to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The whole frame was sent.
    Whole,
    /// The start of the frame was sent; its rest goes ahead of the next frame.
    Started,
    /// The socket is full.
    Nothing,
}

impl<'c> Sending<'c> {
    pub(crate) fn new(
        socket: BorrowedFd<'c>,
        patience: Duration,
        outgoing: MutexGuard<'c, Outgoing>,
    ) -> Self {
        Self {
            socket,
            patience,
            outgoing,
        }
    }

    /// Appends a frame to what is held back.
    pub(crate) fn hold_back(
        &mut self,
        kind: Kind,
        detail: u8,
        pack: impl FnOnce(&mut Packer<'_>),
    ) -> Result<(), Malformed> {
        append(&mut self.outgoing.held_back, kind, detail, pack)
    }

    /// Returns the buffer of what is held back, to append frames to it.
    pub(crate) fn held_back(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing.held_back
    }

    /// Returns whether so much is held back that it should be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.outgoing.held_back.len() >= HELD_BACK
    }

    /// Sends all that is held back.
    pub(crate) fn send(&mut self) -> Result<(), WireError> {
        self.send_by(Deadline::after(self.patience), None)
    }

    /// Sends all that is held back, and then a frame with a descriptor beside its first byte.
    pub(crate) fn send_descriptor(
        &mut self,
        descriptor: BorrowedFd<'_>,
        kind: Kind,
        pack: impl FnOnce(&mut Packer<'_>),
    ) -> Result<(), WireError> {
        let deadline = Deadline::after(self.patience);
        self.send_by(deadline, None)?;
        self.hold_back(kind, 0, pack)?;
        self.send_by(deadline, Some(descriptor))
    }

    /// Sends all that is held back, and a descriptor beside the first byte of that.
    fn send_by(
        &mut self,
        deadline: Deadline,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), WireError> {
        self.check()?;
        let Outgoing {
            ahead, held_back, ..
        } = &mut *self.outgoing;
        let sent = send_all(self.socket, ahead, None, deadline)
            .and_then(|()| send_all(self.socket, held_back, descriptor, deadline));
        self.outgoing.clear(KEPT);
        sent.map_err(|error| self.fail(error))
    }

    /// Sends a frame without those that are held back.
    pub(crate) fn send_ahead(&mut self, kind: Kind, detail: u8) -> Result<(), WireError> {
        self.check()?;
        let ahead = &mut self.outgoing.ahead;
        append(ahead, kind, detail, |_| {})?;
        let sent = send_all(self.socket, ahead, None, Deadline::after(self.patience));
        ahead.clear();
        sent.map_err(|error| self.fail(error))
    }

    /// Sends a frame without those that are held back, as far as that does not wait.
    pub(crate) fn try_send_ahead(
        &mut self,
        kind: Kind,
        detail: u8,
        pack: impl FnOnce(&mut Packer<'_>),
    ) -> Result<Taken, WireError> {
        self.check()?;
        let ahead = &mut self.outgoing.ahead;
        let start = ahead.len();
        append(ahead, kind, detail, pack)?;
        let sent = sendmsg(
            self.socket,
            &[IoSlice::new(ahead)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        let count = match sent {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => return Err(self.fail(errno.into())),
        };
        let taken = if count >= ahead.len() {
            Taken::Whole
        } else if count > start {
            Taken::Started
        } else {
            ahead.truncate(start);
            Taken::Nothing
        };
        ahead.drain(..count.min(ahead.len()));
        Ok(taken)
    }

    /// Notes that the last frame has been sent.
    pub(crate) fn finish(&mut self) {
        self.outgoing.is_over = true;
        self.outgoing.clear(FIRST);
    }

    /// Gives back the memory that long frames have needed.
    pub(crate) fn give_back(&mut self) {
        self.outgoing.give_back(FIRST);
    }

    /// Returns the size of the buffers.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.outgoing.ahead.capacity() + self.outgoing.held_back.capacity()
    }

    fn check(&self) -> Result<(), WireError> {
        if self.outgoing.is_over {
            Err(WireError::CLOSED)
        } else {
            Ok(())
        }
    }

    /// Ends the connection, as a part of a frame may have been sent.
    fn fail(&mut self, error: WireError) -> WireError {
        self.finish();
        // An error means that the connection has ended already.
        let _ = shutdown(self.socket, Shutdown::Both);
        error
    }
}

impl Outgoing {
    fn clear(&mut self, kept: usize) {
        self.ahead.clear();
        self.held_back.clear();
        self.give_back(kept);
    }

    /// Gives back what the buffers have above `kept` bytes and do not need.
    fn give_back(&mut self, kept: usize) {
        self.ahead.shrink_to(kept);
        self.held_back.shrink_to(kept);
    }
}

/// Sends `bytes` by the deadline, and a descriptor with the first of them.
fn send_all(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    deadline: Deadline,
) -> Result<(), WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let descriptors = descriptor.map(|descriptor| [descriptor]);
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptors) = &descriptors {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !bytes.is_empty() {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, flags) {
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                beside.clear();
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !deadline.wait_for(socket, PollFlags::OUT)? {
                    return Err(WireError::TimedOut);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
