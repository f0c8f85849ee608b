//! What the engine records in the segment, and the applications' own metrics.

pub(crate) mod application_state;
pub(crate) mod custom;
pub(crate) mod gauges;
pub(crate) mod gil;
pub(crate) mod telemetry;
