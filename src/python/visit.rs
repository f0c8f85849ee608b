//! The times of one visit to Python: waits for the GIL and holds of it.
//!
//! A thread that runs a request is always in one of two phases, waiting or holding, and the stamp that ends the one
//! begins the other. A wait and the hold after it are recorded when the GIL is given back.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Times;
use wsgi_telemetry::catalogue::Id;
use wsgi_telemetry::{App, Block, Phase, PhaseCell, clock};

use crate::telemetry;

/// The visit that the calling thread is on. All stamps and durations are nanoseconds.
#[derive(Clone, Default)]
struct Visit {
    /// Whether it is on one, and measured.
    active: Cell<bool>,
    app: Cell<App>,
    /// Begin of the current wait.
    waiting_since: Cell<u64>,
    /// Begin of the current hold.
    held_since: Cell<u64>,
    /// How long the current hold was waited for.
    waited: Cell<u64>,
    waited_in_all: Cell<u64>,
    held_in_all: Cell<u64>,
    /// Part of that which went into loading the script.
    loading: Cell<u64>,
    /// Cells of the application in the thread's arena.
    block: Cell<Option<Block>>,
    /// Where the phase of the request is noted.
    phase: Cell<Option<PhaseCell>>,
}

thread_local! {
    static VISIT: Visit = const {
        Visit {
            active: Cell::new(false),
            app: Cell::new(App::OTHER),
            waiting_since: Cell::new(0),
            held_since: Cell::new(0),
            waited: Cell::new(0),
            waited_in_all: Cell::new(0),
            held_in_all: Cell::new(0),
            loading: Cell::new(0),
            block: Cell::new(None),
            phase: Cell::new(None),
        }
    };
}

impl Visit {
    /// The cells to record in; a copy that the application has forked has none.
    fn block(&self) -> Option<Block> {
        self.block.get().filter(|_| !telemetry::is_detached())
    }

    fn enter(&self, phase: Phase) {
        if let Some(cell) = self.phase.get()
            && !telemetry::is_detached()
        {
            cell.set(phase);
        }
    }

    /// How long the GIL has been held until `now`.
    fn held_until(&self, now: u64) -> u64 {
        self.held_in_all.get() + now.saturating_sub(self.held_since.get())
    }
}

/// The visit of the calling thread, if it is on one.
fn current<R>(with: impl FnOnce(&Visit) -> R) -> Option<R> {
    VISIT.with(|visit| visit.active.get().then(|| with(visit)))
}

/// The calling thread is about to enter Python for a request. Ends by drop; visits may be nested.
pub(crate) struct Entering {
    /// The visit around this one.
    outer: Option<Box<Visit>>,
}

impl Entering {
    pub(crate) fn new(app: App, times: Option<&Times>) -> Self {
        VISIT.with(|visit| {
            let outer = visit.active.get().then(|| Box::new(visit.clone()));
            let stamp = times.map_or(0, |times| times.stamp.swap(0, Relaxed));
            let since = if stamp == 0 { telemetry::now() } else { stamp };
            let arena = if since == 0 {
                None
            } else {
                telemetry::arena(since)
            };
            visit.active.set(arena.is_some());
            if let Some(arena) = arena {
                visit.app.set(app);
                visit.waiting_since.set(since);
                visit.waited_in_all.set(0);
                visit.held_in_all.set(0);
                visit.loading.set(0);
                visit.block.set(Some(arena.application(app)));
                visit.phase.set(arena.phase_cell());
                visit.enter(Phase::WaitingForGil);
            }
            Self { outer }
        })
    }

    /// Python was left for good.
    pub(crate) fn finish(self, times: Option<&Times>) {
        current(|visit| {
            let application = visit.held_in_all.get().saturating_sub(visit.loading.get());
            if let Some(block) = visit.block() {
                block.observe(Id::ApplicationDuration, 0, application);
            }
            if let Some(times) = times {
                // A hold ends where the next wait begins.
                times.stamp.store(visit.waiting_since.get(), Relaxed);
                times.application.store(application, Relaxed);
                times.gil_wait.store(visit.waited_in_all.get(), Relaxed);
            }
        });
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        VISIT.with(|visit| {
            visit.active.set(false);
            if let Some(outer) = self.outer.take() {
                visit.app.set(outer.app.get());
                visit.waiting_since.set(outer.waiting_since.get());
                visit.held_since.set(outer.held_since.get());
                visit.waited.set(outer.waited.get());
                visit.waited_in_all.set(outer.waited_in_all.get());
                visit.held_in_all.set(outer.held_in_all.get());
                visit.loading.set(outer.loading.get());
                visit.block.set(outer.block.get());
                visit.phase.set(outer.phase.get());
                visit.active.set(true);
            }
        });
    }
}

/// The calling thread has got the GIL.
pub(crate) fn attached() {
    current(|visit| {
        let now = clock::now();
        let waited = now.saturating_sub(visit.waiting_since.get());
        visit.held_since.set(now);
        visit.waited.set(waited);
        visit.waited_in_all.set(visit.waited_in_all.get() + waited);
        visit.enter(Phase::InApplication);
    });
}

/// The calling thread is about to give the GIL back. Returns a stamp of this moment, 0 where nothing is measured.
pub(crate) fn leaving() -> u64 {
    let left = current(|visit| {
        let now = clock::now();
        let held = now.saturating_sub(visit.held_since.get());
        visit.held_in_all.set(visit.held_in_all.get() + held);
        visit.waiting_since.set(now);
        if let Some(block) = visit.block() {
            block.observe(Id::GilWait, 0, visit.waited.get());
            block.observe(Id::GilHeld, 0, held);
        }
        now
    });
    left.unwrap_or(0)
}

/// The calling thread begins to wait for the GIL again; `since` is a stamp of this moment, or 0.
pub(crate) fn waiting(since: u64) {
    current(|visit| {
        let since = if since == 0 { clock::now() } else { since };
        visit.waiting_since.set(since);
        visit.enter(Phase::WaitingForGil);
    });
}

/// When the calling thread got the GIL last; `None` where nothing is measured.
pub(crate) fn attached_at() -> Option<u64> {
    current(|visit| visit.held_since.get())
}

/// The application of the request that the calling thread runs.
pub(crate) fn current_app() -> Option<App> {
    current(|visit| visit.app.get())
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
            visit.loading.set(visit.loading.get() + took);
            visit.enter(Phase::InApplication);
        });
    }
}
