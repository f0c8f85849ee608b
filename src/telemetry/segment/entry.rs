//! The entries of the arena table. An entry consists of words (`AtomicU64`): owner, role and running request of an
//! arena.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::sync::AtomicU64;

/// Indices of the words of an entry.
pub(crate) mod state {
    /// Process and thread; 0 if the arena is free. Readers use [`owner_of`](super::owner_of).
    pub(crate) const OWNER: usize = 0;
    /// Bit of the owner, set while the entry changes hands. While it is set, only the parent may take the entry, and
    /// only after that owner has ended.
    pub(crate) const CHANGING: u64 = 1 << 31;
    /// Start of the owner's process in clock ticks, since process ids are reused.
    pub(crate) const TICKS: usize = 1;
    pub(crate) const GENERATION: usize = 2;
    pub(crate) const ROLE: usize = 3;
    /// The cells that have counted something: see [`crate::segment::arena::BLOCKS_BIT`] and
    /// [`crate::segment::arena::PROCESS_BIT`]. Survives the freeing of the arena.
    pub(crate) const TOUCHED: usize = 4;
    /// Stamp at which the running request began; 0 for none.
    pub(crate) const RUNNING_SINCE: usize = 5;
    /// Application, method and phase of the running request.
    pub(crate) const RUNNING: usize = 6;
    /// In the arena of a child, which runs no request: whether an application has gauges there.
    pub(crate) const GAUGED: usize = RUNNING;
    /// Unix time in nanoseconds at which the owner took the arena.
    pub(crate) const STARTED: usize = 7;
}

/// Returns the owner of an entry of the arena table; 0 if there is none or the entry changes hands.
pub(crate) fn owner_of(entry: &[AtomicU64]) -> u64 {
    let owner = entry[state::OWNER].load(Acquire);
    if owner & state::CHANGING == 0 {
        owner
    } else {
        0
    }
}

/// The role of an arena's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A thread that records.
    Thread = 1,
    /// A child that has not started Python yet.
    Starting = 2,
    /// A child that serves.
    Ready = 3,
    /// A child that has begun to end.
    Draining = 4,
}

impl Role {
    pub(crate) fn is_process(role: u64) -> bool {
        (Role::Starting as u64..=Role::Draining as u64).contains(&role)
    }
}

/// Returns whether an arena has gauges of applications. Only the arena of a child can have them.
pub(super) fn has_gauges(entry: &[AtomicU64]) -> bool {
    Role::is_process(entry[state::ROLE].load(Relaxed)) && entry[state::GAUGED].load(Acquire) != 0
}
