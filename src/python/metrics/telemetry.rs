//! The engine's view of the segment, and counters for single events.

use std::sync::OnceLock;

use metrics::SharedString;
use wsgi_abi::{Arenas, SegmentView};
use wsgi_telemetry::catalogue::{Id, STREAM, value};
use wsgi_telemetry::{
    App, Arena, ArenaSource, Block, Geometry, Owner, Segment, clock, install_recorder,
};

use crate::{host, process};

static SEGMENT: OnceLock<Segment> = OnceLock::new();

/// Starts measuring. Without a segment nothing is measured.
pub(crate) fn start(view: &SegmentView) -> Result<(), String> {
    if let Some(detached) = view.detached {
        process::set_forked_flag(detached);
    }
    let Some(cells) = view.cells.get() else {
        return Ok(());
    };
    let geometry = Geometry {
        arenas: view.arenas,
        applications: view.applications,
        series: view.series,
    };
    let segment = Segment::known(cells, geometry).map_err(|why| why.to_string())?;
    install_recorder(*SEGMENT.get_or_init(|| segment), &OfTheModule);
    Ok(())
}

/// The arenas of this process, which the module keeps: a thread has the same arena in the module and in the engine.
struct OfTheModule;

impl ArenaSource for OfTheModule {
    fn may_record(&self) -> bool {
        !process::is_copy()
    }

    fn owner(&self) -> Option<Owner> {
        // Entries of families and series outlive configurations, so the generation does not matter.
        process_arena().map(|_| Owner::of_this_process(0))
    }

    fn of_thread(&self) -> Option<Arena> {
        arena(now())
    }

    fn of_child(&self) -> Option<Arena> {
        process_arena()
    }
}

/// Returns an application's value of the label `app`; empty if nothing is measured.
pub(crate) fn label(app: App) -> SharedString {
    let label = SEGMENT
        .get()
        .map(|segment| segment.label_of_application(app));
    label.unwrap_or_default().into()
}

/// Returns the segment, if anything is measured.
pub(crate) fn segment() -> Option<Segment> {
    SEGMENT.get().copied()
}

/// Returns a stamp; 0 if nothing is measured.
pub(crate) fn now() -> u64 {
    if SEGMENT.get().is_some() {
        clock::now()
    } else {
        0
    }
}

/// Returns the arena of the calling thread.
pub(crate) fn arena(now: u64) -> Option<Arena> {
    let segment = SEGMENT.get()?;
    match host::arenas(now) {
        Arenas::NONE => None,
        arenas => Some(segment.arena_of(arenas.thread)),
    }
}

/// Returns the arena of the child, for gauges.
pub(crate) fn process_arena() -> Option<Arena> {
    let segment = SEGMENT.get()?;
    match host::arenas(clock::now()) {
        Arenas::NONE => None,
        arenas => Some(segment.process_arena_of(arenas.process)),
    }
}

/// Passes the application's cells in the arena of the calling thread to `count`.
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
    /// Returns the stream's `name` in Python.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stream::Errors => "<wsgi.errors>",
            Stream::Stderr => "<stderr>",
            Stream::Stdout => "<stdout>",
        }
    }
}

/// Counts lines that were logged.
pub(crate) fn count_lines(app: App, stream: Stream, lines: u64) {
    if lines > 0 {
        count(app, |block| block.add(Id::LogLines, stream as usize, lines));
    }
}

/// Counts a response that broke the WSGI protocol.
pub(crate) fn protocol_error(app: App) {
    count(app, |block| block.add(Id::ProtocolErrors, 0, 1));
}
