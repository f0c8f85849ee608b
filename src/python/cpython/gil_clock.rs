//! Measures how long a thread waits for the GIL and holds it, for the request that it runs.
//!
//! Such a thread is always in one of two phases, waiting or holding; the stamp that ends one phase begins the other. A
//! wait and the hold after it are recorded when the GIL is released, in the cells that `metrics` has given to the
//! clock.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Times;
use wsgi_telemetry::catalogue::Id;
use wsgi_telemetry::{App, Block, Phase, PhaseCell, clock};

use crate::process;

/// The measurements of one request. All stamps and durations are nanoseconds.
#[derive(Clone, Copy)]
struct Reading {
    app: App,
    /// The beginning of the current wait.
    waiting_since: u64,
    /// The beginning of the current hold.
    held_since: u64,
    /// How long the thread waited for the current hold.
    waited: u64,
    waited_in_all: u64,
    held_in_all: u64,
    /// The part of `held_in_all` that went into loading the script.
    loading: u64,
    /// The application's cells in the thread's arena.
    block: Block,
    /// Where the phase of the request is noted.
    phase: Option<PhaseCell>,
}

thread_local! {
    /// The measurements of the request that the thread runs, if anything is measured. Borrowed for single steps, in
    /// which no other code runs.
    static READING: RefCell<Option<Reading>> = const { RefCell::new(None) };
}

impl Reading {
    /// Returns the cells to record in; a forked copy of this process has none.
    fn block(&self) -> Option<Block> {
        (!process::is_copy()).then_some(self.block)
    }

    fn enter(&self, phase: Phase) {
        if let Some(cell) = self.phase
            && !process::is_copy()
        {
            cell.set(phase);
        }
    }

    /// Returns how long the request has held the GIL until `now`.
    fn held_until(&self, now: u64) -> u64 {
        self.held_in_all + now.saturating_sub(self.held_since)
    }
}

/// Passes the measurements of the calling thread's request to `with`, if anything is measured.
fn current<R>(with: impl FnOnce(&mut Reading) -> R) -> Option<R> {
    READING.with_borrow_mut(|reading| reading.as_mut().map(with))
}

/// Measures the GIL of the calling thread for one request, until this is dropped. Timers may be nested.
pub(crate) struct GilTimer {
    /// The measurements of the request around this one.
    outer: Option<Reading>,
}

impl GilTimer {
    /// Starts a timer for a request of the application `app`, which has waited since the stamp `since`. `block` is the
    /// application's cells in the thread's arena, `phase` is where the phase of the request is noted.
    pub(crate) fn start(app: App, since: u64, block: Block, phase: Option<PhaseCell>) -> Self {
        let reading = Reading {
            app,
            waiting_since: since,
            held_since: 0,
            waited: 0,
            waited_in_all: 0,
            held_in_all: 0,
            loading: 0,
            block,
            phase,
        };
        reading.enter(Phase::WaitingForGil);
        Self {
            outer: READING.replace(Some(reading)),
        }
    }

    /// Makes a timer that measures nothing.
    pub(crate) fn idle() -> Self {
        Self {
            outer: READING.replace(None),
        }
    }
}

impl Drop for GilTimer {
    fn drop(&mut self) {
        READING.set(self.outer);
    }
}

/// Notes that the calling thread has got the GIL.
pub(crate) fn attached() {
    current(|reading| {
        let now = clock::now();
        reading.held_since = now;
        reading.waited = now.saturating_sub(reading.waiting_since);
        reading.waited_in_all += reading.waited;
        reading.enter(Phase::InApplication);
    });
}

/// Notes that the calling thread is about to release the GIL. Returns a stamp of this moment, 0 if nothing is measured.
pub(crate) fn leaving() -> u64 {
    let left = current(|reading| {
        let now = clock::now();
        let held = now.saturating_sub(reading.held_since);
        reading.held_in_all += held;
        reading.waiting_since = now;
        if let Some(block) = reading.block() {
            block.observe(Id::GilWait, 0, reading.waited);
            block.observe(Id::GilHeld, 0, held);
        }
        now
    });
    left.unwrap_or(0)
}

/// Ends the measurement: the calling thread is done with the application, and about to release the GIL.
pub(crate) fn end(times: Option<&Times>) {
    leaving();
    let Some(reading) = READING.take() else {
        return;
    };
    let application = reading.held_in_all.saturating_sub(reading.loading);
    if let Some(block) = reading.block() {
        block.observe(Id::ApplicationDuration, 0, application);
    }
    if let Some(times) = times {
        // A hold ends when the next wait would begin.
        times.stamp.store(reading.waiting_since, Relaxed);
        times.application.store(application, Relaxed);
        times.gil_wait.store(reading.waited_in_all, Relaxed);
    }
}

/// Notes that the calling thread waits for the GIL again; `since` is a stamp of this moment, or 0.
pub(crate) fn waiting(since: u64) {
    current(|reading| {
        reading.waiting_since = if since == 0 { clock::now() } else { since };
        reading.enter(Phase::WaitingForGil);
    });
}

/// Returns when the calling thread last got the GIL, as a stamp; `None` if nothing is measured.
pub(crate) fn attached_at() -> Option<u64> {
    current(|reading| reading.held_since)
}

/// Returns where the phase of the calling thread's request is noted.
pub(crate) fn shown() -> Option<PhaseCell> {
    current(|reading| reading.phase).flatten()
}

/// Returns the application of the calling thread's request.
pub(crate) fn current_app() -> Option<App> {
    current(|reading| reading.app)
}

/// Measures the load of a script by the calling thread, which is attached, until this is dropped.
pub(crate) struct LoadTimer {
    began: u64,
    held: u64,
}

impl LoadTimer {
    pub(crate) fn begin() -> Self {
        let began = clock::now();
        let held = current(|reading| {
            reading.enter(Phase::Loading);
            reading.held_until(began)
        });
        Self {
            began,
            held: held.unwrap_or(0),
        }
    }

    /// Returns how long the load has taken, nanoseconds.
    pub(crate) fn elapsed(&self) -> u64 {
        clock::now().saturating_sub(self.began)
    }
}

impl Drop for LoadTimer {
    fn drop(&mut self) {
        current(|reading| {
            let took = reading.held_until(clock::now()).saturating_sub(self.held);
            reading.loading += took;
            reading.enter(Phase::InApplication);
        });
    }
}
