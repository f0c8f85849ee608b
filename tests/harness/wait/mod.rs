//! Waiting by repeated queries, and flags for the threads of a test.

pub(crate) mod eventually;
pub(crate) mod gate;
pub(crate) mod over;
