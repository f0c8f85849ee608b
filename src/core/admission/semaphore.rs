//! Permits to be inside an interpreter, and the first-in, first-out queue of waiters.
//!
//! ```text
//!            try_enter                        leave, the queue is empty
//!   outside ───────────────────────▶ inside ──────────────────────▶ outside
//!      │  enter_or_queue                ▲
//!      └──────────────▶ queued ─────────┘ leave of another one, whose permit passes on
//!                          │  leave_queue
//!                          └──────────────▶ outside
//! ```
//!
//! Entering and leaving take one atomic step while the queue is empty. The lock covers the steps of the queue alone,
//! and no thread blocks while it holds the lock.
//!
//! A group may have several semaphores, one for each interpreter, and one bound for all of their queues. A waiter
//! counts against the bound only while it is queued: the thread that takes it out of the queue releases its unit of the
//! bound in the same step. Its owner does not, as it may learn much later that it has a permit or that its job was run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::limit::Limit;
use crate::sync::{AtomicU32, AtomicU64, Mutex, lock};

/// One waiter in `counts`: the upper half counts waiters, the lower half the permits that are held.
const ONE_WAITS: u64 = 1 << 32;

/// Permits, and the waiters in the queue.
pub struct FifoSemaphore<T> {
    counts: AtomicU64,
    limit: AtomicU32,
    /// Holds as many waiters as `counts` says.
    queue: Mutex<VecDeque<T>>,
    /// How many waiters this semaphore and the others of its group may have together.
    bound: Arc<Limit>,
}

/// What became of a thread that asked to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a thread that is inside has to leave"]
pub enum EntryResult {
    /// It has a permit, and has to [`FifoSemaphore::leave`].
    Inside,
    /// Its waiter is in the queue.
    Queued,
    /// There is no permit, and the queue is full.
    Full,
}

fn inside(counts: u64) -> u32 {
    counts as u32
}

fn waiting(counts: u64) -> u32 {
    (counts >> 32) as u32
}

impl<T> FifoSemaphore<T> {
    /// Makes a semaphore of `limit` permits, at least one, whose queue counts against `bound`.
    pub fn new(limit: u32, bound: Arc<Limit>) -> Self {
        Self {
            counts: AtomicU64::new(0),
            limit: AtomicU32::new(limit.max(1)),
            queue: Mutex::new(VecDeque::new()),
            bound,
        }
    }

    /// Takes a permit, if one is free and the queue is empty; returns whether it did. The caller then has to
    /// [`FifoSemaphore::leave`].
    pub fn try_enter(&self) -> bool {
        let mut seen = self.counts.load(Relaxed);
        while waiting(seen) == 0 && inside(seen) < self.limit() {
            match self
                .counts
                .compare_exchange_weak(seen, seen + 1, AcqRel, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Takes a permit, or puts the waiter at the end of the queue unless the queue is full.
    pub fn enter_or_queue(&self, waiter: T) -> EntryResult {
        let mut queue = lock(&self.queue);
        let mut seen = self.counts.load(Acquire);
        let mut has_part = false;
        let entry = loop {
            let goes_in = waiting(seen) == 0 && inside(seen) < self.limit();
            if !goes_in && !has_part {
                has_part = self.bound.try_hold();
                if !has_part {
                    break EntryResult::Full;
                }
            }
            let next = seen + if goes_in { 1 } else { ONE_WAITS };
            // Fails if another thread has left since: it found the queue empty, so its permit is free now.
            match self.counts.compare_exchange(seen, next, AcqRel, Acquire) {
                Ok(_) if goes_in => break EntryResult::Inside,
                Ok(_) => break EntryResult::Queued,
                Err(now) => seen = now,
            }
        };
        match entry {
            EntryResult::Queued => queue.push_back(waiter),
            EntryResult::Inside if has_part => self.bound.release(),
            EntryResult::Inside | EntryResult::Full => {}
        }
        entry
    }

    /// Gives a permit back. Returns the first waiter of the queue, if there is one, which now owns the permit.
    #[must_use = "the waiter has to be told that it has a permit"]
    pub fn leave(&self) -> Option<T> {
        let mut seen = self.counts.load(Acquire);
        while waiting(seen) == 0 {
            debug_assert!(
                inside(seen) != 0,
                "a permit is given back that was not taken"
            );
            match self
                .counts
                .compare_exchange_weak(seen, seen - 1, AcqRel, Acquire)
            {
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
        // Under the lock: otherwise a thread that raises the limit now would not find the waiter yet, and the permit
        // would be lost.
        let mut queue = lock(&self.queue);
        match queue.pop_front() {
            Some(first) if self.inside() <= self.limit() => {
                self.counts.fetch_sub(ONE_WAITS, AcqRel);
                self.bound.release();
                Some(first)
            }
            first => {
                debug_assert!(
                    self.inside() != 0,
                    "a permit is given back that was not taken"
                );
                self.counts.fetch_sub(1, AcqRel);
                if let Some(first) = first {
                    queue.push_front(first);
                }
                None
            }
        }
    }

    /// Takes a permit again after a [`FifoSemaphore::leave`] in the middle of a request, even if none is free.
    pub fn reenter(&self) {
        self.counts.fetch_add(1, AcqRel);
    }

    /// Removes the waiter that `is_mine` recognizes from the queue; returns whether it was there. If not, it has a
    /// permit.
    pub fn leave_queue(&self, is_mine: impl Fn(&T) -> bool) -> bool {
        let mut queue = lock(&self.queue);
        let found = queue.iter().position(is_mine);
        if let Some(at) = found {
            queue.remove(at);
            self.counts.fetch_sub(ONE_WAITS, AcqRel);
            self.bound.release();
        }
        found.is_some()
    }

    /// Returns how many permits there are.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Changes how many permits there are; a caller that raises the number has to [`FifoSemaphore::admit`].
    pub fn set_limit(&self, limit: u32) {
        self.limit.swap(limit.max(1), AcqRel);
    }

    /// Sets the number of permits to what `decided` returns. Several threads may change that value and call this at the
    /// same time: the last decision holds.
    pub fn follow(&self, decided: impl Fn() -> u32) {
        let mut limit = decided();
        loop {
            self.set_limit(limit);
            let now = decided();
            if now == limit {
                return;
            }
            limit = now;
        }
    }

    /// Gives a free permit to the first waiter, and returns that waiter.
    pub fn admit(&self) -> Option<T> {
        let mut queue = lock(&self.queue);
        let mut seen = self.counts.load(Acquire);
        while waiting(seen) != 0 && inside(seen) < self.limit() {
            let next = seen + 1 - ONE_WAITS;
            match self.counts.compare_exchange(seen, next, AcqRel, Acquire) {
                Ok(_) => {
                    self.bound.release();
                    return queue.pop_front();
                }
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Returns how many permits are held.
    pub fn inside(&self) -> u32 {
        inside(self.counts.load(Relaxed))
    }

    /// Returns how many waiters are queued.
    pub fn waiting(&self) -> u32 {
        waiting(self.counts.load(Relaxed))
    }

    /// Returns the permits held plus the waiters queued.
    pub fn load(&self) -> u32 {
        let counts = self.counts.load(Relaxed);
        inside(counts).saturating_add(waiting(counts))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Returns a semaphore whose queue has no bound.
    fn open<T>(limit: u32) -> FifoSemaphore<T> {
        FifoSemaphore::new(limit, Arc::new(Limit::new(u32::MAX)))
    }

    #[test]
    fn first_come_first_served() {
        let semaphore = open(1);
        assert!(semaphore.try_enter());
        assert!(!semaphore.try_enter());
        assert_eq!(semaphore.enter_or_queue("second"), EntryResult::Queued);
        assert_eq!(semaphore.enter_or_queue("third"), EntryResult::Queued);
        assert_eq!(
            (semaphore.inside(), semaphore.waiting(), semaphore.load()),
            (1, 2, 3)
        );
        assert_eq!(semaphore.leave(), Some("second"));
        assert!(!semaphore.try_enter(), "no thread overtakes the queue");
        assert_eq!(semaphore.leave(), Some("third"));
        assert_eq!(semaphore.leave(), None);
        assert_eq!(semaphore.load(), 0);
        assert_eq!(semaphore.enter_or_queue("fourth"), EntryResult::Inside);
    }

    #[test]
    fn a_waiter_that_leaves_the_queue_gets_no_permit() {
        let semaphore = open(1);
        assert!(semaphore.try_enter());
        assert_eq!(semaphore.enter_or_queue(1), EntryResult::Queued);
        assert_eq!(semaphore.enter_or_queue(2), EntryResult::Queued);
        assert!(semaphore.leave_queue(|waiter| *waiter == 1));
        assert!(!semaphore.leave_queue(|waiter| *waiter == 1));
        assert_eq!(semaphore.leave(), Some(2));
        assert!(
            !semaphore.leave_queue(|waiter| *waiter == 2),
            "it has a permit by now"
        );
        assert_eq!(semaphore.leave(), None);
    }

    #[test]
    fn a_higher_limit_admits_more_and_a_lower_one_fewer() {
        let semaphore = open(1);
        assert!(semaphore.try_enter());
        for waiter in 0..3 {
            assert_eq!(semaphore.enter_or_queue(waiter), EntryResult::Queued);
        }
        assert_eq!(semaphore.admit(), None);
        semaphore.set_limit(3);
        assert_eq!(
            (semaphore.admit(), semaphore.admit(), semaphore.admit()),
            (Some(0), Some(1), None)
        );
        semaphore.set_limit(2);
        assert_eq!(semaphore.leave(), None, "one too many was inside");
        assert_eq!(semaphore.leave(), Some(2));
        assert_eq!(semaphore.inside(), 2);
    }

    #[test]
    fn a_permit_is_given_back_for_a_while() {
        let semaphore = open(1);
        assert!(semaphore.try_enter());
        assert_eq!(semaphore.enter_or_queue("other"), EntryResult::Queued);
        assert_eq!(semaphore.leave(), Some("other"));
        semaphore.reenter();
        assert_eq!(semaphore.inside(), 2);
        assert!(!semaphore.try_enter());
        assert_eq!(semaphore.leave(), None);
        assert_eq!(semaphore.leave(), None);
        assert_eq!(semaphore.load(), 0);
    }

    #[test]
    fn a_queue_is_as_long_as_its_bound() {
        for depth in [0, 1, 2] {
            let bound = Arc::new(Limit::new(depth));
            let semaphore = FifoSemaphore::new(1, Arc::clone(&bound));
            assert_eq!(semaphore.enter_or_queue(0), EntryResult::Inside, "{depth}");
            for waiter in 1..=depth {
                assert_eq!(
                    semaphore.enter_or_queue(waiter),
                    EntryResult::Queued,
                    "{depth}"
                );
            }
            assert_eq!(semaphore.enter_or_queue(99), EntryResult::Full, "{depth}");
            // Each waiter that gets a permit at once leaves space in the queue for exactly one more.
            for next in 1..=3 * depth {
                assert_eq!(semaphore.leave(), Some(next), "{depth}");
                assert_eq!(
                    semaphore.enter_or_queue(depth + next),
                    EntryResult::Queued,
                    "{depth}"
                );
                assert_eq!(semaphore.enter_or_queue(99), EntryResult::Full, "{depth}");
            }
            while semaphore.leave().is_some() {}
            assert_eq!((semaphore.load(), bound.held()), (0, 0), "{depth}");
        }
    }

    #[test]
    fn a_waiter_that_leaves_frees_its_space_in_the_queue() {
        let bound = Arc::new(Limit::new(1));
        let semaphore = FifoSemaphore::new(1, Arc::clone(&bound));
        assert_eq!(semaphore.enter_or_queue(0), EntryResult::Inside);
        assert_eq!(semaphore.enter_or_queue(1), EntryResult::Queued);
        assert!(semaphore.leave_queue(|waiter| *waiter == 1));
        assert_eq!(
            (bound.held(), semaphore.enter_or_queue(2)),
            (0, EntryResult::Queued)
        );
        semaphore.set_limit(2);
        assert_eq!(semaphore.admit(), Some(2));
        assert_eq!(
            (bound.held(), semaphore.enter_or_queue(3)),
            (0, EntryResult::Queued)
        );
        // More permits are held than the new limit allows, so the queued one goes on waiting.
        semaphore.set_limit(1);
        assert_eq!((semaphore.leave(), bound.held()), (None, 1));
        assert_eq!((semaphore.leave(), bound.held()), (Some(3), 0));
    }

    #[test]
    fn the_queues_of_a_group_have_one_bound() {
        let bound = Arc::new(Limit::new(1));
        let semaphores = [(); 2].map(|()| FifoSemaphore::new(1, Arc::clone(&bound)));
        for semaphore in &semaphores {
            assert_eq!(semaphore.enter_or_queue(0), EntryResult::Inside);
        }
        assert_eq!(semaphores[0].enter_or_queue(1), EntryResult::Queued);
        assert_eq!(semaphores[1].enter_or_queue(2), EntryResult::Full);
        assert_eq!(semaphores[1].leave(), None);
        assert_eq!(
            semaphores[1].enter_or_queue(2),
            EntryResult::Inside,
            "a free permit needs no space in the queue"
        );
        assert_eq!(semaphores[1].enter_or_queue(3), EntryResult::Full);
        assert_eq!(semaphores[0].leave(), Some(1));
        assert_eq!(semaphores[1].enter_or_queue(3), EntryResult::Queued);
    }
}
