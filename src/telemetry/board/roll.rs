//! The progress of a roll.
//!
//! There are two copies with a checksum each: readers read one while the reloader writes the other. A copy that the
//! reloader left half written when it died is not shown.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::common::{Board, ROLL};
use crate::catalogue::fnv;
use crate::segment::layout::{ROLL_WORDS, ROLLS};
use crate::segment::text;
use crate::sync::AtomicU64;

/// The phase of a roll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RollPhase {
    /// There was no roll yet.
    #[default]
    Idle = 0,
    /// The trial: the new code is loaded before any child retires.
    Trial = 1,
    /// Children are being replaced.
    Rolling = 2,
    /// All children serve the new code.
    Done = 3,
    /// The new code was refused; the old code stays in service.
    Stopped = 4,
}

impl RollPhase {
    /// Converts a word; an unknown word becomes [`RollPhase::Idle`].
    fn of_word(word: u64) -> Self {
        match word {
            1 => RollPhase::Trial,
            2 => RollPhase::Rolling,
            3 => RollPhase::Done,
            4 => RollPhase::Stopped,
            _ => RollPhase::Idle,
        }
    }

    /// Returns whether the roll is still going on.
    pub fn is_going_on(self) -> bool {
        matches!(self, RollPhase::Trial | RollPhase::Rolling)
    }
}

/// A rolling replacement of the children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Phase of the roll.
    pub phase: RollPhase,
    /// Revision of the code that the roll brings.
    pub revision: u64,
    /// Number of children replaced so far.
    pub done: u32,
    /// Number of children to replace, counted when the roll began.
    pub of: u32,
    /// Number of scripts of the new code that the trial loaded.
    pub tried: u32,
    /// Number of places in the configuration that the trial could not load, since only requests name their script or
    /// application group.
    pub untried: u32,
    /// Unix time at which the roll began, nanoseconds.
    pub began: u64,
    /// Unix time at which the roll was done or stopped, nanoseconds; 0 while it goes on.
    pub ended: u64,
    /// Cause of the roll, worded to follow "because": `/srv/app/views.py changed`.
    pub cause: String,
    /// Problem of the new code that stopped the roll; otherwise empty.
    pub problem: String,
}

const CHECK: usize = 0;
const NUMBERS: std::ops::Range<usize> = 1..8;
const COUNT: usize = NUMBERS.end - NUMBERS.start;
const CAUSE: std::ops::Range<usize> = 8..49;
const PROBLEM: std::ops::Range<usize> = 49..128;

fn check(number: u64, words: [u64; COUNT], cause: &[u8], problem: &[u8]) -> u64 {
    let hash = words.iter().fold(number.wrapping_add(1), |hash, word| {
        fnv(hash, &word.to_le_bytes())
    });
    fnv(fnv(hash, cause), problem)
}

impl Board {
    /// Records the progress of the roll. For the reloader.
    pub fn set_roll(&self, roll: &Roll) {
        let number = self.cells()[ROLL].load(Relaxed).wrapping_add(1).max(1);
        let cells = self.roll_cells(number);
        let words = [
            roll.phase as u64,
            roll.revision,
            roll.done.into(),
            roll.of.into(),
            roll.began,
            roll.ended,
            u64::from(roll.tried) << 32 | u64::from(roll.untried),
        ];
        let cause = text::fitting(&cells[CAUSE], roll.cause.as_bytes());
        let problem = text::fitting(&cells[PROBLEM], roll.problem.as_bytes());
        for (cell, word) in cells[NUMBERS].iter().zip(words) {
            cell.store(word, Relaxed);
        }
        text::put(&cells[CAUSE], cause);
        text::put(&cells[PROBLEM], problem);
        cells[CHECK].store(check(number, words, cause, problem), Release);
        self.cells()[ROLL].store(number, Release);
    }

    /// Returns the state of the current or last roll. Returns an idle roll if none was recorded, or if no copy is
    /// whole.
    pub fn roll(&self) -> Roll {
        // The reloader may write twice during one read.
        (0..4).find_map(|_| self.whole_roll()).unwrap_or_default()
    }

    fn whole_roll(&self) -> Option<Roll> {
        let number = self.cells()[ROLL].load(Acquire);
        let cells = self.roll_cells(number);
        let expected = cells[CHECK].load(Acquire);
        let words: [u64; COUNT] = std::array::from_fn(|at| cells[NUMBERS.start + at].load(Relaxed));
        let cause = text::bytes(&cells[CAUSE]);
        let problem = text::bytes(&cells[PROBLEM]);
        if number == 0 || check(number, words, &cause, &problem) != expected {
            return None;
        }
        let [phase, revision, done, of, began, ended, tried] = words;
        let count = |word: u64| u32::try_from(word).unwrap_or(u32::MAX);
        Some(Roll {
            phase: RollPhase::of_word(phase),
            revision,
            done: count(done),
            of: count(of),
            tried: (tried >> 32) as u32,
            untried: tried as u32,
            began,
            ended,
            cause: text::shown(&cause),
            problem: text::shown(&problem),
        })
    }

    fn roll_cells(&self, number: u64) -> &'static [AtomicU64] {
        let at = (number % ROLLS as u64) as usize;
        self.segment
            .words(self.segment.geometry().roll(at), ROLL_WORDS)
    }
}
