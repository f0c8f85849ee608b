//! All of the board: as it is at one moment, and when another configuration or new code begins.

use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use super::children::ChildEntry;
use super::common::{Board, LOADS_HANG, REVISION, STARTS_HANG, WARNED};
use super::groups::GroupEntry;
use super::roll::Roll;

/// What the board says at one moment.
#[derive(Clone, Debug, Default)]
pub struct BoardSnapshot {
    /// Number of the code that is wanted.
    pub revision: u64,
    /// Whether there is a reloader.
    pub steward: bool,
    /// The children that have a place; whether they are alive is another question.
    pub children: Vec<ChildEntry>,
    /// How the last roll goes, or went.
    pub roll: Roll,
    /// The groups that have a place.
    pub groups: Vec<GroupEntry>,
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
        self.forget_decisions();
        self.forget_plans();
        self.cells()[WARNED].store(0, Release);
        self.cells()[LOADS_HANG].store(0, Release);
        self.cells()[STARTS_HANG].store(0, Release);
        self.set_roll(&Roll::default());
    }

    /// There is new code; its number. What was chosen for the groups of the old code is forgotten, and the requests that
    /// this process has taken are settled. For the reloader.
    pub fn raise_revision(&self) -> u64 {
        let raised = self.cells()[REVISION].fetch_add(1, AcqRel).wrapping_add(1);
        self.forget_decisions();
        self.settle_requests();
        raised
    }
}
