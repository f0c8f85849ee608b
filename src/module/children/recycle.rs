//! `WSGIRecycle`: a child that has served its number of requests, uses too much memory or is old enough marks itself to
//! retire.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wsgi_core::config::recycle::{Recycle, Spent, Used};
use wsgi_telemetry::board::RetireReason;

use super::retire;
use super::slot::ChildSlot;
use crate::log::log_info;
use crate::own_memory::own_memory;

/// Whether requests are counted. Only `WSGIRecycle` needs the number.
static COUNTS: AtomicBool = AtomicBool::new(false);
static SERVED: AtomicU64 = AtomicU64::new(0);

/// Counts a served request. Refused requests do not count: a child must not be replaced because it has too much to do.
#[inline]
pub(crate) fn count_request() {
    if COUNTS.load(Relaxed) {
        SERVED.fetch_add(1, Relaxed);
    }
}

/// How often a child checks its limits.
const LOOK: Duration = Duration::from_millis(250);
/// The wait before the next check: `LATER` if enough other children retire, `MUCH_LATER` once this child is marked, as
/// the mark may be removed.
const LATER: Duration = Duration::from_secs(1);
const MUCH_LATER: Duration = Duration::from_secs(60);

/// The limits of this child, and the time of the next check.
pub(crate) struct Recycler {
    limits: Recycle,
    began: Instant,
    look: Instant,
}

impl Recycler {
    /// Returns `None` if there are no limits.
    pub(crate) fn new(recycle: Recycle) -> Option<Self> {
        if !recycle.is_set() {
            return None;
        }
        COUNTS.store(recycle.requests.is_some(), Relaxed);
        let now = Instant::now();
        // Process ids follow each other; the multiplication spreads them.
        let chance = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Some(Self {
            limits: recycle.for_child(chance),
            began: now,
            look: now,
        })
    }

    /// The mark was taken back: this child looks again soon.
    pub(super) fn look_again(&mut self) {
        self.look = Instant::now() + LATER;
    }

    /// Marks this child if it has reached a limit, unless enough other children retire.
    pub(crate) fn look(&mut self, slot: &ChildSlot) {
        let now = Instant::now();
        if now < self.look {
            return;
        }
        self.look = now + LOOK;
        let used = Used {
            requests: SERVED.load(Relaxed),
            memory: self.limits.memory.map_or(0, |_| own_memory()),
            age: now - self.began,
        };
        let Some(spent) = self.limits.spent(&used) else {
            return;
        };
        if !retire::mark(slot, reason_of(spent)) {
            self.look = now + LATER;
            return;
        }
        log_info(&format!("WSGIRecycle: this child {}", in_words(spent)));
        self.look = now + MUCH_LATER;
    }
}

/// Returns the reason for which a process that has reached this limit is replaced.
pub(crate) fn reason_of(spent: Spent) -> RetireReason {
    match spent {
        Spent::Requests(_) => RetireReason::MaxRequests,
        Spent::Memory(_) => RetireReason::Memory,
        Spent::Age(_) => RetireReason::Age,
    }
}

fn in_words(spent: Spent) -> String {
    match spent {
        Spent::Requests(count) => format!("has served {count} requests"),
        Spent::Memory(bytes) => format!("has {} MiB of memory of its own", bytes >> 20),
        Spent::Age(age) => format!("has served for {} s", age.as_secs()),
    }
}
