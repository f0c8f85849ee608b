//! What stands in line: a job, and how its owner learns what becomes of it.
//!
//! ```text
//!            grant                       the owner goes in itself
//!   Waiting ───────▶ Granted
//!      │     take                        another thread runs the job
//!      └───────────▶ Running ─────▶ Done
//!                            finish
//! ```
//!
//! `grant` and `take` belong to whoever got the ticket from the [`Room`](super::room::Room), which gives it to one only.

use std::time::Duration;

use crate::sync::{Condvar, Mutex, lock};

/// A job of its owner, and its state. `E` is what the thread that runs the job shows of itself.
pub struct Ticket<J, E, R> {
    job: J,
    state: Mutex<State<E, R>>,
    changed: Condvar,
}

enum State<E, R> {
    Waiting,
    Granted,
    Running(E),
    Done(R),
    /// The owner has its result.
    Over,
}

/// What the owner finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<E, R> {
    /// Still in line.
    Waiting,
    /// The owner has a place.
    Granted,
    /// Another thread runs the job.
    Running(E),
    /// The result.
    Done(R),
}

impl<J, E: Clone, R> Ticket<J, E, R> {
    /// For a job that waits.
    pub fn new(job: J) -> Self {
        Self {
            job,
            state: Mutex::new(State::Waiting),
            changed: Condvar::new(),
        }
    }

    /// The job, for its owner.
    pub fn job(&self) -> &J {
        &self.job
    }

    /// The owner has a place: it wakes up, and nobody else does.
    pub fn grant(&self) {
        *lock(&self.state) = State::Granted;
        self.changed.notify_one();
    }

    /// The caller runs the job, and owes a [`Ticket::finish`].
    pub fn take(&self, by: E) -> &J {
        *lock(&self.state) = State::Running(by);
        &self.job
    }

    /// The job was run.
    pub fn finish(&self, result: R) {
        *lock(&self.state) = State::Done(result);
        self.changed.notify_one();
    }

    /// Waits for news, at most for so long. For the owner; it gets the result once, here or by [`Ticket::look`].
    pub fn wait(&self, limit: Duration) -> Turn<E, R> {
        let mut state = lock(&self.state);
        if matches!(*state, State::Waiting | State::Running(_)) {
            let waited = self.changed.wait_timeout(state, limit);
            // Woken for nothing is as good as too late: the owner asks again.
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state.turn()
    }

    /// What there is by now.
    pub fn look(&self) -> Turn<E, R> {
        lock(&self.state).turn()
    }
}

impl<E: Clone, R> State<E, R> {
    /// What the owner finds. A result is taken out.
    fn turn(&mut self) -> Turn<E, R> {
        match std::mem::replace(self, State::Over) {
            State::Done(result) => Turn::Done(result),
            other => {
                let turn = match &other {
                    State::Running(by) => Turn::Running(by.clone()),
                    State::Granted => Turn::Granted,
                    State::Waiting | State::Done(_) | State::Over => Turn::Waiting,
                };
                *self = other;
                turn
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn the_owner_goes_in() {
        let ticket: Ticket<&str, u8, u8> = Ticket::new("job");
        assert_eq!(ticket.wait(NOW), Turn::Waiting);
        ticket.grant();
        assert_eq!(ticket.wait(Duration::MAX), Turn::Granted);
        assert_eq!(*ticket.job(), "job");
    }

    #[test]
    fn another_thread_runs_the_job() {
        let ticket: Ticket<&str, u8, u8> = Ticket::new("job");
        assert_eq!(*ticket.take(7), "job");
        assert_eq!(ticket.wait(NOW), Turn::Running(7));
        std::thread::scope(|scope| {
            scope.spawn(|| ticket.finish(42));
            while ticket.wait(Duration::from_secs(60)) != Turn::Done(42) {}
        });
    }
}
