//! The shared segment: every child writes its numbers into it, and any child, a helper process and `wsgictl` read them.

#![deny(unsafe_code)]

pub mod board;
pub mod catalogue;
pub mod clock;
mod exposition;
#[cfg(feature = "faults")]
pub mod faults;
#[cfg(loom)]
mod loom;
mod reading;
mod recording;
mod requests;
mod segment;
mod series;
pub mod status;
mod sync;

pub use exposition::{Format, negotiate, render};
pub use reading::{
    ApplicationNumbers, Child, GroupSegment, Interval, Numbers, ProcessGroupNumbers, Sample,
    Sampler, Scoreboard, Snapshot,
};
#[cfg(feature = "faults")]
pub use recording::before_reaping;
pub use recording::{ArenaSource, Ended, Recorder, default_bounds, install_recorder, writer};
pub use requests::{Death, Event, Notable, OuterRequest, Phase, PhaseCell, Running};
#[cfg(not(loom))]
pub use segment::published;
pub use segment::{
    App, Application, Arena, Block, Fact, Geometry, Load, Mismatch, Owner, Role, Segment, label_of,
    memory,
};
pub use series::{
    Aggregate, ClientValue, Custom, CustomFamily, CustomKind, CustomSeries, CustomValue,
    Description, FamilyNumber, HistogramSeries, MOST_BOUNDS, MOST_LABELS, Part, Refused, Series,
};
