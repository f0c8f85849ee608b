//! How many requests may be inside an interpreter at a time, so that its GIL never idles for want of one and is never
//! fought over by more than needed.
//!
//! Each that goes in while others are inside finds the GIL free or busy. One that is found free says that those inside wait
//! for something else (a database, a client), so there may be more of them, and the time that they wait for it compared to
//! that on a processor says at once how many; or that they compute without the GIL, so there may be one for each core. One
//! that is always busy says that more would only be in each other's way. The
//! times alone would not do: where requests take longer than CPython's switch interval, waiting for the GIL looks like
//! waiting for a database. Nor would the GIL alone where only one may be inside, who finds it free: so now and then a second
//! one is let in, to see.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::sync::{AtomicU32, AtomicU64};

/// Least time between two decisions, nanoseconds.
const STEP: u64 = 5_000_000;
/// Fewest that must have been seen for a decision.
const ENOUGH: u64 = 4;
/// After so many decisions for one at a time, two are tried.
const TRY: u64 = 40;
/// If nobody has left for so long while others wait, those inside do something that takes long. Nanoseconds.
const STALL: u64 = 20_000_000;
/// Shorter where requests are short, but no less than that.
const LEAST_STALL: u64 = 4_000_000;
/// Who leaves while nobody waits is not noted; what was seen so long ago, while others waited, is not compared. Longer than
/// one who waits goes without looking. Nanoseconds.
const LONG_AGO: u64 = 1_000_000_000;
/// One that computes for so long while others wait, and for several times as long as is usual, is no reason to keep them out:
/// another one is let in, at least for a while. Nanoseconds.
const FAR_TOO_LONG: u64 = 100_000_000;
const AT_LEAST_FOR: u64 = 500_000_000;
/// A GIL for which one waits longer than that was busy. Nanoseconds.
const BUSY: u64 = 5_000;
/// Jobs that spend so many times as long off the processor as on it, for each that is inside, do not just wait for the GIL.
const ELSEWHERE: u32 = 8;
/// Up to so long on average, a job is cheaper to run for another thread than to wake that thread up. Nanoseconds.
const SHORT: u64 = 20_000_000;
/// Up to so long it is cheaper to run it than to wake any thread up. Nanoseconds.
const TINY: u64 = 60_000;

/// The number, and what it is decided by.
pub struct Pace {
    least: u32,
    most: u32,
    cores: u32,
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
    off: AtomicU64,
    /// Mean time of a visit, nanoseconds; 0 while unknown. And how much of it is spent waiting.
    mean: AtomicU64,
    mean_off: AtomicU64,
    /// When it was last looked at those who wait while nobody leaves, and the time of those inside on processors by then.
    looked: AtomicU64,
    looked_cpu: AtomicU64,
    /// Decisions for one at a time since two were tried.
    alone: AtomicU64,
    /// Until when the limit is not lowered.
    held: AtomicU64,
}

/// What was seen since the last decision.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Those who went in while others were inside, and how many of them found the GIL busy.
    entries: u64,
    busy: u64,
    /// Time of visits, on a processor and waiting.
    cpu: u64,
    off: u64,
}

impl Pace {
    /// Between `least` and `most`, from `seed` on: what was good the last time.
    pub fn new(least: u32, most: u32, cores: u32, seed: u32) -> Self {
        let zero = || AtomicU64::new(0);
        let most = most.max(1);
        let least = least.clamp(1, most);
        Self {
            least,
            most,
            cores: cores.clamp(least, most),
            limit: AtomicU32::new(seed.clamp(least, most)),
            due: zero(),
            left: zero(),
            entries: zero(),
            busy: zero(),
            visits: zero(),
            wall: zero(),
            cpu: zero(),
            off: zero(),
            mean: zero(),
            mean_off: zero(),
            looked: zero(),
            looked_cpu: zero(),
            alone: zero(),
            held: zero(),
        }
    }

    /// How many may be inside.
    pub fn limit(&self) -> u32 {
        self.limit.load(Acquire)
    }

    /// One went in and has waited so long for the GIL; `others`: somebody else was inside.
    pub fn entered(&self, gil_wait: u64, others: bool) {
        if others {
            self.entries.fetch_add(1, Relaxed);
            if gil_wait > BUSY {
                self.busy.fetch_add(1, Relaxed);
            }
        }
    }

    /// One was inside for so long, so much of it on the processor; `waited`: it has waited for something, else the rest is
    /// time in which others had the processor.
    pub fn visited(&self, wall: u64, cpu: u64, waited: bool) {
        self.visits.fetch_add(1, Relaxed);
        self.wall.fetch_add(wall, Relaxed);
        self.cpu.fetch_add(cpu.min(wall), Relaxed);
        if waited {
            self.off.fetch_add(wall.saturating_sub(cpu), Relaxed);
        }
    }

    /// Somebody leaves. Returns another limit where that is due.
    pub fn leaves(&self, now: u64) -> Option<u32> {
        self.left.store(now, Relaxed);
        let due = self.due.load(Acquire);
        let visits = self.visits.load(Relaxed);
        if now < due || visits + self.entries.load(Relaxed) < ENOUGH || !self.claim(due, now) {
            return None;
        }
        let seen = Seen {
            entries: self.entries.swap(0, Relaxed),
            busy: self.busy.swap(0, Relaxed),
            cpu: self.cpu.swap(0, Relaxed),
            off: self.off.swap(0, Relaxed),
        };
        let (visits, wall) = (self.visits.swap(0, Relaxed), self.wall.swap(0, Relaxed));
        if visits != 0 {
            let before = self.mean();
            // Not forgotten at once, as the next few may be of another kind.
            let smooth = |mean: &AtomicU64, sum: u64| {
                let now = sum.div_ceil(visits);
                let now = match before {
                    0 => now,
                    _ => (mean.load(Relaxed) * 3 + now) / 4,
                };
                mean.store(now, Relaxed);
            };
            smooth(&self.mean, wall.max(visits));
            smooth(&self.mean_off, seen.off);
        }
        let mut limit = self.next(self.limit(), seen);
        if now < self.held.load(Relaxed) {
            limit = limit.max(self.limit());
        }
        let alone = if limit == 1 {
            self.alone.fetch_add(1, Relaxed)
        } else {
            0
        };
        if alone >= TRY {
            self.alone.store(0, Relaxed);
            return self.change(2.min(self.most));
        }
        self.change(limit)
    }

    /// Mean time of a visit, nanoseconds; 0 while unknown.
    pub fn mean(&self) -> u64 {
        self.mean.load(Relaxed)
    }

    /// One waits. Returns a higher limit where nobody has left for long and those inside do not compute either, or do so for
    /// far longer than is usual: `cpu` is their time on processors, nanoseconds.
    pub fn waits(&self, now: u64, cpu: impl FnOnce() -> u64) -> Option<u32> {
        let due = self.due.load(Acquire);
        let mean = self.mean.load(Relaxed);
        let stall = match mean {
            0 => STALL,
            mean => mean.saturating_mul(4).clamp(LEAST_STALL, STALL),
        };
        let left = self.left.load(Relaxed);
        let nobody_left_for = now.saturating_sub(left);
        if nobody_left_for < stall || now < due || !self.claim(due, now) {
            return None;
        }
        let (cpu, before) = (cpu(), self.looked_cpu.load(Relaxed));
        let since = self.looked.swap(now, Relaxed);
        self.looked_cpu.store(cpu, Relaxed);
        let elapsed = now.saturating_sub(since);
        // What was seen of others says nothing.
        let were_others = since <= left || elapsed > LONG_AGO;
        let computes = cpu.saturating_sub(before) > elapsed / 2;
        let usual = mean.saturating_mul(4).clamp(FAR_TOO_LONG, LONG_AGO);
        if were_others || (computes && nobody_left_for < usual) {
            return None;
        }
        if computes {
            self.held.store(now + AT_LEAST_FOR, Relaxed);
        }
        let limit = self.limit();
        self.change(limit.saturating_add((limit / 2).max(1)).min(self.most))
    }

    /// Whether jobs are so short that one thread had better run them for others, one after the other: they do not wait for
    /// something else most of the time.
    pub fn is_short(&self) -> bool {
        let mean = self.mean();
        (1..=SHORT).contains(&mean) && self.mean_off.load(Relaxed) <= mean / 3 * 2
    }

    /// Whether they are so short that any thread may run one for another in passing.
    pub fn is_tiny(&self) -> bool {
        (1..=TINY).contains(&self.mean())
    }

    /// The right to decide, which one has at a time.
    fn claim(&self, due: u64, now: u64) -> bool {
        self.due
            .compare_exchange(due, now + STEP, AcqRel, Relaxed)
            .is_ok()
    }

    fn change(&self, limit: u32) -> Option<u32> {
        let before = self.limit.swap(limit, AcqRel);
        (before != limit).then_some(limit)
    }

    /// The next limit.
    fn next(&self, limit: u32, seen: Seen) -> u32 {
        let waits = u32::try_from(seen.off.div_ceil(seen.cpu.max(1))).unwrap_or(u32::MAX);
        if limit == 1 {
            // Nobody else is there to wait for, but for those who do not count.
            let is_alone = seen.off <= seen.cpu / 3;
            return if is_alone {
                1
            } else {
                waits.saturating_add(1).min(self.most)
            };
        }
        if seen.entries == 0 {
            return limit;
        }
        // Those who keep the GIL, be they in other interpreters that share it, explain some of the time off the processor.
        let is_elsewhere = waits >= limit.saturating_mul(ELSEWHERE);
        match seen.busy * 100 / seen.entries {
            // The GIL is free for some, or only busy as many come at once: it could do more.
            busy if busy < 90 || is_elsewhere => {
                let wanted = self
                    .least
                    .saturating_add(waits)
                    .max(self.cores)
                    .min(self.most);
                if limit > wanted {
                    limit - 1
                } else {
                    wanted.min(limit.saturating_mul(2))
                }
            }
            97.. => (limit - 1).max(self.least),
            _ => limit,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: u64 = 1_000_000;

    /// Some seconds of requests that take `cpu` of the GIL and `off` elsewhere: the GIL is busy for a new one if those inside
    /// have more to do than there is time. Returns the least and the greatest limit of the last second.
    fn settle(pace: &Pace, cpu: u64, off: u64) -> (u32, u32) {
        let mut now = pace.left.load(Relaxed) + 1;
        let mut limits = Vec::new();
        for _ in 0..1000 {
            let limit = u64::from(pace.limit());
            let is_busy = limit * cpu > cpu + off;
            for _ in 0..4 {
                pace.entered(if is_busy { MS } else { 0 }, limit > 1);
                // Waits for the GIL are part of the time off the processor.
                let off = off.max((limit - 1) * cpu);
                pace.visited(cpu + off, cpu, off != 0);
            }
            now += STEP;
            pace.leaves(now);
            limits.push(pace.limit());
        }
        let last = &limits[800..];
        last.iter().fold((u32::MAX, 0), |(low, high), limit| {
            (low.min(*limit), high.max(*limit))
        })
    }

    #[test]
    fn computing_needs_one_and_waiting_needs_many() {
        for (cpu, off, least, most) in [
            (20_000, 0, 1, 2),
            (5 * MS, 0, 1, 2),
            (50 * MS, 0, 1, 2),
            (MS, 5 * MS, 6, 8),
            (MS, 100 * MS, 25, 25),
            (1000, 100 * MS, 25, 25),
        ] {
            let pace = Pace::new(1, 25, 2, 0);
            let (low, high) = settle(&pace, cpu, off);
            assert!(low >= least && high <= most, "{cpu} {off}: {low} to {high}");
            // And back.
            let (low, high) = settle(&pace, MS, 0);
            assert!(low == 1 && high <= 2, "after {cpu} {off}: {low} to {high}");
        }
    }

    #[test]
    fn those_who_wait_get_more_places_where_nobody_leaves() {
        let pace = Pace::new(3, 25, 2, 0);
        pace.leaves(STALL);
        let idle = || 7;
        assert_eq!(pace.waits(STALL + STEP, idle), None, "somebody has left");
        let mut now = 9 * STALL;
        assert_eq!(pace.waits(now, idle), None, "nothing is known yet");
        for expected in [4, 6, 9, 13, 19, 25] {
            now += STEP;
            assert_eq!(pace.waits(now, idle), Some(expected));
            assert_eq!(pace.waits(now, idle), None, "one at a time");
        }
        assert_eq!(pace.waits(now + STEP, idle), None, "all are in");
    }

    #[test]
    fn one_who_waits_alone_and_looks_seldom_gets_a_place() {
        let pace = Pace::new(1, 25, 2, 0);
        pace.leaves(STALL);
        assert_eq!(pace.waits(20 * STALL, || 7), None, "nothing is known yet");
        assert_eq!(pace.waits(28 * STALL, || 7), Some(2));
        pace.leaves(30 * STALL);
        assert_eq!(pace.waits(38 * STALL, || 7), None, "that was another one");
        assert_eq!(pace.waits(46 * STALL, || 7), Some(3));
    }

    #[test]
    fn nobody_is_let_in_beside_one_that_computes_but_for_long() {
        for mean in [0, MS, 60 * MS] {
            let pace = Pace::new(1, 25, 2, 0);
            if mean != 0 {
                (0..ENOUGH).for_each(|_| pace.visited(mean, mean, false));
            }
            let begun = 9 * STALL;
            pace.leaves(begun);
            let mut now = begun;
            let let_in = (1..100).find(|_| {
                now += STEP;
                pace.waits(now, || now).is_some()
            });
            assert!(let_in.is_some() && pace.limit() == 2, "{mean}");
            assert_eq!(now - begun, FAR_TOO_LONG.max(4 * mean), "{mean}");
            // Who is let in finds the GIL busy.
            let until = now + AT_LEAST_FOR;
            while now < until {
                assert_eq!(pace.limit(), 2);
                now += STEP;
                (0..ENOUGH).for_each(|_| pace.entered(MS, true));
                pace.leaves(now);
            }
            assert_eq!(pace.limit(), 1);
        }
    }

    #[test]
    fn it_begins_where_it_was_and_stays_between_its_bounds() {
        assert_eq!(Pace::new(3, 25, 2, 17).limit(), 17);
        assert_eq!(Pace::new(3, 25, 2, 170).limit(), 25);
        assert_eq!(Pace::new(9, 4, 2, 0).limit(), 4);
        let next_of = |least, most, limit, busy, off| {
            let seen = Seen {
                entries: 100,
                busy,
                off,
                cpu: 1,
            };
            Pace::new(least, most, 2, 0).next(limit, seen)
        };
        let next = |least, most, limit, busy| next_of(least, most, limit, busy, 4);
        assert_eq!(next(3, 4, 3, 0), 4);
        assert_eq!(next(3, 4, 4, 100), 3);
        assert_eq!(next(3, 4, 3, 100), 3);
        assert_eq!(next(3, 4, 3, 95), 3);
        assert_eq!(next(1, 1, 1, 0), 1);
        // They come at once, and then wait for something else for long.
        assert_eq!(next_of(1, 25, 25, 100, 900), 25);
        assert_eq!(next_of(1, 25, 10, 100, 900), 20);
    }

    #[test]
    fn who_computes_without_the_gil_gets_the_cores() {
        let pace = Pace::new(1, 25, 4, 0);
        let mut limits = Vec::new();
        for now in (1..1000).map(|step| step * STEP) {
            for _ in 0..ENOUGH {
                pace.entered(0, pace.limit() > 1);
                pace.visited(MS, MS, false);
            }
            pace.leaves(now);
            limits.push(pace.limit());
        }
        assert!(limits[500..].iter().all(|limit| *limit == 4), "{limits:?}");
    }

    #[test]
    fn short_is_known_once_it_was_seen() {
        let pace = Pace::new(3, 25, 2, 0);
        assert!(!pace.is_short());
        let visits = |steps: std::ops::Range<u64>, wall, cpu| {
            for step in steps {
                (0..ENOUGH).for_each(|_| pace.visited(wall, cpu, true));
                pace.leaves(step * STEP);
            }
        };
        visits(1..2, 20_000, 20_000);
        assert!(pace.is_short() && pace.is_tiny());
        visits(2..30, 60 * MS, 60 * MS);
        assert!(!pace.is_short() && !pace.is_tiny());
        visits(30..60, 5 * MS, 4 * MS);
        assert!(pace.is_short() && !pace.is_tiny());
        visits(60..90, 6 * MS, MS);
        assert!(!pace.is_short() && !pace.is_tiny());
    }
}
