//! Measures every executor under every kind of work, in a child with many threads, side by side with mod_wsgi.

mod cell;
pub(crate) mod column;
mod crowd;
pub(crate) mod measure;
pub(crate) mod plan;
mod print;
mod tasks;
mod verdict;
pub(crate) mod workload;
