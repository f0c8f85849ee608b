//! The commands, one a file. What they share lies in the other folders; no command knows another.

pub(crate) mod explain;
pub(crate) mod reload;
pub(crate) mod serve;
pub(crate) mod stack;
pub(crate) mod status;
pub(crate) mod top;
