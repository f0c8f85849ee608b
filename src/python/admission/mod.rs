//! How requests get into Python: their group, its queue, and the strategies that run them.

pub(crate) mod delegate;
pub(crate) mod direct;
pub(crate) mod executor;
pub(crate) mod group;
pub(crate) mod lent;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod share;
