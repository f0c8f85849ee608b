//! A snapshot of the whole segment, with cells added up over the arenas.
//!
//! Nothing is locked. Each cell only grows and the set of arenas that are read never shrinks, so no counter of a
//! snapshot is smaller than in an earlier one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::board::{BoardSnapshot, ChildEntry, ChildState};
use crate::catalogue::{
    APPLICATION_CELLS, CONNECTION_STATE, FAMILIES, HEADER_CELLS, INTERPRETER_STATE, Id, Kind,
    PROCESS_CELLS, Source, WORKER_STATE, cell,
};
use crate::clock;
use crate::requests::Death;
use crate::requests::Event;
use crate::requests::Running;
use crate::requests::joined;
use crate::segment::App;
use crate::segment::Application;
use crate::segment::Owner;
use crate::segment::arena::{PROCESS_BIT, gauge_cells};
use crate::segment::entry::{Role, owner_of, state};
use crate::segment::layout::{NEWEST_START, OLDEST_START, RESIDENT, header};
use crate::segment::{Fact, Segment};
use crate::series::{Custom, custom_of};
use crate::sync::AtomicU64;

use super::groups::{GroupSegment, ProcessGroupNumbers, deaths};

/// httpd's own view of its workers, from its scoreboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scoreboard {
    /// Number of workers by [`WORKER_STATE`].
    pub workers: [u64; WORKER_STATE.values.len()],
    /// Number of connections by [`CONNECTION_STATE`]; `None` if the MPM is not asynchronous.
    pub connections: Option<[u64; CONNECTION_STATE.values.len()]>,
}

/// A living child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Process id.
    pub pid: u32,
    /// State of the child.
    pub state: Role,
    /// Generation of the configuration that the child serves.
    pub generation: u64,
    /// Unix time at which the child started, nanoseconds.
    pub started: u64,
    /// Resident memory, bytes; `None` if the kernel does not report it.
    pub resident: Option<u64>,
}

/// Sums of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    cells: Vec<u128>,
}

impl Numbers {
    fn new(count: usize) -> Self {
        Self {
            cells: vec![0; count],
        }
    }

    /// Returns a counter.
    pub fn counter(&self, id: Id, series: usize) -> u128 {
        self.cells[cell(id, series)]
    }

    /// Returns a gauge.
    pub fn gauge(&self, id: Id, series: usize) -> i64 {
        (self.cells[cell(id, series)] as u64).cast_signed()
    }

    /// Returns the buckets of a histogram (not cumulative; the last one is above all bounds) and its sum.
    pub fn histogram(&self, id: Id, series: usize) -> (&[u128], u128) {
        let count = id.family().cells_of_series();
        let first = cell(id, series);
        let (buckets, sum) = self.cells[first..first + count].split_at(count - 1);
        (buckets, sum[0])
    }

    /// Returns whether nothing was ever counted.
    pub(crate) fn are_zero(&self) -> bool {
        self.cells.iter().all(|&cell| cell == 0)
    }

    /// Adds the numbers of another application.
    pub fn merge(&mut self, other: &Numbers) {
        for (to, from) in self.cells.iter_mut().zip(&other.cells) {
            *to = to.wrapping_add(*from);
        }
    }
}

/// The numbers of one application.
#[derive(Clone, Debug)]
pub struct ApplicationNumbers {
    /// Entry of the application; the first one if several entries have its label.
    pub application: Application,
    /// Further entries with the same label.
    pub also: Vec<App>,
    /// Sums of the application's cells.
    pub numbers: Numbers,
    /// Unix time in nanoseconds at which its oldest and its newest living interpreter started.
    pub interpreters_since: Option<(u64, u64)>,
}

/// The whole segment at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Stamp of the snapshot.
    pub now: u64,
    /// Unix time of the snapshot, nanoseconds.
    pub unix: u64,
    /// Applications by label, including `_other`.
    pub applications: Vec<ApplicationNumbers>,
    /// Cells that each arena has once.
    pub process: Numbers,
    /// Cells of the header.
    pub header: Numbers,
    /// Living children, by pid.
    pub children: Vec<Child>,
    /// Process groups, in the order of the configuration.
    pub process_groups: Vec<ProcessGroupNumbers>,
    /// The board: children, roll and application groups.
    pub board: BoardSnapshot,
    /// Whether the server measures anything; if not, all numbers are zero.
    pub records: bool,
    /// Running requests, oldest first.
    pub running: Vec<Running>,
    /// Notable requests, newest first.
    pub events: Vec<Event>,
    /// Children and processes of groups that ended unexpectedly, newest first.
    pub deaths: Vec<Death>,
    /// The scoreboard; `None` if no process has stored it yet.
    pub scoreboard: Option<Scoreboard>,
    /// `MaxRequestWorkers`.
    pub workers_limit: u64,
    /// `ServerLimit`.
    pub children_limit: u64,
    /// `ThreadsPerChild`.
    pub threads_per_child: u64,
    /// Whether a child has several threads.
    pub threaded: bool,
    /// Whether there are several children.
    pub forked: bool,
    /// Facts about the server, in the order of [`Fact`].
    pub facts: [String; 8],
    /// Unix time at which the segment was made, nanoseconds.
    pub start: u64,
    /// Unix time at which the configuration was loaded, nanoseconds.
    pub config_load: u64,
    /// Number of the current configuration.
    pub generation: u64,
    /// Number of arenas that have an owner.
    pub arenas_used: u64,
    /// Number of all arenas.
    pub arenas: u64,
    /// The applications' own metrics.
    pub custom: Custom,
    /// Most series that the applications' own metrics may have.
    pub series_limit: u64,
    /// Size of the segment, bytes.
    pub mapped: u64,
    /// Bytes of the segment that are in memory; `None` if the kernel does not report it.
    pub resident: Option<u64>,
    /// Duration of the previous scrape, nanoseconds.
    pub last_scrape: u64,
}

/// The sums of all applications of the server.
pub(super) struct ApplicationSums {
    applications: Vec<Sum>,
    /// Index into `applications` by the number of the application.
    places: Vec<Option<usize>>,
}

impl ApplicationSums {
    fn of(applications: Vec<Application>, room: usize) -> Self {
        let applications: Vec<Sum> = applications.into_iter().map(Sum::new).collect();
        let mut places = vec![None; room];
        for (place, sum) in applications.iter().enumerate() {
            places[usize::from(sum.application.app.number())] = Some(place);
        }
        Self {
            applications,
            places,
        }
    }

    /// Returns the sum of an application; `None` if the server's segment has no such application.
    fn get(&mut self, app: usize) -> Option<&mut Sum> {
        let place = self.places.get(app).copied().flatten()?;
        self.applications.get_mut(place)
    }
}

/// What the arenas of a segment hold besides the sums of applications.
pub(super) struct Processes {
    /// Cells that each arena has once.
    pub(super) cells: Numbers,
    pub(super) children: Vec<Child>,
    pub(super) running: Vec<Running>,
    /// Number of arenas that have an owner.
    used: u64,
}

impl Segment {
    /// Reads everything of a server without process groups.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_with(&[])
    }

    /// Reads everything, and adds what the processes of these groups have counted.
    pub fn snapshot_with(&self, groups: &[GroupSegment]) -> Snapshot {
        let geometry = self.geometry();
        let mut sums = ApplicationSums::of(self.applications(), geometry.applications);
        let Processes {
            cells: process,
            mut children,
            running,
            used,
        } = self.add_arenas(&mut sums);
        let mut of_groups = Vec::with_capacity(groups.len());
        let process_groups = groups
            .iter()
            .map(|group| {
                let (numbers, running) = group.numbers(&mut sums);
                of_groups.push((group.name.clone(), running));
                numbers
            })
            .collect();
        let running = joined(running, of_groups);
        let of_groups = groups.iter().map(|group| group.segment);
        let custom = custom_of(std::iter::once(*self).chain(of_groups));
        let board = self.board().snapshot();
        let mut records = geometry.records();
        if children.is_empty() {
            children = self.unmeasured_children();
            // A larger segment may be left from a configuration that measured.
            records &= children.is_empty();
        }
        children.sort_unstable_by_key(|child| child.pid);
        let sums = sums.applications.into_iter().map(Sum::done).collect();
        Snapshot {
            now: clock::now(),
            unix: clock::unix(),
            applications: by_label(sums),
            process,
            header: self.header_numbers(),
            children,
            process_groups,
            board,
            records,
            running,
            events: self.events(),
            deaths: deaths(self, groups),
            scoreboard: self.scoreboard(),
            workers_limit: self.get(header::WORKERS_LIMIT),
            children_limit: self.get(header::CHILDREN_LIMIT),
            threads_per_child: self.get(header::THREADS_PER_CHILD),
            threaded: self.get(header::THREADED) != 0,
            forked: self.get(header::FORKED) != 0,
            facts: self.facts(),
            start: self.get(header::START),
            config_load: self.get(header::CONFIG_LOAD),
            generation: self.generation(),
            arenas_used: used,
            arenas: geometry.arenas as u64,
            custom,
            series_limit: geometry.series as u64 - 1,
            mapped: geometry.bytes() as u64,
            resident: Some(self.get(header::RESIDENT)).filter(|&bytes| bytes != 0),
            last_scrape: self.get(header::LAST_SCRAPE),
        }
    }

    /// Returns the living children of a server that measures nothing, from the board.
    pub(super) fn unmeasured_children(&self) -> Vec<Child> {
        let living = self.board().children().into_iter();
        living.map(|child| unmeasured(&child)).collect()
    }

    pub(super) fn header_numbers(&self) -> Numbers {
        let cells = (0..HEADER_CELLS).map(|at| self.get(header::CELLS + at).into());
        Numbers {
            cells: cells.collect(),
        }
    }

    pub(super) fn facts(&self) -> [String; 8] {
        ALL_FACTS.map(|fact| self.fact(fact))
    }

    /// Adds the numbers of all arenas to the applications' sums.
    pub(super) fn add_arenas(&self, sums: &mut ApplicationSums) -> Processes {
        let geometry = self.geometry();
        let mut cells = Numbers::new(PROCESS_CELLS);
        let mut children = Vec::new();
        let mut running = Vec::new();
        let mut used = 0;
        for at in 0..geometry.arenas {
            let entry = self.entry_cells(at);
            let owner = owner_of(entry);
            let touched = entry[state::TOUCHED].load(Acquire);
            let role = entry[state::ROLE].load(Relaxed);
            if owner != 0 {
                used += 1;
                running.extend(self.running(at));
            }
            if owner != 0 && Role::is_process(role) {
                let known = self.get(geometry.arena(at) + RESIDENT);
                children.push(child(owner, entry, role, self.generation(), known));
            }
            // Also of ended threads and children, whose entries are free again.
            if touched & PROCESS_BIT != 0 {
                self.add_process_cells(at, &mut cells);
            }
            for used in self.blocks_in_use(at) {
                let Some(sum) = sums.get(used.app) else {
                    continue;
                };
                if used.is_touched {
                    self.add_block(at, used.app, owner != 0, sum);
                } else if owner != 0 {
                    self.add_gauges(at, used.app, sum);
                }
            }
        }
        Processes {
            cells,
            children,
            running,
            used,
        }
    }

    fn add_process_cells(&self, arena: usize, sum: &mut Numbers) {
        let at = self.geometry().arena(arena);
        for (to, from) in sum.cells.iter_mut().zip(self.words(at, PROCESS_CELLS)) {
            *to += u128::from(from.load(Relaxed));
        }
    }

    /// Adds counters of every used arena, gauges only of arenas with an owner. The cells of `wsgi_requests_total` are
    /// read first, so that a counted request is seen with all its observations.
    fn add_block(&self, arena: usize, app: usize, owned: bool, sum: &mut Sum) {
        let block = self.block_cells(arena, app);
        let (requests, rest) = sum.cells.split_at_mut(REQUESTS_END);
        for (to, from) in requests.iter_mut().zip(block) {
            *to = to.wrapping_add(from.load(Acquire));
        }
        let rest = rest.iter_mut().zip(&block[REQUESTS_END..]);
        if owned {
            for (to, from) in rest {
                *to = to.wrapping_add(from.load(Relaxed));
            }
        } else {
            for ((to, from), is_gauge) in rest.zip(&IS_GAUGE[REQUESTS_END..]) {
                if !is_gauge {
                    *to = to.wrapping_add(from.load(Relaxed));
                }
            }
        }
        if owned {
            sum.add_starts(block);
        }
    }

    /// Adds the gauges in the arena of a living child.
    fn add_gauges(&self, arena: usize, app: usize, sum: &mut Sum) {
        let block = self.block_cells(arena, app);
        for cell in gauge_cells() {
            sum.cells[cell] = sum.cells[cell].wrapping_add(block[cell].load(Relaxed));
        }
        sum.add_starts(block);
    }

    /// Measures the memory of at most `most` children for later snapshots; the next call continues with the next
    /// children. The kernel takes a few microseconds for each child: with hundreds of children that would be most of a
    /// scrape.
    pub fn measure_children(&self, most: usize) {
        let arenas = self.geometry().arenas;
        let start = usize::try_from(self.get(header::NEXT_MEASURED)).unwrap_or(0) % arenas;
        let mut left = most;
        for at in (start..arenas).chain(0..start) {
            let entry = self.entry_cells(at);
            let owner = owner_of(entry);
            if owner == 0 || !Role::is_process(entry[state::ROLE].load(Relaxed)) {
                continue;
            }
            if left == 0 {
                self.set(header::NEXT_MEASURED, at as u64);
                return;
            }
            left -= 1;
            let bytes = resident(Owner::pid_of(owner)).unwrap_or(0);
            self.set(self.geometry().arena(at) + RESIDENT, bytes);
        }
    }

    /// Sets the number of bytes of the segment that are in memory, for all later snapshots; 0 for unknown.
    pub fn note_resident(&self, bytes: u64) {
        self.set(header::RESIDENT, bytes);
    }

    /// Stores the scoreboard for readers that cannot see it.
    pub fn set_scoreboard(&self, scoreboard: &Scoreboard) {
        for (at, &count) in scoreboard.workers.iter().enumerate() {
            self.set(header::WORKERS + at, count);
        }
        for (at, &count) in scoreboard.connections.iter().flatten().enumerate() {
            self.set(header::CONNECTIONS + at, count);
        }
        let known = 1 + u64::from(scoreboard.connections.is_some());
        self.set(header::SCOREBOARD, known);
    }

    fn scoreboard(&self) -> Option<Scoreboard> {
        let known = self.get(header::SCOREBOARD);
        (known != 0).then(|| Scoreboard {
            workers: std::array::from_fn(|at| self.get(header::WORKERS + at)),
            connections: (known > 1)
                .then(|| std::array::from_fn(|at| self.get(header::CONNECTIONS + at))),
        })
    }

    /// Sets the limits of the MPM.
    pub fn set_limits(
        &self,
        workers: u64,
        children: u64,
        threads: u64,
        threaded: bool,
        forked: bool,
    ) {
        self.set(header::WORKERS_LIMIT, workers);
        self.set(header::CHILDREN_LIMIT, children);
        self.set(header::THREADS_PER_CHILD, threads);
        self.set(header::THREADED, threaded.into());
        self.set(header::FORKED, forked.into());
    }

    /// Records how many nanoseconds a scrape took.
    pub fn scraped(&self, nanoseconds: u64) {
        self.set(header::LAST_SCRAPE, nanoseconds);
    }
}

const ALL_FACTS: [Fact; 8] = [
    Fact::Httpd,
    Fact::Version,
    Fact::Revision,
    Fact::Rustc,
    Fact::Mpm,
    Fact::Python,
    Fact::Implementation,
    Fact::Gil,
];

impl Snapshot {
    /// Returns whether a process has an interpreter with an application.
    pub fn has_application(&self) -> bool {
        let has_interpreter = |app: &ApplicationNumbers| {
            let mut states = 0..INTERPRETER_STATE.values.len();
            states.any(|at| app.numbers.gauge(Id::Interpreters, at) != 0)
        };
        self.applications.iter().any(has_interpreter)
    }

    /// Returns a fact; empty if it was not set.
    pub fn fact(&self, fact: Fact) -> &str {
        &self.facts[fact as usize]
    }

    /// Returns the label of an application by its number.
    pub fn label(&self, app: App) -> &str {
        let with = |numbers: &&ApplicationNumbers| {
            numbers.application.app == app || numbers.also.contains(&app)
        };
        match self.applications.iter().find(with) {
            Some(numbers) => &numbers.application.label,
            None => "_other",
        }
    }
}

/// Partial sums of one application. 64 bits are enough: nanoseconds fill them in 584 years.
struct Sum {
    application: Application,
    cells: Vec<u64>,
    interpreters_since: Option<(u64, u64)>,
}

impl Sum {
    fn new(application: Application) -> Self {
        Self {
            application,
            cells: vec![0; APPLICATION_CELLS],
            interpreters_since: None,
        }
    }

    /// Takes the start times of a living child's interpreters into account.
    fn add_starts(&mut self, block: &[AtomicU64]) {
        let oldest = block[OLDEST_START].load(Relaxed);
        if oldest != 0 {
            let newest = block[NEWEST_START].load(Relaxed);
            let (a, b) = self.interpreters_since.unwrap_or((oldest, newest));
            self.interpreters_since = Some((a.min(oldest), b.max(newest)));
        }
    }

    fn done(self) -> ApplicationNumbers {
        ApplicationNumbers {
            application: self.application,
            also: Vec::new(),
            numbers: Numbers {
                cells: self.cells.into_iter().map(u128::from).collect(),
            },
            interpreters_since: self.interpreters_since,
        }
    }
}

/// Merges entries of the same application: two children that enter it at the same time make two.
fn by_label(sums: Vec<ApplicationNumbers>) -> Vec<ApplicationNumbers> {
    let mut merged: BTreeMap<String, ApplicationNumbers> = BTreeMap::new();
    for sum in sums {
        match merged.get_mut(&sum.application.label) {
            None => {
                merged.insert(sum.application.label.clone(), sum);
            }
            Some(first) => {
                first.also.push(sum.application.app);
                first.numbers.merge(&sum.numbers);
                let both = first.interpreters_since.into_iter();
                first.interpreters_since = both
                    .chain(sum.interpreters_since)
                    .reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
            }
        }
    }
    merged.into_values().collect()
}

/// Returns a child. `known` is its memory as last measured; 0 means that it is measured now.
fn child(owner: u64, entry: &[AtomicU64], role: u64, in_force: u64, known: u64) -> Child {
    let pid = Owner::pid_of(owner);
    let generation = entry[state::GENERATION].load(Relaxed);
    Child {
        pid,
        state: match role {
            role if role == Role::Draining as u64 => Role::Draining,
            // After a graceful restart an old child only finishes its requests, but does not set this state itself.
            _ if generation < in_force => Role::Draining,
            role if role == Role::Starting as u64 => Role::Starting,
            _ => Role::Ready,
        },
        generation,
        started: entry[state::STARTED].load(Relaxed),
        resident: Some(known)
            .filter(|&bytes| bytes != 0)
            .or_else(|| resident(pid)),
    }
}

/// Returns a child of a server that measures nothing, and so has no arena for it.
fn unmeasured(child: &ChildEntry) -> Child {
    Child {
        pid: child.pid,
        state: match child.state {
            ChildState::Starting | ChildState::NotReady => Role::Starting,
            ChildState::Ready => Role::Ready,
            ChildState::Draining => Role::Draining,
        },
        generation: child.generation,
        started: child.since,
        resident: resident(child.pid),
    }
}

/// Returns the resident memory: the second field of `/proc/<pid>/statm`, which is in pages (proc(5)).
fn resident(pid: u32) -> Option<u64> {
    // One read only: a scrape does this for every child.
    let mut statm = [0; 128];
    let length = File::open(format!("/proc/{pid}/statm"))
        .and_then(|mut file| file.read(&mut statm))
        .ok()?;
    let statm = std::str::from_utf8(&statm[..length]).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Number of cells of `wsgi_requests_total`, which is the first family.
const REQUESTS_END: usize = {
    assert!(cell(Id::Requests, 0) == 0);
    Id::Requests.family().series()
};

/// Whether a cell of an application block is a gauge.
const IS_GAUGE: [bool; APPLICATION_CELLS] = {
    let mut gauge = [false; APPLICATION_CELLS];
    let mut at = 0;
    while at < FAMILIES.len() {
        let family = &FAMILIES[at];
        if matches!(family.source, Source::Application) && matches!(family.kind, Kind::Gauge) {
            let mut series = 0;
            while series < family.series() {
                gauge[cell(family.id, series)] = true;
                series += 1;
            }
        }
        at += 1;
    }
    gauge
};
