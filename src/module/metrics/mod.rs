//! The segment of shared memory, and the pages that are made of it.

pub(crate) mod applications;
pub(crate) mod listen;
pub(crate) mod pages;
pub(crate) mod parent;
pub(crate) mod segment;
pub(crate) mod segment_file;
pub(crate) mod server;
