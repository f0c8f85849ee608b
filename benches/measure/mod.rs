//! The measurements, one a file: each takes its figures and prints them.

pub(crate) mod admission;
mod callgrind;
pub(crate) mod cpu;
pub(crate) mod instructions;
pub(crate) mod metrics;
pub(crate) mod profile;
pub(crate) mod replicas;
