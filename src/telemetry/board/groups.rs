//! The decisions about application groups: one child tries whether a group may have a GIL of its own, and the others go by
//! what it found. The parent says beside it what the configuration means for the group.
//!
//! ```text
//!              begin_probe               decide
//! Unknown ───────────────► Probing ───────────► Own | Shared
//!     ▲                         │ the child that tried it is gone: Shared
//!     └─────────────────────────┴───────────────────── forgotten: new code, new configuration
//! Own ──► Shared: another application of the group cannot be loaded there
//! ```

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::common::Board;
use crate::catalogue::fnv;
use crate::segment::Owner;
use crate::segment::layout::{GROUP_WORDS, GROUPS};
use crate::segment::text;
use crate::sync::AtomicU64;

/// How a group has its GIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupDecision {
    /// No child has tried it yet.
    Unknown,
    /// A child tries it out.
    Probing {
        /// Its number.
        pid: u32,
        /// When it started, as far as is kept of that.
        ticks: u64,
    },
    /// It imports with a GIL of its own.
    Own,
    /// It needs the process-wide one.
    Shared,
}

/// A group's place on the board.
#[derive(Clone, Copy)]
pub struct GroupSlot {
    board: Board,
    at: usize,
}

/// What the board says of a group, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its name; empty for the main interpreter.
    pub name: String,
    /// What was decided.
    pub decision: GroupDecision,
    /// The module that forced the decision; empty where none did.
    pub module: String,
    /// What is planned for it; empty where the parent has said nothing.
    pub plan: String,
}

/// Hash of the name; 0 is free. An entry is taken by setting it, so no group gets two.
const KEY: usize = 0;
const DECISION: usize = 1;
const NAME: std::ops::Range<usize> = 2..19;
const MODULE: std::ops::Range<usize> = 19..36;
/// How many requests a child last found good to have inside an interpreter at a time; 0 for unknown.
const CONCURRENCY: usize = 36;
const PLAN: std::ops::Range<usize> = 37..GROUP_WORDS;

/// The lowest two bits of a decision.
const TAG: u64 = 3;
const PROBING: u64 = 1;
const OWN: u64 = 2;
const SHARED: u64 = 3;
const PID_SHIFT: u32 = 2;
const TICKS_SHIFT: u32 = 34;
/// What is kept of the ticks: they come again after four months.
const TICKS: u64 = (1 << (64 - TICKS_SHIFT)) - 1;

/// What is said in place of a module where the child that tried it out is gone.
const DIED: &str = "the process that tried it out died";

/// A hash of 64 bits stands for the name: names that collide share a decision. A client that makes up a name can reach
/// that, and no more.
fn key_of(name: &[u8]) -> u64 {
    fnv(0xcbf2_9ce4_8422_2325, name).max(1)
}

fn probing(owner: Owner) -> u64 {
    (owner.ticks & TICKS) << TICKS_SHIFT | u64::from(owner.pid) << PID_SHIFT | PROBING
}

fn decision_of(word: u64) -> GroupDecision {
    match word & TAG {
        PROBING => GroupDecision::Probing {
            pid: (word >> PID_SHIFT) as u32,
            ticks: word >> TICKS_SHIFT,
        },
        OWN => GroupDecision::Own,
        SHARED => GroupDecision::Shared,
        _ => GroupDecision::Unknown,
    }
}

impl Board {
    /// The place of a group, taken if it has none yet. `None` where all are taken: a child then decides for itself.
    pub fn group(&self, name: &[u8]) -> Option<GroupSlot> {
        let key = key_of(name);
        let start = (key % GROUPS as u64) as usize;
        let order = (0..GROUPS).map(|step| (start + step) % GROUPS);
        let at = order.into_iter().find(|&at| {
            let cells = self.group_cells(at);
            match cells[KEY].compare_exchange(0, key, AcqRel, Acquire) {
                Ok(_) => true,
                Err(found) => found == key,
            }
        })?;
        let cells = &self.group_cells(at)[NAME];
        // Every process that takes this place writes the same name, so it is whole even where the first one died meanwhile.
        if text::bytes(cells) != text::fitting(cells, name) {
            text::put(cells, name);
        }
        Some(GroupSlot { board: *self, at })
    }

    /// The place of a group, if it has one.
    pub fn known_group(&self, name: &[u8]) -> Option<GroupSlot> {
        let key = key_of(name);
        let at = (0..GROUPS).find(|&at| self.group_cells(at)[KEY].load(Acquire) == key)?;
        Some(GroupSlot { board: *self, at })
    }

    /// All groups that have a place.
    pub fn groups(&self) -> Vec<GroupEntry> {
        let taken = |&at: &usize| self.group_cells(at)[KEY].load(Acquire) != 0;
        let slots = (0..GROUPS)
            .filter(taken)
            .map(|at| GroupSlot { board: *self, at });
        slots.map(|slot| slot.entry()).collect()
    }

    /// Nothing is decided any more. What a child is trying out now will not be taken for a decision.
    pub(crate) fn forget_decisions(&self) {
        for at in 0..GROUPS {
            self.group_cells(at)[DECISION].swap(0, AcqRel);
        }
    }

    /// Nothing is planned any more.
    pub(crate) fn forget_plans(&self) {
        for at in 0..GROUPS {
            text::put(&self.group_cells(at)[PLAN], b"");
        }
    }

    /// Process `pid` was ended from outside, which says nothing of the code: another child tries again what it was trying
    /// out.
    pub fn abandon_probes(&self, pid: u32) {
        for at in 0..GROUPS {
            let cell = &self.group_cells(at)[DECISION];
            let seen = cell.load(Acquire);
            if matches!(decision_of(seen), GroupDecision::Probing { pid: by, .. } if by == pid) {
                let _ = cell.compare_exchange(seen, 0, AcqRel, Relaxed);
            }
        }
    }

    fn group_cells(&self, at: usize) -> &'static [AtomicU64] {
        let at = self.segment.geometry().group(at);
        self.segment.words(at, GROUP_WORDS)
    }
}

impl GroupSlot {
    /// How many requests a child last found good to have inside an interpreter at a time; 0 for unknown. Any number may be
    /// found here.
    pub fn concurrency(&self) -> u32 {
        self.cells()[CONCURRENCY].load(Relaxed) as u32
    }

    /// Sets how many requests this child finds good to have inside an interpreter at a time.
    pub fn set_concurrency(&self, concurrency: u32) {
        self.cells()[CONCURRENCY].store(concurrency.into(), Relaxed);
    }

    /// Its number, less than 64.
    pub fn number(&self) -> u32 {
        self.at as u32
    }

    /// What was decided.
    pub fn decision(&self) -> GroupDecision {
        decision_of(self.cells()[DECISION].load(Acquire))
    }

    /// The module that forced the decision; empty where nothing is decided, or no module forced it.
    pub fn module(&self) -> String {
        match self.decision() {
            GroupDecision::Own | GroupDecision::Shared => text::get(&self.cells()[MODULE]),
            GroupDecision::Unknown | GroupDecision::Probing { .. } => String::new(),
        }
    }

    /// Says what is planned for it, for people. For the parent.
    pub fn set_plan(&self, plan: &str) {
        text::put(&self.cells()[PLAN], plan.as_bytes());
    }

    /// Whether `owner` has to try it out, and then to [`decide`](Self::decide). Where not, another child does or has: wait
    /// for its decision, and call this again now and then, since where that child has died the decision is made here.
    pub fn begin_probe(&self, owner: Owner) -> bool {
        let cell = &self.cells()[DECISION];
        let seen = cell.load(Acquire);
        match decision_of(seen) {
            GroupDecision::Unknown => cell
                .compare_exchange(seen, probing(owner), AcqRel, Acquire)
                .is_ok(),
            GroupDecision::Probing { pid, ticks } => {
                if !Owner::is_alive_by(pid, ticks, TICKS) {
                    self.settle(seen, SHARED, DIED);
                }
                false
            }
            GroupDecision::Own | GroupDecision::Shared => false,
        }
    }

    /// Tells the other children what `owner`, which has tried it out, has found: [`GroupDecision::Own`] or
    /// [`GroupDecision::Shared`]; `module` forced it, if it is not empty. [`GroupDecision::Shared`] also replaces
    /// [`GroupDecision::Own`]. Returns whether they go by it: not where the decision was forgotten meanwhile.
    pub fn decide(&self, owner: Owner, decision: GroupDecision, module: &str) -> bool {
        let word = match decision {
            GroupDecision::Own => OWN,
            GroupDecision::Shared => SHARED,
            GroupDecision::Unknown | GroupDecision::Probing { .. } => 0,
        };
        self.settle(probing(owner), word, module)
            || decision == GroupDecision::Shared && self.settle(OWN, SHARED, module)
    }

    /// The text goes first, so that no child sees the decision without it.
    fn settle(&self, from: u64, to: u64, module: &str) -> bool {
        let cells = self.cells();
        if cells[DECISION].load(Acquire) != from {
            return false;
        }
        text::put(&cells[MODULE], module.as_bytes());
        cells[DECISION]
            .compare_exchange(from, to, AcqRel, Relaxed)
            .is_ok()
    }

    fn entry(&self) -> GroupEntry {
        GroupEntry {
            name: text::get(&self.cells()[NAME]),
            decision: self.decision(),
            module: self.module(),
            plan: text::get(&self.cells()[PLAN]),
        }
    }

    fn cells(&self) -> &'static [AtomicU64] {
        self.board.group_cells(self.at)
    }
}
