//! The parent's work on the segment. It makes the segment once, with metrics or with the board alone, and keeps it
//! until httpd ends.
//!
//! The parent may be root, and every child can write to the segment. So the parent makes no decision from data in the
//! segment, and keeps the segment's address and size in its own memory.

use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use wsgi_core::config::telemetry::TelemetryConfig;
use wsgi_core::messages::Message;
use wsgi_httpd::helper::ParentThread;
use wsgi_httpd::module::ServerName;
use wsgi_httpd::mpm;
use wsgi_httpd::retained::Retained;
use wsgi_httpd::sys;
use wsgi_telemetry::{Fact, Geometry, Owner, Sampler, Segment, install_recorder, writer};

use super::applications::Plan;
use super::segment::{self, InForce};
use super::segment_file::{self, Source};
use super::{listen, scoreboard};
use crate::config::read::Server;
use crate::config::{inherited, plan};
use crate::log::{log_info, log_message};

/// The numbers that are retained over restarts besides the address of the segment.
mod kept {
    pub(super) const LAYOUT: usize = 0;
    pub(super) const ARENAS: usize = 1;
    pub(super) const APPLICATIONS: usize = 2;
    pub(super) const SERIES: usize = 3;
    /// The number of the next configuration.
    pub(super) const GENERATION: usize = 4;
    /// When the segment was made.
    pub(super) const START: usize = 5;
}

/// Finds or makes the segment, and enters what a configuration needs. Called when the configuration has come into
/// force.
pub(crate) fn prepare(servers: &[(&Server, ServerName<'_>)]) {
    let Some((main, _)) = servers.first() else {
        return;
    };
    let config = &main.config.telemetry;
    let measures = config.metrics != Some(false);
    let retained = Retained::get();
    let plan = Plan::new(servers);
    let limits = Limits::of_mpm();
    let series = config.series.unwrap_or(TelemetryConfig::SERIES);
    let wanted = if measures {
        Geometry::new(limits.workers, limits.children, plan.len(), series)
    } else {
        Geometry::of_board(limits.children_limit)
    };
    // A segment that was made for the board alone has no room for metrics.
    let known = known(retained).filter(|known| !measures || known.geometry().records());
    let segment = match known.map_or_else(|| make(retained, wanted), Ok) {
        Ok(segment) => segment,
        Err(error) => {
            let what = if measures {
                "nothing is measured"
            } else {
                "children cannot be replaced"
            };
            log_message(Message::NoSegment, &[&error, &what]);
            segment::set_in_force(None);
            return;
        }
    };
    if measures {
        // Children inherit the recorder by the fork.
        install_recorder(segment, &writer::OfThisProcess);
    }
    let generation = retained.number(kept::GENERATION);
    retained.set_number(kept::GENERATION, generation + 1);
    segment.begin_generation(generation);
    if let Some(process) = inherited::current() {
        plan::enter(&process, segment.board(), None);
    }
    if measures {
        let room = segment.geometry().series;
        if room != series {
            log_message(Message::SeriesUnchanged, &[&series, &room]);
        }
        warn_of_less_room(segment, wanted);
        limits.note(segment);
        note_facts(segment);
        plan.register(segment, Owner::of_this_process(generation));
    }
    segment::set_in_force(Some(InForce {
        segment,
        generation,
        measures,
    }));
    if let Some(source) = source(retained, segment) {
        segment_file::show(None, &source);
    }
}

fn source(retained: Retained, segment: Segment) -> Option<Source> {
    Source::of_server(retained, segment, retained.number(kept::START))
}

/// Prepares the process that answers for `WSGIMetricsListen`. Called when the segments of process groups are known, too:
/// the process gets all of them by its fork.
pub(crate) fn listen(thread: &ParentThread, servers: &[(&Server, ServerName<'_>)]) {
    let main = servers.first().filter(|_| segment::current().is_some());
    let address = main.and_then(|(main, _)| main.config.telemetry.listen.as_ref());
    listen::prepare(thread, address);
}

/// Warns if the configuration needs a larger segment; what does not fit is counted together.
fn warn_of_less_room(segment: Segment, wanted: Geometry) {
    let room = segment.geometry();
    if room.arenas < wanted.arenas || room.applications < wanted.applications {
        let values: [&dyn Display; 4] = [
            &room.arenas,
            &room.applications,
            &wanted.arenas,
            &wanted.applications,
        ];
        log_message(Message::SegmentTooSmall, &values);
    }
}

/// Logs each time that there was no memory for another part of the segment.
fn warn_of_no_memory(segment: Segment) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let times = segment.lacked_memory();
    if TOLD.swap(times, Relaxed) != times && times != 0 {
        log_message(Message::SegmentFull, &[&times]);
    }
}

/// Returns the segment that was made before, whatever is configured now.
pub(crate) fn known_segment() -> Option<Segment> {
    known(Retained::get())
}

/// Returns the segment that was made before. Metrics may be off now, but children of an earlier configuration may still
/// end.
fn known(retained: Retained) -> Option<Segment> {
    let cells = retained.cells()?;
    if retained.number(kept::LAYOUT) != Segment::LAYOUT {
        return None;
    }
    let count = |at| usize::try_from(retained.number(at)).ok();
    let geometry = Geometry {
        arenas: count(kept::ARENAS)?,
        applications: count(kept::APPLICATIONS)?,
        series: count(kept::SERIES)?,
    };
    Segment::known(cells, geometry).ok()
}

fn make(retained: Retained, geometry: Geometry) -> io::Result<Segment> {
    let before = known(retained);
    if retained.cells().is_some() && before.is_none() {
        log_message(Message::SegmentReplaced, &[]);
    }
    let content = if geometry.records() {
        "the metrics are"
    } else {
        "the board is"
    };
    let size = format!(
        "{} KiB, {} arenas, {} applications",
        geometry.bytes() / 1024,
        geometry.arenas,
        geometry.applications
    );
    log_info(&format!("{content} in memory of {size}"));
    let made = segment_file::make_memory(retained, geometry)?;
    let numbers = [geometry.arenas, geometry.applications, geometry.series];
    for (at, number) in [kept::ARENAS, kept::APPLICATIONS, kept::SERIES]
        .into_iter()
        .zip(numbers)
    {
        retained.set_number(at, number as u64);
    }
    retained.set_number(kept::LAYOUT, Segment::LAYOUT);
    retained.set_number(kept::START, made.start());
    retained.keep_cells(made.cells());
    Ok(made)
}

/// Removes the files of the segment and of the socket when httpd ends. Must not log.
pub(crate) fn server_end() {
    segment_file::remove();
    listen::server_end();
}

/// The limits of the MPM.
struct Limits {
    /// `MaxRequestWorkers`.
    workers: usize,
    /// The number of children that have those workers.
    children: usize,
    /// `ServerLimit`.
    children_limit: usize,
    threads: usize,
    threaded: bool,
    forked: bool,
}

impl Limits {
    fn of_mpm() -> Self {
        // MPMs without threads or children report 0 of them.
        let limit = |code| {
            let limit = mpm::query(code).and_then(|limit| usize::try_from(limit).ok());
            limit.unwrap_or(1).max(1)
        };
        let is = |code| mpm::query(code).is_some_and(|answer| answer != 0);
        let (children, threads) = (
            limit(sys::AP_MPMQ_MAX_DAEMONS),
            limit(sys::AP_MPMQ_MAX_THREADS),
        );
        Self {
            workers: children * threads,
            children,
            children_limit: limit(sys::AP_MPMQ_HARD_LIMIT_DAEMONS),
            threads,
            threaded: is(sys::AP_MPMQ_IS_THREADED),
            forked: is(sys::AP_MPMQ_IS_FORKED),
        }
    }

    fn note(&self, segment: Segment) {
        segment.set_limits(
            self.workers as u64,
            self.children_limit as u64,
            self.threads as u64,
            self.threaded,
            self.forked,
        );
    }
}

fn note_facts(segment: Segment) {
    let [major, minor, patch] = mpm::VERSION;
    let description = mpm::description();
    let httpd = String::from_utf8_lossy(&description);
    // The first word is httpd itself, in the release that runs.
    let httpd = httpd
        .split(' ')
        .next()
        .map_or_else(|| format!("Apache/{major}.{minor}.{patch}"), String::from);
    segment.set_fact(Fact::Httpd, &httpd);
    segment.set_fact(Fact::Version, env!("CARGO_PKG_VERSION"));
    segment.set_fact(Fact::Revision, env!("WSGI_REVISION"));
    segment.set_fact(Fact::Rustc, env!("WSGI_RUSTC"));
    segment.set_fact(Fact::Mpm, &String::from_utf8_lossy(mpm::name()));
}

/// Called about every ten seconds.
pub(crate) fn monitor(thread: &ParentThread) {
    static SAMPLER: Mutex<Option<Sampler>> = Mutex::new(None);
    if let Some(in_force) = segment::in_force()
        && let Some(source) = source(Retained::get(), in_force.segment)
    {
        segment_file::refresh(None, &source);
    }
    let Some(segment) = segment::current() else {
        return;
    };
    warn_of_no_memory(segment);
    segment.note_resident(segment_file::resident(Retained::get()).unwrap_or(0));
    // Bounded, as children could write any number of entries.
    segment.measure_children(1_000);
    scoreboard::note(segment);
    let mut sampler = SAMPLER.lock().unwrap_or_else(PoisonError::into_inner);
    sampler.get_or_insert_with(Sampler::new).sample(&segment);
    listen::revive(thread);
}
