//! Turns at something that only one thread may do at a time and that may take long, as it runs Python code: who waits
//! for its turn waits a limited time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::request::lock;

/// Turns at one thing.
pub(crate) struct Turns {
    taken: Mutex<bool>,
    free: Condvar,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Self {
            taken: Mutex::new(false),
            free: Condvar::new(),
        }
    }

    /// Waits until nobody else has it; `None` if that takes longer than `timeout`. The calling thread must not be
    /// attached.
    pub(crate) fn take(&self, timeout: Duration) -> Option<Turn<'_>> {
        let until = Instant::now() + timeout;
        let mut taken = lock(&self.taken);
        while *taken {
            let left = until.checked_duration_since(Instant::now())?;
            taken = self
                .free
                .wait_timeout(taken, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *taken = true;
        Some(Turn(self))
    }
}

/// The right to do it; given back by drop.
pub(crate) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        // One at a time can go on.
        self.0.free.notify_one();
    }
}
