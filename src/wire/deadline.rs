//! Waits with one end, however many bytes and signals come meanwhile.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// When a wait ends; never, if it has no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// A limit that is too long for the clock is none.
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    pub(crate) fn after_some(limit: Option<Duration>) -> Self {
        limit.map_or(Self(None), Self::after)
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|end| end <= Instant::now())
    }

    /// Waits until the socket is ready. Returns whether it is.
    pub(crate) fn wait_for(self, socket: BorrowedFd<'_>, ready: PollFlags) -> Result<bool, Errno> {
        loop {
            let left = match self.0 {
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    // A time that is too long for the system is no limit.
                    Timespec::try_from(left).ok()
                }
                None => None,
            };
            let mut polled = [PollFd::from_borrowed_fd(socket, ready)];
            match poll(&mut polled, left.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno),
            }
        }
    }
}
