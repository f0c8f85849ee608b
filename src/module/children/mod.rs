//! The life of a child, from its first moment to its last, and why it is replaced.

pub(crate) mod child_monitor;
pub(crate) mod life;
pub(crate) mod memory;
pub(crate) mod readiness;
pub(crate) mod recycle;
pub(crate) mod retire;
pub(crate) mod slot;
pub(crate) mod stacks;
pub(crate) mod watch;
