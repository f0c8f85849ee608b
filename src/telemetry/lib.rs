//! The shared segment, in which every child counts and from which any child, a helper process and `wsgictl` read.

#![deny(unsafe_code)]

mod applications;
mod arena;
pub mod board;
pub mod catalogue;
pub mod clock;
mod deaths;
mod events;
mod exposition;
#[cfg(feature = "faults")]
pub mod faults;
mod history;
mod layout;
#[cfg(loom)]
mod loom;
#[cfg_attr(loom, path = "loom/map.rs")]
pub mod map;
mod negotiate;
#[cfg(not(loom))]
pub mod published;
mod quantile;
mod recorder;
mod running;
mod segment;
mod series;
mod snapshot;
pub mod status;
mod sync;
mod text;
pub mod writer;

pub use applications::{App, Application, label_of};
pub use arena::{Arena, Block, Owner, Role};
pub use deaths::Death;
pub use events::{Event, Notable};
pub use exposition::render;
pub use history::{Interval, Sample, Sampler};
pub use layout::Geometry;
pub use negotiate::{Format, negotiate};
pub use recorder::{Recorder, default_bounds};
pub use running::{Before, Phase, PhaseCell, Running};
pub use segment::{Ended, Fact, Mismatch, Segment};
pub use series::{
    Aggregate, ClientValue, Custom, CustomFamily, CustomKind, CustomSeries, CustomValue,
    Description, FamilyNumber, HistogramSeries, MOST_BOUNDS, MOST_LABELS, Part, Refused, Series,
};
pub use snapshot::{ApplicationNumbers, Child, Numbers, Scoreboard, Snapshot};
