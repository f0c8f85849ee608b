//! A request in the queue of a [`FifoSemaphore`](super::semaphore::FifoSemaphore): its job, and how its owner learns
//! whether it got a permit or its job was run.
//!
//! ```text
//!            grant                       the owner has a permit and runs the job itself
//!   Waiting ───────▶ Granted
//!      │     take                        another thread runs the job
//!      └───────────▶ Running ─────▶ Done
//!                            finish
//! ```
//!
//! Only the thread that got the waiter from the semaphore calls `grant` or `take`; the semaphore gives a waiter to one
//! thread.

use std::time::Duration;

use crate::sync::{Condvar, Mutex, lock};

/// A job of type `J` and its state, with the result of type `R` once there is one.
pub struct Waiter<J, R> {
    job: J,
    state: Mutex<WaiterState<R>>,
    changed: Condvar,
}

enum WaiterState<R> {
    Waiting,
    Granted,
    Running,
    Done(R),
    /// The owner has taken its result.
    Over,
}

/// The state that the owner finds when it looks or wakes up.
#[derive(Debug, PartialEq, Eq)]
pub enum Wakeup<R> {
    /// The waiter is still in the queue.
    Waiting,
    /// The owner has a permit.
    Granted,
    /// Another thread runs the job.
    Running,
    /// Another thread has run the job; this is the result.
    Done(R),
}

impl<J, R> Waiter<J, R> {
    /// Makes a waiter for `job`.
    pub fn new(job: J) -> Self {
        Self {
            job,
            state: Mutex::new(WaiterState::Waiting),
            changed: Condvar::new(),
        }
    }

    /// Returns the job, for its owner.
    pub fn job(&self) -> &J {
        &self.job
    }

    /// Gives the owner a permit and wakes the owner up.
    pub fn grant(&self) {
        *lock(&self.state) = WaiterState::Granted;
        self.changed.notify_one();
    }

    /// Returns the job to the calling thread, which runs it and then calls [`Waiter::finish`].
    pub fn take(&self) -> &J {
        *lock(&self.state) = WaiterState::Running;
        &self.job
    }

    /// Hands the result of the job to its owner and wakes the owner up.
    pub fn finish(&self, result: R) {
        *lock(&self.state) = WaiterState::Done(result);
        self.changed.notify_one();
    }

    /// Waits until the state changes, at most for `limit`. Called by the owner, which gets the result once, here or
    /// from [`Waiter::look`].
    pub fn wait(&self, limit: Duration) -> Wakeup<R> {
        let mut state = lock(&self.state);
        if matches!(*state, WaiterState::Waiting | WaiterState::Running) {
            let waited = self.changed.wait_timeout(state, limit);
            // A spurious wake-up looks like a timeout: the owner asks again.
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state.wakeup()
    }

    /// Returns the present state, without waiting.
    pub fn look(&self) -> Wakeup<R> {
        lock(&self.state).wakeup()
    }
}

impl<R> WaiterState<R> {
    /// Returns the state for the owner. A result is moved out, so it is returned once.
    fn wakeup(&mut self) -> Wakeup<R> {
        match std::mem::replace(self, WaiterState::Over) {
            WaiterState::Done(result) => Wakeup::Done(result),
            other => {
                let wakeup = match &other {
                    WaiterState::Running => Wakeup::Running,
                    WaiterState::Granted => Wakeup::Granted,
                    WaiterState::Waiting | WaiterState::Done(_) | WaiterState::Over => {
                        Wakeup::Waiting
                    }
                };
                *self = other;
                wakeup
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn the_owner_runs_its_own_job() {
        let waiter: Waiter<&str, u8> = Waiter::new("job");
        assert_eq!(waiter.wait(NOW), Wakeup::Waiting);
        waiter.grant();
        assert_eq!(waiter.wait(Duration::MAX), Wakeup::Granted);
        assert_eq!(*waiter.job(), "job");
    }

    #[test]
    fn another_thread_runs_the_job() {
        let waiter: Waiter<&str, u8> = Waiter::new("job");
        assert_eq!(*waiter.take(), "job");
        assert_eq!(waiter.wait(NOW), Wakeup::Running);
        std::thread::scope(|scope| {
            scope.spawn(|| waiter.finish(42));
            while waiter.wait(Duration::from_secs(60)) != Wakeup::Done(42) {}
        });
    }
}
