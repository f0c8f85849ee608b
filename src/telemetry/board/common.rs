//! What all children share: the revision of the code, the heartbeat of the reloader, warnings, and hanging starts.

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

/// A warning that one child logs for all, once in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Warning {
    /// There is not enough memory for all children.
    Memory = 0,
}

pub(super) const REVISION: usize = 0;
/// Number of times that the reloader recorded the state of a roll.
pub(super) const ROLL: usize = 1;
/// Stamp of the reloader's last heartbeat.
const BEAT: usize = 2;
/// Bits of the warnings that a child has logged for all.
pub(super) const WARNED: usize = 3;
/// [`Hangs`] of the configuration: loads, and starts of Python.
pub(super) const LOADS_HANG: usize = 4;
pub(super) const STARTS_HANG: usize = 5;

/// Silence after which the reloader counts as gone, nanoseconds.
pub(super) const SILENCE: u64 = 5_000_000_000;

impl Segment {
    /// Returns the board of this segment.
    pub fn board(&self) -> Board {
        Board { segment: *self }
    }
}

impl Board {
    /// Returns the revision of the code that children should serve. A child enters with this revision before it loads
    /// anything.
    pub fn revision(&self) -> u64 {
        self.cells()[REVISION].load(Acquire)
    }

    /// Returns whether no child has logged this warning since the configuration came into force. The child that gets
    /// `true` logs it.
    pub fn warn_once(&self, warning: Warning) -> bool {
        let bit = 1 << warning as u8;
        self.cells()[WARNED].fetch_or(bit, AcqRel) & bit == 0
    }

    /// Records that a load hangs for longer than `limit` in a child that began at `began`. `now` and `began` are
    /// stamps. Returns the record that includes this hang.
    pub fn note_hang(&self, began: u64, now: u64, limit: Duration) -> Hangs {
        self.note(LOADS_HANG, began, now, limit)
    }

    /// Does the same for the start of Python.
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

    /// Returns the record of hanging starts of Python.
    pub fn start_hangs(&self) -> Hangs {
        Hangs::of_word(self.cells()[STARTS_HANG].load(Acquire))
    }

    /// Records a heartbeat of the reloader; `now` is the current stamp. The reloader calls this at least once a second.
    pub fn beat(&self, now: u64) {
        self.cells()[BEAT].store(now, Release);
    }

    /// Returns the stamp of the reloader's last [`beat`](Self::beat); `None` if there was none in the last five
    /// seconds.
    pub fn reloader(&self) -> Option<u64> {
        let beat = self.cells()[BEAT].load(Acquire);
        // A reloader that beats during this call may have a stamp slightly in the future.
        let is_fresh = beat != 0 && clock::now().abs_diff(beat) < SILENCE;
        is_fresh.then_some(beat)
    }

    pub(super) fn cells(&self) -> &'static [AtomicU64] {
        let at = self.segment.geometry().board();
        self.segment.words(at, BOARD_WORDS)
    }
}
