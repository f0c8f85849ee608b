//! The words of an entry of the arena table: whose an arena is, what that is, and what it runs.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::sync::AtomicU64;

/// Words of an entry of the arena table.
pub(crate) mod state {
    /// Process and thread; 0 is free. For readers see [`owner_of`](super::owner_of).
    pub(crate) const OWNER: usize = 0;
    /// Added to the owner while the entry changes hands: nobody may take it but the parent, once that owner has ended.
    pub(crate) const CHANGING: u64 = 1 << 31;
    /// When the process started, against numbers that come again.
    pub(crate) const TICKS: usize = 1;
    pub(crate) const GENERATION: usize = 2;
    pub(crate) const ROLE: usize = 3;
    /// What was ever counted here: see [`crate::segment::arena::BLOCKS_BIT`] and [`crate::segment::arena::PROCESS_BIT`].
    /// Stays when the arena is freed.
    pub(crate) const TOUCHED: usize = 4;
    /// Stamp of the running request's begin; 0 for none.
    pub(crate) const RUNNING_SINCE: usize = 5;
    /// Application, method and phase of the running request.
    pub(crate) const RUNNING: usize = 6;
    /// In the arena of a child, which runs nothing: whether an application has gauges here.
    pub(crate) const GAUGED: usize = RUNNING;
    /// Unix time in nanoseconds at which the owner took it.
    pub(crate) const STARTED: usize = 7;
}

/// The owner of an entry of the arena table; 0 also while it changes hands.
pub(crate) fn owner_of(entry: &[AtomicU64]) -> u64 {
    let owner = entry[state::OWNER].load(Acquire);
    if owner & state::CHANGING == 0 {
        owner
    } else {
        0
    }
}

/// What the owner of an arena is.
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

/// Whether applications have gauges in an arena; none has where it is not that of a child.
pub(super) fn has_gauges(entry: &[AtomicU64]) -> bool {
    Role::is_process(entry[state::ROLE].load(Relaxed)) && entry[state::GAUGED].load(Acquire) != 0
}
