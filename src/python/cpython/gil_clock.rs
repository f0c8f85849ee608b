//! The clock of waits for the GIL and of holds of it, for the request that a thread runs.
//!
//! Such a thread is always in one of two phases, waiting or holding, and the stamp that ends the one
//! begins the other. A wait and the hold after it are recorded when the GIL is given back, in the cells that `metrics` has
//! given to the clock.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Times;
use wsgi_telemetry::catalogue::Id;
use wsgi_telemetry::{App, Block, Phase, PhaseCell, clock};

use crate::process;

/// What is measured of one request. All stamps and durations are nanoseconds.
#[derive(Clone, Copy)]
struct Reading {
    app: App,
    /// Begin of the current wait.
    waiting_since: u64,
    /// Begin of the current hold.
    held_since: u64,
    /// How long the current hold was waited for.
    waited: u64,
    waited_in_all: u64,
    held_in_all: u64,
    /// Part of that which went into loading the script.
    loading: u64,
    /// Cells of the application in the thread's arena.
    block: Block,
    /// Where the phase of the request is noted.
    phase: Option<PhaseCell>,
}

thread_local! {
    /// What is measured of the request that the thread runs, if anything is. Borrowed for single steps, in which no other
    /// code runs.
    static READING: RefCell<Option<Reading>> = const { RefCell::new(None) };
}

impl Reading {
    /// The cells to record in; a copy that the application has forked has none.
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

    /// How long the GIL has been held until `now`.
    fn held_until(&self, now: u64) -> u64 {
        self.held_in_all + now.saturating_sub(self.held_since)
    }
}

/// What is measured of the request that the calling thread runs, if anything is.
fn current<R>(with: impl FnOnce(&mut Reading) -> R) -> Option<R> {
    READING.with_borrow_mut(|reading| reading.as_mut().map(with))
}

/// Measures the GIL of the calling thread for one request, until this is dropped; timers may be nested.
pub(crate) struct GilTimer {
    /// Of the request around this one.
    outer: Option<Reading>,
}

impl GilTimer {
    /// For a request of that application, which has waited since that stamp. `block`: the application's cells in the
    /// thread's arena. `phase`: where the phase of the request is noted.
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

    /// Where nothing is measured.
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

/// The calling thread has got the GIL.
pub(crate) fn attached() {
    current(|reading| {
        let now = clock::now();
        reading.held_since = now;
        reading.waited = now.saturating_sub(reading.waiting_since);
        reading.waited_in_all += reading.waited;
        reading.enter(Phase::InApplication);
    });
}

/// The calling thread is about to give the GIL back. Returns a stamp of this moment, 0 where nothing is measured.
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

/// The calling thread is done with the application, and about to give the GIL back: ends the measurement.
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
        // A hold ends where the next wait would begin.
        times.stamp.store(reading.waiting_since, Relaxed);
        times.application.store(application, Relaxed);
        times.gil_wait.store(reading.waited_in_all, Relaxed);
    }
}

/// The calling thread begins to wait for the GIL again; `since` is a stamp of this moment, or 0.
pub(crate) fn waiting(since: u64) {
    current(|reading| {
        reading.waiting_since = if since == 0 { clock::now() } else { since };
        reading.enter(Phase::WaitingForGil);
    });
}

/// When the calling thread got the GIL last; `None` where nothing is measured.
pub(crate) fn attached_at() -> Option<u64> {
    current(|reading| reading.held_since)
}

/// Where the phase of the request that the calling thread runs is noted.
pub(crate) fn shown() -> Option<PhaseCell> {
    current(|reading| reading.phase).flatten()
}

/// The application of the request that the calling thread runs.
pub(crate) fn current_app() -> Option<App> {
    current(|reading| reading.app)
}

/// A script is being loaded by the calling thread, which is attached. Ends by drop.
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

    /// How long it has taken, nanoseconds.
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
