//! The page of a scrape: complete, valid in both formats, and right, whatever the segment holds.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use support::{label, owner, page, parse, promtool_is_silent, segment, total, value};
use wsgi_telemetry::catalogue::{self, APPLICATION_CELLS, Buckets, FAMILIES, Id, Kind, METHOD};
use wsgi_telemetry::{
    App, Arena, Event, Fact, Format, Geometry, Notable, Owner, Role, Scoreboard, Segment,
};

const BOTH: [Format; 2] = [Format::Text, Format::OpenMetrics];
const SMALL: Geometry = Geometry {
    arenas: 6,
    applications: 5,
    series: 64,
};

/// Returns the segment as the parent leaves it before the first child.
fn fresh() -> Segment {
    let segment = segment(SMALL);
    // As the server has measured it.
    segment.note_resident(4096);
    let facts = [
        (Fact::Httpd, "Apache/2.4.71 (Debian)"),
        (Fact::Version, "0.1.0"),
        (Fact::Revision, "0123abc"),
        (Fact::Rustc, "1.95.0"),
        (Fact::Mpm, "event"),
    ];
    for (fact, text) in facts {
        segment.set_fact(fact, text);
    }
    segment.set_limits(400, 16, 25, true, true);
    segment
}

fn arena(segment: &Segment, thread: u32) -> Arena {
    let number = segment.claim(owner(), thread, Role::Thread).unwrap();
    segment.arena_of(number)
}

fn app(segment: &Segment, label: &str) -> App {
    segment.application_named(label, ["/shop", "/srv/shop.wsgi", ""], owner())
}

/// Returns the segment of a server on which everything has happened that has a cell.
fn busy() -> Segment {
    let segment = fresh();
    let child = segment.claim(owner(), 0, Role::Starting).unwrap();
    segment.process_arena_of(child).set_role(Role::Ready);
    for (fact, text) in [
        (Fact::Python, "3.13.5"),
        (Fact::Implementation, "CPython"),
        (Fact::Gil, "enabled"),
    ] {
        segment.set_fact(fact, text);
    }
    segment.set_scoreboard(&Scoreboard {
        workers: [3; 9],
        connections: Some([1; 4]),
    });
    let mut number = 0;
    for (thread, name) in ["shop", "blog/admin:v2"].into_iter().enumerate() {
        let arena = arena(&segment, thread as u32 + 1);
        let app = app(&segment, name);
        let block = arena.application(app);
        for family in FAMILIES {
            for series in 0..family.series() {
                number += 1;
                match (family.source, family.kind) {
                    (catalogue::Source::Application, Kind::Counter) => {
                        block.add(family.id, series, number)
                    }
                    (catalogue::Source::Application, Kind::Gauge) => {
                        block.set(family.id, series, number as i64)
                    }
                    (catalogue::Source::Application, Kind::Histogram(_)) => {
                        block.observe(family.id, series, number * 1_000_003);
                    }
                    (catalogue::Source::Process, _) => arena.add(family.id, series, number),
                    (catalogue::Source::Header, _) => segment.count(family.id, series, number),
                    (catalogue::Source::Derived, _) => {}
                }
            }
        }
        block.interpreter_started(1_700_000_000_000_000_000 + number);
        arena.begin(1, app, 0, b"/basket?no", b"group");
    }
    segment.note(&event(), b"/slow");
    segment
}

fn event() -> Event {
    Event {
        at: 0,
        why: Notable::Slow,
        app: App::OTHER,
        method: 0,
        status: 200,
        pid: 1,
        total: 1,
        application: 1,
        gil_wait: 1,
        input: 1,
        output: 1,
        url: String::new(),
    }
}

#[test]
fn a_fresh_server_shows_what_it_is() {
    let segment = fresh();
    for format in BOTH {
        let families = parse(&page(&segment, format), format);
        let started = value(&families, "wsgi_children_started_total", &[]);
        assert_eq!(started, Some(0.0));
        let limit = value(&families, "wsgi_mpm_workers_limit", &[]);
        assert_eq!(limit, Some(400.0));
        // Nothing was counted for applications without an entry.
        assert_eq!(total(&families, "wsgi_requests_total"), 0.0);
        assert!(
            families
                .iter()
                .all(|family| family.name != "wsgi_requests_total")
        );
        let mapped = value(
            &families,
            "wsgi_metrics_segment_bytes",
            &[("kind", "mapped")],
        );
        let resident = value(
            &families,
            "wsgi_metrics_segment_bytes",
            &[("kind", "resident")],
        );
        assert_eq!(mapped, Some(segment.geometry().bytes() as f64));
        assert!(resident > Some(0.0) && resident <= mapped);
    }
    promtool_is_silent(&page(&segment, Format::Text));
}

#[test]
fn an_application_without_requests_has_the_series_that_rates_need() {
    let segment = fresh();
    app(&segment, "shop");
    let families = parse(&page(&segment, Format::Text), Format::Text);
    let requests: Vec<_> = families
        .iter()
        .filter(|family| family.name == "wsgi_requests_total")
        .flat_map(|family| &family.samples)
        .map(|sample| {
            (
                label(sample, "method").unwrap(),
                label(sample, "code").unwrap(),
            )
        })
        .collect();
    assert_eq!(requests, [("GET", "2xx"), ("GET", "5xx")]);
    let counts = "wsgi_request_duration_seconds_count";
    for code in ["2xx", "5xx"] {
        let count = value(&families, counts, &[("app", "shop"), ("code", code)]);
        assert_eq!(count, Some(0.0));
    }
    assert_eq!(
        value(&families, counts, &[("app", "shop"), ("code", "4xx")]),
        None
    );
    promtool_is_silent(&page(&segment, Format::Text));
}

#[test]
fn a_busy_server_shows_every_family() {
    let segment = busy();
    for format in BOTH {
        let families = parse(&page(&segment, format), format);
        let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
        let short = |name: &'static str| match format {
            Format::Text => name,
            Format::OpenMetrics => name
                .strip_suffix("_total")
                .or_else(|| name.strip_suffix("_info"))
                .unwrap_or(name),
        };
        let all: Vec<&str> = FAMILIES.iter().map(|family| short(family.name)).collect();
        assert_eq!(names, all);
        for (family, parsed) in FAMILIES.iter().zip(&families) {
            assert_eq!(parsed.help, family.help);
            let apps = if family.has_app() { 2 } else { 1 };
            let lines = match family.kind {
                Kind::Histogram(buckets) => buckets.bounds().len() + 3,
                Kind::Counter | Kind::Gauge => 1,
            };
            assert_eq!(
                parsed.samples.len(),
                apps * family.series() * lines,
                "{}",
                family.name
            );
        }
        let shop = [("app", "shop")];
        assert_eq!(
            value(&families, "wsgi_requests_in_flight", &shop),
            Some(1.0)
        );
        assert!(value(&families, "wsgi_oldest_request_age_seconds", &shop) > Some(0.0));
        let ready = value(&families, "wsgi_children", &[("state", "ready")]);
        assert_eq!(ready, Some(1.0));
        assert!(value(&families, "wsgi_children_resident_memory_bytes", &[]) > Some(0.0));
    }
    let text = page(&segment, Format::Text);
    assert!(text.contains("wsgi_application_info{app=\"shop\",mount=\"/shop\",script=\"/srv/shop.wsgi\",interpreter=\"main\"} 1\n"));
    promtool_is_silent(&text);
    // The order is that of the previous page.
    let names = |page: &str| -> Vec<String> {
        let series = page.lines().filter_map(|line| line.rsplit_once(' '));
        series.map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(names(&text), names(&page(&segment, Format::Text)));
}

#[test]
fn what_finds_no_entry_is_counted_as_other() {
    let segment = fresh();
    let arena = arena(&segment, 1);
    for number in 0..20 {
        let app = app(&segment, &format!("app{number}"));
        arena.application(app).finish_request(1);
        arena.application(app).observe(Id::RequestDuration, 0, 1);
    }
    // All other arenas, and some more than there are.
    for thread in 2..10 {
        let other = segment.claim(owner(), thread, Role::Thread);
        let other = other.map_or(segment.spill(), |number| segment.arena_of(number));
        other.application(App::OTHER).finish_request(1);
    }
    for format in BOTH {
        let families = parse(&page(&segment, format), format);
        assert_eq!(total(&families, "wsgi_requests_total"), 28.0);
        assert_eq!(
            total(&families, "wsgi_request_duration_seconds_count"),
            20.0
        );
        let labels = [("app", "_other"), ("method", "GET"), ("code", "2xx")];
        assert_eq!(value(&families, "wsgi_requests_total", &labels), Some(24.0));
        let unseen = [("app", "_other"), ("method", "GET"), ("code", "5xx")];
        assert_eq!(value(&families, "wsgi_requests_total", &unseen), None);
        let overflows = |kind| value(&families, "wsgi_metrics_overflows_total", &[("kind", kind)]);
        assert_eq!(overflows("application"), Some(16.0));
        assert_eq!(overflows("arena"), Some(4.0));
    }
    promtool_is_silent(&page(&segment, Format::Text));
}

#[test]
fn counters_of_the_dead_stay() {
    let segment = fresh();
    let arena = arena(&segment, 1);
    arena.add(Id::ChildrenCpu, 0, 1_500_000_000);
    let app = app(&segment, "shop");
    arena.application(app).finish_request(1);
    arena.application(app).set(Id::AllocatedBlocks, 0, 5);
    assert_eq!(segment.free_arenas_of(std::process::id()), None);
    let text = page(&segment, Format::Text);
    let families = parse(&text, Format::Text);
    assert!(text.contains("wsgi_children_cpu_seconds_total{mode=\"user\"} 1.5\n"));
    assert_eq!(total(&families, "wsgi_requests_total"), 1.0);
    assert_eq!(total(&families, "wsgi_python_allocated_blocks"), 0.0);
}

#[test]
fn observations_fall_where_a_linear_search_says() {
    let all = [
        Buckets::Latency,
        Buckets::Wait,
        Buckets::Gil,
        Buckets::Load,
        Buckets::Gc,
    ];
    for buckets in all {
        let linear = |ns: u64| {
            let mut at = 0;
            while at < buckets.bounds().len() && ns > buckets.bounds()[at] {
                at += 1;
            }
            at
        };
        let around = |&bound: &u64| [bound - 1, bound, bound + 1];
        let edges = buckets.bounds().iter().flat_map(around);
        for ns in edges.chain([0, 1, u64::MAX - 1, u64::MAX]) {
            assert_eq!(buckets.index(ns), linear(ns), "{ns}");
        }
        assert_eq!(buckets.bounds().len(), buckets.le().len());
    }
}

#[test]
fn sums_are_exact() {
    let segment = fresh();
    let arenas = [arena(&segment, 1), arena(&segment, 2)];
    let app = app(&segment, "shop");
    for arena in arenas {
        for ns in [1, 999_999_999, 9_007_199_254_740_993, 3] {
            arena.application(app).observe(Id::GilWait, 0, ns);
        }
    }
    let text = page(&segment, Format::Text);
    assert!(
        text.contains("wsgi_gil_wait_seconds_sum{app=\"shop\"} 18014400.509481992\n"),
        "{text}"
    );
    assert!(text.contains("wsgi_gil_wait_seconds_count{app=\"shop\"} 8\n"));
    assert!(text.contains("wsgi_gil_wait_seconds_bucket{app=\"shop\",le=\"1e-05\"} 4\n"));
    assert!(text.contains("wsgi_gil_wait_seconds_bucket{app=\"shop\",le=\"1.0\"} 6\n"));
}

#[test]
fn applications_entered_twice_are_one() {
    let segment = fresh();
    let arena = arena(&segment, 1);
    let first = app(&segment, "shop");
    let second = app(&segment, "copy");
    // As if two children had entered the same application at the same time.
    let entry = |app: App| {
        let board = 16 + 2 * 128 + 8 * 64 + 64 * 56 + 8200;
        let (events, deaths) = (64 * 64, 8 * 128);
        512 + board + events + deaths + usize::from(app.number()) * 128
    };
    for word in 1..128 {
        let cells = segment.cells();
        let word_of = |app| &cells[entry(app) + word];
        word_of(second).store(word_of(first).load(Relaxed), Relaxed);
    }
    for app in [first, second] {
        arena.application(app).finish_request(1);
    }
    arena.begin(1, second, 0, b"/", b"");
    for format in BOTH {
        let families = parse(&page(&segment, format), format);
        let labels = [("app", "shop"), ("method", "GET"), ("code", "2xx")];
        assert_eq!(value(&families, "wsgi_requests_total", &labels), Some(2.0));
        let running = value(&families, "wsgi_requests_in_flight", &[("app", "shop")]);
        assert_eq!(running, Some(1.0));
        assert_eq!(
            value(&families, "wsgi_requests_in_flight", &[("app", "_other")]),
            None
        );
    }
}

#[test]
fn what_applications_measure_comes_after_ours() {
    use wsgi_telemetry::{Aggregate, CustomKind, Description, Part};
    let segment = busy();
    let child = segment.claim(owner(), 9, Role::Ready).unwrap();
    let child = segment.process_arena_of(child);
    let family = |name: &str, kind| {
        let description = Description {
            name: name.to_owned(),
            kind,
            labels: vec!["queue".to_owned()],
            help: "What is \"waiting\" in C:\\queues\nnow".to_owned(),
        };
        segment.custom_family(&description, owner()).unwrap()
    };
    let jobs = family("shop_jobs_total", CustomKind::Counter);
    let depth = family("shop_depth", CustomKind::Gauge(Aggregate::Max));
    let took = family(
        "shop_job_seconds",
        CustomKind::Histogram(vec![0.5, 1.0, 2_500_000.0]),
    );
    let size = family("shop_job_bytes", CustomKind::Summary);
    // The table is full before the last one of them.
    for queue in 0..12 {
        let queue = [&*format!("q\\\"{queue}\n")];
        let of = |family, part| {
            segment
                .custom_series(family, part, &queue, owner())
                .unwrap()
        };
        child.series_add(of(jobs, Part::Value), 1.5);
        child.series_set(of(depth, Part::Value), f64::NEG_INFINITY);
        child.series_add(of(size, Part::Count), 1.0);
        child.series_add(of(size, Part::Sum), -2.0);
        let took = segment.custom_histogram(took, &queue, owner()).unwrap();
        for value in [0.5, 0.75, 1e7, -1.0] {
            took.observe_in(&child, value);
        }
    }
    for format in BOTH {
        let page = page(&segment, format);
        let families = parse(&page, format);
        assert_eq!(total(&families, "shop_jobs_total"), 18.0);
        assert_eq!(total(&families, "shop_job_bytes_count"), 12.0);
        assert_eq!(total(&families, "shop_job_bytes_sum"), -24.0);
        assert_eq!(total(&families, "shop_job_seconds_count"), 48.0);
        assert_eq!(
            total(&families, "shop_job_seconds_sum"),
            12.0 * (1e7 + 0.25)
        );
        for (name, least) in [("shop_jobs_total", 3.0), ("shop_job_seconds_count", 4.0)] {
            let other = value(&families, name, &[("queue", "_other")]);
            assert!(other >= Some(least), "{name}: {other:?}");
        }
        let first = [("queue", "q\\\"0\n")];
        assert_eq!(
            value(&families, "shop_depth", &first),
            Some(f64::NEG_INFINITY)
        );
        let bucket = |le| {
            value(
                &families,
                "shop_job_seconds_bucket",
                &[first[0], ("le", le)],
            )
        };
        let buckets = ["0.5", "1.0", "2.5e+06", "+Inf"].map(bucket);
        assert_eq!(buckets, [2.0, 3.0, 3.0, 4.0].map(Some));
        assert_eq!(value(&families, "wsgi_metrics_series", &[]), Some(63.0));
        assert_eq!(
            value(&families, "wsgi_metrics_series_limit", &[]),
            Some(63.0)
        );
        let kind = [("kind", "series")];
        assert!(value(&families, "wsgi_metrics_overflows_total", &kind) > Some(0.0));
        let last = families.last().unwrap();
        assert_eq!(last.help, "What is \"waiting\" in C:\\queues\nnow");
    }
    promtool_is_silent(&page(&segment, Format::Text));
}

/// Changes when a cell moves or gets another meaning: children of another release would write into the wrong cells.
#[test]
fn the_layout_is_the_one_that_was_agreed_on() {
    let golden = include_str!("layout.golden");
    let mut now = format!("layout {:016x}\n", Segment::LAYOUT);
    let mut offsets = BTreeMap::new();
    for family in FAMILIES {
        if family.source != catalogue::Source::Derived {
            let at = catalogue::cell(family.id, 0);
            offsets.insert((family.source as u8, at), family.name);
        }
    }
    for ((source, at), name) in offsets {
        now += &format!("{source} {at} {name}\n");
    }
    let changed = "cells have moved: raise the version in `layout::MAGIC` if releases differ, and put this into \
                   tests/layout.golden";
    assert_eq!(golden, now, "{changed}:\n{now}");
    assert_eq!(METHOD.values.len(), 8);
    const { assert!(APPLICATION_CELLS <= 512) };
}

/// The length of a large server's page depends on what its applications have counted.
#[test]
fn many_applications_show_what_they_have_counted() {
    for (applications, shown) in [(255, 255), (256, 1)] {
        let segment = segment(Geometry::new(4, 1, applications, 16));
        let labels: Vec<String> = (0..applications).map(|at| format!("/app{at}")).collect();
        let named = labels.iter().map(|label| (&**label, ["", "/a.wsgi", ""]));
        let apps = segment.applications_named(named, Owner::of_this_process(0));
        segment.arena_of(1).application(apps[70]).finish_request(1);
        let page = page(&segment, Format::Text);
        let of_all = page
            .lines()
            .filter(|line| line.starts_with("wsgi_application_info{"));
        assert_eq!(of_all.count(), applications);
        let aborts = page
            .lines()
            .filter(|line| line.starts_with("wsgi_protocol_errors_total{"));
        assert_eq!(aborts.count(), shown);
        assert!(page.contains("wsgi_requests_total{app=\"/app70\""));
        assert_eq!(
            page.contains("wsgi_requests_total{app=\"/app7\""),
            shown > 1
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A child may write anything anywhere: Prometheus can still read the page.
    #[test]
    fn scribbled_segments_give_valid_pages(
        words in prop::collection::vec((any::<prop::sample::Index>(), word()), 0..4000),
        fill in prop::option::of(word()),
        used in any::<bool>(),
    ) {
        let segment = if used { busy_with_series() } else { fresh() };
        let cells = segment.cells();
        if let Some(fill) = fill {
            for cell in cells.iter() {
                cell.store(fill, Relaxed);
            }
        }
        let arenas = cells.len() - SMALL.arenas * 4096;
        for (index, word) in words {
            // Most of the segment is arenas, but the tables are what can do harm.
            let room = if word % 3 == 0 { cells.len() } else { arenas.min(cells.len()) };
            cells[index.index(room)].store(word, Relaxed);
        }
        for format in BOTH {
            let page = page(&segment, format);
            parse(&page, format);
            prop_assert!(page.len() < 4_000_000);
        }
    }

    /// Any text is read back unchanged, and different texts stay different.
    #[test]
    fn label_values_come_back(
        values in prop::collection::btree_set(prop_oneof![any::<String>(), "[\\\\\"\n\r a]{0,6}"], 1..12)
    ) {
        let segment = fresh();
        let arena = arena(&segment, 1);
        for (number, value) in values.iter().enumerate() {
            let series = counter(&segment, "odd", &[("what", value)]);
            arena.series_add(series, number as f64 + 1.0);
        }
        for format in BOTH {
            let families = parse(&page(&segment, format), format);
            for (number, text) in values.iter().enumerate() {
                prop_assert_eq!(
                    value(&families, "odd_total", &[("what", text)]),
                    Some(number as f64 + 1.0)
                );
            }
        }
    }
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..300u64,
        (1..=3u64).prop_map(|tag| tag << 56),
        Just(u64::MAX),
        Just(1 << 63),
        any::<f64>().prop_map(f64::to_bits),
        "[\"\\\\\n{}=,# a-z\u{e9}]{2}".prop_map(|text| {
            let mut bytes = [b'"'; 8];
            let length = text.len().min(8);
            bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
            u64::from_le_bytes(bytes)
        }),
    ]
}

fn counter(segment: &Segment, name: &str, labels: &[(&str, &str)]) -> wsgi_telemetry::Series {
    let (names, values): (Vec<&str>, Vec<&str>) = labels.iter().copied().unzip();
    let description = wsgi_telemetry::Description {
        name: name.to_owned(),
        kind: wsgi_telemetry::CustomKind::Counter,
        labels: names.into_iter().map(str::to_owned).collect(),
        help: "Odd \"things\" \\ and\nlines.".to_owned(),
    };
    let family = segment.custom_family(&description, owner()).unwrap();
    segment
        .custom_series(family, wsgi_telemetry::Part::Value, &values, owner())
        .unwrap()
}

fn busy_with_series() -> Segment {
    let segment = busy();
    for name in ["a", "b_total", "c"] {
        let series = counter(&segment, name, &[("x", "1"), ("y", "2")]);
        segment.spill().series_add(series, 1.5);
    }
    segment
}
