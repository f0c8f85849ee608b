//! Writing to series from the calling thread.

use super::writer;
use crate::series::{HistogramSeries, Series};

impl Series {
    /// Adds `value`, for a counter in the arena of the calling thread, for a gauge in the arena of the child. Counters
    /// ignore negative values; all but gauges ignore values that are not finite.
    pub fn add(self, value: f64) {
        let arena = if self.is_gauge() {
            writer::process()
        } else {
            writer::current()
        };
        if let Some(arena) = arena {
            arena.series_add(self, value);
        }
    }

    /// Sets a gauge for this child. Series of other kinds ignore the call.
    pub fn set(self, value: f64) {
        if let Some(arena) = writer::process() {
            arena.series_set(self, value);
        }
    }
}

impl HistogramSeries {
    /// Adds an observation in the arena of the calling thread.
    pub fn observe(&self, value: f64) {
        if let Some(arena) = writer::current() {
            self.observe_in(&arena, value);
        }
    }
}
