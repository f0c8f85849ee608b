//! A thread that takes one job at a time from others, as long as it is idle.
//!
//! ```text
//!             give, and the thread is started        next
//!   Absent ─────────────────────────────────▶ Given ──────▶ Busy
//!      ▲                                      │   ▲          │
//!      └──────────── take_back ───────────────┘   │ give     │ next
//!                    no thread could be started   └── Idle ◀─┘
//! ```

use crate::sync::{Condvar, Mutex, lock};

/// What is given to the thread, which is not started before it is needed.
pub struct Runner<T> {
    state: Mutex<State<T>>,
    given: Condvar,
}

enum State<T> {
    /// There is no thread.
    Absent,
    Idle,
    /// A job that the thread has not seen yet.
    Given(T),
    Busy,
}

/// What became of a job that was given.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a job that was refused is still to be run, and one that was kept may need a thread"]
pub enum Offer<T> {
    /// The thread runs it.
    Kept,
    /// It is kept for a thread that the caller starts, or else takes back.
    NeedsThread,
    /// The thread is busy.
    Refused(T),
}

impl<T> Default for Runner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Runner<T> {
    /// Without a thread.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State::Absent),
            given: Condvar::new(),
        }
    }

    /// Gives it a job, unless it is busy.
    pub fn give(&self, job: T) -> Offer<T> {
        let mut state = lock(&self.state);
        let offer = match *state {
            State::Absent => Offer::NeedsThread,
            State::Idle => Offer::Kept,
            State::Given(_) | State::Busy => return Offer::Refused(job),
        };
        *state = State::Given(job);
        drop(state);
        self.given.notify_one();
        offer
    }

    /// The job for which no thread could be started. For whoever was asked to start one.
    pub fn take_back(&self) -> Option<T> {
        match std::mem::replace(&mut *lock(&self.state), State::Absent) {
            State::Given(job) => Some(job),
            State::Absent | State::Idle | State::Busy => None,
        }
    }

    /// The next job, for the thread: it is done with the one before, and waits for as long as there is none.
    pub fn next(&self) -> T {
        let mut state = lock(&self.state);
        if let State::Busy = *state {
            *state = State::Idle;
        }
        loop {
            match std::mem::replace(&mut *state, State::Busy) {
                State::Given(job) => return job,
                before => *state = before,
            }
            let waited = self.given.wait(state);
            state = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn takes_one_job_at_a_time() {
        let runner = Runner::new();
        assert_eq!(runner.give(1), Offer::NeedsThread);
        assert_eq!(
            runner.give(2),
            Offer::Refused(2),
            "the first is not begun yet"
        );
        assert_eq!(runner.next(), 1);
        assert_eq!(runner.give(3), Offer::Refused(3));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| runner.next());
            let mut job = 4;
            while let Offer::Refused(back) = runner.give(job) {
                job = back;
                std::thread::yield_now();
            }
            assert_eq!(thread.join().ok(), Some(4));
        });
    }

    #[test]
    fn a_job_without_a_thread_comes_back() {
        let runner = Runner::new();
        assert_eq!(runner.give(1), Offer::NeedsThread);
        assert_eq!(runner.take_back(), Some(1));
        assert_eq!(
            runner.give(2),
            Offer::NeedsThread,
            "perhaps there is one by now"
        );
    }
}
