//! The watchers over requests, loads and GILs.

pub(crate) mod attached;
pub(crate) mod gil_probe;
pub(crate) mod loads;
pub(crate) mod snapshot;
pub(crate) mod stacks;
pub(crate) mod thread_list;
pub(crate) mod watchdog;
