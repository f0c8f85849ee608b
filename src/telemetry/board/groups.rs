//! The decisions about application groups. One child probes whether a group may have its own GIL; the others follow its
//! result. The parent records what the configuration means for each group.
//!
//! ```text
//!              begin_probe               decide
//! Unknown ───────────────► Probing ───────────► Own | Shared
//!     ▲                         │ the probing child has died: Shared
//!     └─────────────────────────┴───────────────────── forgotten: new code, new configuration
//! Own ──► Shared: another application of the group cannot be loaded with its own GIL
//! ```

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::common::Board;
use crate::catalogue::fnv;
use crate::segment::Owner;
use crate::segment::layout::{GROUP_WORDS, GROUPS};
use crate::segment::text;
use crate::sync::AtomicU64;

/// The decision about the GIL of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupDecision {
    /// No child has probed the group yet.
    Unknown,
    /// A child is probing the group.
    Probing {
        /// Process id of the child.
        pid: u32,
        /// Start of the child: the part of its clock ticks that the word has room for.
        ticks: u64,
    },
    /// The group imports with its own GIL.
    Own,
    /// The group needs the process-wide GIL.
    Shared,
}

/// The slot of a group on the board.
#[derive(Clone, Copy)]
pub struct GroupSlot {
    board: Board,
    at: usize,
}

/// A group as the board has it, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Name of the group; empty for the main interpreter.
    pub name: String,
    /// The decision about its GIL.
    pub decision: GroupDecision,
    /// The module that forced the decision; empty if none did.
    pub module: String,
    /// The plan of the group; empty if the parent has not recorded one.
    pub plan: String,
}

/// Hash of the name; 0 is free. A process takes an entry by setting the hash, so no group gets two entries.
const KEY: usize = 0;
const DECISION: usize = 1;
const NAME: std::ops::Range<usize> = 2..19;
const MODULE: std::ops::Range<usize> = 19..36;
/// Number of requests inside an interpreter at once that a child last found best; 0 for unknown.
const CONCURRENCY: usize = 36;
const PLAN: std::ops::Range<usize> = 37..GROUP_WORDS;

/// The bits of the tag: the lowest two of a decision.
const TAG: u64 = 3;
const PROBING: u64 = 1;
const OWN: u64 = 2;
const SHARED: u64 = 3;
const PID_SHIFT: u32 = 2;
const TICKS_SHIFT: u32 = 34;
/// The part of the ticks that a word keeps: it repeats after four months.
const TICKS: u64 = (1 << (64 - TICKS_SHIFT)) - 1;

/// Text in place of a module name if the probing child has died.
const DIED: &str = "the process that tried it out died";

/// Returns the 64-bit hash that stands for a name. Names that collide share a decision; that is all a client can reach
/// by making up names.
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
    /// Returns the slot of a group, taking one if it has none. Returns `None` if all slots are taken: the child then
    /// decides for itself.
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
        // Every process that takes this slot writes the same name, so the name is whole even if the first process died.
        if text::bytes(cells) != text::fitting(cells, name) {
            text::put(cells, name);
        }
        Some(GroupSlot { board: *self, at })
    }

    /// Returns the slot of a group, if it has one.
    pub fn known_group(&self, name: &[u8]) -> Option<GroupSlot> {
        let key = key_of(name);
        let at = (0..GROUPS).find(|&at| self.group_cells(at)[KEY].load(Acquire) == key)?;
        Some(GroupSlot { board: *self, at })
    }

    /// Returns all groups that have a slot.
    pub fn groups(&self) -> Vec<GroupEntry> {
        let taken = |&at: &usize| self.group_cells(at)[KEY].load(Acquire) != 0;
        let slots = (0..GROUPS)
            .filter(taken)
            .map(|at| GroupSlot { board: *self, at });
        slots.map(|slot| slot.entry()).collect()
    }

    /// Forgets all decisions. The result of a probe that is running now will not become a decision.
    pub(crate) fn forget_decisions(&self) {
        for at in 0..GROUPS {
            self.group_cells(at)[DECISION].swap(0, AcqRel);
        }
    }

    /// Forgets all plans.
    pub(crate) fn forget_plans(&self) {
        for at in 0..GROUPS {
            text::put(&self.group_cells(at)[PLAN], b"");
        }
    }

    /// Forgets the probes of process `pid`, which was ended from outside. That proves nothing about the code, so
    /// another child probes again.
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
    /// Returns the number of requests inside an interpreter at once that a child last found best; 0 for unknown. A
    /// broken child may have written any number.
    pub fn concurrency(&self) -> u32 {
        self.cells()[CONCURRENCY].load(Relaxed) as u32
    }

    /// Sets the number of requests inside an interpreter at once that this child finds best.
    pub fn set_concurrency(&self, concurrency: u32) {
        self.cells()[CONCURRENCY].store(concurrency.into(), Relaxed);
    }

    /// Returns the number of the slot, less than 64.
    pub fn number(&self) -> u32 {
        self.at as u32
    }

    /// Returns the decision about the group.
    pub fn decision(&self) -> GroupDecision {
        decision_of(self.cells()[DECISION].load(Acquire))
    }

    /// Returns the module that forced the decision; empty if nothing is decided or no module forced it.
    pub fn module(&self) -> String {
        match self.decision() {
            GroupDecision::Own | GroupDecision::Shared => text::get(&self.cells()[MODULE]),
            GroupDecision::Unknown | GroupDecision::Probing { .. } => String::new(),
        }
    }

    /// Sets the plan of the group, for display. For the parent.
    pub fn set_plan(&self, plan: &str) {
        text::put(&self.cells()[PLAN], plan.as_bytes());
    }

    /// Returns whether `owner` must probe the group and then call [`decide`](Self::decide). If not, another child is
    /// probing or has decided: wait for the decision and call this again from time to time, since it makes the decision
    /// if that child has died.
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

    /// Records the result of a probe by `owner`: [`GroupDecision::Own`] or [`GroupDecision::Shared`]. `module` forced
    /// it, unless it is empty. [`GroupDecision::Shared`] also replaces [`GroupDecision::Own`]. Returns whether the
    /// result is now the decision: it is not if the probe was forgotten.
    pub fn decide(&self, owner: Owner, decision: GroupDecision, module: &str) -> bool {
        let word = match decision {
            GroupDecision::Own => OWN,
            GroupDecision::Shared => SHARED,
            GroupDecision::Unknown | GroupDecision::Probing { .. } => 0,
        };
        self.settle(probing(owner), word, module)
            || decision == GroupDecision::Shared && self.settle(OWN, SHARED, module)
    }

    /// Writes the text first, so that no child sees the decision without it.
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
