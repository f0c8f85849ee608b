//! The beginning and the end of Python in this process.

pub(crate) mod forked;
pub(crate) mod runtime;
pub(crate) mod stop;
