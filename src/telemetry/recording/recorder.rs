//! The recorder of the crate `metrics` for the segment: for every family that is not recorded in each request, and for
//! other crates.
//!
//! A handle holds no cell; each operation finds the cell in the arena of the calling thread. So every arena keeps its
//! one writer although handles move between threads. Names in the catalogue belong to its families: their labels must
//! have values from the catalogue, and `app` is the label of an application. All other names are kept like the
//! applications' own metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata,
    SharedString, Unit,
};
use metrics_exporter_prometheus::formatting::sanitize_metric_name;
use rustc_hash::FxHashMap;

use crate::catalogue::{self, Buckets, Family, Id, Kind, OVERFLOW, Source};
use crate::segment::{App, Arena, Owner, Segment};
use crate::series::{
    Aggregate, CustomKind, Description, FamilyNumber, HistogramSeries, Part, Series,
};

/// The arenas that a process writes to. A process of the module has them itself
/// ([`OfThisProcess`](super::writer::OfThisProcess)); the engine, a shared object of its own, asks the module.
pub trait ArenaSource: Sync {
    /// Returns whether this process may write to the segment. The copy of a child that an application forked may not.
    fn may_record(&self) -> bool;

    /// Returns this process as the owner of families and series of the applications' own metrics. `None` for a process
    /// without an arena, such as the parent: such a process records only the families in the segment's header.
    fn owner(&self) -> Option<Owner>;

    /// Returns the arena of the calling thread.
    fn of_thread(&self) -> Option<Arena>;

    /// Returns the arena of the child as a whole, which all threads may write to.
    fn of_child(&self) -> Option<Arena>;
}

/// Records in a segment, for the macros of `metrics`. A process that must not record gets handles that do nothing.
pub struct Recorder {
    arenas: &'static dyn ArenaSource,
    known: Mutex<Registered>,
}

/// The metrics that this process has registered.
struct Registered {
    segment: Segment,
    helps: HashMap<String, String>,
    families: HashMap<String, FamilyNumber>,
    counters: FxHashMap<Key, Counter>,
    gauges: FxHashMap<Key, Gauge>,
    histograms: FxHashMap<Key, Histogram>,
}

impl Registered {
    fn new(segment: Segment) -> Self {
        Self {
            segment,
            helps: HashMap::new(),
            families: HashMap::new(),
            counters: FxHashMap::default(),
            gauges: FxHashMap::default(),
            histograms: FxHashMap::default(),
        }
    }

    /// Returns whether `known` keys are more than the segment has room for. Further keys are not remembered, so that
    /// code that makes keys without end does not fill the memory.
    fn is_full(&self, known: usize) -> bool {
        known >= self.segment.geometry().series + 1_000
    }

    /// Counts a metric that cannot be registered.
    fn count_lost(&self) {
        let series = catalogue::value(OVERFLOW, "series");
        self.segment.count(Id::MetricsOverflows, series, 1);
    }
}

/// Makes the macros of `metrics` record in `segment`. Applies to this shared object only: the module and the engine each
/// have their own static of `metrics`. A later call, as after a restart in the same process, only sets the segment;
/// `arenas` stay those of the first call.
pub fn install_recorder(segment: Segment, arenas: &'static dyn ArenaSource) {
    static INSTALLED: OnceLock<&'static Recorder> = OnceLock::new();
    let mut is_new = false;
    let recorder = INSTALLED.get_or_init(|| {
        is_new = true;
        Box::leak(Box::new(Recorder::new(segment, arenas)))
    });
    if is_new {
        // Fails only if the program has installed another recorder itself.
        let _ = metrics::set_global_recorder(*recorder);
    } else {
        recorder.record_in(segment);
    }
}

impl Recorder {
    /// Returns a recorder for `segment`.
    pub fn new(segment: Segment, arenas: &'static dyn ArenaSource) -> Self {
        Self {
            arenas,
            known: Mutex::new(Registered::new(segment)),
        }
    }

    /// Sets the segment. If it is another one, forgets all that was registered.
    fn record_in(&self, segment: Segment) {
        let mut known = self.known();
        if !std::ptr::eq(known.segment.cells(), segment.cells()) {
            *known = Registered::new(segment);
        }
    }

    fn known(&self) -> MutexGuard<'_, Registered> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, key: &KeyName, help: &str) {
        // A thread that does not exist in a forked process may hold the lock.
        if !self.arenas.may_record() {
            return;
        }
        let name = sanitize_metric_name(key.as_str());
        let mut known = self.known();
        if let Some(&family) = known.families.get(&name) {
            known.segment.describe_family(family, help);
        }
        known.helps.entry(name).or_insert_with(|| help.to_owned());
    }

    /// Returns the series of the catalogue for a key. If the labels are not those of the family, returns `None` and
    /// counts an overflow, since the caller gets no error.
    fn catalogue_series(
        &self,
        known: &Registered,
        key: &Key,
        family: &'static Family,
    ) -> Option<CatalogueSeries> {
        let found = CatalogueSeries::of(known.segment, self.arenas, key, family);
        if found.is_none() {
            known.count_lost();
        }
        found
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
        match known.segment.custom_family(&description, owner) {
            Ok(family) => {
                if !known.is_full(known.families.len()) {
                    known.families.insert(name, family);
                }
                Some((family, values))
            }
            Err(_) => {
                known.count_lost();
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
        let series = known
            .segment
            .custom_series(family, Part::Value, &values, owner);
        series.ok()
    }

    /// Returns the handle of a key: the one in `table`, or a new one by `make`, which also says whether it may be remembered.
    fn register<H: Clone>(
        &self,
        key: &Key,
        noop: fn() -> H,
        table: fn(&mut Registered) -> &mut FxHashMap<Key, H>,
        make: fn(&Self, &mut Registered, &Key) -> (H, bool),
    ) -> H {
        // A thread that does not exist in a forked process may hold the lock.
        if !self.arenas.may_record() {
            return noop();
        }
        let mut known = self.known();
        if let Some(handle) = table(&mut known).get(key) {
            return handle.clone();
        }
        let (handle, is_lasting) = make(self, &mut known, key);
        let remembered = table(&mut known).len();
        if is_lasting && !known.is_full(remembered) {
            table(&mut known).insert(key.to_retained(), handle.clone());
        }
        handle
    }

    /// Also returns whether the counter is remembered: not if the table does not have the application yet, and not in a
    /// process without arenas, since its children have arenas.
    fn new_counter(&self, known: &mut Registered, key: &Key) -> (Counter, bool) {
        // A handle that is not remembered ignores totals: the next handle would count the whole total again.
        let told = if known.is_full(known.counters.len()) {
            u64::MAX
        } else {
            0
        };
        let absolute = AtomicU64::new(told);
        if let Some(family) = catalogue::by_name(key.name()) {
            return match self.catalogue_series(known, key, family) {
                Some(of) if family.kind == Kind::Counter => {
                    let is_lasting = of.app.is_some();
                    let counter = Counter::from_arc(Arc::new(Total { of, absolute }));
                    (counter, is_lasting)
                }
                _ => (Counter::noop(), true),
            };
        }
        let Some(owner) = self.arenas.owner() else {
            return (Counter::noop(), false);
        };
        let series = self.custom_series(known, key, CustomKind::Counter, owner);
        let counter = series.map_or_else(Counter::noop, |series| {
            let of = self.own_metric(series);
            Counter::from_arc(Arc::new(Total { of, absolute }))
        });
        (counter, true)
    }

    fn new_gauge(&self, known: &mut Registered, key: &Key) -> (Gauge, bool) {
        if let Some(family) = catalogue::by_name(key.name()) {
            return match self.catalogue_series(known, key, family) {
                Some(series) if family.kind == Kind::Gauge => {
                    let is_lasting = series.app.is_some();
                    (Gauge::from_arc(Arc::new(series)), is_lasting)
                }
                _ => (Gauge::noop(), true),
            };
        }
        let Some(owner) = self.arenas.owner() else {
            return (Gauge::noop(), false);
        };
        let kind = CustomKind::Gauge(Aggregate::Sum);
        let series = self.custom_series(known, key, kind, owner);
        let gauge = series.map_or_else(Gauge::noop, |series| {
            Gauge::from_arc(Arc::new(self.own_metric(series)))
        });
        (gauge, true)
    }

    fn new_histogram(&self, known: &mut Registered, key: &Key) -> (Histogram, bool) {
        if let Some(family) = catalogue::by_name(key.name()) {
            return match self.catalogue_series(known, key, family) {
                Some(series) if matches!(family.kind, Kind::Histogram(_)) => {
                    let is_lasting = series.app.is_some();
                    (Histogram::from_arc(Arc::new(series)), is_lasting)
                }
                _ => (Histogram::noop(), true),
            };
        }
        let Some(owner) = self.arenas.owner() else {
            return (Histogram::noop(), false);
        };
        let kind = CustomKind::Histogram(default_bounds());
        let Some((family, values)) = self.custom(known, key, kind, owner) else {
            return (Histogram::noop(), true);
        };
        let histogram = match known.segment.custom_histogram(family, &values, owner) {
            Ok(series) => Histogram::from_arc(Arc::new(self.own_metric(series))),
            Err(_) => Histogram::noop(),
        };
        (histogram, true)
    }

    fn own_metric<T>(&self, series: T) -> OwnMetric<T> {
        OwnMetric {
            series,
            arenas: self.arenas,
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
        self.register(
            key,
            Counter::noop,
            |known| &mut known.counters,
            Self::new_counter,
        )
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.register(key, Gauge::noop, |known| &mut known.gauges, Self::new_gauge)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.register(
            key,
            Histogram::noop,
            |known| &mut known.histograms,
            Self::new_histogram,
        )
    }
}

/// A series of the catalogue.
struct CatalogueSeries {
    segment: Segment,
    arenas: &'static dyn ArenaSource,
    family: &'static Family,
    /// `None` if the table has no application of that label; counts as `_other`.
    app: Option<App>,
    series: usize,
}

impl CatalogueSeries {
    fn of(
        segment: Segment,
        arenas: &'static dyn ArenaSource,
        key: &Key,
        family: &'static Family,
    ) -> Option<Self> {
        let mut labels: HashMap<&str, &str> = HashMap::new();
        for label in key.labels() {
            labels.insert(label.key(), label.value());
        }
        let app = match family.source {
            Source::Application => segment.application_labelled(labels.remove("app")?),
            Source::Process | Source::Header => Some(App::OTHER),
            Source::Derived => return None,
        };
        let mut series = 0;
        for label in family.labels {
            let value = labels.remove(label.name)?;
            let at = label.values.iter().position(|&known| known == value)?;
            series = series * label.values.len() + at;
        }
        labels.is_empty().then_some(Self {
            segment,
            arenas,
            family,
            app,
            series,
        })
    }

    fn app(&self) -> App {
        self.app.unwrap_or(App::OTHER)
    }
}

/// The target of a counter.
trait AddTo {
    fn add(&self, value: u64);
}

impl AddTo for CatalogueSeries {
    /// `value` of a counter of time is in nanoseconds, since `metrics` counts integers and the cells hold nanoseconds.
    fn add(&self, value: u64) {
        let (id, series) = (self.family.id, self.series);
        match self.family.source {
            Source::Header if self.arenas.may_record() => self.segment.count(id, series, value),
            Source::Header | Source::Derived => {}
            Source::Application => {
                if let Some(arena) = self.arenas.of_thread() {
                    arena.application(self.app()).add(id, series, value);
                }
            }
            Source::Process => {
                if let Some(arena) = self.arenas.of_child() {
                    arena.add(id, series, value);
                }
            }
        }
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
        if let Some(arena) = self.arenas.of_child() {
            let block = arena.gauges(self.app());
            block.change(self.family.id, self.series, value.round() as i64);
        }
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        if let Some(arena) = self.arenas.of_child() {
            let block = arena.gauges(self.app());
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
        if let Some(arena) = self.arenas.of_thread() {
            let nanoseconds = (value * 1e9).round() as u64;
            let block = arena.application(self.app());
            block.observe(self.family.id, self.series, nanoseconds);
        }
    }
}

/// A metric that is not in the catalogue.
struct OwnMetric<T> {
    series: T,
    arenas: &'static dyn ArenaSource,
}

impl AddTo for OwnMetric<Series> {
    fn add(&self, value: u64) {
        if let Some(arena) = self.arenas.of_thread() {
            arena.series_add(self.series, value as f64);
        }
    }
}

impl GaugeFn for OwnMetric<Series> {
    fn increment(&self, value: f64) {
        if let Some(arena) = self.arenas.of_child() {
            arena.series_add(self.series, value);
        }
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, value: f64) {
        if let Some(arena) = self.arenas.of_child() {
            arena.series_set(self.series, value);
        }
    }
}

impl HistogramFn for OwnMetric<HistogramSeries> {
    fn record(&self, value: f64) {
        if let Some(arena) = self.arenas.of_thread() {
            self.series.observe_in(&arena, value);
        }
    }
}
