//! How a child in which something hangs asks to be replaced: it marks itself to retire.
//!
//! A load that hangs here may hang in the successor, too, and in the next child. So each of them waits longer than the
//! one before until it marks itself ([`Hangs`]), and serves what it can until then.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wsgi_abi::Retire;
use wsgi_core::config::STARTUP_TIMEOUT;
use wsgi_httpd::mpm::LeaveBy;
use wsgi_telemetry::board::{ChildEntry, ChildState, Hangs, RetireReason};
use wsgi_telemetry::clock;

use super::slot::{self, ChildSlot};
use crate::config::inherited;

/// One of this number of serving children may be replaced at a time.
const SHARE: usize = 4;

/// Marks this child, unless enough other children retire; then the engine asks again.
pub(crate) fn ask(why: Retire) {
    if let Some(slot) = slot::get()
        && (why != Retire::Startup
            || slot.entry().state() == Some(ChildState::Ready) && note_hang(&slot))
    {
        mark(&slot, reason_of(why));
    }
}

/// Returns the reason for which the engine wants a process to be replaced.
pub(crate) fn reason_of(why: Retire) -> RetireReason {
    match why {
        Retire::Stuck => RetireReason::RequestTimeout,
        Retire::Deadlock => RetireReason::Deadlock,
        Retire::Source => RetireReason::SourceChanged,
        Retire::Startup => RetireReason::StartupTimeout,
    }
}

/// When this child started, as a stamp.
static BEGAN: AtomicU64 = AtomicU64::new(0);

/// Notes when this child starts.
pub(crate) fn child_begins() {
    BEGAN.store(clock::now(), Relaxed);
}

/// A hang in this child.
struct Hang {
    /// When the hang was reported last.
    said: Instant,
    /// When the child has waited long enough.
    until: Instant,
}

static HANG: Mutex<Option<Hang>> = Mutex::new(None);

/// A hang that is not reported for this time has ended.
const SILENCE: Duration = Duration::from_secs(5);

/// Returns the server's `WSGIStartupTimeout`, or the default if it has none.
fn limit() -> Duration {
    let written = inherited::current().and_then(|process| process.python.startup_timeout());
    written.unwrap_or(STARTUP_TIMEOUT)
}

/// Notes that something hangs in this child. The caller repeats this while the hang lasts. Returns whether the child
/// has waited long enough to be replaced.
pub(crate) fn note_hang(slot: &ChildSlot) -> bool {
    let mut hang = HANG.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let until = match &*hang {
        Some(known) if now.saturating_duration_since(known.said) < SILENCE => known.until,
        _ => {
            let limit = limit();
            let hangs = slot
                .board()
                .note_hang(BEGAN.load(Relaxed), clock::now(), limit);
            now + hangs.wait(limit)
        }
    };
    *hang = Some(Hang { said: now, until });
    now >= until
}

/// Notes that the start of Python hangs in this child. Returns how long the child waits before it ends; zero if no
/// other serves.
pub(crate) fn note_start_hangs(slot: &ChildSlot) -> Duration {
    let hangs: Hangs = slot
        .board()
        .note_start_hangs(BEGAN.load(Relaxed), clock::now(), limit());
    match slot.another_serves() {
        true => hangs.wait(limit()),
        false => Duration::ZERO,
    }
}

/// When this child, which serves without Python, asks to be replaced, as a stamp; 0 for a child that has Python.
static HELD_OFF: AtomicU64 = AtomicU64::new(0);

/// Returns for how long this child must not start Python, as the start has hung in another child; zero if it may. While
/// other children serve, an attempt costs nothing.
pub(crate) fn hold_off(slot: &ChildSlot) -> Duration {
    // Without a monitor, this child could not be replaced later.
    if slot.another_serves() || LeaveBy::of_mpm().is_err() {
        return Duration::ZERO;
    }
    let now = clock::now();
    let time = slot.board().start_hangs().start_is_held_off(now, limit());
    if !time.is_zero() {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        HELD_OFF.store(now.saturating_add(nanoseconds), Relaxed);
    }
    time
}

/// Returns whether this child serves without Python until it is replaced.
pub(crate) fn is_held_off() -> bool {
    HELD_OFF.load(Relaxed) != 0
}

/// Marks a child that serves without Python once its time is over. Called by the monitor.
pub(crate) fn look(slot: &ChildSlot) {
    let until = HELD_OFF.load(Relaxed);
    if until != 0 && clock::now() >= until {
        mark(slot, RetireReason::StartupTimeout);
    }
}

/// Marks this child to retire, unless enough other children retire. Returns whether this call has marked it.
pub(crate) fn mark(slot: &ChildSlot, reason: RetireReason) -> bool {
    if slot.entry().retire().is_some() || are_enough(slot) {
        return false;
    }
    let me = slot.in_force.me();
    if !slot.board().mark(me.pid, me.ticks, reason) {
        return false;
    }
    // Another child may have marked itself at the same time; then the child with the lowest process id goes first.
    let goes_first = |child: &ChildEntry| child.retire.is_some() && child.pid < me.pid;
    let is_one_too_many = are_enough(slot) && slot.others().iter().any(goes_first);
    if is_one_too_many {
        slot.entry().unmark(reason);
    }
    !is_one_too_many
}

/// Takes the mark of this child back if another child that serves is marked, too, and goes first. Two children may have
/// marked themselves at the same moment, or the reloader has marked the other one. Returns whether the mark is gone.
pub(super) fn give_way(slot: &ChildSlot, reason: RetireReason) -> bool {
    let me = slot.in_force.me();
    let goes_first = |child: &ChildEntry| {
        let is_first = |other: RetireReason| !other.is_own() || child.pid < me.pid;
        child.state == ChildState::Ready && child.retire.is_some_and(is_first)
    };
    let gives_way = reason.is_own() && slot.others().iter().any(goes_first);
    if gives_way {
        slot.entry().unmark(reason);
    }
    gives_way
}

/// Returns whether no further child may retire now.
fn are_enough(slot: &ChildSlot) -> bool {
    let others = slot.others();
    let serving = others
        .iter()
        .filter(|child| child.state == ChildState::Ready);
    let retiring = serving
        .clone()
        .filter(|child| child.retire.is_some())
        .count();
    retiring >= (serving.count() / SHARE).max(1)
}
