//! A thread that takes one job at a time from other threads, and only while it is idle.
//!
//! ```text
//!             give, and the thread is started        next
//!   Absent ─────────────────────────────────▶ Given ──────▶ Busy
//!      ▲                                      │   ▲          │
//!      └──────────── take_back ───────────────┘   │ give     │ next
//!                    no thread could be started   └── Idle ◀─┘
//! ```

use crate::sync::{Condvar, Mutex, lock};

/// Hands jobs to the thread, which is started for the first job.
pub struct SingleWorker<T> {
    state: Mutex<WorkerState<T>>,
    given: Condvar,
}

enum WorkerState<T> {
    /// There is no thread.
    Absent,
    Idle,
    /// A job that the thread has not taken yet.
    Given(T),
    Busy,
}

/// The result of [`SingleWorker::give`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the caller still has to run a refused job, and a kept one may need a thread"]
pub enum Offer<T> {
    /// The thread takes the job.
    Kept,
    /// The job is kept for a thread that the caller has to start; if that fails, the caller takes the job back.
    NeedsThread,
    /// The thread is busy.
    Refused(T),
}

impl<T> Default for SingleWorker<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> SingleWorker<T> {
    /// Makes a worker whose thread is not started.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(WorkerState::Absent),
            given: Condvar::new(),
        }
    }

    /// Gives the thread a job, unless it is busy.
    pub fn give(&self, job: T) -> Offer<T> {
        let mut state = lock(&self.state);
        let offer = match *state {
            WorkerState::Absent => Offer::NeedsThread,
            WorkerState::Idle => Offer::Kept,
            WorkerState::Given(_) | WorkerState::Busy => return Offer::Refused(job),
        };
        *state = WorkerState::Given(job);
        drop(state);
        self.given.notify_one();
        offer
    }

    /// Returns the job for which no thread could be started. Called by the thread that got [`Offer::NeedsThread`].
    pub fn take_back(&self) -> Option<T> {
        match std::mem::replace(&mut *lock(&self.state), WorkerState::Absent) {
            WorkerState::Given(job) => Some(job),
            WorkerState::Absent | WorkerState::Idle | WorkerState::Busy => None,
        }
    }

    /// Waits for the next job and returns it. Called by the worker's thread when it has started or has finished a job.
    pub fn next(&self) -> T {
        let mut state = lock(&self.state);
        if let WorkerState::Busy = *state {
            *state = WorkerState::Idle;
        }
        loop {
            match std::mem::replace(&mut *state, WorkerState::Busy) {
                WorkerState::Given(job) => return job,
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
        let worker = SingleWorker::new();
        assert_eq!(worker.give(1), Offer::NeedsThread);
        assert_eq!(
            worker.give(2),
            Offer::Refused(2),
            "the first is not begun yet"
        );
        assert_eq!(worker.next(), 1);
        assert_eq!(worker.give(3), Offer::Refused(3));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| worker.next());
            let mut job = 4;
            while let Offer::Refused(back) = worker.give(job) {
                job = back;
                std::thread::yield_now();
            }
            assert_eq!(thread.join().ok(), Some(4));
        });
    }

    #[test]
    fn a_job_without_a_thread_comes_back() {
        let worker = SingleWorker::new();
        assert_eq!(worker.give(1), Offer::NeedsThread);
        assert_eq!(worker.take_back(), Some(1));
        assert_eq!(
            worker.give(2),
            Offer::NeedsThread,
            "perhaps there is one by now"
        );
    }
}
