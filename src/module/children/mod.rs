//! The life of a child, from its first moment to its last, and why it is replaced.

mod child_monitor;
pub(crate) mod deaths;
pub(crate) mod life;
mod memory;
mod readiness;
pub(crate) mod recycle;
pub(crate) mod retire;
pub(crate) mod slot;
pub(crate) mod stacks;
pub(crate) mod steady;
pub(crate) mod threads;
pub(crate) mod watch;
