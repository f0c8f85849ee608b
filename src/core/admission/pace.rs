//! How many requests may be inside an interpreter at a time, so that its GIL never idles for want of one and is never
//! fought over by more than needed.
//!
//! Two things are seen of those that had to wait for a place: whether the GIL was free when they had it at last, and how long
//! they then were off the processor compared to on it. A GIL that is found free says that those inside wait for something
//! else (a database, a client), so there may be more of them: the share off the processor says at once how many. One that
//! is always busy says that more would only be in each other's way. The share alone would not do: where requests take
//! longer than CPython's switch interval, waiting for the GIL looks like waiting for a database.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::sync::{AtomicU32, AtomicU64};

/// Least time between two decisions, nanoseconds.
const STEP: u64 = 5_000_000;
/// Fewest of those that had to wait for a decision.
const ENOUGH: u64 = 4;
/// If nobody has left for so long while others wait, those inside do something that takes long. Nanoseconds.
pub const STALL: u64 = 20_000_000;
/// A GIL for which one waits longer than that was busy. Nanoseconds.
pub const BUSY: u64 = 5_000;
/// Up to so long on average, a job is cheaper to run for another thread than to wake that thread up. Nanoseconds.
const SHORT: u64 = 250_000;

/// The number, and what it is decided by.
pub struct Pace {
    least: u32,
    most: u32,
    limit: AtomicU32,
    /// When the next decision is due, nanoseconds of a monotonic clock.
    due: AtomicU64,
    /// When somebody left last.
    left: AtomicU64,
    entries: AtomicU64,
    busy: AtomicU64,
    visits: AtomicU64,
    wall: AtomicU64,
    cpu: AtomicU64,
    /// Mean time of a visit, nanoseconds; 0 while unknown.
    mean: AtomicU64,
}

/// What was seen since the last decision.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    entries: u64,
    busy: u64,
    wall: u64,
    cpu: u64,
}

impl Pace {
    /// Between `least` and `most`, from `seed` on: what was good the last time.
    pub fn new(least: u32, most: u32, seed: u32) -> Self {
        let zero = || AtomicU64::new(0);
        let most = most.max(1);
        let least = least.clamp(1, most);
        Self {
            least,
            most,
            limit: AtomicU32::new(seed.clamp(least, most)),
            due: zero(),
            left: zero(),
            entries: zero(),
            busy: zero(),
            visits: zero(),
            wall: zero(),
            cpu: zero(),
            mean: zero(),
        }
    }

    /// How many may be inside.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// One who had waited for a place has then waited so long for the GIL.
    pub fn entered(&self, gil_wait: u64) {
        self.entries.fetch_add(1, Relaxed);
        if gil_wait > BUSY {
            self.busy.fetch_add(1, Relaxed);
        }
    }

    /// One was inside for so long, so much of it on the processor.
    pub fn visited(&self, wall: u64, cpu: u64) {
        self.visits.fetch_add(1, Relaxed);
        self.wall.fetch_add(wall, Relaxed);
        self.cpu.fetch_add(cpu.min(wall), Relaxed);
    }

    /// Somebody leaves while others wait. Returns another limit where that is due.
    pub fn leaves(&self, now: u64) -> Option<u32> {
        self.left.store(now, Relaxed);
        let due = self.due.load(Acquire);
        if now < due || self.entries.load(Relaxed) < ENOUGH || !self.claim(due, now) {
            return None;
        }
        let seen = Seen {
            entries: self.entries.swap(0, Relaxed),
            busy: self.busy.swap(0, Relaxed),
            wall: self.wall.swap(0, Relaxed),
            cpu: self.cpu.swap(0, Relaxed),
        };
        let visits = self.visits.swap(0, Relaxed);
        if visits != 0 {
            // Not forgotten at once, as the next few may be of another kind.
            let (mean, before) = (seen.wall / visits, self.mean.load(Relaxed));
            let mean = if before == 0 {
                mean
            } else {
                (before * 3 + mean) / 4
            };
            self.mean.store(mean.max(1), Relaxed);
        }
        self.change(next(self.limit(), self.least, self.most, seen))
    }

    /// One waits. Returns a higher limit where nobody has left for long.
    pub fn waits(&self, now: u64) -> Option<u32> {
        let due = self.due.load(Acquire);
        if now.saturating_sub(self.left.load(Relaxed)) < STALL
            || now < due
            || !self.claim(due, now + STALL - STEP)
        {
            return None;
        }
        let limit = self.limit();
        self.change(limit.saturating_add((limit / 2).max(1)).min(self.most))
    }

    /// Whether jobs are so short that whoever is inside had better run them for others.
    pub fn is_short(&self) -> bool {
        (1..=SHORT).contains(&self.mean.load(Relaxed))
    }

    /// The right to decide, which one has at a time.
    fn claim(&self, due: u64, now: u64) -> bool {
        self.due
            .compare_exchange(due, now + STEP, AcqRel, Relaxed)
            .is_ok()
    }

    fn change(&self, limit: u32) -> Option<u32> {
        let before = self.limit.swap(limit, Relaxed);
        (before != limit).then_some(limit)
    }
}

/// The next limit.
fn next(limit: u32, least: u32, most: u32, seen: Seen) -> u32 {
    let of_100 = seen.busy * 100 / seen.entries.max(1);
    match of_100 {
        // The GIL is free for some: it could do more.
        ..=92 => {
            let off = seen.wall.saturating_sub(seen.cpu);
            let for_others = u32::try_from(off.div_ceil(seen.cpu.max(1))).unwrap_or(u32::MAX);
            let wanted = least.saturating_add(for_others);
            wanted.max(limit + 1).min(limit.saturating_mul(2)).min(most)
        }
        99.. => (limit - 1).max(least),
        _ => limit,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A minute of requests that take `cpu` of the GIL and `off` elsewhere: the GIL is busy for a new one if those inside
    /// have more to do than there is time.
    fn settle(pace: &Pace, cpu: u64, off: u64) -> u32 {
        let mut now = 1;
        for _ in 0..5000 {
            let limit = u64::from(pace.limit());
            let is_busy = limit * cpu > cpu + off;
            for _ in 0..4 {
                pace.entered(if is_busy { MS } else { 0 });
                // Waits for the GIL are part of the time off the processor.
                pace.visited(cpu + off.max((limit - 1) * cpu), cpu);
            }
            now += STEP;
            pace.leaves(now);
        }
        pace.limit()
    }

    #[test]
    fn computing_needs_few_and_waiting_needs_many() {
        for (cpu, off, expected) in [
            (20_000, 0, 3..=3),
            (5 * MS, 0, 3..=3),
            (50 * MS, 0, 3..=3),
            (MS, 5 * MS, 6..=8),
            (MS, 100 * MS, 25..=25),
            (1000, 100 * MS, 25..=25),
        ] {
            let pace = Pace::new(3, 25, 3);
            let found = settle(&pace, cpu, off);
            assert!(expected.contains(&found), "{cpu} {off}: {found}");
            // And back.
            assert_eq!(settle(&pace, MS, 0), 3, "after {cpu} {off}");
        }
    }

    #[test]
    fn those_who_wait_get_more_places_where_nobody_leaves() {
        let pace = Pace::new(3, 25, 0);
        pace.leaves(STALL);
        assert_eq!(pace.waits(STALL + STEP), None);
        let mut now = 2 * STALL;
        for expected in [4, 6, 9, 13, 19, 25] {
            assert_eq!(pace.waits(now), Some(expected));
            assert_eq!(pace.waits(now + STEP), None, "one at a time");
            now += STALL;
        }
        assert_eq!(pace.waits(now), None);
    }

    #[test]
    fn it_begins_where_it_was_and_stays_between_its_bounds() {
        assert_eq!(Pace::new(3, 25, 17).limit(), 17);
        assert_eq!(Pace::new(3, 25, 170).limit(), 25);
        assert_eq!(Pace::new(9, 4, 0).limit(), 4);
        let seen = |busy| Seen {
            entries: 100,
            busy,
            wall: 900,
            cpu: 1,
        };
        assert_eq!(next(3, 3, 4, seen(0)), 4);
        assert_eq!(next(4, 3, 4, seen(100)), 3);
        assert_eq!(next(3, 3, 4, seen(100)), 3);
        assert_eq!(next(3, 3, 4, seen(95)), 3);
    }

    #[test]
    fn short_is_known_once_it_was_seen() {
        let pace = Pace::new(3, 25, 0);
        assert!(!pace.is_short());
        let visit = |pace: &Pace, wall, now| {
            for _ in 0..ENOUGH {
                pace.entered(MS);
                pace.visited(wall, wall);
            }
            pace.leaves(now);
        };
        visit(&pace, 20_000, STEP);
        assert!(pace.is_short());
        for step in 2..10 {
            visit(&pace, MS, step * STEP);
        }
        assert!(!pace.is_short());
    }
}
