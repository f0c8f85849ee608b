//! The state word of an entry that requests use one after another: a tag, a process, and the number of the use. The
//! number rises with each use, so tickets of different uses differ.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::sync::AtomicU64;

const PID_BITS: u32 = 32;

/// Positions of the parts of a state word: the tag in the lowest bits, then the process, then the number.
pub(super) struct StateWord {
    tag_bits: u32,
}

impl StateWord {
    /// Returns the positions for tags of `tag_bits` bits.
    pub(super) const fn with_tag_bits(tag_bits: u32) -> Self {
        Self { tag_bits }
    }

    pub(super) fn of(&self, number: u64, pid: u32, tag: u64) -> u64 {
        number << self.number_shift() | u64::from(pid) << self.tag_bits | tag
    }

    pub(super) fn tag(&self, word: u64) -> u64 {
        word & ((1 << self.tag_bits) - 1)
    }

    pub(super) fn pid(&self, word: u64) -> u32 {
        (word >> self.tag_bits) as u32
    }

    pub(super) fn number(&self, word: u64) -> u64 {
        word >> self.number_shift()
    }

    /// Returns the number of the next use.
    pub(super) fn next_number(&self, word: u64) -> u64 {
        self.number(word).wrapping_add(1) & (u64::MAX >> self.number_shift())
    }

    fn number_shift(&self) -> u32 {
        self.tag_bits + PID_BITS
    }
}

/// Changes the word from `from` to `to`. Returns `false` if it was not `from`.
pub(super) fn change(state: &AtomicU64, from: u64, to: u64) -> bool {
    state.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
}
