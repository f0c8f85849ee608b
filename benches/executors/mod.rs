//! Who runs the requests of a child with many threads: every executor under every kind of work, beside mod_wsgi.

mod cell;
pub(crate) mod column;
mod crowd;
pub(crate) mod measure;
pub(crate) mod plan;
mod print;
mod tasks;
mod verdict;
pub(crate) mod workload;
