//! Places inside an interpreter, and the line of those that wait for one: first come, first served.
//!
//! ```text
//!            enter                            leave, nobody waits
//!   outside ───────────────────────▶ inside ──────────────────────▶ outside
//!      │  enter_or_wait                 ▲
//!      └──────────────▶ in line ────────┘ leave of another one, which hands its place on
//!                          │  leave_line
//!                          └──────────────▶ outside
//! ```
//!
//! Entering and leaving while nobody waits take one atomic step. The lock is held for the steps of the line alone, and
//! under it nobody waits for anything.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::sync::{AtomicU32, AtomicU64, Mutex, lock};

/// One who waits, in the upper half of the counts; the lower half counts those inside.
const ONE_WAITS: u64 = 1 << 32;

/// Places, and tickets of those in line.
pub struct Room<T> {
    counts: AtomicU64,
    limit: AtomicU32,
    /// As long as the counts say.
    line: Mutex<VecDeque<T>>,
}

fn inside(counts: u64) -> u32 {
    counts as u32
}

fn waiting(counts: u64) -> u32 {
    (counts >> 32) as u32
}

impl<T> Room<T> {
    /// With so many places; at least one.
    pub fn new(limit: u32) -> Self {
        Self {
            counts: AtomicU64::new(0),
            limit: AtomicU32::new(limit.max(1)),
            line: Mutex::new(VecDeque::new()),
        }
    }

    /// Goes in, if there is room and nobody waits. Whoever is in owes a [`Room::leave`].
    pub fn enter(&self) -> bool {
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

    /// Goes in, or puts the ticket at the end of the line; whether it went in.
    pub fn enter_or_wait(&self, ticket: T) -> bool {
        let mut line = lock(&self.line);
        let mut seen = self.counts.load(Acquire);
        loop {
            let goes_in = waiting(seen) == 0 && inside(seen) < self.limit();
            let next = seen + if goes_in { 1 } else { ONE_WAITS };
            // Fails where somebody has left since, who may have found nobody to hand a place to.
            match self.counts.compare_exchange(seen, next, AcqRel, Acquire) {
                Ok(_) => {
                    if !goes_in {
                        line.push_back(ticket);
                    }
                    return goes_in;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Gives a place back. Where somebody waits, that is the ticket of the first in line, who has the place now.
    #[must_use = "whoever has the place now has to learn of it"]
    pub fn leave(&self) -> Option<T> {
        let mut seen = self.counts.load(Acquire);
        while waiting(seen) == 0 {
            debug_assert!(inside(seen) != 0, "a place is given back that nobody has");
            match self
                .counts
                .compare_exchange_weak(seen, seen - 1, AcqRel, Acquire)
            {
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
        // Under the lock, as whoever raises the limit meanwhile would find nobody to admit yet, and the place be lost.
        let mut line = lock(&self.line);
        match line.pop_front() {
            Some(first) if self.inside() <= self.limit() => {
                self.counts.fetch_sub(ONE_WAITS, AcqRel);
                Some(first)
            }
            first => {
                debug_assert!(self.inside() != 0, "a place is given back that nobody has");
                self.counts.fetch_sub(1, AcqRel);
                if let Some(first) = first {
                    line.push_front(first);
                }
                None
            }
        }
    }

    /// Goes back in after a [`Room::leave`] in the middle of something, whether there is room or not.
    pub fn return_in(&self) {
        self.counts.fetch_add(1, AcqRel);
    }

    /// Takes the ticket for which `is_mine` out of the line; whether it was there. If not, it has a place.
    pub fn leave_line(&self, is_mine: impl Fn(&T) -> bool) -> bool {
        let mut line = lock(&self.line);
        let found = line.iter().position(is_mine);
        if let Some(at) = found {
            line.remove(at);
            self.counts.fetch_sub(ONE_WAITS, AcqRel);
        }
        found.is_some()
    }

    /// How many may be inside.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Changes how many may be inside; whoever raises it has to [`Room::admit`].
    pub fn set_limit(&self, limit: u32) {
        self.limit.swap(limit.max(1), AcqRel);
    }

    /// The same, to what `decided` says, which others may change at the same time and then do the same: the last decision
    /// holds.
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

    /// Gives a place that is free to the first in line.
    pub fn admit(&self) -> Option<T> {
        let mut line = lock(&self.line);
        let mut seen = self.counts.load(Acquire);
        while waiting(seen) != 0 && inside(seen) < self.limit() {
            let next = seen + 1 - ONE_WAITS;
            match self.counts.compare_exchange(seen, next, AcqRel, Acquire) {
                Ok(_) => return line.pop_front(),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// How many are inside.
    pub fn inside(&self) -> u32 {
        inside(self.counts.load(Relaxed))
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        waiting(self.counts.load(Relaxed))
    }

    /// How many are inside or wait.
    pub fn load(&self) -> u32 {
        let counts = self.counts.load(Relaxed);
        inside(counts).saturating_add(waiting(counts))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served() {
        let room = Room::new(1);
        assert!(room.enter());
        assert!(!room.enter());
        assert!(!room.enter_or_wait("second"));
        assert!(!room.enter_or_wait("third"));
        assert_eq!((room.inside(), room.waiting(), room.load()), (1, 2, 3));
        assert_eq!(room.leave(), Some("second"));
        assert!(!room.enter(), "nobody overtakes the line");
        assert_eq!(room.leave(), Some("third"));
        assert_eq!(room.leave(), None);
        assert_eq!(room.load(), 0);
        assert!(room.enter_or_wait("fourth"));
    }

    #[test]
    fn whoever_leaves_the_line_gets_no_place() {
        let room = Room::new(1);
        assert!(room.enter());
        assert!(!room.enter_or_wait(1));
        assert!(!room.enter_or_wait(2));
        assert!(room.leave_line(|ticket| *ticket == 1));
        assert!(!room.leave_line(|ticket| *ticket == 1));
        assert_eq!(room.leave(), Some(2));
        assert!(
            !room.leave_line(|ticket| *ticket == 2),
            "it has a place by now"
        );
        assert_eq!(room.leave(), None);
    }

    #[test]
    fn a_higher_limit_lets_more_in_and_a_lower_one_fewer() {
        let room = Room::new(1);
        assert!(room.enter());
        for ticket in 0..3 {
            assert!(!room.enter_or_wait(ticket));
        }
        assert_eq!(room.admit(), None);
        room.set_limit(3);
        assert_eq!(
            (room.admit(), room.admit(), room.admit()),
            (Some(0), Some(1), None)
        );
        room.set_limit(2);
        assert_eq!(room.leave(), None, "one too many was inside");
        assert_eq!(room.leave(), Some(2));
        assert_eq!(room.inside(), 2);
    }

    #[test]
    fn a_place_is_given_back_for_a_while() {
        let room = Room::new(1);
        assert!(room.enter());
        assert!(!room.enter_or_wait("other"));
        assert_eq!(room.leave(), Some("other"));
        room.return_in();
        assert_eq!(room.inside(), 2);
        assert!(!room.enter());
        assert_eq!(room.leave(), None);
        assert_eq!(room.leave(), None);
        assert_eq!(room.load(), 0);
    }
}
