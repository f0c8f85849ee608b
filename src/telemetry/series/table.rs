//! The table of series.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::catalogue::{Id, OTHER, OVERFLOW, fnv, value};
use crate::segment::Arena;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::layout::{FAMILIES, SERIES_WORDS, header};
use crate::segment::text;
use crate::sync::AtomicU64;

use super::cells::{HistogramSeries, Rule, Series};
use super::family::{self, CustomKind, Description, FamilyNumber, LIVE, WRITING, cut};
use super::refused::Refused;

/// The part of its family that a series is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// The only sample of a counter or of a gauge.
    Value,
    /// The observations in the bucket with this upper bound; not cumulative.
    Bucket(f64),
    /// Sum of the observations.
    Sum,
    /// Number of observations of a summary.
    Count,
}

impl Part {
    /// Packs the part into two words of the segment.
    pub(super) fn words(self) -> (u64, u64) {
        match self {
            Part::Value => (0, 0),
            Part::Bucket(bound) => (1, bound.to_bits()),
            Part::Sum => (2, 0),
            Part::Count => (3, 0),
        }
    }

    /// Unpacks a part; `None` if families of this kind do not have it.
    pub(super) fn of_words(part: u64, bound: u64, kind: &CustomKind) -> Option<Self> {
        match (part, kind) {
            (0, CustomKind::Counter | CustomKind::Gauge(_)) => Some(Part::Value),
            (1, CustomKind::Histogram(_)) => {
                let bound = f64::from_bits(bound);
                let may_be = !bound.is_nan() && bound != f64::NEG_INFINITY;
                may_be.then_some(Part::Bucket(bound))
            }
            (2, CustomKind::Histogram(_) | CustomKind::Summary) => Some(Part::Sum),
            (3, CustomKind::Summary) => Some(Part::Count),
            _ => None,
        }
    }

    fn rule(self, kind: &CustomKind) -> Rule {
        match (self, kind) {
            (Part::Value, CustomKind::Gauge(_)) => Rule::Gauge,
            (Part::Sum, _) => Rule::Sums,
            (Part::Value | Part::Bucket(_) | Part::Count, _) => Rule::Grows,
        }
    }
}

/// The identity of a series, as its entry has it.
struct Key {
    family: u8,
    part: (u64, u64),
    values: Vec<u8>,
    hash: u64,
}

const STATE: usize = 0;
const HASH: usize = 1;
const WHAT: usize = 2;
const BOUND: usize = 3;
const VALUES: std::ops::Range<usize> = 4..SERIES_WORDS;
const ROOM: usize = (VALUES.end - VALUES.start - 1) * 8;

impl Key {
    fn new(family: u8, part: Part, values: &[&str]) -> Self {
        let part = part.words();
        let values = encoded(values);
        let hash = fnv(fnv(0, &[family, part.0 as u8]), &part.1.to_le_bytes());
        Self {
            family,
            part,
            hash: fnv(hash, &values),
            values,
        }
    }

    fn what(&self) -> u64 {
        u64::from(self.family) | self.part.0 << 8
    }

    fn is_at(&self, cells: &[AtomicU64]) -> bool {
        cells[HASH].load(Relaxed) == self.hash
            && cells[STATE].load(Acquire) == LIVE
            && cells[WHAT].load(Relaxed) == self.what()
            && cells[BOUND].load(Relaxed) == self.part.1
            && text::bytes(&cells[VALUES]) == self.values
    }
}

/// Encodes label values, each after its length. A value that is too long keeps its beginning and gets a hash of the
/// whole.
fn encoded(values: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let room = ROOM / values.len().max(1) - 2;
    for &value in values {
        let fitting = if value.len() <= room {
            value.to_owned()
        } else {
            let hash = fnv(0xcbf2_9ce4_8422_2325, value.as_bytes()) as u32;
            format!("{}-{hash:08x}", cut(value, room - 9))
        };
        bytes.extend_from_slice(&(fitting.len() as u16).to_le_bytes());
        bytes.extend_from_slice(fitting.as_bytes());
    }
    bytes
}

/// Decodes the label values of an entry, which may hold anything; `None` if there are fewer than `count` values.
fn decoded(mut bytes: &[u8], count: usize) -> Option<Vec<String>> {
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        values.push(String::from_utf8_lossy(value).into_owned());
        bytes = rest;
    }
    Some(values)
}

impl Segment {
    /// Returns a series of a family and enters it if it is new.
    ///
    /// # Errors
    /// The family has no such part, or another number of labels.
    pub fn custom_series(
        &self,
        family: FamilyNumber,
        part: Part,
        values: &[&str],
        owner: Owner,
    ) -> Result<Series, Refused> {
        let mut found = self.series_of(family, &[part], values, owner)?;
        Ok(found.pop().unwrap_or(Series::NOWHERE))
    }

    /// Returns all series of a histogram whose family has bounds.
    ///
    /// # Errors
    /// The family is not a histogram, or has another number of labels.
    pub fn custom_histogram(
        &self,
        family: FamilyNumber,
        values: &[&str],
        owner: Owner,
    ) -> Result<HistogramSeries, Refused> {
        let Some(description) = self.described(family) else {
            return Ok(HistogramSeries {
                bounds: Box::default(),
                buckets: Box::default(),
                sum: Series::NOWHERE,
            });
        };
        let CustomKind::Histogram(bounds) = description.kind else {
            return Err(Refused::Sample(description.name));
        };
        let buckets = bounds.iter().chain([&f64::INFINITY]);
        let mut parts: Vec<Part> = buckets.map(|&bound| Part::Bucket(bound)).collect();
        parts.push(Part::Sum);
        let mut buckets = self.series_of(family, &parts, values, owner)?;
        let sum = buckets.pop().unwrap_or(Series::NOWHERE);
        Ok(HistogramSeries {
            bounds: bounds.into(),
            buckets: buckets.into(),
            sum,
        })
    }

    fn described(&self, family: FamilyNumber) -> Option<Description> {
        self.custom_description(family.0?.into())
    }

    /// Returns all these series of a family; or else those of its overflow; or else series that keep nothing.
    fn series_of(
        &self,
        family: FamilyNumber,
        parts: &[Part],
        values: &[&str],
        owner: Owner,
    ) -> Result<Vec<Series>, Refused> {
        let nowhere = vec![Series::NOWHERE; parts.len()];
        let (Some(number), Some(description)) = (family.0, self.described(family)) else {
            return Ok(nowhere);
        };
        if values.len() != description.labels.len() {
            return Err(Refused::Values(description.name));
        }
        for part in parts {
            let (word, bound) = part.words();
            if Part::of_words(word, bound, &description.kind).is_none() {
                return Err(Refused::Sample(description.name));
            }
        }
        let keys = |values: &[&str]| -> Vec<Key> {
            let key = |part: &Part| Key::new(number, *part, values);
            parts.iter().map(key).collect()
        };
        let with_rules = |numbers: Vec<u32>| {
            let rules = parts.iter().map(|part| part.rule(&description.kind));
            let series = numbers.into_iter().zip(rules);
            series
                .map(|(number, rule)| Series { number, rule })
                .collect()
        };
        let wanted = keys(values);
        let known: Option<Vec<u32>> = wanted.iter().map(|key| self.find(key)).collect();
        if let Some(known) = known {
            return Ok(with_rules(known));
        }
        // The overflow series must exist before the table is full.
        let others = vec![OTHER; values.len()];
        let rest = self.enter_all(&keys(&others), owner);
        let found = rest.as_ref().and_then(|_| self.enter_all(&wanted, owner));
        if found.is_none() {
            self.count(Id::MetricsOverflows, value(OVERFLOW, "series"), 1);
        }
        Ok(found.or(rest).map_or(nowhere, with_rules))
    }

    /// Enters all of the keys or none: half a histogram would be misleading.
    fn enter_all(&self, keys: &[Key], owner: Owner) -> Option<Vec<u32>> {
        let mut numbers = Vec::with_capacity(keys.len());
        let mut taken = Vec::new();
        for key in keys {
            let found = self.find(key).or_else(|| {
                let new = self.take_series(key, owner);
                taken.extend(new);
                new
            });
            let Some(found) = found else {
                self.set_states(&taken, 0);
                return None;
            };
            numbers.push(found);
        }
        self.set_states(&taken, LIVE);
        Some(numbers)
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let mut used = 1..self.series_used();
        let found = used.find(|&at| key.is_at(self.series_cells(at)))?;
        u32::try_from(found).ok()
    }

    /// Takes a free entry and writes it. The entry is not in use yet.
    fn take_series(&self, key: &Key, owner: Owner) -> Option<u32> {
        let writing = WRITING | u64::from(owner.pid);
        let free = (1..self.geometry().series).find(|&at| {
            let state = &self.series_cells(at)[STATE];
            if state.load(Relaxed) != 0 {
                return false;
            }
            // Set first, so that the parent finds the entry if this process is killed now.
            self.cells()[header::SERIES_USED].fetch_max(at as u64 + 1, Relaxed);
            state.compare_exchange(0, writing, AcqRel, Relaxed).is_ok()
        })?;
        let cells = self.series_cells(free);
        cells[HASH].store(key.hash, Relaxed);
        cells[WHAT].store(key.what(), Relaxed);
        cells[BOUND].store(key.part.1, Relaxed);
        text::put(&cells[VALUES], &key.values);
        u32::try_from(free).ok()
    }

    fn set_states(&self, series: &[u32], state: u64) {
        for &at in series {
            self.series_cells(at as usize)[STATE].store(state, Release);
        }
    }

    /// Returns one more than the highest number of an entry in use so far. Nothing beyond it is read, so unused entries
    /// take no memory.
    pub(super) fn series_used(&self) -> usize {
        let used = usize::try_from(self.get(header::SERIES_USED)).unwrap_or(usize::MAX);
        used.min(self.geometry().series)
    }

    /// Returns the family and the words of the part of entry `at`, if it is in use.
    pub(super) fn series_entry_of(&self, at: usize) -> Option<(usize, (u64, u64))> {
        let cells = self.series_cells(at);
        if cells[STATE].load(Acquire) != LIVE {
            return None;
        }
        let what = cells[WHAT].load(Relaxed);
        let part = (what >> 8, cells[BOUND].load(Relaxed));
        Some((usize::from(what as u8), part))
    }

    pub(super) fn series_values(&self, at: usize, count: usize) -> Option<Vec<String>> {
        decoded(&text::bytes(&self.series_cells(at)[VALUES]), count)
    }

    fn series_cells(&self, at: usize) -> &'static [AtomicU64] {
        self.words(self.geometry().series_entry(at), SERIES_WORDS)
    }

    /// Frees the entries that a child was writing when it was killed. For the parent, after the child was reaped.
    pub(crate) fn reclaim_series(&self, reaped: u32) {
        let writing = WRITING | u64::from(reaped);
        let families = (0..FAMILIES).map(|at| &self.family_cells(at)[family::STATE]);
        let series = (1..self.series_used()).map(|at| &self.series_cells(at)[STATE]);
        for state in families.chain(series) {
            // The exchange fails if the entry no longer belongs to the dead child.
            let _ = state.compare_exchange(writing, 0, AcqRel, Relaxed);
        }
    }
}

/// Resets what only has a meaning while the owner lives: the gauges.
pub(crate) fn clear_gauges(arena: &Arena) {
    let segment = arena.segment();
    for at in 1..segment.series_used() {
        let family = segment.series_entry_of(at).map(|(family, _)| family);
        if let Some(family) = family.filter(|&family| family < FAMILIES)
            && family::is_gauge(segment.family_cells(family)[family::WHAT].load(Relaxed))
            && let Some(cell) = arena.used_series_cell(at)
        {
            cell.store(0, Relaxed);
        }
    }
}
