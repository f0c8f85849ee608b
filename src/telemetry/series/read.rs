//! The applications' own metrics for display: added up over the arenas, and over entries of the same series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use crate::segment::Segment;
use crate::segment::entry::{owner_of, state};
use crate::segment::layout::FAMILIES;

use super::cells::{Series, gauge};
use super::family::{Aggregate, CustomKind, Description};
use super::table::Part;
use crate::catalogue::OTHER;

/// The applications' own metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Custom {
    /// Families by name.
    pub families: Vec<CustomFamily>,
    /// Number of entries in use in the table of series.
    pub used: u64,
}

/// A family of the applications' own metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomFamily {
    /// Metadata of the family; the name is without suffix.
    pub description: Description,
    /// Series by label values; no two have the same.
    pub series: Vec<CustomSeries>,
}

/// The samples of a family that have the same label values.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomSeries {
    /// Label values, one for each label.
    pub values: Vec<String>,
    /// The counted value.
    pub value: CustomValue,
}

/// The counted value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomValue {
    /// Value of a counter or gauge.
    Number(f64),
    /// Value of a histogram.
    Histogram {
        /// Upper bounds in ascending order, with the number of observations in each bucket; not cumulative.
        buckets: Vec<(f64, f64)>,
        /// Number of observations above all bounds.
        above: f64,
        /// Sum of the observations.
        sum: f64,
    },
    /// Value of a summary.
    Summary {
        /// Number of observations.
        count: f64,
        /// Sum of the observations.
        sum: f64,
    },
}

/// A valid entry of the table of series.
struct Entry {
    number: usize,
    family: usize,
    part: Part,
    values: Vec<String>,
    /// `None` for a gauge that was never set.
    value: Option<f64>,
}

/// The families that are shown. If two would have a sample name in common, only the first is.
#[derive(Default)]
struct Families {
    all: Vec<Description>,
    sample_names: BTreeSet<String>,
}

impl Families {
    /// Returns the index of a family, which is added if it is new; `None` if it is not shown.
    fn place(&mut self, description: Description) -> Option<usize> {
        let is_same =
            |other: &Description| other.name == description.name && other.is_like(&description);
        let known = self.all.iter().position(is_same);
        if known.is_some() {
            return known;
        }
        let own: Vec<String> = description.sample_names().collect();
        if own.iter().any(|name| self.sample_names.contains(name)) {
            return None;
        }
        self.sample_names.extend(own);
        self.all.push(description);
        Some(self.all.len() - 1)
    }
}

/// Returns the applications' own metrics of a server: those of its segment and of the segments of its process groups.
pub(crate) fn custom_of(segments: impl IntoIterator<Item = Segment>) -> Custom {
    let mut families = Families::default();
    let mut entries = Vec::new();
    let mut used = 0;
    for segment in segments {
        used += segment.custom_entries(&mut families, &mut entries);
    }
    let mut families = by_family(families.all, entries);
    families.sort_by(|a, b| a.description.name.cmp(&b.description.name));
    Custom { families, used }
}

impl Segment {
    #[cfg(test)]
    pub(crate) fn custom(&self) -> Custom {
        custom_of([*self])
    }

    /// Adds the families of this segment, and their entries with their values. Returns the number of entries in use.
    fn custom_entries(&self, families: &mut Families, all: &mut Vec<Entry>) -> u64 {
        let used = self.series_used();
        if used <= 1 {
            return 0;
        }
        let place: [Option<usize>; FAMILIES] = std::array::from_fn(|at| {
            let description = self.custom_description(at)?;
            families.place(description)
        });
        let mut taken = 0;
        let mut entries = Vec::new();
        for number in 1..used {
            let Some((family, (part, bound))) = self.series_entry_of(number) else {
                continue;
            };
            taken += 1;
            let Some(family) = place.get(family).copied().flatten() else {
                continue;
            };
            let Description { kind, labels, .. } = &families.all[family];
            let part = Part::of_words(part, bound, kind);
            let values = self.series_values(number, labels.len());
            if let (Some(part), Some(values)) = (part, values) {
                entries.push(Entry {
                    number,
                    family,
                    part,
                    values,
                    value: None,
                });
            }
        }
        self.add_series(&families.all, &mut entries);
        all.append(&mut entries);
        taken
    }

    /// Returns the total of a series over all processes; `None` if there is nothing to show.
    pub fn series_total(&self, series: Series) -> Option<f64> {
        let number = series.number as usize;
        let (family, words) = self.series_entry_of(number)?;
        let description = self.custom_description(family)?;
        let part = Part::of_words(words.0, words.1, &description.kind)?;
        let values = self.series_values(number, description.labels.len())?;
        let is_same_family = |other: usize| {
            let other = self.custom_description(other);
            other.is_some_and(|other| other.name == description.name && other.is_like(&description))
        };
        let is_same = |other: &usize| {
            self.series_entry_of(*other).is_some_and(|(of, part)| {
                part == words
                    && self.series_values(*other, values.len()).as_ref() == Some(&values)
                    && (of == family || is_same_family(of))
            })
        };
        // Two children that entered it at the same time have an entry each.
        let same = (1..self.series_used()).filter(is_same);
        let mut entries: Vec<Entry> = same
            .map(|number| Entry {
                number,
                family: 0,
                part,
                values: Vec::new(),
                value: None,
            })
            .collect();
        self.add_series(std::slice::from_ref(&description), &mut entries);
        let aggregate = match description.kind {
            CustomKind::Gauge(aggregate) => aggregate,
            _ => Aggregate::Sum,
        };
        let values = entries.into_iter().map(|entry| entry.value);
        values.fold(None, |all, one| together(aggregate, all, one))
    }

    /// Adds counters of every used arena, and gauges of arenas with an owner. The order is always the same, so that no
    /// sum of floats decreases through rounding.
    fn add_series(&self, families: &[Description], entries: &mut [Entry]) {
        for at in 0..self.geometry().arenas {
            let arena = self.entry_cells(at);
            let owned = owner_of(arena) != 0;
            if at != 0 && !owned && arena[state::STARTED].load(Relaxed) == 0 {
                continue;
            }
            let arena = self.process_arena_of(u32::try_from(at).unwrap_or(0));
            for entry in &mut *entries {
                let Some(cell) = arena.used_series_cell(entry.number) else {
                    continue;
                };
                let word = cell.load(Relaxed);
                match families[entry.family].kind {
                    CustomKind::Gauge(aggregate) => {
                        let gauge = gauge(word).filter(|_| owned);
                        entry.value = together(aggregate, entry.value, gauge);
                    }
                    _ => {
                        let value = counted(word, entry.part);
                        entry.value = Some(entry.value.unwrap_or(0.0) + value);
                    }
                }
            }
        }
    }
}

/// Returns the value of a cell that is not a gauge; 0 if no process can have counted it.
fn counted(word: u64, part: Part) -> f64 {
    let value = f64::from_bits(word);
    let may_be = value.is_finite() && (value >= 0.0 || part == Part::Sum);
    if may_be { value } else { 0.0 }
}

fn together(aggregate: Aggregate, a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (Some(x), Some(y)) = (a, b) else {
        return a.or(b);
    };
    Some(match aggregate {
        Aggregate::Sum => x + y,
        Aggregate::Min => x.min(y),
        Aggregate::Max => x.max(y),
    })
}

/// The values of all entries with the same label values.
#[derive(Default)]
struct Parts {
    number: Option<f64>,
    /// Buckets by [`order`] of their bound.
    buckets: BTreeMap<i64, (f64, f64)>,
    above: f64,
    count: f64,
    sum: f64,
}

fn by_family(families: Vec<Description>, entries: Vec<Entry>) -> Vec<CustomFamily> {
    let mut parts: Vec<BTreeMap<Vec<String>, Parts>> = Vec::new();
    parts.resize_with(families.len(), BTreeMap::new);
    for entry in entries {
        let of_family = &mut parts[entry.family];
        let kind = &families[entry.family].kind;
        of_family
            .entry(entry.values)
            .or_default()
            .add(kind, entry.part, entry.value);
    }
    let families = families.into_iter().zip(parts);
    families
        .map(|(description, parts)| CustomFamily {
            series: parts
                .into_iter()
                .filter_map(|(values, parts)| parts.series(&description.kind, values))
                .collect(),
            description,
        })
        .collect()
}

impl Parts {
    fn add(&mut self, kind: &CustomKind, part: Part, value: Option<f64>) {
        let counted = value.unwrap_or(0.0);
        match (part, kind) {
            (Part::Value, CustomKind::Gauge(aggregate)) => {
                self.number = together(*aggregate, self.number, value);
            }
            (Part::Value, _) => self.number = Some(self.number.unwrap_or(0.0) + counted),
            (Part::Bucket(f64::INFINITY), _) => self.above += counted,
            (Part::Bucket(bound), _) => {
                // Turns minus zero into zero.
                let bound = bound + 0.0;
                let bucket = self.buckets.entry(order(bound)).or_insert((bound, 0.0));
                bucket.1 += counted;
            }
            (Part::Sum, _) => self.sum += counted,
            (Part::Count, _) => self.count += counted,
        }
    }

    /// Returns `None` if there is nothing to show: a gauge that was never set, or an overflow that was not needed.
    fn series(self, kind: &CustomKind, values: Vec<String>) -> Option<CustomSeries> {
        let is_overflow = !values.is_empty() && values.iter().all(|value| value == OTHER);
        if is_overflow && self.is_zero() {
            return None;
        }
        let value = match kind {
            CustomKind::Counter | CustomKind::Gauge(_) => CustomValue::Number(self.number?),
            CustomKind::Histogram(_) => CustomValue::Histogram {
                buckets: self.buckets.into_values().collect(),
                above: self.above,
                sum: self.sum,
            },
            CustomKind::Summary => CustomValue::Summary {
                count: self.count,
                sum: self.sum,
            },
        };
        Some(CustomSeries { values, value })
    }

    fn is_zero(&self) -> bool {
        let numbers = [self.number.unwrap_or(0.0), self.above, self.count, self.sum];
        let buckets = self.buckets.values().map(|(_, count)| *count);
        numbers
            .into_iter()
            .chain(buckets)
            .all(|number| number == 0.0)
    }
}

/// Maps a float to an integer with the same order.
fn order(bound: f64) -> i64 {
    let bits = bound.to_bits().cast_signed();
    bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed())
}
