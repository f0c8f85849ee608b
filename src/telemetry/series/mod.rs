//! The applications' own metrics: families that applications register, and their series.
//!
//! A series is one sample: a cell with the same number in every arena, which holds a float. The cells of counters, and
//! of the parts of histograms and summaries, have the one writer of their arena. Gauges are in the arena of the child
//! as a whole and count while the child lives; the aggregate of the family combines the gauges of several children.
//!
//! Code that counts looks its series up once and keeps the number. When no series is left, all further label values of
//! a family share one more series, with `_other` as its label values: the breakdown suffers, the total does not.

mod cells;
mod client;
mod family;
mod read;
mod refused;
mod table;
#[cfg(test)]
mod tests;

pub use cells::{HistogramSeries, Series};
pub use client::ClientValue;
pub use family::{Aggregate, CustomKind, Description, FamilyNumber};
pub(crate) use read::custom_of;
pub use read::{Custom, CustomFamily, CustomSeries, CustomValue};
pub use refused::{MOST_BOUNDS, MOST_LABELS, Refused};
pub use table::Part;

pub(crate) use table::clear_gauges;
