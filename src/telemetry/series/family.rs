//! The table of families.
//!
//! An entry is free, being written by a process, or in use until the segment ends. Two children that enter the same
//! family at the same time make two entries; readers merge them.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::catalogue::{Id, OVERFLOW, fnv, value};
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::layout::{FAMILIES, FAMILY_WORDS};
use crate::segment::text;
use crate::sync::AtomicU64;

use super::refused::{MOST_BOUNDS, MOST_LABELS, Refused};

/// Longest name of a family in bytes, without suffix.
const LONGEST_NAME: usize = 118;

/// How the gauges of several children are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Sum of all gauges.
    #[default]
    Sum,
    /// The least gauge.
    Min,
    /// The greatest gauge.
    Max,
}

/// Type of a family of an application.
#[derive(Clone, Debug, PartialEq)]
pub enum CustomKind {
    /// A counter: it only grows.
    Counter,
    /// A gauge: it may go up and down.
    Gauge(Aggregate),
    /// A histogram with these upper bounds. Without bounds, its buckets are registered one by one with their own.
    Histogram(Vec<f64>),
    /// Number and sum of the observations.
    Summary,
}

impl CustomKind {
    /// Returns the suffixes of its sample names after the name of the family.
    pub(super) fn suffixes(&self) -> &'static [&'static str] {
        match self {
            CustomKind::Counter => &["", "_total", "_created"],
            CustomKind::Gauge(_) => &[""],
            CustomKind::Histogram(_) => &["", "_bucket", "_count", "_sum", "_created"],
            CustomKind::Summary => &["", "_count", "_sum", "_created"],
        }
    }

    fn bounds(&self) -> &[f64] {
        match self {
            CustomKind::Histogram(bounds) => bounds,
            _ => &[],
        }
    }

    /// Packs the kind into a word of the segment, without the bounds.
    fn word(&self) -> u64 {
        let kind = match self {
            CustomKind::Counter => 1,
            CustomKind::Gauge(Aggregate::Sum) => 2,
            CustomKind::Gauge(Aggregate::Min) => 3,
            CustomKind::Gauge(Aggregate::Max) => 4,
            CustomKind::Histogram(_) => 5,
            CustomKind::Summary => 6,
        };
        kind | (self.bounds().len() as u64) << 8
    }

    fn of_word(word: u64, bounds: impl Iterator<Item = f64>) -> Option<Self> {
        Some(match word as u8 {
            1 => CustomKind::Counter,
            2 => CustomKind::Gauge(Aggregate::Sum),
            3 => CustomKind::Gauge(Aggregate::Min),
            4 => CustomKind::Gauge(Aggregate::Max),
            5 => CustomKind::Histogram(bounds.take((word >> 8) as usize).collect()),
            6 => CustomKind::Summary,
            _ => return None,
        })
    }
}

/// The metadata of an application's metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Name of the metric; for a counter with or without the suffix `_total`.
    pub name: String,
    /// Type of the metric.
    pub kind: CustomKind,
    /// Names of the labels.
    pub labels: Vec<String>,
    /// Text of the `HELP` line.
    pub help: String,
}

/// Number of a family in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FamilyNumber(pub(super) Option<u8>);

pub(super) const STATE: usize = 0;
const HASH: usize = 1;
pub(super) const WHAT: usize = 2;
const BOUNDS: std::ops::Range<usize> = 3..23;
const NAME: std::ops::Range<usize> = 23..40;
const LABELS: std::ops::Range<usize> = 40..57;
const HELP: std::ops::Range<usize> = 57..96;

const _: () = assert!(HELP.end <= FAMILY_WORDS && BOUNDS.end - BOUNDS.start == MOST_BOUNDS);
const _: () = assert!(FAMILIES <= u8::MAX as usize);

/// A process is writing the entry; the rest of the word is its pid.
pub(super) const WRITING: u64 = 1 << 56;
pub(super) const LIVE: u64 = 2 << 56;

impl Description {
    /// Returns the name of the family, without the suffix of its type.
    fn base(&self) -> &str {
        match self.kind {
            CustomKind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        }
    }

    /// Checks that Prometheus and the segment accept the metric.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self) -> Result<(), Refused> {
        let name = self.base();
        if !is_name(name) || name.len() > LONGEST_NAME {
            return Err(Refused::Name(self.name.clone()));
        }
        if name.starts_with("wsgi_") {
            return Err(Refused::Reserved(self.name.clone()));
        }
        for (at, label) in self.labels.iter().enumerate() {
            let taken = match self.kind {
                CustomKind::Histogram(_) => label == "le",
                CustomKind::Summary => label == "quantile",
                _ => false,
            };
            if taken || !is_label_name(label) {
                return Err(Refused::Label(label.clone()));
            }
            if self.labels[..at].contains(label) {
                return Err(Refused::LabelTwice(label.clone()));
            }
        }
        if self.labels.len() > MOST_LABELS || self.labels.join(",").len() > 128 {
            return Err(Refused::TooManyLabels(self.name.clone()));
        }
        if are_bounds(self.kind.bounds()) {
            Ok(())
        } else {
            Err(Refused::Bounds(self.name.clone()))
        }
    }

    pub(super) fn is_like(&self, other: &Description) -> bool {
        self.kind == other.kind && self.labels == other.labels
    }

    /// Returns the sample names, which no other family may have.
    pub(super) fn sample_names(&self) -> impl Iterator<Item = String> {
        let suffixes = self.kind.suffixes().iter();
        suffixes.map(|suffix| format!("{}{suffix}", self.base()))
    }

    fn clashes(&self, other: &Description) -> bool {
        let others: Vec<String> = other.sample_names().collect();
        self.sample_names().any(|name| others.contains(&name))
    }
}

fn are_bounds(bounds: &[f64]) -> bool {
    bounds.len() <= MOST_BOUNDS
        && bounds.iter().all(|bound| bound.is_finite())
        && bounds.is_sorted_by(|a, b| a < b)
}

/// Returns whether Prometheus accepts `name` for a metric.
pub(crate) fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// Returns whether Prometheus accepts `name` for a label and does not reserve it for itself.
pub(crate) fn is_label_name(name: &str) -> bool {
    is_name(name) && !name.contains(':') && !name.starts_with("__")
}

impl Segment {
    /// Returns the family with this description and enters it if it is new. If the table is full, returns a family that
    /// is not shown, and counts an overflow.
    ///
    /// # Errors
    /// Prometheus would not accept the metric, or another family has this name.
    pub fn custom_family(
        &self,
        description: &Description,
        owner: Owner,
    ) -> Result<FamilyNumber, Refused> {
        description.check()?;
        if let Some(found) = self.known_family(description)? {
            return Ok(found);
        }
        let writing = WRITING | u64::from(owner.pid);
        for at in 0..FAMILIES {
            let cells = self.family_cells(at);
            if cells[STATE].load(Relaxed) == 0
                && cells[STATE]
                    .compare_exchange(0, writing, AcqRel, Relaxed)
                    .is_ok()
            {
                self.write_family(at, description);
                cells[STATE].store(LIVE, Release);
                // Another child may have entered this family, or another one with this name, in the meantime.
                let found = self.known_family(description)?;
                return Ok(found.unwrap_or(number_of(at)));
            }
        }
        self.count(Id::MetricsOverflows, value(OVERFLOW, "series"), 1);
        Ok(FamilyNumber(None))
    }

    /// Sets the help of a family that has none yet.
    pub fn describe_family(&self, family: FamilyNumber, help: &str) {
        if let Some(at) = family.0 {
            let cells = &self.family_cells(at.into())[HELP];
            if cells[0].load(Relaxed) == 0 {
                text::put(cells, cut(help, HELP_BYTES).as_bytes());
            }
        }
    }

    fn known_family(&self, description: &Description) -> Result<Option<FamilyNumber>, Refused> {
        let hash = fnv(0, description.base().as_bytes());
        for at in 0..FAMILIES {
            let Some(other) = self.custom_description(at) else {
                continue;
            };
            let same_name = self.family_cells(at)[HASH].load(Relaxed) == hash
                && other.name == description.base();
            if same_name && description.is_like(&other) {
                return Ok(Some(number_of(at)));
            }
            if same_name {
                return Err(Refused::Different(description.name.clone()));
            }
            if description.clashes(&other) {
                return Err(Refused::Clash(description.name.clone(), other.name));
            }
        }
        Ok(None)
    }

    fn write_family(&self, at: usize, description: &Description) {
        let cells = self.family_cells(at);
        let bounds = description.kind.bounds();
        for (cell, bound) in cells[BOUNDS].iter().zip(bounds) {
            cell.store(bound.to_bits(), Relaxed);
        }
        let name = description.base().as_bytes();
        cells[HASH].store(fnv(0, name), Relaxed);
        cells[WHAT].store(description.kind.word(), Relaxed);
        text::put(&cells[NAME], name);
        text::put(&cells[LABELS], description.labels.join(",").as_bytes());
        text::put(&cells[HELP], cut(&description.help, HELP_BYTES).as_bytes());
    }

    /// Returns the description in entry `at`, if it is valid. The name is without suffix.
    pub(super) fn custom_description(&self, at: usize) -> Option<Description> {
        let cells = self.family_cells(at);
        if cells[STATE].load(Acquire) != LIVE {
            return None;
        }
        let bounds = cells[BOUNDS].iter();
        let bounds = bounds.map(|bound| f64::from_bits(bound.load(Relaxed)));
        let labels = text::get(&cells[LABELS]);
        let description = Description {
            name: text::get(&cells[NAME]),
            kind: CustomKind::of_word(cells[WHAT].load(Relaxed), bounds)?,
            labels: labels
                .split(',')
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            help: String::from_utf8_lossy(&text::bytes(&cells[HELP])).into_owned(),
        };
        let is_whole = description.base() == description.name && description.check().is_ok();
        is_whole.then_some(description)
    }

    pub(super) fn family_cells(&self, at: usize) -> &'static [AtomicU64] {
        self.words(self.geometry().family(at), FAMILY_WORDS)
    }
}

/// Returns whether the word of an entry, which any child may have written, is that of a gauge.
pub(super) fn is_gauge(what: u64) -> bool {
    (2..=4).contains(&(what as u8))
}

fn number_of(at: usize) -> FamilyNumber {
    FamilyNumber(u8::try_from(at).ok())
}

/// Returns as much of `text` as fits into `room` bytes, in whole characters.
pub(super) fn cut(text: &str, room: usize) -> &str {
    &text[..text.floor_char_boundary(room)]
}

const HELP_BYTES: usize = (HELP.end - HELP.start - 1) * 8;
