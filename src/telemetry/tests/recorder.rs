//! The recorder against that of `metrics-exporter-prometheus`: the same operations into both give the same lines.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use proptest::prelude::*;

use support::{page, parse, promtool_is_silent, segment};
use wsgi_telemetry::catalogue::{self, Id, Kind};
use wsgi_telemetry::{Format, Geometry, Recorder, Segment, default_bounds, writer};

#[derive(Clone, Debug)]
enum Operation {
    Count(u64),
    Total(u64),
    Set(f64),
    Change(f64),
    Observe(f64),
    ObserveOften(f64, usize),
}

/// The metrics, and the numbers of label values to choose from.
const COUNTERS: [&str; 2] = ["jobs_total", "odd_things_total"];
const TOTALS: [&str; 1] = ["outside_total"];
const GAUGES: [&str; 2] = ["depth", "room_bytes"];
const HISTOGRAMS: [&str; 1] = ["job_seconds"];
const OF_APPLICATIONS: [&str; 3] = [
    "wsgi_requests_total",
    "wsgi_gil_wait_seconds",
    "wsgi_python_threads",
];

const VALUES: [&str; 5] = [
    "",
    "plain",
    "with \"quotes\"",
    "two\nlines",
    "\u{20ac} \u{1f980}",
];

struct Both {
    ours: &'static Recorder,
    oracle: PrometheusRecorder,
}

/// Returns the only segment of this process, which records in no other.
fn ours() -> &'static (Segment, Recorder) {
    static OURS: OnceLock<(Segment, Recorder)> = OnceLock::new();
    OURS.get_or_init(|| {
        let segment = segment(Geometry {
            arenas: 16,
            applications: 300,
            series: 8_000,
        });
        writer::start(segment, 0);
        let recorder = Recorder::new(segment, &writer::OfThisProcess);
        describe(&recorder);
        (segment, recorder)
    })
}

fn describe(recorder: &impl metrics::Recorder) {
    for name in COUNTERS.into_iter().chain(TOTALS) {
        recorder.describe_counter(name.into(), None, "What a \\ is.\nAnd \"more\".".into());
    }
    for name in GAUGES {
        recorder.describe_gauge(name.into(), None, "A gauge.".into());
    }
    for name in HISTOGRAMS {
        recorder.describe_histogram(name.into(), None, "A histogram.".into());
    }
    for name in OF_APPLICATIONS {
        let family = catalogue::by_name(name).unwrap();
        recorder.describe_counter(name.into(), None, family.help.into());
    }
}

impl Both {
    fn new() -> Self {
        let gil: Vec<f64> = match Id::GilWait.family().kind {
            Kind::Histogram(buckets) => {
                buckets.bounds().iter().map(|&ns| ns as f64 / 1e9).collect()
            }
            _ => unreachable!(),
        };
        let oracle = PrometheusBuilder::new()
            .set_buckets(&default_bounds())
            .unwrap()
            .set_buckets_for_metric(Matcher::Full("wsgi_gil_wait_seconds".into()), &gil)
            .unwrap()
            .build_recorder();
        describe(&oracle);
        Self {
            ours: &ours().1,
            oracle,
        }
    }

    /// Runs the operation on both recorders; on ours in another thread if `elsewhere`.
    fn run(&self, key: &Key, operation: &Operation, elsewhere: bool) {
        run(&self.oracle, key, operation);
        if elsewhere {
            thread::scope(|scope| {
                scope.spawn(|| run(self.ours, key, operation));
            });
        } else {
            run(self.ours, key, operation);
        }
    }
}

fn run(recorder: &impl metrics::Recorder, key: &Key, operation: &Operation) {
    let metadata = Metadata::new("test", Level::INFO, None);
    match *operation {
        Operation::Count(by) => recorder.register_counter(key, &metadata).increment(by),
        Operation::Total(total) => recorder.register_counter(key, &metadata).absolute(total),
        Operation::Set(value) => recorder.register_gauge(key, &metadata).set(value),
        Operation::Change(by) if by < 0.0 => recorder.register_gauge(key, &metadata).decrement(-by),
        Operation::Change(by) => recorder.register_gauge(key, &metadata).increment(by),
        Operation::Observe(value) => recorder.register_histogram(key, &metadata).record(value),
        Operation::ObserveOften(value, times) => {
            let histogram = recorder.register_histogram(key, &metadata);
            histogram.record_many(value, times);
        }
    }
}

fn key(name: &str, labels: &[(&str, &str)]) -> Key {
    let label = |&(name, value): &(&str, &str)| Label::new(name.to_owned(), value.to_owned());
    Key::from_parts(
        name.to_owned(),
        labels.iter().map(label).collect::<Vec<_>>(),
    )
}

/// Returns the lines of a page about this test case, samples and heads, with bounds written in one way.
fn lines(page: &str, case: &str) -> Vec<String> {
    let names: Vec<&str> = COUNTERS
        .into_iter()
        .chain(TOTALS)
        .chain(GAUGES)
        .chain(HISTOGRAMS)
        .chain(OF_APPLICATIONS)
        .collect();
    let of_case = |line: &&str| {
        let head = line
            .strip_prefix("# HELP ")
            .or(line.strip_prefix("# TYPE "));
        match head {
            Some(_) => false,
            None => line.contains(case) && names.iter().any(|name| line.starts_with(name)),
        }
    };
    let mut lines: Vec<String> = page.lines().filter(of_case).map(with_plain_bound).collect();
    // The heads of families that have samples in this case.
    let used = |name: &str| lines.iter().any(|line| line.starts_with(name));
    let heads = page.lines().filter(|line| {
        let name = line
            .strip_prefix("# ")
            .and_then(|rest| rest.split(' ').nth(1));
        name.is_some_and(|name| names.contains(&name) && used(name))
    });
    let heads: Vec<String> = heads.map(str::to_owned).collect();
    lines.extend(heads);
    lines.sort();
    lines
}

fn with_plain_bound(line: &str) -> String {
    let Some((before, rest)) = line.split_once("le=\"") else {
        return line.to_owned();
    };
    let (bound, after) = rest.split_once('"').unwrap();
    let bound: f64 = bound.parse().unwrap();
    format!("{before}le=\"{bound}\"{after}")
}

fn operations() -> impl Strategy<Value = Vec<(usize, usize, Operation, bool)>> {
    // Numbers without rounding errors, in sums of nanoseconds as well as of floats.
    const BOUNDS: [f64; 11] = [0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0];
    let seconds = || {
        let any = (0..100_000u32).prop_map(|n| f64::from(n) / 512.0);
        prop_oneof![any, prop::sample::select(BOUNDS.as_slice())]
    };
    let eighths = || (-10_000..10_000i32).prop_map(|n| f64::from(n) / 8.0);
    let operation = prop_oneof![
        (0..1_000_000u64).prop_map(Operation::Count),
        (0..1_000_000u64).prop_map(Operation::Total),
        eighths().prop_map(Operation::Set),
        eighths().prop_map(Operation::Change),
        seconds().prop_map(Operation::Observe),
        (seconds(), 0..5usize).prop_map(|(value, times)| Operation::ObserveOften(value, times)),
    ];
    prop::collection::vec(
        (0..8usize, 0..VALUES.len(), operation, any::<bool>()),
        1..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_lines_are_those_of_the_exporter(operations in operations()) {
        static CASES: AtomicUsize = AtomicUsize::new(0);
        let (segment, _) = ours();
        let case = format!("case{:04}", CASES.fetch_add(1, Relaxed));
        let both = Both::new();
        let owner = support::owner();
        segment.application_named(&case, ["/", "", ""], owner);
        // Series that every application has.
        let app = ("app", case.as_str());
        for code in ["2xx", "5xx"] {
            let key = key("wsgi_requests_total", &[app, ("method", "GET"), ("code", code)]);
            both.run(&key, &Operation::Count(0), false);
        }
        both.run(&key("wsgi_gil_wait_seconds", &[app]), &Operation::ObserveOften(0.0, 0), false);
        let threads = key("wsgi_python_threads", &[app]);
        both.run(&threads, &Operation::Set(0.0), false);

        for (which, value, operation, elsewhere) in &operations {
            let which = *which;
            let labels = [("case", case.as_str()), ("value", VALUES[*value])];
            let custom = |names: &[&str]| key(names[which % names.len()], &labels);
            let (key, operation) = match operation {
                Operation::Count(by) if which > 5 => {
                    let code = catalogue::CODE.values[*value];
                    let method = catalogue::METHOD.values[which];
                    let labels = [app, ("method", method), ("code", code)];
                    (key("wsgi_requests_total", &labels), Operation::Count(by + 1))
                }
                Operation::Count(_) => (custom(&COUNTERS), operation.clone()),
                Operation::Total(_) => (custom(&TOTALS), operation.clone()),
                Operation::Set(to) if which > 5 => (threads.clone(), Operation::Set(to.round())),
                Operation::Change(by) if which > 5 => {
                    (threads.clone(), Operation::Change(by.round()))
                }
                Operation::Set(_) | Operation::Change(_) => (custom(&GAUGES), operation.clone()),
                _ if which > 5 => (key("wsgi_gil_wait_seconds", &[app]), operation.clone()),
                _ => (custom(&HISTOGRAMS), operation.clone()),
            };
            both.run(&key, &operation, *elsewhere);
        }

        let page = page(segment, Format::Text);
        parse(&page, Format::Text);
        let oracle = both.oracle.handle().render();
        let (ours, theirs) = (lines(&page, &case), lines(&oracle, &case));
        prop_assert!(!ours.is_empty());
        prop_assert_eq!(ours, theirs);
    }
}

#[test]
fn what_cannot_be_kept_is_counted_and_does_no_harm() {
    let (segment, recorder) = ours();
    let lost = || {
        let header = segment.snapshot().header;
        header.counter(
            Id::MetricsOverflows,
            catalogue::value(catalogue::OVERFLOW, "series"),
        )
    };
    for (key, operation) in [
        (key("wsgi_unheard_of", &[]), Operation::Set(1.0)),
        (
            key("wsgi_requests_total", &[("app", "a")]),
            Operation::Count(1),
        ),
        (
            key("wsgi_children_exited_total", &[("how", "badly")]),
            Operation::Count(1),
        ),
        (
            key("wsgi_children", &[("state", "ready")]),
            Operation::Set(1.0),
        ),
    ] {
        let before = lost();
        run(recorder, &key, &operation);
        assert_eq!(lost(), before + 1, "{key}");
    }
    let exits = key("wsgi_children_exited_total", &[("how", "killed")]);
    run(recorder, &exits, &Operation::Count(3));
    assert_eq!(segment.snapshot().header.counter(Id::ChildrenExited, 1), 3);
    let before = lost();
    run(recorder, &key("described.late", &[]), &Operation::Set(1.0));
    recorder.describe_gauge("described.late".into(), None, "At last.".into());
    let page = page(segment, Format::Text);
    assert!(page.contains("# HELP described_late At last.\n"));
    assert_eq!(lost(), before);
    promtool_is_silent(&page);
}
