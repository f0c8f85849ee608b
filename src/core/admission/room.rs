//! Places inside an interpreter, and the line of those that wait for one: first come, first served.
//!
//! ```text
//!            enter                            leave, nobody waits
//!   outside ───────────────────────▶ inside ──────────────────────▶ outside
//!      │  come                          ▲
//!      └──────────────▶ in line ────────┘ leave of another one, which hands its place on
//!                          │  leave_line
//!                          └──────────────▶ outside
//! ```
//!
//! Entering and leaving while nobody waits take one atomic step. The lock is held for the steps of the line alone, and
//! under it nobody waits for anything.
//!
//! A group may have several rooms, one for each interpreter, and one bound for all of their lines. A ticket counts against
//! the bound only while it is in the line: the thread that takes it out of the line gives its part of the bound back in the
//! same step, not the owner, which may learn much later that it has a place or that its job is run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::quota::Quota;

use crate::sync::{AtomicU32, AtomicU64, Mutex, lock};

/// One who waits, in the upper half of the counts; the lower half counts those inside.
const ONE_WAITS: u64 = 1 << 32;

/// Places, and tickets of those in line.
pub struct Room<T> {
    counts: AtomicU64,
    limit: AtomicU32,
    /// As long as the counts say.
    line: Mutex<VecDeque<T>>,
    /// How many may wait, here and in the other rooms of the group together.
    bound: Arc<Quota>,
}

/// What became of a thread that asked to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "one who is inside owes a leave"]
pub enum Entry {
    /// It is inside, and owes a [`Room::leave`].
    Inside,
    /// Its ticket is in the line.
    InLine,
    /// There is no room, and as many wait as may.
    Full,
}

fn inside(counts: u64) -> u32 {
    counts as u32
}

fn waiting(counts: u64) -> u32 {
    (counts >> 32) as u32
}

impl<T> Room<T> {
    /// With `limit` places, at least one, and a line that counts against `bound`.
    pub fn new(limit: u32, bound: Arc<Quota>) -> Self {
        Self {
            counts: AtomicU64::new(0),
            limit: AtomicU32::new(limit.max(1)),
            line: Mutex::new(VecDeque::new()),
            bound,
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

    /// Goes in, or puts the ticket at the end of the line, if that is not full.
    pub fn come(&self, ticket: T) -> Entry {
        let mut line = lock(&self.line);
        let mut seen = self.counts.load(Acquire);
        let mut has_part = false;
        let entry = loop {
            let goes_in = waiting(seen) == 0 && inside(seen) < self.limit();
            if !goes_in && !has_part {
                has_part = self.bound.try_hold();
                if !has_part {
                    break Entry::Full;
                }
            }
            let next = seen + if goes_in { 1 } else { ONE_WAITS };
            // Fails where somebody has left since, who may have found nobody to hand a place to.
            match self.counts.compare_exchange(seen, next, AcqRel, Acquire) {
                Ok(_) if goes_in => break Entry::Inside,
                Ok(_) => break Entry::InLine,
                Err(now) => seen = now,
            }
        };
        match entry {
            Entry::InLine => line.push_back(ticket),
            Entry::Inside if has_part => self.bound.release(),
            Entry::Inside | Entry::Full => {}
        }
        entry
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
                self.bound.release();
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
            self.bound.release();
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
                Ok(_) => {
                    self.bound.release();
                    return line.pop_front();
                }
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

    /// A room whose line has no bound.
    fn open<T>(limit: u32) -> Room<T> {
        Room::new(limit, Arc::new(Quota::new(u32::MAX)))
    }

    #[test]
    fn first_come_first_served() {
        let room = open(1);
        assert!(room.enter());
        assert!(!room.enter());
        assert_eq!(room.come("second"), Entry::InLine);
        assert_eq!(room.come("third"), Entry::InLine);
        assert_eq!((room.inside(), room.waiting(), room.load()), (1, 2, 3));
        assert_eq!(room.leave(), Some("second"));
        assert!(!room.enter(), "nobody overtakes the line");
        assert_eq!(room.leave(), Some("third"));
        assert_eq!(room.leave(), None);
        assert_eq!(room.load(), 0);
        assert_eq!(room.come("fourth"), Entry::Inside);
    }

    #[test]
    fn whoever_leaves_the_line_gets_no_place() {
        let room = open(1);
        assert!(room.enter());
        assert_eq!(room.come(1), Entry::InLine);
        assert_eq!(room.come(2), Entry::InLine);
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
        let room = open(1);
        assert!(room.enter());
        for ticket in 0..3 {
            assert_eq!(room.come(ticket), Entry::InLine);
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
        let room = open(1);
        assert!(room.enter());
        assert_eq!(room.come("other"), Entry::InLine);
        assert_eq!(room.leave(), Some("other"));
        room.return_in();
        assert_eq!(room.inside(), 2);
        assert!(!room.enter());
        assert_eq!(room.leave(), None);
        assert_eq!(room.leave(), None);
        assert_eq!(room.load(), 0);
    }

    #[test]
    fn a_line_is_as_long_as_it_may_be_and_no_longer() {
        for depth in [0, 1, 2] {
            let bound = Arc::new(Quota::new(depth));
            let room = Room::new(1, Arc::clone(&bound));
            assert_eq!(room.come(0), Entry::Inside, "{depth}");
            for ticket in 1..=depth {
                assert_eq!(room.come(ticket), Entry::InLine, "{depth}");
            }
            assert_eq!(room.come(99), Entry::Full, "{depth}");
            // Each that gets a place makes room in the line at once, for one more and no more.
            for next in 1..=3 * depth {
                assert_eq!(room.leave(), Some(next), "{depth}");
                assert_eq!(room.come(depth + next), Entry::InLine, "{depth}");
                assert_eq!(room.come(99), Entry::Full, "{depth}");
            }
            while room.leave().is_some() {}
            assert_eq!((room.load(), bound.held()), (0, 0), "{depth}");
        }
    }

    #[test]
    fn whoever_leaves_a_line_leaves_room_in_it() {
        let bound = Arc::new(Quota::new(1));
        let room = Room::new(1, Arc::clone(&bound));
        assert_eq!(room.come(0), Entry::Inside);
        assert_eq!(room.come(1), Entry::InLine);
        assert!(room.leave_line(|ticket| *ticket == 1));
        assert_eq!((bound.held(), room.come(2)), (0, Entry::InLine));
        room.set_limit(2);
        assert_eq!(room.admit(), Some(2));
        assert_eq!((bound.held(), room.come(3)), (0, Entry::InLine));
        // More tickets are inside than the new limit allows, so the one in line goes on waiting.
        room.set_limit(1);
        assert_eq!((room.leave(), bound.held()), (None, 1));
        assert_eq!((room.leave(), bound.held()), (Some(3), 0));
    }

    #[test]
    fn the_lines_of_a_group_have_one_bound() {
        let bound = Arc::new(Quota::new(1));
        let rooms = [(); 2].map(|()| Room::new(1, Arc::clone(&bound)));
        for room in &rooms {
            assert_eq!(room.come(0), Entry::Inside);
        }
        assert_eq!(rooms[0].come(1), Entry::InLine);
        assert_eq!(rooms[1].come(2), Entry::Full);
        assert_eq!(rooms[1].leave(), None);
        assert_eq!(rooms[1].come(2), Entry::Inside, "for that none has to wait");
        assert_eq!(rooms[1].come(3), Entry::Full);
        assert_eq!(rooms[0].leave(), Some(1));
        assert_eq!(rooms[1].come(3), Entry::InLine);
    }
}
