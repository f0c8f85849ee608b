//! The requests that run now, by thread.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::catalogue::fnv;
use crate::segment::App;
use crate::segment::Arena;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::entry::{owner_of, state};
use crate::segment::layout::RUNNING_WORDS;
use crate::segment::text;
use crate::sync::{AtomicU64, fence};

/// What a running request is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// In the module, before Python.
    Preparing = 0,
    /// Waiting for the GIL.
    WaitingForGil = 1,
    /// In Python.
    InApplication = 2,
    /// Waiting for the request body.
    Reading = 3,
    /// Sending the response.
    Writing = 4,
    /// Loading the script, or waiting for another thread to load it.
    Loading = 5,
    /// Passed to a process group, none of whose processes shows it.
    WaitingForGroup = 6,
}

impl Phase {
    /// All phases, by number.
    pub const ALL: [Phase; 7] = [
        Phase::Preparing,
        Phase::WaitingForGil,
        Phase::InApplication,
        Phase::Reading,
        Phase::Writing,
        Phase::Loading,
        Phase::WaitingForGroup,
    ];

    /// Returns the phase in words.
    pub const fn text(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::WaitingForGil => "waiting for the GIL",
            Phase::InApplication => "in the application",
            Phase::Reading => "reading the body",
            Phase::Writing => "writing the response",
            Phase::Loading => "loading the script",
            Phase::WaitingForGroup => "waiting for its process group",
        }
    }
}

/// A running request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Process id.
    pub pid: u32,
    /// Thread id of the kernel.
    pub thread: u32,
    /// Application.
    pub app: App,
    /// Number of the method in [`crate::catalogue::METHOD`].
    pub method: usize,
    /// What the request is doing.
    pub phase: Phase,
    /// Stamp at which the request began.
    pub since: u64,
    /// Path of the URL.
    pub url: String,
    /// Application group; empty for the main interpreter.
    pub group: String,
    /// Process group that runs it; empty in httpd's children.
    pub process_group: String,
    /// Mark of the process group to which a child of httpd has passed it; 0 for none.
    pub(crate) passed_to: u32,
}

/// The word that holds the phase of a running request.
#[derive(Clone, Copy)]
pub struct PhaseCell(&'static AtomicU64);

/// Position of the process group's mark in that word.
const PASSED_TO: u32 = 32;

/// Returns the mark of a process group, which is not 0.
fn mark_of(process_group: &str) -> u32 {
    (fnv(0, process_group.as_bytes()) as u32).max(1)
}

impl PhaseCell {
    /// Sets the phase of the request.
    #[inline]
    pub fn set(self, phase: Phase) {
        let running = self.0.load(Relaxed);
        self.0.store(running & !0xff | phase as u64, Relaxed);
    }

    /// Notes that the request is passed to a process group. Readers then take its phase from the process that has begun
    /// a request with the same stamp.
    pub fn pass_to(self, process_group: &str) {
        let running = self.0.load(Relaxed) & u64::from(u32::MAX);
        let mark = u64::from(mark_of(process_group)) << PASSED_TO;
        self.0.store(running | mark, Relaxed);
        self.set(Phase::WaitingForGroup);
    }
}

/// Puts the requests of httpd's children together with those of the processes of groups, oldest first. A request that a
/// child has passed on is shown once, with the process, the thread and the phase that it has in its group. A process
/// cannot hide or change a request of another group.
pub(crate) fn joined(
    mut of_children: Vec<Running>,
    of_groups: Vec<(String, Vec<Running>)>,
) -> Vec<Running> {
    for (name, running) in of_groups {
        let mark = mark_of(&name);
        let mut by_stamp: HashMap<u64, Running> = running
            .into_iter()
            .map(|running| (running.since, running))
            .collect();
        let passed = of_children.iter_mut();
        for request in passed.filter(|request| request.passed_to == mark) {
            request.process_group.clone_from(&name);
            let Some(there) = by_stamp.remove(&request.since) else {
                continue;
            };
            (request.pid, request.thread) = (there.pid, there.thread);
            // While the child reads or writes for it, the request waits for that.
            if request.phase == Phase::WaitingForGroup {
                request.phase = there.phase;
            }
        }
        // Their children have ended, or have begun them since.
        of_children.extend(by_stamp.into_values().map(|running| Running {
            process_group: name.clone(),
            ..running
        }));
    }
    of_children.sort_unstable_by_key(|running| running.since);
    of_children
}

const SEQUENCE: usize = 0;
const URL: std::ops::Range<usize> = 1..18;
const GROUP: std::ops::Range<usize> = 18..27;

/// The request that a nested request interrupts; restored when the nested request ends.
#[derive(Clone, Copy, Default)]
pub struct OuterRequest {
    since: u64,
    running: u64,
    text: [u64; RUNNING_WORDS],
}

impl Arena {
    /// Records that a request begins, and returns the request that it interrupts. Does nothing in arenas that several
    /// threads share: these have no record of a running request.
    pub fn begin(
        &self,
        since: u64,
        app: App,
        method: usize,
        url: &[u8],
        group: &[u8],
    ) -> Option<Box<OuterRequest>> {
        if self.is_shared() {
            return None;
        }
        let entry = self.entry();
        let since_before = entry[state::RUNNING_SINCE].load(Relaxed);
        let before = (since_before != 0).then(|| Box::new(self.running_now(since_before)));
        let running = u64::from(app.number()) << 16 | (method as u64 & 0xff) << 8;
        self.write_text(|cells| {
            text::put(&cells[URL], url);
            text::put(&cells[GROUP], group);
        });
        entry[state::RUNNING].store(running, Relaxed);
        entry[state::RUNNING_SINCE].store(since, Release);
        before
    }

    /// Sets the application group of the running request.
    pub fn set_group(&self, group: &[u8]) {
        if !self.is_shared() {
            self.write_text(|cells| text::put(&cells[GROUP], group));
        }
    }

    /// Returns the cell for the phase of this thread's request.
    pub fn phase_cell(&self) -> Option<PhaseCell> {
        (!self.is_shared()).then(|| PhaseCell(&self.entry()[state::RUNNING]))
    }

    /// Records that the request has ended, and restores the request `before` that it interrupted.
    pub fn end(&self, before: Option<Box<OuterRequest>>) {
        if self.is_shared() {
            return;
        }
        let entry = self.entry();
        let Some(before) = before else {
            entry[state::RUNNING_SINCE].store(0, Release);
            return;
        };
        self.write_text(|cells| {
            for (cell, word) in cells.iter().zip(before.text).skip(1) {
                cell.store(word, Relaxed);
            }
        });
        entry[state::RUNNING].store(before.running, Relaxed);
        entry[state::RUNNING_SINCE].store(before.since, Release);
    }

    fn running_now(&self, since: u64) -> OuterRequest {
        let mut text = [0; RUNNING_WORDS];
        for (word, cell) in text.iter_mut().zip(self.running_cells()) {
            *word = cell.load(Relaxed);
        }
        OuterRequest {
            since,
            running: self.entry()[state::RUNNING].load(Relaxed),
            text,
        }
    }

    /// Makes the sequence number odd during the write, so that readers do not mix two texts.
    fn write_text(&self, write: impl FnOnce(&[AtomicU64])) {
        let cells = self.running_cells();
        let sequence = cells[SEQUENCE].load(Relaxed);
        cells[SEQUENCE].store(sequence | 1, Relaxed);
        fence(Release);
        write(cells);
        cells[SEQUENCE].store((sequence | 1).wrapping_add(1), Release);
    }

    fn running_cells(&self) -> &'static [AtomicU64] {
        let segment = self.segment();
        let at = segment.geometry().running(self.index() as usize);
        segment.words(at, RUNNING_WORDS)
    }
}

impl Segment {
    /// Returns the request that the owner of arena `at` runs.
    pub(crate) fn running(&self, at: usize) -> Option<Running> {
        let entry = self.entry_cells(at);
        let cells = self.words(self.geometry().running(at), RUNNING_WORDS);
        let read = || {
            let since = entry[state::RUNNING_SINCE].load(Acquire);
            (since, entry[state::RUNNING].load(Relaxed))
        };
        // Everything is read between two loads of the sequence number, so that the text belongs to the request.
        let whole = (0..3).find_map(|_| {
            let before = cells[SEQUENCE].load(Acquire);
            let request = read();
            let texts = (text::get(&cells[URL]), text::get(&cells[GROUP]));
            fence(Acquire);
            let whole = before.is_multiple_of(2) && cells[SEQUENCE].load(Relaxed) == before;
            whole.then_some((request, texts))
        });
        let ((since, running), (url, group)) =
            whole.unwrap_or_else(|| (read(), Default::default()));
        let owner = owner_of(entry);
        if owner == 0 || since == 0 {
            return None;
        }
        Some(Running {
            pid: Owner::pid_of(owner),
            thread: Owner::thread_of(owner),
            app: App::new((running >> 16) as u16),
            method: (running >> 8) as u8 as usize,
            phase: Phase::ALL
                .get(usize::from(running as u8))
                .copied()
                .unwrap_or(Phase::Preparing),
            since,
            url,
            group,
            process_group: String::new(),
            passed_to: (running >> PASSED_TO) as u32,
        })
    }
}
