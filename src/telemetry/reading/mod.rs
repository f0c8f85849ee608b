//! Reading the segment: a snapshot of everything, and the history of the last minutes.

mod groups;
mod history;
pub(crate) mod quantile;
mod snapshot;

pub use groups::{GroupSegment, ProcessGroupNumbers};
pub use history::{Interval, Sample, Sampler};
pub use snapshot::{ApplicationNumbers, Child, Numbers, Scoreboard, Snapshot};
