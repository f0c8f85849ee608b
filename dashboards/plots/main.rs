//! Plots.

fn main() {}
