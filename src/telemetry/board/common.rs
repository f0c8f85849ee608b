//! What all children share: the number of the code that is wanted, the sign of life of the process that replaces them,
//! warnings, and starts that hang.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

use super::hangs::Hangs;
use crate::clock;
use crate::segment::Segment;
use crate::segment::layout::BOARD_WORDS;
use crate::sync::AtomicU64;

/// The board of a segment.
#[derive(Clone, Copy)]
pub struct Board {
    pub(super) segment: Segment,
}

/// What one child says for all, once in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Warning {
    /// There is not enough memory for all children.
    Memory = 0,
}

pub(super) const REVISION: usize = 0;
/// How often a roll was told of.
pub(super) const ROLL: usize = 1;
/// Stamp of the reloader's last sign of life.
const BEAT: usize = 2;
/// Bits of the warnings that a child has given for all.
pub(super) const WARNED: usize = 3;
/// [`Hangs`] of the configuration: loads, and starts of Python.
pub(super) const LOADS_HANG: usize = 4;
pub(super) const STARTS_HANG: usize = 5;

/// How long the reloader may be silent, nanoseconds.
pub(super) const SILENCE: u64 = 5_000_000_000;

impl Segment {
    /// Its board.
    pub fn board(&self) -> Board {
        Board { segment: *self }
    }
}

impl Board {
    /// Number of the code that is wanted. A child enters with what it reads here before it loads anything.
    pub fn revision(&self) -> u64 {
        self.cells()[REVISION].load(Acquire)
    }

    /// Whether no child has given this warning since the configuration came into force. The child that gets `true` gives it.
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

    /// The reloader lives; `now` is a stamp of this moment. To be said at least once a second.
    pub fn beat(&self, now: u64) {
        self.cells()[BEAT].store(now, Release);
    }

    /// The stamp of the reloader's last [`beat`](Self::beat); `None` where there is no reloader, or has not been one for
    /// five seconds.
    pub fn steward(&self) -> Option<u64> {
        let beat = self.cells()[BEAT].load(Acquire);
        // One that beats while we look is not in the future by much.
        let is_fresh = beat != 0 && clock::now().abs_diff(beat) < SILENCE;
        is_fresh.then_some(beat)
    }

    pub(super) fn cells(&self) -> &'static [AtomicU64] {
        let at = self.segment.geometry().board();
        self.segment.words(at, BOARD_WORDS)
    }
}
