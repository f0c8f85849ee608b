//! The recorder of the crate `metrics` for the segment: for other crates, and for what is not measured in every
//! request.
//!
//! A handle holds no cell; each operation finds the cell in the arena of the calling thread. So every arena keeps its
//! one writer although handles move between threads. Names in the catalogue belong to its families: their labels must
//! have values from the catalogue, and `app` is the label of an application. All other names are kept like the
//! applications' own metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};
use metrics_exporter_prometheus::formatting::sanitize_metric_name;
use rustc_hash::FxHashMap;

use crate::catalogue;
use crate::catalogue::{Buckets, Family, Id, Kind, OVERFLOW, Source};
use crate::recording::writer;
use crate::segment::App;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::series::{
    Aggregate, CustomKind, Description, FamilyNumber, HistogramSeries, Part, Series,
};

/// Records in a segment. [`writer::start`] sets which process this is; a process that does not record gets handles that
/// do nothing.
pub struct Recorder {
    segment: Segment,
    known: Mutex<Registered>,
}

/// The metrics that this process has registered.
#[derive(Default)]
struct Registered {
    helps: HashMap<String, String>,
    families: HashMap<String, FamilyNumber>,
    counters: FxHashMap<Key, Counter>,
    gauges: FxHashMap<Key, Gauge>,
    histograms: FxHashMap<Key, Histogram>,
}

impl Recorder {
    /// Returns a recorder for `segment`.
    pub fn new(segment: Segment) -> Self {
        Self {
            segment,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Registered> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, key: &KeyName, help: &str) {
        // A thread that does not exist in a forked process may hold the lock.
        if writer::owner().is_none() {
            return;
        }
        let name = sanitize_metric_name(key.as_str());
        let mut known = self.known();
        if let Some(&family) = known.families.get(&name) {
            self.segment.describe_family(family, help);
        }
        known.helps.entry(name).or_insert_with(|| help.to_owned());
    }

    /// Returns the series of the catalogue for a key. If the labels are not those of the family, returns `None` and
    /// counts an overflow, since the caller gets no error.
    fn place(&self, key: &Key, family: &'static Family) -> Option<CatalogueSeries> {
        let place = place(self.segment, key, family);
        if place.is_none() {
            self.lost();
        }
        place
    }

    /// Returns whether `known` keys are more than the segment has room for. Further keys are not remembered, so that
    /// code that makes keys without end does not fill the memory.
    fn is_full(&self, known: usize) -> bool {
        known >= self.segment.geometry().series + 1_000
    }

    fn lost(&self) {
        let series = catalogue::value(OVERFLOW, "series");
        self.segment.count(Id::MetricsOverflows, series, 1);
    }

    /// Returns the family of a key that is not in the catalogue, and the label values sorted by label name.
    fn custom<'k>(
        &self,
        known: &mut Registered,
        key: &'k Key,
        kind: CustomKind,
        owner: Owner,
    ) -> Option<(FamilyNumber, Vec<&'k str>)> {
        let name = sanitize_metric_name(key.name());
        let mut labels: Vec<_> = key
            .labels()
            .map(|label| (label.key(), label.value()))
            .collect();
        labels.sort_unstable();
        let (labels, values): (Vec<_>, Vec<_>) = labels.into_iter().unzip();
        let description = Description {
            kind,
            labels: labels.into_iter().map(str::to_owned).collect(),
            help: known.helps.get(&name).cloned().unwrap_or_default(),
            name: name.clone(),
        };
        match self.segment.custom_family(&description, owner) {
            Ok(family) => {
                if !self.is_full(known.families.len()) {
                    known.families.insert(name, family);
                }
                Some((family, values))
            }
            Err(_) => {
                self.lost();
                None
            }
        }
    }

    fn custom_series(
        &self,
        known: &mut Registered,
        key: &Key,
        kind: CustomKind,
        owner: Owner,
    ) -> Option<Series> {
        let (family, values) = self.custom(known, key, kind, owner)?;
        let series = self
            .segment
            .custom_series(family, Part::Value, &values, owner);
        series.ok()
    }

    fn new_counter(&self, known: &mut Registered, key: &Key, owner: Owner) -> Counter {
        // A handle that is not remembered ignores totals: the next handle would count the whole total again.
        let told = if self.is_full(known.counters.len()) {
            u64::MAX
        } else {
            0
        };
        let absolute = AtomicU64::new(told);
        if let Some(family) = catalogue::by_name(key.name()) {
            return match self.place(key, family) {
                Some(place) if family.kind == Kind::Counter => Counter::from_arc(Arc::new(Total {
                    of: place,
                    absolute,
                })),
                _ => Counter::noop(),
            };
        }
        match self.custom_series(known, key, CustomKind::Counter, owner) {
            Some(of) => Counter::from_arc(Arc::new(Total { of, absolute })),
            None => Counter::noop(),
        }
    }

    fn new_gauge(&self, known: &mut Registered, key: &Key, owner: Owner) -> Gauge {
        if let Some(family) = catalogue::by_name(key.name()) {
            return match self.place(key, family) {
                Some(place) if family.kind == Kind::Gauge => Gauge::from_arc(Arc::new(place)),
                _ => Gauge::noop(),
            };
        }
        let kind = CustomKind::Gauge(Aggregate::Sum);
        match self.custom_series(known, key, kind, owner) {
            Some(series) => Gauge::from_arc(Arc::new(OwnMetric(series))),
            None => Gauge::noop(),
        }
    }

    fn new_histogram(&self, known: &mut Registered, key: &Key, owner: Owner) -> Histogram {
        if let Some(family) = catalogue::by_name(key.name()) {
            return match self.place(key, family) {
                Some(place) if matches!(family.kind, Kind::Histogram(_)) => {
                    Histogram::from_arc(Arc::new(place))
                }
                _ => Histogram::noop(),
            };
        }
        let kind = CustomKind::Histogram(default_bounds());
        let Some((family, values)) = self.custom(known, key, kind, owner) else {
            return Histogram::noop();
        };
        match self.segment.custom_histogram(family, &values, owner) {
            Ok(histogram) => Histogram::from_arc(Arc::new(OwnMetric(histogram))),
            Err(_) => Histogram::noop(),
        }
    }
}

/// Returns the upper bounds of histograms that are not in the catalogue, in seconds.
pub fn default_bounds() -> Vec<f64> {
    let bounds = Buckets::Latency.bounds();
    bounds.iter().map(|&bound| bound as f64 / 1e9).collect()
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&key, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let Some(owner) = writer::owner() else {
            return Counter::noop();
        };
        let mut known = self.known();
        if let Some(counter) = known.counters.get(key) {
            return counter.clone();
        }
        let counter = self.new_counter(&mut known, key, owner);
        if !self.is_full(known.counters.len()) {
            known.counters.insert(key.to_retained(), counter.clone());
        }
        counter
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let Some(owner) = writer::owner() else {
            return Gauge::noop();
        };
        let mut known = self.known();
        if let Some(gauge) = known.gauges.get(key) {
            return gauge.clone();
        }
        let gauge = self.new_gauge(&mut known, key, owner);
        if !self.is_full(known.gauges.len()) {
            known.gauges.insert(key.to_retained(), gauge.clone());
        }
        gauge
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let Some(owner) = writer::owner() else {
            return Histogram::noop();
        };
        let mut known = self.known();
        if let Some(histogram) = known.histograms.get(key) {
            return histogram.clone();
        }
        let histogram = self.new_histogram(&mut known, key, owner);
        known
            .histograms
            .insert(key.to_retained(), histogram.clone());
        histogram
    }
}

/// A series of the catalogue.
struct CatalogueSeries {
    segment: Segment,
    family: &'static Family,
    app: App,
    series: usize,
}

fn place(segment: Segment, key: &Key, family: &'static Family) -> Option<CatalogueSeries> {
    let mut labels: HashMap<&str, &str> = HashMap::new();
    for label in key.labels() {
        labels.insert(label.key(), label.value());
    }
    let app = match family.source {
        Source::Application => {
            let label = labels.remove("app")?;
            let applications = segment.applications();
            let found = applications.iter().find(|known| known.label == label);
            found.map_or(App::OTHER, |known| known.app)
        }
        Source::Process | Source::Header => App::OTHER,
        Source::Derived => return None,
    };
    let mut series = 0;
    for label in family.labels {
        let value = labels.remove(label.name)?;
        let at = label.values.iter().position(|&known| known == value)?;
        series = series * label.values.len() + at;
    }
    labels.is_empty().then_some(CatalogueSeries {
        segment,
        family,
        app,
        series,
    })
}

/// The target of a counter.
trait AddTo {
    fn add(&self, value: u64);
}

impl AddTo for CatalogueSeries {
    fn add(&self, value: u64) {
        let (id, series) = (self.family.id, self.series);
        // The catalogue counts time in nanoseconds, but a counter of `metrics` is an integer of the unit: whole
        // seconds.
        let value = match self.family.unit {
            catalogue::Unit::Seconds => value.saturating_mul(1_000_000_000),
            catalogue::Unit::Count | catalogue::Unit::Bytes => value,
        };
        match self.family.source {
            Source::Header => self.segment.count(id, series, value),
            source => {
                let Some(arena) = writer::current() else {
                    return;
                };
                match source {
                    Source::Application => arena.application(self.app).add(id, series, value),
                    _ => arena.add(id, series, value),
                }
            }
        }
    }
}

impl AddTo for Series {
    fn add(&self, value: u64) {
        Series::add(*self, value as f64);
    }
}

/// A counter, with the last total that it was set to.
struct Total<T> {
    of: T,
    /// The greatest total that this process has set.
    absolute: AtomicU64,
}

impl<T: AddTo> CounterFn for Total<T> {
    fn increment(&self, value: u64) {
        self.of.add(value);
    }

    /// Adds what exceeds the last total of this process, since the rest is already counted. The totals of several
    /// processes add up, and so do increments of the same counter.
    fn absolute(&self, value: u64) {
        let before = self.absolute.fetch_max(value, Relaxed);
        if value > before {
            self.of.add(value - before);
        }
    }
}

impl GaugeFn for CatalogueSeries {
    fn increment(&self, value: f64) {
        if let Some(arena) = writer::process() {
            let block = arena.gauges(self.app);
            block.change(self.family.id, self.series, value.round() as i64);
        }
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        if let Some(arena) = writer::process() {
            let block = arena.gauges(self.app);
            block.set(self.family.id, self.series, value.round() as i64);
        }
    }
}

impl HistogramFn for CatalogueSeries {
    /// `value` is in seconds, as in all histograms of the catalogue.
    fn record(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        if let Some(arena) = writer::current() {
            let nanoseconds = (value * 1e9).round() as u64;
            let block = arena.application(self.app);
            block.observe(self.family.id, self.series, nanoseconds);
        }
    }
}

/// A gauge or a histogram that is not in the catalogue.
struct OwnMetric<T>(T);

impl GaugeFn for OwnMetric<Series> {
    fn increment(&self, value: f64) {
        self.0.add(value);
    }

    fn decrement(&self, value: f64) {
        self.0.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
    }
}

impl HistogramFn for OwnMetric<HistogramSeries> {
    fn record(&self, value: f64) {
        self.0.observe(value);
    }
}
