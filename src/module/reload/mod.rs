//! Replaces children to take up new code, which a process beside the children tries first.

pub(crate) mod file_stamp;
mod progress;
pub(crate) mod reloader;
pub(crate) mod touch;
mod trial;
