//! Series, written to by whatever thread is running.

use super::writer;
use crate::series::{HistogramSeries, Series};

impl Series {
    /// Adds, in the arena of the calling thread; to a gauge in that of the child. Counters do not take what is negative,
    /// and none but gauges what is not finite.
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

    /// Sets a gauge, for this child. Nothing else can be set.
    pub fn set(self, value: f64) {
        if let Some(arena) = writer::process() {
            arena.series_set(self, value);
        }
    }
}

impl HistogramSeries {
    /// Adds an observation, in the arena of the calling thread.
    pub fn observe(&self, value: f64) {
        if let Some(arena) = writer::current() {
            self.observe_in(&arena, value);
        }
    }
}
