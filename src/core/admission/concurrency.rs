//! How many requests may be inside an interpreter at once: enough that its GIL is never idle, and no more, as further
//! requests only compete for it.
//!
//! A request that enters while others are inside finds the GIL free or busy.
//!
//! * Free: the others wait for something else, such as a database or a client, so more requests may enter. The ratio of
//!   the time off the CPU to the time on it says at once how many. Or the others compute without the GIL; then one
//!   request for each core may enter.
//! * Always busy: further requests would only get in each other's way.
//!
//! The ratio alone is not enough: where requests run longer than CPython's switch interval, waiting for the GIL looks
//! like waiting for a database. Nor is the GIL alone enough: a request that is alone inside always finds it free. So a
//! second one is admitted now and then as a test.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::sync::{AtomicU32, AtomicU64};

/// Least time between two decisions, nanoseconds.
const STEP: u64 = 5_000_000;
/// Fewest entries and visits that a decision needs.
const ENOUGH: u64 = 4;
/// After this number of decisions for a limit of one, a limit of two is tried.
const TRY: u64 = 40;
/// If no request has left for this long while others wait, the requests inside do something that takes long.
/// Nanoseconds.
const STALL: u64 = 20_000_000;
/// Least value to which [`STALL`] is shortened where requests are short. Nanoseconds.
const LEAST_STALL: u64 = 4_000_000;
/// A stall check older than this is not compared with the present one, as requests that leave while none waits are not
/// recorded. It is longer than the interval at which a waiter checks. Nanoseconds.
const LONG_AGO: u64 = 1_000_000_000;
/// A request that computes for this long while others wait, and several times as long as usual, does not block them:
/// another one is admitted, for at least [`AT_LEAST_FOR`]. Nanoseconds.
const FAR_TOO_LONG: u64 = 100_000_000;
const AT_LEAST_FOR: u64 = 500_000_000;
/// The GIL counts as busy if a request waited for it longer than this. Nanoseconds.
const BUSY: u64 = 5_000;
/// If the time off the CPU is this multiple of the time on it, for each request inside, requests do not only wait for
/// the GIL.
const ELSEWHERE: u32 = 8;
/// A job of at most this mean time is cheaper to run for its owner than to wake the owner up. Nanoseconds.
const SHORT: u64 = 20_000_000;

/// The number of permits, and the measurements that decide it.
pub struct ConcurrencyController {
    least: u32,
    most: u32,
    cores: u32,
    limit: AtomicU32,
    /// When the next decision is due, nanoseconds of a monotonic clock.
    due: AtomicU64,
    /// When the last request left.
    left: AtomicU64,
    entries: AtomicU64,
    busy: AtomicU64,
    visits: AtomicU64,
    wall: AtomicU64,
    cpu: AtomicU64,
    off: AtomicU64,
    /// Mean time of a visit, nanoseconds; 0 while unknown.
    mean: AtomicU64,
    /// Mean time of a visit off the CPU, waiting, nanoseconds.
    mean_off: AtomicU64,
    /// When the last stall check ran.
    looked: AtomicU64,
    /// The CPU time of the requests inside at that check, nanoseconds.
    looked_cpu: AtomicU64,
    /// Decisions for a limit of one since a limit of two was tried.
    alone: AtomicU64,
    /// The limit is not lowered before this moment.
    held: AtomicU64,
}

/// Measurements since the last decision.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Number of requests that entered while others were inside.
    entries: u64,
    /// How many of them found the GIL busy.
    busy: u64,
    /// Time of visits on a CPU.
    cpu: u64,
    /// Time of visits that waited for something.
    off: u64,
}

impl ConcurrencyController {
    /// Makes a controller whose limit is between `least` and `most` and begins with `seed`, the last limit of an
    /// earlier child.
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

    /// Returns how many requests may be inside.
    pub fn limit(&self) -> u32 {
        self.limit.load(Acquire)
    }

    /// Records that a request entered and waited `gil_wait` nanoseconds for the GIL; `others` says whether another one
    /// was inside.
    pub fn entered(&self, gil_wait: u64, others: bool) {
        if others {
            self.entries.fetch_add(1, Relaxed);
            if gil_wait > BUSY {
                self.busy.fetch_add(1, Relaxed);
            }
        }
    }

    /// Records that a request was inside for `wall` nanoseconds and on the CPU for `cpu` of them. `waited` says whether
    /// it waited for something; otherwise other threads had the CPU for the rest.
    pub fn visited(&self, wall: u64, cpu: u64, waited: bool) {
        self.visits.fetch_add(1, Relaxed);
        self.wall.fetch_add(wall, Relaxed);
        self.cpu.fetch_add(cpu.min(wall), Relaxed);
        if waited {
            self.off.fetch_add(wall.saturating_sub(cpu), Relaxed);
        }
    }

    /// Records that a request leaves. Returns the new limit if one is decided now.
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
            // Smoothed, as the next few requests may be of another kind.
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

    /// Runs the stall check of a waiting request. Returns a higher limit if no request has left for long, and those
    /// inside do not compute or have computed for far longer than usual. `cpu` returns their CPU time, nanoseconds.
    pub fn waits(&self, now: u64, cpu: impl FnOnce() -> u64) -> Option<u32> {
        let due = self.due.load(Acquire);
        let mean = self.mean.load(Relaxed);
        let stall = match mean {
            0 => STALL,
            mean => mean.saturating_mul(4).clamp(LEAST_STALL, STALL),
        };
        let left = self.left.load(Relaxed);
        let none_left_for = now.saturating_sub(left);
        if none_left_for < stall || now < due || !self.claim(due, now) {
            return None;
        }
        let (cpu, before) = (cpu(), self.looked_cpu.load(Relaxed));
        let since = self.looked.swap(now, Relaxed);
        self.looked_cpu.store(cpu, Relaxed);
        let elapsed = now.saturating_sub(since);
        // The last check saw other requests inside, so its CPU time does not compare.
        let were_others = since <= left || elapsed > LONG_AGO;
        let computes = cpu.saturating_sub(before) > elapsed / 2;
        let usual = mean.saturating_mul(4).clamp(FAR_TOO_LONG, LONG_AGO);
        if were_others || (computes && none_left_for < usual) {
            return None;
        }
        if computes {
            self.held.store(now + AT_LEAST_FOR, Relaxed);
        }
        let limit = self.limit();
        self.change(limit.saturating_add((limit / 2).max(1)).min(self.most))
    }

    /// Returns whether jobs are short enough that one thread should run them for their owners, one after the other:
    /// they do not spend most of their time waiting for something else.
    pub fn is_short(&self) -> bool {
        let mean = self.mean();
        (1..=SHORT).contains(&mean) && self.mean_off.load(Relaxed) <= mean / 3 * 2
    }

    /// Takes the right to decide, which only one thread has at a time; returns whether it did.
    fn claim(&self, due: u64, now: u64) -> bool {
        self.due
            .compare_exchange(due, now + STEP, AcqRel, Relaxed)
            .is_ok()
    }

    fn change(&self, limit: u32) -> Option<u32> {
        let before = self.limit.swap(limit, AcqRel);
        (before != limit).then_some(limit)
    }

    /// Returns the next limit.
    fn next(&self, limit: u32, seen: Seen) -> u32 {
        let waits = u32::try_from(seen.off.div_ceil(seen.cpu.max(1))).unwrap_or(u32::MAX);
        if limit == 1 {
            // No other request is inside that could hold the GIL.
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
        // Other requests that hold the GIL, also in other interpreters that share it, explain some of the time off the
        // CPU.
        let is_elsewhere = waits >= limit.saturating_mul(ELSEWHERE);
        match seen.busy * 100 / seen.entries {
            // Some requests find the GIL free, or it is busy only because many come at once: more may enter.
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

    /// Simulates some seconds of requests that use the GIL for `cpu` and something else for `off`: a new request finds
    /// the GIL busy if those inside need more time than there is. Returns the least and the greatest limit of the last
    /// second.
    fn settle(controller: &ConcurrencyController, cpu: u64, off: u64) -> (u32, u32) {
        let mut now = controller.left.load(Relaxed) + 1;
        let mut limits = Vec::new();
        for _ in 0..1000 {
            let limit = u64::from(controller.limit());
            let is_busy = limit * cpu > cpu + off;
            for _ in 0..4 {
                controller.entered(if is_busy { MS } else { 0 }, limit > 1);
                // Waits for the GIL are part of the time off the CPU.
                let off = off.max((limit - 1) * cpu);
                controller.visited(cpu + off, cpu, off != 0);
            }
            now += STEP;
            controller.leaves(now);
            limits.push(controller.limit());
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
            let controller = ConcurrencyController::new(1, 25, 2, 0);
            let (low, high) = settle(&controller, cpu, off);
            assert!(low >= least && high <= most, "{cpu} {off}: {low} to {high}");
            // And it comes back down.
            let (low, high) = settle(&controller, MS, 0);
            assert!(low == 1 && high <= 2, "after {cpu} {off}: {low} to {high}");
        }
    }

    #[test]
    fn more_are_admitted_where_none_leaves() {
        let controller = ConcurrencyController::new(3, 25, 2, 0);
        controller.leaves(STALL);
        let idle = || 7;
        assert_eq!(
            controller.waits(STALL + STEP, idle),
            None,
            "a request has left"
        );
        let mut now = 9 * STALL;
        assert_eq!(controller.waits(now, idle), None, "nothing is known yet");
        for expected in [4, 6, 9, 13, 19, 25] {
            now += STEP;
            assert_eq!(controller.waits(now, idle), Some(expected));
            assert_eq!(controller.waits(now, idle), None, "one at a time");
        }
        assert_eq!(controller.waits(now + STEP, idle), None, "all are in");
    }

    #[test]
    fn a_lone_waiter_that_checks_seldom_is_admitted() {
        let controller = ConcurrencyController::new(1, 25, 2, 0);
        controller.leaves(STALL);
        assert_eq!(
            controller.waits(20 * STALL, || 7),
            None,
            "nothing is known yet"
        );
        assert_eq!(controller.waits(28 * STALL, || 7), Some(2));
        controller.leaves(30 * STALL);
        assert_eq!(
            controller.waits(38 * STALL, || 7),
            None,
            "that was another one"
        );
        assert_eq!(controller.waits(46 * STALL, || 7), Some(3));
    }

    #[test]
    fn a_long_computation_keeps_others_out_only_for_a_while() {
        for mean in [0, MS, 60 * MS] {
            let controller = ConcurrencyController::new(1, 25, 2, 0);
            if mean != 0 {
                (0..ENOUGH).for_each(|_| controller.visited(mean, mean, false));
            }
            let begun = 9 * STALL;
            controller.leaves(begun);
            let mut now = begun;
            let let_in = (1..100).find(|_| {
                now += STEP;
                controller.waits(now, || now).is_some()
            });
            assert!(let_in.is_some() && controller.limit() == 2, "{mean}");
            assert_eq!(now - begun, FAR_TOO_LONG.max(4 * mean), "{mean}");
            // The admitted request finds the GIL busy.
            let until = now + AT_LEAST_FOR;
            while now < until {
                assert_eq!(controller.limit(), 2);
                now += STEP;
                (0..ENOUGH).for_each(|_| controller.entered(MS, true));
                controller.leaves(now);
            }
            assert_eq!(controller.limit(), 1);
        }
    }

    #[test]
    fn it_begins_where_it_was_and_stays_between_its_bounds() {
        assert_eq!(ConcurrencyController::new(3, 25, 2, 17).limit(), 17);
        assert_eq!(ConcurrencyController::new(3, 25, 2, 170).limit(), 25);
        assert_eq!(ConcurrencyController::new(9, 4, 2, 0).limit(), 4);
        let next_of = |least, most, limit, busy, off| {
            let seen = Seen {
                entries: 100,
                busy,
                off,
                cpu: 1,
            };
            ConcurrencyController::new(least, most, 2, 0).next(limit, seen)
        };
        let next = |least, most, limit, busy| next_of(least, most, limit, busy, 4);
        assert_eq!(next(3, 4, 3, 0), 4);
        assert_eq!(next(3, 4, 4, 100), 3);
        assert_eq!(next(3, 4, 3, 100), 3);
        assert_eq!(next(3, 4, 3, 95), 3);
        assert_eq!(next(1, 1, 1, 0), 1);
        // Requests come at once, and then wait long for something else.
        assert_eq!(next_of(1, 25, 25, 100, 900), 25);
        assert_eq!(next_of(1, 25, 10, 100, 900), 20);
    }

    #[test]
    fn computing_without_the_gil_gets_one_permit_a_core() {
        let controller = ConcurrencyController::new(1, 25, 4, 0);
        let mut limits = Vec::new();
        for now in (1..1000).map(|step| step * STEP) {
            for _ in 0..ENOUGH {
                controller.entered(0, controller.limit() > 1);
                controller.visited(MS, MS, false);
            }
            controller.leaves(now);
            limits.push(controller.limit());
        }
        assert!(limits[500..].iter().all(|limit| *limit == 4), "{limits:?}");
    }

    #[test]
    fn short_is_known_once_it_was_seen() {
        let controller = ConcurrencyController::new(3, 25, 2, 0);
        assert!(!controller.is_short());
        let visits = |steps: std::ops::Range<u64>, wall, cpu| {
            for step in steps {
                (0..ENOUGH).for_each(|_| controller.visited(wall, cpu, true));
                controller.leaves(step * STEP);
            }
        };
        visits(1..2, 20_000, 20_000);
        assert!(controller.is_short());
        visits(2..30, 60 * MS, 60 * MS);
        assert!(!controller.is_short());
        visits(30..60, 5 * MS, 4 * MS);
        assert!(controller.is_short());
        visits(60..90, 6 * MS, MS);
        assert!(!controller.is_short());
    }
}
