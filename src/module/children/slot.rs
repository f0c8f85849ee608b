//! The slot of this child on the board, which children, the reloader, the parent and `wsgictl` use to communicate.

use std::sync::OnceLock;

use wsgi_httpd::mpm;
use wsgi_telemetry::board::{self, Board, ChildEntry, ChildState, RollPhase};

use crate::metrics::segment::{self, InForce};

/// The slot, and the segment that holds the board.
#[derive(Clone, Copy)]
pub(crate) struct ChildSlot {
    entry: board::ChildSlot,
    pub(crate) in_force: InForce,
}

static SLOT: OnceLock<ChildSlot> = OnceLock::new();

/// Takes a slot for this child before it loads anything. Under `-X` no other child could read the board.
pub(crate) fn enter() {
    if mpm::single_process() {
        return;
    }
    if let Some(in_force) = segment::in_force() {
        let board = in_force.segment.board();
        if let Some(entry) = board.enter(in_force.me(), board.revision()) {
            SLOT.get_or_init(|| ChildSlot { entry, in_force });
        }
    }
}

/// Returns the slot of this child; `None` if it has none.
pub(crate) fn get() -> Option<ChildSlot> {
    SLOT.get().copied()
}

/// Writes the state of this child to the board.
pub(crate) fn say(state: ChildState) {
    if let Some(slot) = get() {
        slot.entry.set_state(state);
    }
}

/// Notes on the board that this child has loaded what it loads ahead for an application group.
pub(crate) fn loaded(group: &[u8]) {
    if let Some(slot) = get()
        && let Some(group) = slot.board().group(group)
    {
        slot.entry.add_group(&group);
    }
}

impl ChildSlot {
    pub(crate) fn entry(&self) -> board::ChildSlot {
        self.entry
    }

    pub(crate) fn board(&self) -> Board {
        self.in_force.segment.board()
    }

    /// Returns whether this child has the code revision that is wanted.
    pub(crate) fn is_current(&self) -> bool {
        self.entry.revision() == Some(self.board().revision())
    }

    /// Returns whether there is newer code that has passed its trial.
    pub(crate) fn is_outdated(&self) -> bool {
        let is_well = || {
            matches!(
                self.board().roll().phase,
                RollPhase::Rolling | RollPhase::Done
            )
        };
        !self.is_current() && is_well()
    }

    /// Returns the other children of this configuration.
    pub(crate) fn others(&self) -> Vec<ChildEntry> {
        let me = std::process::id();
        let generation = self.in_force.generation;
        let is_other = |child: &ChildEntry| child.pid != me && child.generation == generation;
        let children = self.board().children();
        children.into_iter().filter(is_other).collect()
    }

    /// Returns whether there is no other child, of any configuration and in any state.
    pub(crate) fn is_alone(&self) -> bool {
        let me = std::process::id();
        self.board().children().iter().all(|child| child.pid == me)
    }

    /// Returns whether another child takes connections, even if it will retire.
    pub(crate) fn another_serves(&self) -> bool {
        self.others().iter().any(serves)
    }

    /// Returns whether another child takes connections and does not retire.
    pub(crate) fn another_stays(&self) -> bool {
        let stays = |child: &ChildEntry| serves(child) && child.retire.is_none();
        self.others().iter().any(stays)
    }

    /// Returns whether another child that has loaded this group serves. Known only for the first 64 groups of the
    /// board.
    pub(crate) fn another_has(&self, group: &[u8]) -> bool {
        let Some(slot) = self.board().group(group) else {
            return false;
        };
        let has = |child: &ChildEntry| serves(child) && child.groups >> slot.number() & 1 == 1;
        self.others().iter().any(has)
    }
}

fn serves(child: &ChildEntry) -> bool {
    child.state == ChildState::Ready
}
