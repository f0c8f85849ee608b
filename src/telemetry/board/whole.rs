//! The whole board: a snapshot of it, and its changes when another configuration or new code begins.

use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use super::children::ChildEntry;
use super::common::{Board, LOADS_HANG, REVISION, STARTS_HANG, WARNED};
use super::groups::GroupEntry;
use super::roll::Roll;

/// The content of the board at one moment.
#[derive(Clone, Debug, Default)]
pub struct BoardSnapshot {
    /// Revision of the code that children should serve.
    pub revision: u64,
    /// Whether there is a reloader.
    pub reloader: bool,
    /// The children that have a slot, dead ones included.
    pub children: Vec<ChildEntry>,
    /// State of the current or last roll.
    pub roll: Roll,
    /// The groups that have a slot.
    pub groups: Vec<GroupEntry>,
}

impl Board {
    /// Returns the current content.
    pub fn snapshot(&self) -> BoardSnapshot {
        BoardSnapshot {
            revision: self.revision(),
            reloader: self.reloader().is_some(),
            children: self.entries().collect(),
            roll: self.roll(),
            groups: self.groups(),
        }
    }

    /// Sets the first revision, 1.
    pub(crate) fn begin(&self) {
        self.cells()[REVISION].store(1, Relaxed);
    }

    /// Begins another configuration. All children are new, so everything about the old ones is forgotten.
    pub(crate) fn begin_generation(&self) {
        self.forget_decisions();
        self.forget_plans();
        self.cells()[WARNED].store(0, Release);
        self.cells()[LOADS_HANG].store(0, Release);
        self.cells()[STARTS_HANG].store(0, Release);
        self.set_roll(&Roll::default());
    }

    /// Raises the revision for new code and returns it. Forgets the decisions about the groups of the old code, and
    /// settles the requests that this process has taken. For the reloader.
    pub fn raise_revision(&self) -> u64 {
        let raised = self.cells()[REVISION].fetch_add(1, AcqRel).wrapping_add(1);
        self.forget_decisions();
        self.settle_requests();
        raised
    }
}
