//! Records of single requests: running ones, notable ones, and those of children that ended unexpectedly.

mod deaths;
mod events;
mod running;

pub use deaths::Death;
pub use events::{Event, Notable};
pub(crate) use running::joined;
pub use running::{OuterRequest, Phase, PhaseCell, Running};
