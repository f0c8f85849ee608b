//! A connection between a child of httpd and a process of a group, with the buffers of both directions.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{Shutdown, shutdown};

use crate::incoming::{Incoming, Receiving, TICK};
use crate::outgoing::{Outgoing, Sending};
use crate::pack::Malformed;

/// Why a connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The other side has closed it, or has died; or this side has ended it before.
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

impl WireError {
    pub(crate) const CLOSED: Self = Self::Closed { was_unread: false };
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
            Errno::PIPE => WireError::CLOSED,
            errno => WireError::System(errno),
        }
    }
}

/// A connection. A thread that sends holds the lock of that direction for one frame, a thread that receives the other
/// lock.
pub struct Connection {
    socket: OwnedFd,
    patience: Duration,
    /// Whether this process is a copy of the one that uses the connection, which an application has forked.
    is_copy: fn() -> bool,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

impl Connection {
    /// Makes a connection of a connected Unix stream socket, for this process.
    ///
    /// `patience` ends the waits of this side: until the other side has taken what is sent at once, and in a process
    /// until the child has answered a read of the body. In a process it is only a backstop against a child that is
    /// stopped: the child itself waits for the client meanwhile, and httpd has limits for that. So it must be longer
    /// than the slowest client that httpd tolerates needs for some hundred kilobytes. [`exchange()`](crate::exchange())
    /// has a limit of its own for a process that is silent.
    ///
    /// `is_copy` tells whether this process is a copy of the one that made the connection. A copy must not use it. It is
    /// asked many times for each request.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn new(
        socket: OwnedFd,
        patience: Duration,
        is_copy: fn() -> bool,
    ) -> Result<Self, WireError> {
        ioctl_fionbio(&socket, false)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TICK))?;
        Ok(Self {
            socket,
            patience,
            is_copy,
            incoming: Mutex::new(Incoming::default()),
            outgoing: Mutex::new(Outgoing::default()),
        })
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether this process is a copy. Then another thread of its original may have held a lock when the copy was made,
    /// and no thread of the copy gives it back: ask before you take any.
    pub(crate) fn is_copy(&self) -> bool {
        (self.is_copy)()
    }

    /// Fails in a copy.
    pub(crate) fn check_copy(&self) -> Result<(), WireError> {
        if self.is_copy() {
            Err(WireError::CLOSED)
        } else {
            Ok(())
        }
    }

    pub(crate) fn incoming(&self) -> Receiving<'_> {
        let incoming = self.incoming.lock();
        Receiving::new(
            self.socket.as_fd(),
            incoming.unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn outgoing(&self) -> Sending<'_> {
        let outgoing = self.outgoing.lock();
        Sending::new(
            self.socket.as_fd(),
            self.patience,
            outgoing.unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Returns the direction to the other side, unless another thread is sending.
    pub(crate) fn try_outgoing(&self) -> Option<Sending<'_>> {
        let outgoing = self.outgoing.try_lock().ok()?;
        Some(Sending::new(self.socket.as_fd(), self.patience, outgoing))
    }

    /// Ends both directions: nothing more is sent, even by a thread that waits to send. Does not wait.
    pub(crate) fn break_off(&self) {
        // An error means that the connection has ended already.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Gives back the memory that a long request or response has needed.
    pub(crate) fn give_back(&self) {
        self.incoming().give_back();
        self.outgoing().give_back();
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
