//! The cells of series: the operations that each allows, and how it is written.

use std::sync::atomic::Ordering::Relaxed;

use crate::segment::Arena;
use crate::sync::AtomicU64;

/// A handle of a series, for code that counts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    pub(super) number: u32,
    pub(super) rule: Rule,
}

/// The operations that the cell of a series allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// Adding values that are not negative.
    Grows,
    /// Adding any value.
    Sums,
    /// Setting and adding.
    Gauge,
}

impl Series {
    /// A series that keeps nothing and is not shown.
    pub const NOWHERE: Series = Series {
        number: 0,
        rule: Rule::Sums,
    };

    /// Returns whether the series is a gauge.
    pub fn is_gauge(self) -> bool {
        self.rule == Rule::Gauge
    }
}

impl Arena {
    /// Adds to a series. A gauge must be added to in the arena of a child as a whole.
    #[inline]
    pub fn series_add(&self, series: Series, value: f64) {
        if series.number == 0 {
            return;
        }
        let Some((cell, is_shared)) = self.cell_to_add(series) else {
            return;
        };
        match series.rule {
            Rule::Gauge => update(cell, |word| gauge_word(gauge(word).unwrap_or(0.0) + value)),
            Rule::Grows if value < 0.0 => {}
            Rule::Grows | Rule::Sums if !value.is_finite() => {}
            Rule::Grows | Rule::Sums => {
                let sum = |word| (f64::from_bits(word) + value).to_bits();
                if is_shared {
                    update(cell, sum);
                } else {
                    cell.store(sum(cell.load(Relaxed)), Relaxed);
                }
            }
        }
    }

    /// Sets a gauge. Only in the arena of a child as a whole.
    pub fn series_set(&self, series: Series, value: f64) {
        if series.number != 0
            && series.rule == Rule::Gauge
            && let Some(cell) = self.series_cell(series.number as usize)
        {
            cell.store(gauge_word(value), Relaxed);
        }
    }

    /// Returns the cell to add to, and whether several threads add to it. If this arena has no memory for it, returns
    /// that of the spill arena; `None` if neither has memory.
    #[inline]
    fn cell_to_add(&self, series: Series) -> Option<(&'static AtomicU64, bool)> {
        let number = series.number as usize;
        if let Some(cell) = self.series_cell(number) {
            return Some((cell, self.is_shared()));
        }
        let is_gauge = series.is_gauge();
        let cell = self.segment().spill().series_cell(number);
        cell.filter(|_| !is_gauge).map(|cell| (cell, true))
    }
}

fn update(cell: &AtomicU64, new: impl Fn(u64) -> u64) {
    let mut seen = cell.load(Relaxed);
    while let Err(now) = cell.compare_exchange_weak(seen, new(seen), Relaxed, Relaxed) {
        seen = now;
    }
}

/// Encodes a gauge. The bits are inverted, so that a zeroed cell is a gauge that was never set.
fn gauge_word(value: f64) -> u64 {
    let value = if value.is_nan() { f64::NAN } else { value };
    !value.to_bits()
}

pub(super) fn gauge(word: u64) -> Option<f64> {
    (word != 0).then(|| f64::from_bits(!word))
}

/// A histogram of an application, with the series of its buckets.
#[derive(Clone, Debug)]
pub struct HistogramSeries {
    pub(super) bounds: Box<[f64]>,
    /// One more than there are bounds.
    pub(super) buckets: Box<[Series]>,
    pub(super) sum: Series,
}

impl HistogramSeries {
    /// Adds an observation; ignores NaN.
    pub fn observe_in(&self, arena: &Arena, value: f64) {
        if value.is_nan() {
            return;
        }
        let at = self.bounds.partition_point(|&bound| bound < value);
        if let Some(&bucket) = self.buckets.get(at) {
            arena.series_add(bucket, 1.0);
            arena.series_add(self.sum, value);
        }
    }
}
