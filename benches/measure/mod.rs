//! The measurements, one in each file, which also prints the results.

pub(crate) mod admission;
mod callgrind;
pub(crate) mod cpu;
pub(crate) mod instructions;
pub(crate) mod metrics;
pub(crate) mod profile;
pub(crate) mod replicas;
