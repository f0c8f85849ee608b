//! The segments of process groups: memory in which the processes of a group count, and that no other group's processes
//! have.
//!
//! The parent makes one for each group and keeps it over restarts, so that no count goes back. httpd's children, the
//! process that answers for `WSGIMetricsListen` and the supervisor share it with the processes of the group. Those have
//! only this one: a process of another user must not change a number of the server or of another group.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;
use wsgi_telemetry::board::RetireReason;
use wsgi_telemetry::catalogue::{EXIT, Id, value};
use wsgi_telemetry::{Ended, Geometry, GroupSegment, Segment, install_recorder, memory, writer};

use super::groups::{self, Group};
use crate::config::plan;
use crate::log::{log_info, log_message};
use crate::metrics::segment::{self, InForce};
use crate::metrics::segment_file::{self, Source};
use crate::metrics::what_ran;

/// The segment of a group, which the parent keeps.
struct KeptSegment {
    name: String,
    segment: Segment,
    /// When it was made, Unix time in nanoseconds. Kept here, as the processes can write to the segment.
    start: u64,
    memory: OwnedFd,
}

impl KeptSegment {
    /// Calls `then` with what the file of the segment needs.
    fn publish(&self, then: impl FnOnce(Option<&str>, &Source)) {
        match Source::of_group(self.segment, &self.memory, self.start) {
            Ok(source) => then(Some(&self.name), &source),
            Err(error) => log_message(Message::SegmentHidden, &[&error]),
        }
    }
}

static KEPT: Mutex<Vec<KeptSegment>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<KeptSegment>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads of a process that record besides those that are inside Python: they wait, watch or load.
const MORE_THREADS: usize = 16;

/// Finds or makes the segment of each group. Called when a configuration has come into force, after the server's own
/// segment is known.
pub(crate) fn prepare() {
    let server = segment::in_force();
    let groups = groups::current();
    let mut all = Vec::with_capacity(groups.len());
    for group in groups.iter() {
        let Some(server) = server else { continue };
        match open(&group.config, server) {
            Ok(segment) => {
                segment.begin_generation(server.generation);
                plan::enter(&group.process, segment.board(), None);
                if server.measures {
                    segment.copy_applications(server.segment);
                }
                all.push(GroupSegment {
                    name: group.config.name.clone(),
                    segment,
                });
                // A group is prepared once.
                let _ = group.segment.set(InForce { segment, ..server });
            }
            Err(error) => {
                let what = format!(
                    "nothing is measured in process group '{}', and wsgictl cannot reach it",
                    group.config.name
                );
                log_message(Message::NoSegment, &[&error, &what]);
            }
        }
    }
    let is_used = |name: &str| all.iter().any(|group| group.name == name);
    segment_file::keep_groups(is_used);
    let kept = kept();
    kept.iter()
        .filter(|kept| is_used(&kept.name))
        .for_each(|kept| kept.publish(segment_file::show));
    segment::set_groups(all);
}

/// Refreshes what `wsgictl` reads. Called by the parent about every ten seconds.
pub(crate) fn monitor() {
    kept()
        .iter()
        .for_each(|kept| kept.publish(segment_file::refresh));
}

/// Closes this process's descriptors of the memory; the mappings stay. For a child, which publishes nothing.
pub(super) fn child_begins() {
    kept().clear();
}

/// Returns the segment of a group. It has the applications of the server's segment, by the same numbers; if the server
/// measures nothing, there is only the board.
fn open(group: &ProcessGroup, server: InForce) -> io::Result<Segment> {
    let processes = group.processes() as usize;
    let threads = processes * (group.threads as usize + MORE_THREADS);
    let of_server = server.segment.geometry();
    let wanted = match server.measures {
        true => Geometry {
            applications: of_server.applications,
            series: of_server.series,
            ..Geometry::new(threads, processes, 0, 1)
        },
        false => Geometry::of_board(processes),
    };
    let mut kept = kept();
    let fits = |kept: &&KeptSegment| {
        let known = kept.segment.geometry();
        // Threads for which there is no arena share one.
        let has_room = known.applications == wanted.applications && known.series == wanted.series;
        kept.name == group.name && (has_room || !server.measures)
    };
    if let Some(known) = kept.iter().find(fits) {
        return Ok(known.segment);
    }
    let (memory, cells) = memory::sealed("mod_wsgi_rs.group", wanted.words())?;
    let made = Segment::create(cells, wanted, std::process::id()).map_err(io::Error::other)?;
    log_info(&format!(
        "process group '{}' counts in memory of {} KiB",
        group.name,
        wanted.bytes() / 1024
    ));
    kept.retain(|kept| kept.name != group.name);
    kept.push(KeptSegment {
        name: group.name.clone(),
        segment: made,
        start: made.start(),
        memory,
    });
    Ok(made)
}

/// Leaves all segments but that of `group`, in a new process of it. Returns the bytes of address space that they still
/// take.
pub(super) fn leave_others(group: &Group) -> io::Result<u64> {
    let server = segment::in_force().map(|in_force| in_force.segment);
    let own = group.segment.get().map(|own| own.segment);
    let mut bytes = 0;
    for segment in kept().iter().map(|kept| kept.segment).chain(server) {
        bytes += segment.geometry().bytes() as u64;
        if own.is_none_or(|own| !std::ptr::eq(own.cells(), segment.cells())) {
            memory::leave(segment.cells())?;
        }
    }
    segment::set_groups(Vec::new());
    segment::set_in_force(group.segment.get().copied());
    if let Some(own) = segment::current() {
        install_recorder(own, &writer::OfThisProcess);
    }
    Ok(bytes)
}

/// Counts a process that was started. For the supervisor.
pub(super) fn process_started(group: &Group) {
    if let Some(own) = group.segment.get() {
        own.segment.count(Id::ChildrenStarted, 0, 1);
    }
}

/// Notes that a slot has no process: requests go to other slots until one serves. For the supervisor.
pub(super) fn slot_is_empty(group: &Group, slot: usize) {
    let own = group.segment.get();
    if let Some(load) = own.and_then(|own| own.segment.load_of(slot)) {
        load.set_empty();
    }
}

/// What a process was running when it ended.
pub(super) struct Ran {
    pub(super) is_any: bool,
    pub(super) in_words: String,
}

/// Returns what a process that was reaped was running. For the supervisor, before [`process_ended`].
pub(super) fn what_ran(group: &Group, pid: u32) -> Ran {
    let own = group.segment.get().map(|own| own.segment);
    let running = own.map(|segment| (segment, what_ran::of(segment, pid)));
    Ran {
        is_any: running.as_ref().is_some_and(|(_, all)| !all.is_empty()),
        in_words: running.map_or_else(
            || what_ran::NOTHING.into(),
            |(segment, all)| what_ran::in_words(segment, &all),
        ),
    }
}

/// Notes the unexpected end of a process, for the status. For the supervisor.
pub(super) fn note_death(group: &Group, pid: u32, how: &str, ran: &Ran) {
    if let Some(own) = group.segment.get() {
        own.segment.note_death(pid, how, &ran.in_words);
    }
}

/// Counts a process that was reaped, and frees what it had. For the supervisor. `is_clean`: whether its status says that
/// it ended as planned, for a process that had not taken a part of the segment yet.
pub(super) fn process_ended(group: &Group, pid: u32, is_clean: bool) {
    let Some(own) = group.segment.get() else {
        return;
    };
    let how = match own.segment.free_arenas_of(pid) {
        Some(Ended::Clean) => "clean",
        Some(Ended::Killed) => "killed",
        // It had not taken a part of the segment.
        None if is_clean => "clean",
        None => "killed",
    };
    own.segment.count(Id::ChildrenExited, value(EXIT, how), 1);
    own.segment.board().free(pid);
    own.segment.reclaim(pid);
}

/// Frees what the processes of a supervisor had that was killed. For the supervisor after it.
pub(super) fn free_gone(group: &Group) {
    let Some(own) = group.segment.get() else {
        return;
    };
    for pid in own.segment.owners_gone() {
        let ran = what_ran(group, pid);
        note_death(group, pid, "with its supervisor", &ran);
        process_ended(group, pid, false);
    }
}

/// Takes the requests for new processes of the group: of `wsgictl`, and of its processes when there is new code. Returns
/// the reason and the cause of the first one. For the supervisor of the configuration in force.
pub(super) fn take_reloads(group: &Group) -> Option<(RetireReason, String)> {
    let own = group.segment.get().filter(|own| !own.is_over())?;
    let board = own.segment.board();
    let first = board.take_requests().into_iter().next()?;
    // Processes that enter from now on load the new code.
    begin_reload(group, first.reason);
    Some((first.reason, first.what))
}

/// Notes that all processes of the group are replaced. For the supervisor.
pub(super) fn begin_reload(group: &Group, reason: RetireReason) {
    let Some(own) = group.segment.get() else {
        return;
    };
    let board = own.segment.board();
    board.raise_revision();
    for process in board.children() {
        // Only shows the reason; the supervisor decides.
        board.mark(process.pid, process.ticks, reason);
    }
}

/// Counts a process that is replaced because it was asked for. For the supervisor.
pub(super) fn count_reload(group: &Group, reason: RetireReason) {
    if let Some(own) = group.segment.get() {
        own.segment.count(Id::ChildrenRecycles, reason as usize, 1);
    }
}
