//! What is read from the segment: everything at one moment, and the last minutes.

mod history;
pub(crate) mod quantile;
mod snapshot;

pub use history::{Interval, Sample, Sampler};
pub use snapshot::{ApplicationNumbers, Child, Numbers, Scoreboard, Snapshot};
