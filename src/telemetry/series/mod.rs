//! The applications' own metrics: families that they register, and series of them.
//!
//! A series is one sample, a cell of the same number in every arena, which holds a float. Cells of counters, and of the
//! parts of histograms and summaries, are added to by the one writer of each arena. Gauges are kept in the arena of the
//! whole child, and count as long as it lives; the aggregate of the family says what several children's make together.
//!
//! Code that counts looks its series up once and keeps the number. Where no series is left, all further label
//! values of a family go to one more series of it, whose label values are `_other`: the breakdown suffers, the total
//! does not.

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
pub use read::{Custom, CustomFamily, CustomSeries, CustomValue};
pub use refused::{MOST_BOUNDS, MOST_LABELS, Refused};
pub use table::Part;

pub(crate) use table::clear_gauges;
