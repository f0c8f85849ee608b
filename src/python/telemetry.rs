//! What Python's side counts: waits for the GIL and holds of it, time inside the application, loads, exceptions, log
//! lines.
//!
//! A thread that runs a request is always in one of two phases, waiting or holding, and the stamp that ends the one
//! begins the other. What was waited and held is recorded when Python is left, however short the visit was.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::{Arenas, SegmentView, Times};
use wsgi_telemetry::catalogue::{Id, STREAM, value};
use wsgi_telemetry::{App, Arena, Block, Geometry, Phase, Segment, clock};

use crate::host;

static SEGMENT: OnceLock<Segment> = OnceLock::new();

/// The visit to Python that the calling thread is on.
#[derive(Clone, Copy)]
struct Visit {
    app: App,
    /// When the current wait for the GIL began.
    waiting_since: u64,
    /// When the current hold of the GIL began.
    held_since: u64,
    /// How long the current hold was waited for.
    waited: u64,
    waited_in_all: u64,
    held_in_all: u64,
    /// Part of that which went into loading the script.
    loading: u64,
}

thread_local! {
    static VISIT: Cell<Option<Visit>> = const { Cell::new(None) };
}

/// Measures from now on. Without a segment nothing is measured.
pub(crate) fn start(view: &SegmentView) -> Result<(), String> {
    let Some(cells) = view.cells.get() else {
        return Ok(());
    };
    let geometry = Geometry {
        arenas: view.arenas,
        applications: view.applications,
        series: view.series,
    };
    let segment = Segment::known(cells, geometry).map_err(|why| why.to_string())?;
    SEGMENT.get_or_init(|| segment);
    Ok(())
}

/// The segment, where anything is measured.
pub(crate) fn segment() -> Option<Segment> {
    SEGMENT.get().copied()
}

/// A stamp; 0 where nothing is measured.
pub(crate) fn now() -> u64 {
    if SEGMENT.get().is_some() {
        clock::now()
    } else {
        0
    }
}

/// The arena of the calling thread.
pub(crate) fn arena(now: u64) -> Option<Arena> {
    let segment = SEGMENT.get()?;
    match host::arenas(now) {
        Arenas::NONE => None,
        arenas => Some(segment.arena_of(arenas.thread)),
    }
}

/// The arena of the child, for gauges.
pub(crate) fn process_arena() -> Option<Arena> {
    let segment = SEGMENT.get()?;
    match host::arenas(clock::now()) {
        Arenas::NONE => None,
        arenas => Some(segment.process_arena_of(arenas.process)),
    }
}

/// The application's cells in the arena of the calling thread, to count something there.
pub(crate) fn count(app: App, count: impl FnOnce(Block)) {
    if let Some(arena) = arena(now()) {
        count(arena.application(app));
    }
}

/// A stream that applications log to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Stream {
    /// `wsgi.errors`
    Errors = value(STREAM, "errors"),
    /// `sys.stderr`
    Stderr = value(STREAM, "stderr"),
    /// `sys.stdout`
    Stdout = value(STREAM, "stdout"),
}

impl Stream {
    /// Its `name` in Python.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stream::Errors => "<wsgi.errors>",
            Stream::Stderr => "<stderr>",
            Stream::Stdout => "<stdout>",
        }
    }
}

/// Lines were logged.
pub(crate) fn count_lines(app: App, stream: Stream, lines: u64) {
    if lines > 0 {
        count(app, |block| block.add(Id::LogLines, stream as usize, lines));
    }
}

/// A response broke the protocol of WSGI.
pub(crate) fn protocol_error(app: App) {
    count(app, |block| block.add(Id::ProtocolErrors, 0, 1));
}

/// The application of the request that the calling thread runs.
pub(crate) fn current_app() -> Option<App> {
    VISIT.get().map(|visit| visit.app)
}

/// The calling thread is about to enter Python for a request of `app`. Ends by drop; visits may be nested.
pub(crate) struct Entering(Option<Visit>);

impl Entering {
    pub(crate) fn new(app: App, times: Option<&Times>) -> Self {
        let before = VISIT.take();
        let stamp = times.map_or(0, |times| times.stamp.swap(0, Relaxed));
        let since = if stamp == 0 { now() } else { stamp };
        if since != 0 {
            set_phase(since, Phase::WaitingForGil);
            VISIT.set(Some(Visit {
                app,
                waiting_since: since,
                held_since: 0,
                waited: 0,
                waited_in_all: 0,
                held_in_all: 0,
                loading: 0,
            }));
        }
        Self(before)
    }

    /// Python was left for good.
    pub(crate) fn finish(self, times: Option<&Times>) {
        let Some(visit) = VISIT.get() else { return };
        let application = visit.held_in_all.saturating_sub(visit.loading);
        // A hold ends where the next wait begins.
        let left = visit.waiting_since;
        if let Some(arena) = arena(left) {
            let block = arena.application(visit.app);
            block.observe(Id::ApplicationDuration, 0, application);
        }
        if let Some(times) = times {
            times.stamp.store(left, Relaxed);
            times.application.store(application, Relaxed);
            times.gil_wait.store(visit.waited_in_all, Relaxed);
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        VISIT.set(self.0);
    }
}

/// The calling thread has got the GIL.
pub(crate) fn attached() {
    let Some(mut visit) = VISIT.get() else { return };
    let now = clock::now();
    visit.held_since = now;
    visit.waited = now.saturating_sub(visit.waiting_since);
    visit.waited_in_all += visit.waited;
    VISIT.set(Some(visit));
    set_phase(now, Phase::InApplication);
}

/// The calling thread is about to give the GIL back. Returns a stamp of this moment, 0 where nothing is measured.
pub(crate) fn leaving() -> u64 {
    let Some(mut visit) = VISIT.get() else {
        return 0;
    };
    let now = clock::now();
    let held = now.saturating_sub(visit.held_since);
    visit.held_in_all += held;
    visit.waiting_since = now;
    VISIT.set(Some(visit));
    if let Some(arena) = arena(now) {
        let block = arena.application(visit.app);
        block.observe(Id::GilWait, 0, visit.waited);
        block.observe(Id::GilHeld, 0, held);
    }
    now
}

/// The calling thread begins to wait for the GIL again; `since` is a stamp of this moment, or 0.
pub(crate) fn waiting(since: u64) {
    let Some(mut visit) = VISIT.get() else { return };
    visit.waiting_since = if since == 0 { clock::now() } else { since };
    VISIT.set(Some(visit));
    set_phase(visit.waiting_since, Phase::WaitingForGil);
}

/// When the calling thread, which runs a request, got the GIL last; `None` where nothing is measured.
pub(crate) fn attached_at() -> Option<u64> {
    VISIT.get().map(|visit| visit.held_since)
}

fn set_phase(now: u64, phase: Phase) {
    if let Some(arena) = arena(now) {
        arena.set_phase(phase);
    }
}

/// A script is being loaded by the calling thread, which is attached. Ends by drop.
pub(crate) struct Loading {
    began: u64,
    held: u64,
}

impl Loading {
    pub(crate) fn begin() -> Self {
        let began = now();
        if VISIT.get().is_some() {
            set_phase(began, Phase::Loading);
        }
        Self {
            began,
            held: held_until(began),
        }
    }

    /// How long it has taken, nanoseconds.
    pub(crate) fn elapsed(&self) -> u64 {
        now().saturating_sub(self.began)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let Some(mut visit) = VISIT.get() else { return };
        let now = clock::now();
        visit.loading += held_until(now).saturating_sub(self.held);
        VISIT.set(Some(visit));
        set_phase(now, Phase::InApplication);
    }
}

/// How long the GIL has been held on this visit.
fn held_until(now: u64) -> u64 {
    VISIT.get().map_or(0, |visit| {
        visit.held_in_all + now.saturating_sub(visit.held_since)
    })
}
