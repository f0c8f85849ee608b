//! The cells of series: what may be done with each, and how it is written.

use std::sync::atomic::Ordering::Relaxed;

use crate::segment::Arena;
use crate::sync::AtomicU64;

/// A series, for code that counts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    pub(super) number: u32,
    pub(super) rule: Rule,
}

/// What may be done with the cell of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    /// Only add what is not negative.
    Grows,
    /// Add anything.
    Sums,
    /// Set, and change.
    Gauge,
}

impl Series {
    /// Where nothing is kept and nothing is shown.
    pub const NOWHERE: Series = Series {
        number: 0,
        rule: Rule::Sums,
    };

    /// Whether it is a gauge.
    pub fn is_gauge(self) -> bool {
        self.rule == Rule::Gauge
    }
}

impl Arena {
    /// Adds to a series. Gauges only in the arena of a child as a whole.
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

    /// The cell to add to, and whether several threads do; that of the spill arena where this one has no memory for it,
    /// and none where neither has.
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

/// A gauge as it is kept: its bits turned round, so that a zeroed cell is one that nobody has set.
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
    /// Adds an observation; what is no number is none.
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
