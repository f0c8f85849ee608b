//! What runs now, thread by thread.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::segment::App;
use crate::segment::Arena;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::entry::{owner_of, state};
use crate::segment::layout::RUNNING_WORDS;
use crate::segment::text;
use crate::sync::{AtomicU64, fence};

/// Where a request is.
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
    /// Loading the script, or waiting for another thread that does.
    Loading = 5,
}

impl Phase {
    /// All of them, by number.
    pub const ALL: [Phase; 6] = [
        Phase::Preparing,
        Phase::WaitingForGil,
        Phase::InApplication,
        Phase::Reading,
        Phase::Writing,
        Phase::Loading,
    ];

    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::WaitingForGil => "waiting for the GIL",
            Phase::InApplication => "in the application",
            Phase::Reading => "reading the body",
            Phase::Writing => "writing the response",
            Phase::Loading => "loading the script",
        }
    }
}

/// A running request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Process.
    pub pid: u32,
    /// Thread, as the kernel numbers it.
    pub thread: u32,
    /// Application.
    pub app: App,
    /// Number of the method in [`crate::catalogue::METHOD`].
    pub method: usize,
    /// Where it is.
    pub phase: Phase,
    /// Since when, as a stamp.
    pub since: u64,
    /// Path of its URL.
    pub url: String,
    /// Its application group; empty for the main interpreter.
    pub group: String,
}

/// Where the phase of a running request is noted.
#[derive(Clone, Copy)]
pub struct PhaseCell(&'static AtomicU64);

impl PhaseCell {
    /// The request is now there.
    #[inline]
    pub fn set(self, phase: Phase) {
        let running = self.0.load(Relaxed);
        self.0.store(running & !0xff | phase as u64, Relaxed);
    }
}

const SEQUENCE: usize = 0;
const URL: std::ops::Range<usize> = 1..18;
const GROUP: std::ops::Range<usize> = 18..27;

/// What ran on the thread before, to go on with when a nested request ends.
#[derive(Clone, Copy, Default)]
pub struct OuterRequest {
    since: u64,
    running: u64,
    text: [u64; RUNNING_WORDS],
}

impl Arena {
    /// A request begins. Not for arenas that several threads share, which say nothing of what runs.
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

    /// The application group of the running request.
    pub fn set_group(&self, group: &[u8]) {
        if !self.is_shared() {
            self.write_text(|cells| text::put(&cells[GROUP], group));
        }
    }

    /// Where the phase of this thread's request is noted.
    pub fn phase_cell(&self) -> Option<PhaseCell> {
        (!self.is_shared()).then(|| PhaseCell(&self.entry()[state::RUNNING]))
    }

    /// The request has ended, and the one around it goes on.
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

    /// Odd while it is written, so that readers do not take half of one text and half of another.
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
    /// The request that the owner of arena `at` runs.
    pub(crate) fn running(&self, at: usize) -> Option<Running> {
        let entry = self.entry_cells(at);
        let cells = self.words(self.geometry().running(at), RUNNING_WORDS);
        let read = || {
            let since = entry[state::RUNNING_SINCE].load(Acquire);
            (since, entry[state::RUNNING].load(Relaxed))
        };
        // All of it between two looks at the sequence, so that the text is that of the request.
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
        })
    }
}
