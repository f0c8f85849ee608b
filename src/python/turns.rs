//! Turns at something that only one thread may do at a time and that may take long, as it runs Python code: who waits
//! for its turn waits a limited time, and no longer than it has any hope.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::request::state::lock;

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

    /// Waits until no other thread has it; `None` if that takes longer than `timeout`, or where `is_hopeless` says so, which
    /// is asked now and after each [`Turns::wake`]. The calling thread must not be attached.
    pub(crate) fn take(
        &self,
        timeout: Duration,
        is_hopeless: impl Fn() -> bool,
    ) -> Option<Turn<'_>> {
        let until = Instant::now().checked_add(timeout);
        let mut taken = lock(&self.taken);
        while *taken {
            if is_hopeless() {
                return None;
            }
            let left = match until {
                Some(until) => until.checked_duration_since(Instant::now())?,
                None => Duration::from_secs(3600),
            };
            taken = self
                .free
                .wait_timeout(taken, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *taken = true;
        Some(Turn(self))
    }

    /// Has all threads that wait look whether there is any hope.
    pub(crate) fn wake(&self) {
        // With the lock, so that no thread is between its look and its wait.
        let _taken = lock(&self.taken);
        self.free.notify_all();
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
