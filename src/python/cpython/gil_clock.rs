//! The times of one visit to Python: waits for the GIL and holds of it.
//!
//! A thread that runs a request is always in one of two phases, waiting or holding, and the stamp that ends the one
//! begins the other. A wait and the hold after it are recorded when the GIL is given back.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Times;
use wsgi_telemetry::catalogue::Id;
use wsgi_telemetry::{App, Arena, Block, Phase, PhaseCell, clock};

use crate::metrics::telemetry;

/// A visit. All stamps and durations are nanoseconds.
#[derive(Clone, Copy)]
struct Visit {
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
    /// The visit that the thread is on, if it is measured. Borrowed for single steps, in which no other code runs.
    static VISIT: RefCell<Option<Visit>> = const { RefCell::new(None) };
}

impl Visit {
    /// The cells to record in; a copy that the application has forked has none.
    fn block(&self) -> Option<Block> {
        (!telemetry::is_detached()).then_some(self.block)
    }

    fn enter(&self, phase: Phase) {
        if let Some(cell) = self.phase
            && !telemetry::is_detached()
        {
            cell.set(phase);
        }
    }

    /// How long the GIL has been held until `now`.
    fn held_until(&self, now: u64) -> u64 {
        self.held_in_all + now.saturating_sub(self.held_since)
    }
}

/// The visit of the calling thread, if it is on one.
fn current<R>(with: impl FnOnce(&mut Visit) -> R) -> Option<R> {
    VISIT.with_borrow_mut(|visit| visit.as_mut().map(with))
}

/// The calling thread is about to enter Python for a request. Ends by drop; visits may be nested.
pub(crate) struct Entering {
    /// The visit around this one.
    outer: Option<Visit>,
}

impl Entering {
    pub(crate) fn new(app: App, times: Option<&Times>) -> Self {
        let since = times.map_or(0, |times| times.stamp.swap(0, Relaxed));
        Self::since(app, since, |arena| arena.phase_cell())
    }

    /// The same for the request of another thread, whose phase is noted there, where the GIL has been waited for since that
    /// stamp; 0 for now.
    pub(crate) fn lent(app: App, stamp: u64, shown: Option<PhaseCell>) -> Self {
        Self::since(app, stamp, |_| shown)
    }

    fn since(app: App, stamp: u64, shown: impl FnOnce(Arena) -> Option<PhaseCell>) -> Self {
        let since = if stamp == 0 { telemetry::now() } else { stamp };
        let arena = if since == 0 {
            None
        } else {
            telemetry::arena(since)
        };
        let visit = arena.map(|arena| Visit {
            app,
            waiting_since: since,
            held_since: 0,
            waited: 0,
            waited_in_all: 0,
            held_in_all: 0,
            loading: 0,
            block: arena.application(app),
            phase: shown(arena),
        });
        if let Some(visit) = &visit {
            visit.enter(Phase::WaitingForGil);
        }
        Self {
            outer: VISIT.replace(visit),
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        VISIT.set(self.outer);
    }
}

/// The calling thread has got the GIL.
pub(crate) fn attached() {
    current(|visit| {
        let now = clock::now();
        visit.held_since = now;
        visit.waited = now.saturating_sub(visit.waiting_since);
        visit.waited_in_all += visit.waited;
        visit.enter(Phase::InApplication);
    });
}

/// The calling thread is about to give the GIL back. Returns a stamp of this moment, 0 where nothing is measured.
pub(crate) fn leaving() -> u64 {
    let left = current(|visit| {
        let now = clock::now();
        let held = now.saturating_sub(visit.held_since);
        visit.held_in_all += held;
        visit.waiting_since = now;
        if let Some(block) = visit.block() {
            block.observe(Id::GilWait, 0, visit.waited);
            block.observe(Id::GilHeld, 0, held);
        }
        now
    });
    left.unwrap_or(0)
}

/// The calling thread is done with the application, and about to give the GIL back: ends its visit.
pub(crate) fn end(times: Option<&Times>) {
    leaving();
    let Some(visit) = VISIT.take() else { return };
    let application = visit.held_in_all.saturating_sub(visit.loading);
    if let Some(block) = visit.block() {
        block.observe(Id::ApplicationDuration, 0, application);
    }
    if let Some(times) = times {
        // A hold ends where the next wait would begin.
        times.stamp.store(visit.waiting_since, Relaxed);
        times.application.store(application, Relaxed);
        times.gil_wait.store(visit.waited_in_all, Relaxed);
    }
}

/// The calling thread begins to wait for the GIL again; `since` is a stamp of this moment, or 0.
pub(crate) fn waiting(since: u64) {
    current(|visit| {
        visit.waiting_since = if since == 0 { clock::now() } else { since };
        visit.enter(Phase::WaitingForGil);
    });
}

/// When the calling thread got the GIL last; `None` where nothing is measured.
pub(crate) fn attached_at() -> Option<u64> {
    current(|visit| visit.held_since)
}

/// Where the phase of the request that the calling thread runs is noted.
pub(crate) fn shown() -> Option<PhaseCell> {
    current(|visit| visit.phase).flatten()
}

/// The application of the request that the calling thread runs.
pub(crate) fn current_app() -> Option<App> {
    current(|visit| visit.app)
}

/// A script is being loaded by the calling thread, which is attached. Ends by drop.
pub(crate) struct Loading {
    began: u64,
    held: u64,
}

impl Loading {
    pub(crate) fn begin() -> Self {
        let began = telemetry::now();
        let held = current(|visit| {
            visit.enter(Phase::Loading);
            visit.held_until(began)
        });
        Self {
            began,
            held: held.unwrap_or(0),
        }
    }

    /// How long it has taken, nanoseconds.
    pub(crate) fn elapsed(&self) -> u64 {
        telemetry::now().saturating_sub(self.began)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        current(|visit| {
            let took = visit.held_until(clock::now()).saturating_sub(self.held);
            visit.loading += took;
            visit.enter(Phase::InApplication);
        });
    }
}
