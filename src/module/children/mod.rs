//! The life of a child, from its first moment to its last, and why it is replaced.

mod child_monitor;
pub(crate) mod deaths;
pub(crate) mod life;
mod memory;
mod readiness;
pub(crate) mod recycle;
pub(crate) mod retire;
mod slot;
mod stacks;
mod steady;
pub(crate) mod threads;
mod watch;
