//! The applications' own metrics: their families and series in the segment, and counting in them. The objects that
//! applications see are in `wsgi/metric.rs`.
//!
//! If nothing is measured, or nothing by this process (a copy that the application forked), all of this exists and does
//! nothing.

use wsgi_telemetry::{
    Arena, ClientValue, Description, FamilyNumber, HistogramSeries, Owner, Refused, Segment, Series,
};

use crate::metrics::telemetry;

/// A metric with all its series.
pub(crate) struct Family {
    description: Description,
    number: Option<(Segment, FamilyNumber)>,
}

impl Family {
    /// Returns the family of this description, and enters it in the segment if it is new.
    pub(crate) fn new(description: Description) -> Result<Self, Refused> {
        description.check()?;
        let number = match recording() {
            Some(segment) => {
                let number = segment.custom_family(&description, owner())?;
                segment.describe_family(number, &description.help);
                Some((segment, number))
            }
            None => None,
        };
        Ok(Self {
            description,
            number,
        })
    }

    /// Returns the family's description.
    pub(crate) fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the series with these label values; not for histograms.
    pub(crate) fn series(&self, values: &[&str]) -> Result<Series, Refused> {
        self.number
            .map_or(Ok(Series::NOWHERE), |(segment, number)| {
                segment.custom_series(number, wsgi_telemetry::Part::Value, values, owner())
            })
    }

    /// Returns the histogram with these label values; `None` if nothing is measured.
    pub(crate) fn histogram(&self, values: &[&str]) -> Result<Option<HistogramSeries>, Refused> {
        let found = self
            .number
            .map(|(segment, number)| segment.custom_histogram(number, values, owner()));
        found.transpose()
    }
}

/// Returns the series of a value of `prometheus_client`.
pub(crate) fn client_series(value: &ClientValue<'_>) -> Result<Series, Refused> {
    recording().map_or(Ok(Series::NOWHERE), |segment| {
        segment.client_series(value, owner())
    })
}

/// Adds to a series: to a gauge in the arena of the child, to any other in the arena of the calling thread.
#[inline]
pub(crate) fn add(series: Series, amount: f64) {
    let arena = if series.is_gauge() {
        telemetry::process_arena()
    } else {
        arena()
    };
    if let Some(arena) = arena {
        arena.series_add(series, amount);
    }
}

/// Sets a gauge, for this child.
pub(crate) fn set(series: Series, value: f64) {
    if let Some(arena) = telemetry::process_arena() {
        arena.series_set(series, value);
    }
}

/// Adds an observation to a histogram.
#[inline]
pub(crate) fn observe(histogram: &HistogramSeries, value: f64) {
    if let Some(arena) = arena() {
        histogram.observe_in(&arena, value);
    }
}

/// Returns the sum of a series over all children.
pub(crate) fn total(series: Series) -> f64 {
    let total = telemetry::segment().and_then(|segment| segment.series_total(series));
    total.unwrap_or(0.0)
}

/// Whether this process counts anything.
pub(crate) fn is_recording() -> bool {
    recording().is_some()
}

/// Returns the number of the child's own arena. No two living children have the same number, and a successor takes over
/// the number of a child that has ended. `None` if the child has no arena.
pub(crate) fn slot() -> Option<u32> {
    let arena = telemetry::process_arena()?;
    Some(arena.index()).filter(|&index| index != 0)
}

/// Returns the arena of the calling thread. The time only matters to a thread that has found no arena before, so a
/// stamp from the same visit to Python is enough, and the clock need not be read.
#[inline]
fn arena() -> Option<Arena> {
    telemetry::arena(crate::cpython::gil_clock::attached_at().unwrap_or_else(telemetry::now))
}

/// Returns the segment, if this process may write to it.
fn recording() -> Option<Segment> {
    telemetry::process_arena().and_then(|_| telemetry::segment())
}

fn owner() -> Owner {
    // The entries of families and series outlive configurations.
    Owner::of_this_process(0)
}
