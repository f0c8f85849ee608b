//! The measurements. Each file makes one of them and prints its results.

pub(crate) mod admission;
mod callgrind;
pub(crate) mod clocks;
pub(crate) mod cpu;
pub(crate) mod daemon;
pub(crate) mod daemon_instructions;
pub(crate) mod instructions;
pub(crate) mod metrics;
pub(crate) mod profile;
pub(crate) mod replicas;
