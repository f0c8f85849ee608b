//! What the parent does for the segment: it makes it, once for as long as httpd runs, with metrics or with the board
//! alone, and counts its children.
//!
//! The parent may be root, and every child can write to the segment: nothing that is read from there decides about
//! anything here. Address and size of the segment are kept in memory of the parent's own.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wsgi_core::config::telemetry::TelemetryConfig;
use wsgi_core::messages::Message;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::module::ServerName;
use wsgi_httpd::mpm::{self, scoreboard};
use wsgi_httpd::reaped::End;
use wsgi_httpd::retained::Retained;
use wsgi_httpd::sys;
use wsgi_telemetry::catalogue::{EXIT, Id, METHOD, value};
use wsgi_telemetry::{Ended, Fact, Geometry, Owner, Running, Sampler, Scoreboard, Segment, clock};

use crate::config::inherited::log_message;
use crate::config::plan;
use crate::config::read::Server;
use crate::metrics::applications::Plan;
use crate::metrics::listen;
use crate::metrics::segment::{self, InForce};
use crate::metrics::segment_file;
use crate::reload::reloader;

/// What is retained over restarts beside the address of the segment.
mod kept {
    pub(super) const LAYOUT: usize = 0;
    pub(super) const ARENAS: usize = 1;
    pub(super) const APPLICATIONS: usize = 2;
    pub(super) const SERIES: usize = 3;
    /// Number of the next configuration.
    pub(super) const GENERATION: usize = 4;
    /// When the segment was made.
    pub(super) const START: usize = 5;
}

/// A new configuration is in force: finds the segment or makes it, and enters what the configuration has.
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
    // One that is there for the board alone has no room for metrics.
    let known = known(retained).filter(|known| !measures || known.geometry().records());
    let segment = match known.map_or_else(|| make(retained, wanted), Ok) {
        Ok(segment) => segment,
        Err(error) => {
            let what = if measures {
                "nothing is measured"
            } else {
                "children cannot be replaced"
            };
            let line = format!("mod_wsgi_rs: {what}: the segment: {error}");
            log::server(Level::Error, line.as_bytes());
            segment::set_in_force(None);
            listen::prepare(None);
            return;
        }
    };
    // Those that ended while httpd ran without the module.
    for pid in segment.owners_gone() {
        child_ended(pid, None);
    }
    let generation = retained.number(kept::GENERATION);
    retained.set_number(kept::GENERATION, generation + 1);
    segment.begin_generation(generation);
    plan::enter(segment.board());
    if measures {
        let room = segment.geometry().series;
        if room != series {
            let line = format!(
                "WSGIMetricsSeries {series}: it stays {room} until httpd is stopped and started"
            );
            log::server(Level::Warning, line.as_bytes());
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
    segment_file::show(retained, segment, retained.number(kept::START));
    listen::prepare(config.listen.as_ref().filter(|_| measures));
}

/// The configuration wants more than the segment was made for, so that what finds no place is counted together.
fn warn_of_less_room(segment: Segment, wanted: Geometry) {
    let room = segment.geometry();
    if room.arenas < wanted.arenas || room.applications < wanted.applications {
        let line = format!(
            "mod_wsgi_rs: the metrics have room for {} arenas and {} applications, and would have {} and {} now, \
             until httpd is stopped and started",
            room.arenas, room.applications, wanted.arenas, wanted.applications
        );
        log::server(Level::Warning, line.as_bytes());
    }
}

/// Says that there was no memory for a part of the segment, whenever that was so once more.
fn warn_of_no_memory(segment: Segment) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let times = segment.lacked_memory();
    if TOLD.swap(times, Relaxed) != times && times != 0 {
        crate::config::inherited::log_message(Message::SegmentFull, &[&times]);
    }
}

/// The segment that was made before, also where the configuration now measures nothing: children of the one before may
/// still end.
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
        let line = "mod_wsgi_rs: another release of the module was loaded: its counters start anew";
        log::server(Level::Warning, line.as_bytes());
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
    let line = format!("mod_wsgi_rs: {content} in memory of {size}");
    log::server(Level::Info, line.as_bytes());
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

/// httpd ends. Nothing may be logged any more.
pub(crate) fn server_end() {
    segment_file::remove();
    listen::server_end();
}

/// What the MPM allows.
struct Limits {
    /// `MaxRequestWorkers`.
    workers: usize,
    /// Children of those workers.
    children: usize,
    /// `ServerLimit`.
    children_limit: usize,
    threads: usize,
    threaded: bool,
    forked: bool,
}

impl Limits {
    fn of_mpm() -> Self {
        // MPMs without threads or children know their number as 0.
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
    // The first word of it is httpd itself, in the release that runs.
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

/// Children that were started while anything was measured, and have not ended.
static COUNTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn counted() -> MutexGuard<'static, BTreeSet<u32>> {
    COUNTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child was started.
pub(crate) fn child_started(pid: u32) {
    if let Some(segment) = segment::current() {
        counted().insert(pid);
        segment.count(Id::ChildrenStarted, 0, 1);
    }
}

/// A child was reaped: nothing can write to its arenas any more, so that others may have them.
pub(crate) fn child_ended(pid: u32, how: Option<End>) {
    let Some(segment) = known(Retained::get()) else {
        return;
    };
    let was_draining = segment.board().is_draining(pid);
    segment.board().free(pid);
    let was_counted = counted().remove(&pid);
    let running = segment.running_of(pid, MOST_TOLD + 1);
    let ended = segment.free_arenas_of(pid);
    let had_said = was_draining.or(ended.map(|ended| ended == Ended::Clean));
    if is_unexpected(how, had_said, !running.is_empty()) && !mpm::is_stopping() {
        tell_of_death(segment, pid, how, &running);
    }
    let how = match ended {
        Some(Ended::Clean) => Some("clean"),
        Some(Ended::Killed) => Some("killed"),
        // It has ended before it could take an arena, or there were none left; nothing says that it was well.
        None => was_counted.then_some("killed"),
    };
    if let Some(how) = how {
        segment.count(Id::ChildrenExited, value(EXIT, how), 1);
    }
    segment.reclaim(pid);
}

/// Whether the end of a child is reported as unexpected. `had_said`: whether the child had said that it ends; `None` where
/// it has said nothing at all, as it had only begun. `was_running`: whether it ran requests.
fn is_unexpected(how: Option<End>, had_said: Option<bool>, was_running: bool) -> bool {
    /// `http_main.h` and `httpd.h`: with these, a child says that it cannot go on, and httpd logs why.
    const OF_HTTPD: [u8; 3] = [2, 7, 15];
    match how {
        // By these the parent ends children.
        Some(End::Signal(libc::SIGTERM | libc::SIGHUP | libc::SIGUSR1)) => {
            had_said != Some(true) && was_running
        }
        // One that had begun to end may crash, too.
        Some(End::Signal(_)) => true,
        Some(End::Status(0)) | None => had_said == Some(false),
        Some(End::Status(status)) => {
            had_said == Some(false) || was_running && !OF_HTTPD.contains(&status)
        }
    }
}

/// Most requests of a dead child that are named.
const MOST_TOLD: usize = 5;

/// A child has ended without having said that it would. What it was running is known from itself, so that it may be wrong.
fn tell_of_death(segment: Segment, pid: u32, how: Option<End>, running: &[Running]) {
    let how = match how {
        Some(how) => how.to_string(),
        None => String::from("in a way that is not known"),
    };
    let running = what_ran(segment, running);
    log_message(Message::ChildDied, &[&pid, &how, &running]);
    segment.note_death(pid, &how, &running);
}

/// In words.
fn what_ran(segment: Segment, running: &[Running]) -> String {
    let now = clock::now();
    let known = segment.applications();
    let one = |running: &Running| {
        let method = METHOD.values.get(running.method).unwrap_or(&"_OTHER");
        let mut of = known.iter().filter(|known| known.app == running.app);
        let label = of.next().map_or("_other", |known| &known.label);
        let age = now.saturating_sub(running.since) as f64 / 1e9;
        format!(
            "{method} {} of application '{label}' for {age:.1} s ({})",
            running.url,
            running.phase.text()
        )
    };
    let told: Vec<String> = running.iter().take(MOST_TOLD).map(one).collect();
    match running.len() {
        0 => String::from("no request that is known"),
        count if count > MOST_TOLD => format!("{}; and more", told.join("; ")),
        _ => told.join("; "),
    }
}

/// About every ten seconds.
pub(crate) fn monitor() {
    static SAMPLER: Mutex<Option<Sampler>> = Mutex::new(None);
    reloader::revive();
    if let Some(in_force) = segment::in_force() {
        let retained = Retained::get();
        segment_file::refresh(retained, in_force.segment, retained.number(kept::START));
    }
    let Some(segment) = segment::current() else {
        return;
    };
    warn_of_no_memory(segment);
    segment.note_resident(segment_file::resident(Retained::get()).unwrap_or(0));
    // Bounded, as the children say how many they are.
    segment.measure_children(1_000);
    note_scoreboard(segment);
    let mut sampler = SAMPLER.lock().unwrap_or_else(PoisonError::into_inner);
    sampler.get_or_insert_with(Sampler::new).sample(&segment);
    listen::revive();
}

/// Copies httpd's scoreboard to where everybody can see it.
pub(crate) fn note_scoreboard(segment: Segment) {
    let Some(workers) = scoreboard::read() else {
        return;
    };
    segment.set_scoreboard(&Scoreboard {
        workers: [
            workers.idle,
            workers.starting,
            workers.reading,
            workers.writing,
            workers.keepalive,
            workers.closing,
            workers.logging,
            workers.graceful,
            workers.open_slot,
        ],
        connections: workers.connections.map(|connections| {
            [
                connections.total,
                connections.keepalive,
                connections.closing,
                connections.writing,
            ]
        }),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unexpected() {
        let (status, signal) = (|with| Some(End::Status(with)), |by| Some(End::Signal(by)));
        for (how, had_said, was_running, expected) in [
            // A graceful end, and os._exit() and the like.
            (status(0), Some(true), false, false),
            (status(0), Some(false), false, true),
            (status(0), Some(false), true, true),
            (status(3), Some(false), false, true),
            (status(3), Some(true), true, true),
            (status(3), Some(true), false, false),
            // One that cannot go on, of which httpd itself tells.
            (status(7), Some(true), true, false),
            // It had only begun.
            (status(0), None, false, false),
            (None, None, false, false),
            // Crashes.
            (signal(libc::SIGSEGV), Some(true), false, true),
            (signal(libc::SIGKILL), Some(false), false, true),
            (signal(libc::SIGABRT), None, false, true),
            // The parent's own.
            (signal(libc::SIGTERM), Some(false), false, false),
            (signal(libc::SIGTERM), Some(false), true, true),
            (signal(libc::SIGTERM), Some(true), true, false),
            // Nobody knows.
            (None, Some(false), true, true),
            (None, Some(true), true, false),
        ] {
            let found = is_unexpected(how, had_said, was_running);
            assert_eq!(found, expected, "{how:?} {had_said:?} {was_running}");
        }
    }
}
