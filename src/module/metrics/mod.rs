//! The segment of shared memory, and the pages that show it.

pub(crate) mod applications;
pub(crate) mod listen;
pub(crate) mod pages;
pub(crate) mod parent;
mod scoreboard;
pub(crate) mod segment;
pub(crate) mod segment_file;
mod server;
pub(crate) mod what_ran;
