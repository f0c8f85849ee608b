//! The commands, one per file. What they share is in the other folders; no command uses another.

pub(crate) mod explain;
pub(crate) mod reload;
pub(crate) mod restart;
pub(crate) mod serve;
pub(crate) mod stack;
pub(crate) mod status;
pub(crate) mod top;
