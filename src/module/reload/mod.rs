//! Taking up new code by replacing children: a process beside the children tries it first.

pub(crate) mod file_stamp;
mod progress;
pub(crate) mod reloader;
mod trial;
