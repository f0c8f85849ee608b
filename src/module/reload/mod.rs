//! Taking up new code by replacing children: a process beside the children tries it first.

pub(crate) mod reloader;
pub(crate) mod trial;
