//! Writing to the segment: processes and threads claim arenas, and the parent frees them.

#[cfg(feature = "faults")]
pub(crate) mod breaking;
mod claim;
mod parent;
mod recorder;
pub mod writer;

#[cfg(feature = "faults")]
pub use breaking::before_reaping;
pub use parent::Ended;
pub use recorder::{ArenaSource, Recorder, default_bounds, install_recorder};
