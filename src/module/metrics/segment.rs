//! The segment as a child sees it: the configuration in force, the board, stamps, arenas, CPU time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use metrics::counter;
use wsgi_abi::{Arenas, SegmentView, Slice};
use wsgi_httpd::process;
use wsgi_telemetry::catalogue::{CPU_MODE, Id};
use wsgi_telemetry::{Arena, GroupSegment, Owner, Role, Segment, Snapshot, clock, writer};

/// The segment of the configuration in force.
#[derive(Clone, Copy)]
pub(crate) struct InForce {
    pub(crate) segment: Segment,
    /// The number of that configuration.
    pub(crate) generation: u64,
    /// Whether metrics are on; otherwise there is only the board.
    pub(crate) measures: bool,
}

impl InForce {
    /// Returns whether there is a newer configuration.
    pub(crate) fn is_over(&self) -> bool {
        self.segment.generation() != self.generation
    }

    /// Returns this process, as the owner of slots and arenas.
    pub(crate) fn me(&self) -> Owner {
        Owner::of_this_process(self.generation)
    }
}

/// Set by the parent.
static IN_FORCE: RwLock<Option<InForce>> = RwLock::new(None);

/// Returns the segment; `None` if metrics are off.
pub(crate) fn current() -> Option<Segment> {
    let in_force = in_force().filter(|in_force| in_force.measures)?;
    Some(in_force.segment)
}

/// Returns the segment, even if metrics are off.
pub(crate) fn in_force() -> Option<InForce> {
    *IN_FORCE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Sets what is in force. For the parent.
pub(crate) fn set_in_force(in_force: Option<InForce>) {
    *IN_FORCE.write().unwrap_or_else(PoisonError::into_inner) = in_force;
}

/// The segments of the process groups of the configuration in force.
static OF_GROUPS: RwLock<Option<Arc<Vec<GroupSegment>>>> = RwLock::new(None);

/// Sets the segments of process groups. For the parent.
pub(crate) fn set_groups(groups: Vec<GroupSegment>) {
    *OF_GROUPS.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(groups));
}

/// Returns the segments of process groups.
pub(crate) fn groups() -> Arc<Vec<GroupSegment>> {
    let groups = OF_GROUPS.read().unwrap_or_else(PoisonError::into_inner);
    groups.clone().unwrap_or_default()
}

/// Returns the numbers of the whole server, process groups included.
pub(crate) fn snapshot(segment: Segment) -> Snapshot {
    segment.snapshot_with(&groups())
}

/// Returns the current stamp; 0 if this process records nothing.
#[inline]
pub(crate) fn stamp() -> u64 {
    match writer::process() {
        Some(_) => clock::now(),
        None => 0,
    }
}

/// Returns the arenas of the calling thread, for the engine. `now` is the current stamp.
pub(crate) fn arenas(now: u64) -> Arenas {
    let number = |arena: Option<Arena>| arena.map_or(u32::MAX, |arena| arena.index());
    Arenas {
        thread: number(writer::arena(now)),
        process: number(writer::process()),
    }
}

/// Returns the segment, for the engine.
pub(crate) fn view() -> SegmentView {
    match current() {
        // The engine records if this child does.
        Some(segment) if writer::process().is_some() => {
            let geometry = segment.geometry();
            SegmentView {
                cells: Slice::new(segment.cells()),
                arenas: geometry.arenas,
                applications: geometry.applications,
                series: geometry.series,
                detached: Some(writer::detached()),
            }
        }
        _ => SegmentView {
            detached: Some(writer::detached()),
            ..SegmentView::NONE
        },
    }
}

/// Begins to record, in a child that starts.
pub(crate) fn child_begins() {
    if let Some(in_force) = in_force().filter(|in_force| in_force.measures) {
        writer::start(in_force.segment, in_force.generation);
    }
}

/// Marks this child as ready, when it begins to serve.
pub(crate) fn child_serves() {
    // Counts the CPU time of the start.
    count_cpu(clock::now());
    writer::set_role(Role::Ready);
}

/// Marks this child as draining, when it begins to end.
pub(crate) fn child_drains() {
    writer::set_role(Role::Draining);
}

/// Counts the CPU time once more. The last call in a child.
pub(crate) fn child_ends() {
    count_cpu(clock::now());
}

/// Nanoseconds between two readings of the CPU time.
const CPU_INTERVAL: u64 = 1_000_000_000;

/// When the CPU time is read next, as a stamp.
static CPU_DUE: AtomicU64 = AtomicU64::new(0);

/// Counts the CPU time that the child has used since the last count, about once a second. Called at the end of a
/// request, at the stamp `now`.
#[inline]
pub(crate) fn account_cpu(now: u64) {
    if now >= CPU_DUE.load(Relaxed) {
        count_cpu(now);
    }
}

#[cold]
fn count_cpu(now: u64) {
    /// What was counted so far, in user and in system mode.
    static COUNTED: Mutex<[u64; 2]> = Mutex::new([0; 2]);
    if writer::process().is_none() {
        return;
    }
    // Otherwise another thread is counting.
    let Ok(mut counted) = COUNTED.try_lock() else {
        return;
    };
    CPU_DUE.store(now + CPU_INTERVAL, Relaxed);
    let used = process::cpu_time();
    let modes = CPU_MODE.values.iter().zip(counted.iter_mut().zip(used));
    for (&mode, (counted, used)) in modes {
        let nanoseconds = used.saturating_sub(*counted);
        counter!(Id::ChildrenCpu.name(), "mode" => mode).increment(nanoseconds);
        *counted = used.max(*counted);
    }
}
