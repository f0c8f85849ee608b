//! The board: what children, the process that replaces them (the *steward*), the parent and `wsgictl` tell each other.
//!
//! ```text
//! child    enters with the revision that it is about to load; says whether it is ready; sees that it is to retire
//! anybody  asks for a roll
//! steward  takes requests, raises the revision, marks one child after the other, says how the roll goes
//! child    finds or makes the choice of each application group: a GIL of its own, or a shared one
//! parent   says what is planned for each application group
//! parent   frees the places of children that it has reaped
//! anybody  asks a child for the stacks of its threads, and the child writes them
//! ```
//!
//! Nobody locks and nobody waits. A process that dies in the middle of something leaves what the next one may take over
//! or pass by. Everything here is written by unprivileged processes, so nothing is trusted: states that do not exist
//! count as the harmless one, texts are bounded and printable.
//!
//! It is also there where nothing is measured ([`Geometry::of_board`](crate::Geometry::of_board)).

mod children;
mod groups;
mod hangs;
mod requests;
mod roll;
mod stacks;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::catalogue::RECYCLE_REASON;
use crate::clock;
use crate::layout::BOARD_WORDS;
use crate::segment::Segment;
use crate::sync::AtomicU64;

pub use children::{ChildEntry, ChildSlot, ChildState};
pub use groups::{Choice, GroupEntry, GroupSlot};
pub use hangs::Hangs;
pub use requests::{ReloadRequest, Ticket};
pub use roll::{Roll, RollPhase};
pub use stacks::{StacksAnswer, StacksRequest, StacksTicket};

/// The board of a segment.
#[derive(Clone, Copy)]
pub struct Board {
    segment: Segment,
}

/// What the board says at one moment.
#[derive(Clone, Debug, Default)]
pub struct BoardSnapshot {
    /// Number of the code that is wanted.
    pub revision: u64,
    /// Whether there is a steward.
    pub steward: bool,
    /// The children that have a place; whether they are alive is another question.
    pub children: Vec<ChildEntry>,
    /// How the last roll goes, or went.
    pub roll: Roll,
    /// The groups that have a place.
    pub groups: Vec<GroupEntry>,
}

/// What one child says for all, once in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Warning {
    /// There is not enough memory for all children.
    Memory = 0,
}

/// Why a child is to retire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetireReason {
    /// A source file has changed.
    SourceChanged = 0,
    /// The file of `WSGIReload touch` was touched.
    Touched = 1,
    /// Somebody asked for it.
    Api = 2,
    /// It has served as many requests as it may.
    MaxRequests = 3,
    /// It has more memory than it may.
    Memory = 4,
    /// It is older than it may be.
    Age = 5,
    /// A request has not ended after its time.
    RequestTimeout = 6,
    /// A GIL could not be had for too long.
    Deadlock = 7,
    /// An application was not loaded in time, or Python did not start.
    StartupTimeout = 8,
}

impl RetireReason {
    /// All of them, in the order of [`RECYCLE_REASON`].
    pub const ALL: [RetireReason; RECYCLE_REASON.values.len()] = [
        RetireReason::SourceChanged,
        RetireReason::Touched,
        RetireReason::Api,
        RetireReason::MaxRequests,
        RetireReason::Memory,
        RetireReason::Age,
        RetireReason::RequestTimeout,
        RetireReason::Deadlock,
        RetireReason::StartupTimeout,
    ];

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            RetireReason::SourceChanged => "its source files have changed",
            RetireReason::Touched => "the reload file was touched",
            RetireReason::Api => "a reload was asked for",
            RetireReason::MaxRequests => "it has served its number of requests",
            RetireReason::Memory => "it uses too much memory",
            RetireReason::Age => "it is old enough",
            RetireReason::RequestTimeout => "a request did not end after its time",
            RetireReason::Deadlock => "its GIL could not be had",
            RetireReason::StartupTimeout => "an application was not loaded in time",
        }
    }

    /// Its value of the label `reason`.
    pub const fn label(self) -> &'static str {
        RECYCLE_REASON.values[self as usize]
    }

    fn word(self) -> u64 {
        self as u64 + 1
    }

    fn of_word(word: u64) -> Option<Self> {
        let at = usize::try_from(word).ok()?.checked_sub(1)?;
        Self::ALL.get(at).copied()
    }
}

const REVISION: usize = 0;
/// How often a roll was told of.
const ROLL: usize = 1;
/// Stamp of the steward's last sign of life.
const BEAT: usize = 2;
/// Bits of the warnings that a child has given for all.
const WARNED: usize = 3;
/// [`Hangs`] of the configuration: loads, and starts of Python.
const LOADS_HANG: usize = 4;
const STARTS_HANG: usize = 5;

/// How long the steward may be silent, nanoseconds.
const SILENCE: u64 = 5_000_000_000;

impl Segment {
    /// Its board.
    pub fn board(&self) -> Board {
        Board { segment: *self }
    }
}

impl Board {
    /// What it says now.
    pub fn snapshot(&self) -> BoardSnapshot {
        BoardSnapshot {
            revision: self.revision(),
            steward: self.steward().is_some(),
            children: self.entries().collect(),
            roll: self.roll(),
            groups: self.groups(),
        }
    }

    /// The first revision is 1.
    pub(crate) fn begin(&self) {
        self.cells()[REVISION].store(1, Relaxed);
    }

    /// Another configuration: all children are new, and what was said of the old ones is forgotten.
    pub(crate) fn begin_generation(&self) {
        self.forget_choices();
        self.forget_plans();
        self.cells()[WARNED].store(0, Release);
        self.cells()[LOADS_HANG].store(0, Release);
        self.cells()[STARTS_HANG].store(0, Release);
        self.set_roll(&Roll::default());
    }

    /// Number of the code that is wanted. A child enters with what it reads here before it loads anything.
    pub fn revision(&self) -> u64 {
        self.cells()[REVISION].load(Acquire)
    }

    /// There is new code; its number. What was chosen for the groups of the old code is forgotten, and the requests that
    /// this process has taken are settled. For the steward.
    pub fn raise_revision(&self) -> u64 {
        let raised = self.cells()[REVISION].fetch_add(1, AcqRel).wrapping_add(1);
        self.forget_choices();
        self.settle_requests();
        raised
    }

    /// Whether nobody has given this warning since the configuration is in force; who asks then gives it.
    pub fn warn_once(&self, warning: Warning) -> bool {
        let bit = 1 << warning as u8;
        self.cells()[WARNED].fetch_or(bit, AcqRel) & bit == 0
    }

    /// A load hangs in a child that began at `began`, and has for longer than `limit`; `now` and `began` are stamps. What is
    /// known of such hangs from now on.
    pub fn note_hang(&self, began: u64, now: u64, limit: Duration) -> Hangs {
        self.note(LOADS_HANG, began, now, limit)
    }

    /// The same for the start of Python.
    pub fn note_start_hangs(&self, began: u64, now: u64, limit: Duration) -> Hangs {
        self.note(STARTS_HANG, began, now, limit)
    }

    fn note(&self, cell: usize, began: u64, now: u64, limit: Duration) -> Hangs {
        let cell = &self.cells()[cell];
        let next = |word| Some(Hangs::of_word(word).and(began, now, limit).word());
        let before = cell.fetch_update(AcqRel, Acquire, next);
        let word = before.unwrap_or_else(|word| word);
        Hangs::of_word(word).and(began, now, limit)
    }

    /// What is known of starts of Python that hang.
    pub fn start_hangs(&self) -> Hangs {
        Hangs::of_word(self.cells()[STARTS_HANG].load(Acquire))
    }

    /// The steward lives; `now` is a stamp of this moment. To be said at least once a second.
    pub fn beat(&self, now: u64) {
        self.cells()[BEAT].store(now, Release);
    }

    /// The stamp of the steward's last [`beat`](Self::beat); `None` where there is no steward, or has not been one for
    /// five seconds.
    pub fn steward(&self) -> Option<u64> {
        let beat = self.cells()[BEAT].load(Acquire);
        // One that beats while we look is not in the future by much.
        let is_fresh = beat != 0 && clock::now().abs_diff(beat) < SILENCE;
        is_fresh.then_some(beat)
    }

    fn cells(&self) -> &'static [AtomicU64] {
        let at = self.segment.geometry().board();
        self.segment.words(at, BOARD_WORDS)
    }
}
