//! How the replacement of children goes.
//!
//! There are two copies with a sum over each: while the reloader writes one, the other is read, and one that it left half
//! written when it died is not shown.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::common::{Board, ROLL};
use crate::catalogue::fnv;
use crate::segment::layout::{ROLL_WORDS, ROLLS};
use crate::segment::text;
use crate::sync::AtomicU64;

/// Where a roll is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RollPhase {
    /// There was none yet.
    #[default]
    Idle = 0,
    /// The new code is tried before any child retires.
    Trial = 1,
    /// Children are replaced.
    Rolling = 2,
    /// All serve the new code.
    Done = 3,
    /// The new code was refused, and the old one goes on.
    Stopped = 4,
}

impl RollPhase {
    /// What is no phase is none.
    fn of_word(word: u64) -> Self {
        match word {
            1 => RollPhase::Trial,
            2 => RollPhase::Rolling,
            3 => RollPhase::Done,
            4 => RollPhase::Stopped,
            _ => RollPhase::Idle,
        }
    }

    /// Whether it is still going on.
    pub fn is_going_on(self) -> bool {
        matches!(self, RollPhase::Trial | RollPhase::Rolling)
    }
}

/// A rolling replacement of the children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    /// Where it is.
    pub phase: RollPhase,
    /// Revision of the code that it brings.
    pub revision: u64,
    /// Children that were replaced.
    pub done: u32,
    /// Children that it had to replace, when it began.
    pub of: u32,
    /// Scripts of the new code that were loaded before any child was replaced.
    pub tried: u32,
    /// Places in the configuration whose script or application group only requests name, so that nothing of them could be
    /// tried.
    pub untried: u32,
    /// Unix time at which it began, nanoseconds.
    pub began: u64,
    /// Unix time at which it was done or stopped, nanoseconds; 0 while it goes on.
    pub ended: u64,
    /// What set it off, as it follows "because": `/srv/app/views.py changed`.
    pub cause: String,
    /// Why it stopped: what went wrong with the new code. Empty otherwise.
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
    /// Says how the roll goes. For the reloader.
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

    /// How the last roll goes, or went. That there was none where nobody has told of one, or where what is there is not
    /// whole.
    pub fn roll(&self) -> Roll {
        // It may be written twice while we read it once.
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
