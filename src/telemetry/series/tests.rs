#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use super::*;
use crate::segment::Geometry;
use crate::segment::Owner;
use crate::segment::Role;
use crate::segment::{Arena, Segment};

fn segment(series: usize) -> Segment {
    let geometry = Geometry {
        arenas: 8,
        applications: 2,
        series,
    };
    Segment::fresh(geometry)
}

fn owner(pid: u32) -> Owner {
    Owner {
        pid,
        ticks: 1,
        generation: 0,
    }
}

fn child(segment: &Segment, pid: u32) -> Arena {
    let number = segment.claim(owner(pid), 0, Role::Ready).unwrap();
    segment.process_arena_of(number)
}

fn metric(name: &str, kind: CustomKind, labels: &[&str]) -> Description {
    Description {
        name: name.to_owned(),
        kind,
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        help: String::from("Help."),
    }
}

fn numbers(segment: &Segment, name: &str) -> Vec<(String, f64)> {
    let families = segment.custom().families;
    let family = families
        .into_iter()
        .find(|family| family.description.name == name);
    let series = family.map(|family| family.series).unwrap_or_default();
    let number = |series: CustomSeries| match series.value {
        CustomValue::Number(number) => (series.values.join(","), number),
        other => panic!("{other:?}"),
    };
    series.into_iter().map(number).collect()
}

fn pair(labels: &str, number: f64) -> (String, f64) {
    (labels.to_owned(), number)
}

/// Each has its own word of the header.
#[test]
fn the_memory_that_is_measured_and_the_series_that_are_used_are_two_things() {
    use crate::segment::layout::header;
    let segment = segment(50);
    segment.note_resident(4096);
    let resident = segment.snapshot().resident;
    assert_eq!(resident, Some(4096));
    let jobs = metric("jobs", CustomKind::Counter, &[]);
    let family = segment.custom_family(&jobs, owner(1)).unwrap();
    segment
        .custom_series(family, Part::Value, &[], owner(1))
        .unwrap();
    let used = || segment.cells()[header::SERIES_USED].load(Relaxed);
    assert_eq!(used(), 2);
    assert_eq!(segment.snapshot().resident, resident);
    segment.note_resident(8192);
    assert_eq!(used(), 2);
}

#[test]
fn families_are_checked_and_the_same_for_all_children() {
    let segment = segment(50);
    let enter = |description: &Description| segment.custom_family(description, owner(1));
    let jobs = enter(&metric("jobs_total", CustomKind::Counter, &["queue"])).unwrap();
    let again = segment.custom_family(&metric("jobs", CustomKind::Counter, &["queue"]), owner(2));
    assert_eq!(again, Ok(jobs));

    let counter = |name: &str| enter(&metric(name, CustomKind::Counter, &[]));
    let named = |name: &str| Err(Refused::Name(name.to_owned()));
    for name in [
        "",
        "1a",
        "a b",
        "a-b",
        "\u{e9}",
        "a\"",
        "_total_total",
        &"n".repeat(119),
    ] {
        let is_fine = name == "_total_total";
        assert_eq!(counter(name).is_ok(), is_fine, "{name}");
        assert!(is_fine || counter(name) == named(name));
    }
    assert_eq!(counter("wsgi_x"), Err(Refused::Reserved("wsgi_x".into())));
    let gauge = CustomKind::Gauge(Aggregate::Sum);
    for (description, why) in [
        (
            metric("jobs", gauge.clone(), &["queue"]),
            Refused::Different("jobs".into()),
        ),
        (
            metric("jobs", CustomKind::Counter, &["other"]),
            Refused::Different("jobs".into()),
        ),
        (
            metric("jobs_total", gauge.clone(), &[]),
            Refused::Clash("jobs_total".into(), "jobs".into()),
        ),
        (
            metric("g", gauge.clone(), &["a-b"]),
            Refused::Label("a-b".into()),
        ),
        (
            metric("g", gauge.clone(), &["__a"]),
            Refused::Label("__a".into()),
        ),
        (
            metric("g", gauge.clone(), &["a", "a"]),
            Refused::LabelTwice("a".into()),
        ),
        (
            metric(
                "g",
                gauge.clone(),
                &["a", "b", "c", "d", "e", "f", "g", "h", "i"],
            ),
            Refused::TooManyLabels("g".into()),
        ),
        (
            metric("h", CustomKind::Histogram(vec![1.0]), &["le"]),
            Refused::Label("le".into()),
        ),
        (
            metric("h", CustomKind::Histogram(vec![1.0, 1.0]), &[]),
            Refused::Bounds("h".into()),
        ),
        (
            metric("h", CustomKind::Histogram(vec![f64::INFINITY]), &[]),
            Refused::Bounds("h".into()),
        ),
        (
            metric(
                "h",
                CustomKind::Histogram((0..21).map(f64::from).collect()),
                &[],
            ),
            Refused::Bounds("h".into()),
        ),
    ] {
        assert!(!why.to_string().is_empty());
        assert_eq!(enter(&description), Err(why));
    }
    let wrong = segment.custom_series(jobs, Part::Value, &[], owner(1));
    assert_eq!(wrong, Err(Refused::Values("jobs".into())));
    let wrong = segment.custom_series(jobs, Part::Sum, &["a"], owner(1));
    assert_eq!(wrong, Err(Refused::Sample("jobs".into())));
}

#[test]
fn totals_stay_when_series_run_out() {
    let segment = segment(8);
    let arena = child(&segment, 1);
    let jobs = metric("jobs", CustomKind::Counter, &["queue"]);
    let jobs = segment.custom_family(&jobs, owner(1)).unwrap();
    for turn in 0..3 {
        for queue in 0..20 {
            let queue = format!("q{queue}");
            let series = segment
                .custom_series(jobs, Part::Value, &[&queue], owner(1))
                .unwrap();
            arena.series_add(series, 1.0 + f64::from(turn));
        }
    }
    let found = numbers(&segment, "jobs");
    assert_eq!(found.iter().map(|(_, number)| number).sum::<f64>(), 120.0);
    // Seven entries, one of which is the overflow.
    assert_eq!(found.len(), 7);
    assert_eq!(found[0], pair("_other", 84.0));
    assert_eq!(segment.custom().used, 7);
    let header = segment.snapshot().header;
    assert_eq!(
        header.counter(crate::catalogue::Id::MetricsOverflows, 1),
        3 * 14
    );

    // No entry is left, not even for the overflow of another family.
    let more = metric("more", CustomKind::Counter, &[]);
    let more = segment.custom_family(&more, owner(1)).unwrap();
    let series = segment
        .custom_series(more, Part::Value, &[], owner(1))
        .unwrap();
    assert_eq!(series, Series::NOWHERE);
    arena.series_add(series, 1.0);
    assert_eq!(numbers(&segment, "more"), []);
}

#[test]
fn histograms_are_whole_or_in_the_rest() {
    let segment = segment(1 + 4 + 4 + 3);
    let arena = child(&segment, 1);
    let sizes = metric("sizes", CustomKind::Histogram(vec![1.0, 2.0]), &["kind"]);
    let sizes = segment.custom_family(&sizes, owner(1)).unwrap();
    for kind in ["a", "b", "c"] {
        let histogram = segment.custom_histogram(sizes, &[kind], owner(1)).unwrap();
        for value in [0.5, 1.0, 2.0, 2.5, f64::NAN] {
            histogram.observe_in(&arena, value);
        }
    }
    let family = segment.custom().families.pop().unwrap();
    let expected = |kind: &str, times: f64| CustomSeries {
        values: vec![kind.to_owned()],
        value: CustomValue::Histogram {
            buckets: vec![(1.0, 2.0 * times), (2.0, times)],
            above: times,
            sum: 6.0 * times,
        },
    };
    assert_eq!(family.series, [expected("_other", 2.0), expected("a", 1.0)]);
    // Entries of a histogram that did not fit are free again.
    let free = metric("free", CustomKind::Counter, &[]);
    let free = segment.custom_family(&free, owner(1)).unwrap();
    let series = segment
        .custom_series(free, Part::Value, &[], owner(1))
        .unwrap();
    assert_ne!(series, Series::NOWHERE);
}

#[test]
fn families_run_out_quietly() {
    let segment = segment(200);
    for number in 0..70 {
        let description = metric(&format!("m{number}"), CustomKind::Counter, &[]);
        let family = segment.custom_family(&description, owner(1)).unwrap();
        let series = segment
            .custom_series(family, Part::Value, &[], owner(1))
            .unwrap();
        assert_eq!(series == Series::NOWHERE, number >= 64);
        let histogram = segment
            .custom_histogram(FamilyNumber(None), &[], owner(1))
            .unwrap();
        histogram.observe_in(&segment.spill(), 1.0);
    }
    assert_eq!(segment.custom().families.len(), 64);
}

#[test]
fn gauges_are_of_the_living_and_counters_of_all() {
    let segment = segment(50);
    let enter = |name, kind| {
        let family = segment
            .custom_family(&metric(name, kind, &[]), owner(1))
            .unwrap();
        segment
            .custom_series(family, Part::Value, &[], owner(1))
            .unwrap()
    };
    let sum = enter("sum", CustomKind::Gauge(Aggregate::Sum));
    let min = enter("min", CustomKind::Gauge(Aggregate::Min));
    let max = enter("max", CustomKind::Gauge(Aggregate::Max));
    let counter = enter("counter", CustomKind::Counter);
    assert_eq!(numbers(&segment, "sum"), []);
    assert_eq!(numbers(&segment, "counter"), [pair("", 0.0)]);

    for pid in [11, 12, 13] {
        let arena = child(&segment, pid);
        if pid != 13 {
            for gauge in [sum, min, max] {
                arena.series_set(gauge, f64::from(pid));
                arena.series_add(gauge, -1.0);
            }
        }
        arena.series_add(counter, 2.5);
        // Values that would make the counter decrease.
        for nothing in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            arena.series_add(counter, nothing);
        }
        arena.series_set(counter, 0.0);
    }
    let all = |name| numbers(&segment, name)[0].1;
    assert_eq!([all("sum"), all("min"), all("max")], [21.0, 10.0, 11.0]);
    assert_eq!(all("counter"), 7.5);

    segment.free_arenas_of(11);
    assert_eq!([all("sum"), all("min"), all("max")], [11.0, 11.0, 11.0]);
    segment.free_arenas_of(12);
    segment.free_arenas_of(13);
    assert_eq!(numbers(&segment, "sum"), []);
    assert_eq!(all("counter"), 7.5);
    // The next owner of that arena has not set anything yet.
    child(&segment, 14);
    assert_eq!(numbers(&segment, "max"), []);
    assert_eq!(all("counter"), 7.5);
}

#[test]
fn children_that_enter_the_same_at_once_are_added_up() {
    let segment = segment(2_000);
    let arenas: Vec<Arena> = (1..=4).map(|pid| child(&segment, pid)).collect();
    for round in 0..20 {
        let name = format!("round{round}");
        thread::scope(|scope| {
            for (pid, arena) in (1..).zip(&arenas) {
                let description = metric(&name, CustomKind::Counter, &["a"]);
                let enter = move || {
                    let family = segment.custom_family(&description, owner(pid)).unwrap();
                    for value in ["x", "y"] {
                        let series = segment
                            .custom_series(family, Part::Value, &[value], owner(pid))
                            .unwrap();
                        arena.series_add(series, 1.0);
                    }
                };
                scope.spawn(enter);
            }
        });
        assert_eq!(numbers(&segment, &name), [pair("x", 4.0), pair("y", 4.0)]);
    }
}

#[test]
fn entries_copied_in_every_way_are_shown_once() {
    use crate::segment::layout::{FAMILY_WORDS, SERIES_WORDS};
    let segment = segment(50);
    let arena = child(&segment, 1);
    let family = metric("twice", CustomKind::Counter, &["a"]);
    let family = segment.custom_family(&family, owner(1)).unwrap();
    let other = metric("zz", CustomKind::Gauge(Aggregate::Sum), &[]);
    segment.custom_family(&other, owner(1)).unwrap();
    let series = segment
        .custom_series(family, Part::Value, &["v"], owner(1))
        .unwrap();
    arena.series_add(series, 1.0);
    let number = series.number as usize;
    let copy = |from: usize, to: usize, words: usize| {
        for word in 0..words {
            segment.set(to + word, segment.get(from + word));
        }
    };
    let geometry = segment.geometry();
    // As if two children had entered it at once, and a gauge whose sample has the name of the counter's.
    copy(geometry.family(0), geometry.family(2), FAMILY_WORDS);
    copy(geometry.family(0), geometry.family(3), FAMILY_WORDS);
    segment.set(geometry.family(3) + family::WHAT, 2);
    for to in [10, 11, 12] {
        copy(
            geometry.series_entry(number),
            geometry.series_entry(to),
            SERIES_WORDS,
        );
        segment.cells()[crate::segment::layout::header::SERIES_USED]
            .fetch_max(to as u64 + 1, Relaxed);
        arena
            .series_cell(to)
            .expect("memory")
            .store(1f64.to_bits(), Relaxed);
    }
    segment.set(geometry.series_entry(11) + 2, 2);
    segment.set(geometry.series_entry(12) + 2, 3);
    assert_eq!(numbers(&segment, "twice"), [pair("v", 3.0)]);
    assert_eq!(segment.custom().families.len(), 2);
}

#[test]
fn what_a_killed_child_was_writing_is_free_again() {
    let segment = segment(50);
    let family = metric("a", CustomKind::Counter, &[]);
    let family = segment.custom_family(&family, owner(7)).unwrap();
    let series = segment
        .custom_series(family, Part::Value, &[], owner(7))
        .unwrap();
    let writing = family::WRITING | 7;
    let geometry = segment.geometry();
    let states = [
        geometry.family(0),
        geometry.series_entry(series.number as usize),
    ];
    for state in states {
        segment.set(state, writing);
    }
    assert_eq!(segment.custom().families, []);
    segment.reclaim(8);
    assert_eq!(states.map(|state| segment.get(state)), [writing; 2]);
    segment.reclaim(7);
    assert_eq!(states.map(|state| segment.get(state)), [0; 2]);
}

#[test]
fn long_label_values_are_cut_and_stay_apart() {
    let segment = segment(50);
    let arena = child(&segment, 1);
    let family = metric("long", CustomKind::Counter, &["a", "b"]);
    let family = segment.custom_family(&family, owner(1)).unwrap();
    let long = "\u{20ac}".repeat(1_000);
    let (one, two) = (format!("{long}1"), format!("{long}2"));
    for value in [&one, &two, &one] {
        let series = segment
            .custom_series(family, Part::Value, &[value, ""], owner(1))
            .unwrap();
        arena.series_add(series, 1.0);
    }
    let mut found: Vec<f64> = numbers(&segment, "long")
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    found.sort_by(f64::total_cmp);
    assert_eq!(found, [1.0, 2.0]);
}

#[test]
fn the_samples_of_a_client_find_their_series() {
    let segment = segment(100);
    let arena = child(&segment, 1);
    let add = |kind, metric, sample, labels: &[&str], values: &[&str], mode| {
        let value = ClientValue {
            kind,
            metric,
            sample,
            labels,
            values,
            help: "Help.",
            mode,
        };
        segment.client_series(&value, owner(1)).map(|series| {
            arena.series_add(series, 1.5);
        })
    };
    add("counter", "hits", "hits_total", &["a"], &["1"], "").unwrap();
    add("counter", "hits", "hits_created", &["a"], &["1"], "").unwrap();
    add("gauge", "depth", "depth", &[], &[], "livemax").unwrap();
    add("summary", "took", "took_count", &[], &[], "").unwrap();
    add("summary", "took", "took_sum", &[], &[], "").unwrap();
    for le in ["0.5", "1.0", "+Inf", "0.5"] {
        add(
            "histogram",
            "size",
            "size_bucket",
            &["a", "le"],
            &["1", le],
            "",
        )
        .unwrap();
    }
    add("histogram", "size", "size_sum", &["a"], &["1"], "").unwrap();
    assert_eq!(
        add("gaugehistogram", "x", "x_gcount", &[], &[], ""),
        Err(Refused::Kind("gaugehistogram".into()))
    );
    for (sample, le) in [
        ("size_bucket", "NaN"),
        ("size_bucket", "x"),
        ("size_count", "1"),
        ("x", "1"),
    ] {
        let refused = add("histogram", "size", sample, &["a", "le"], &["1", le], "");
        assert!(matches!(refused, Err(Refused::Sample(_))), "{sample} {le}");
    }

    let custom = segment.custom();
    let names = custom
        .families
        .iter()
        .map(|family| family.description.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["depth", "hits", "size", "took"]);
    assert_eq!(
        custom.families[0].description.kind,
        CustomKind::Gauge(Aggregate::Max)
    );
    assert_eq!(
        custom.families[2].series[0].value,
        CustomValue::Histogram {
            buckets: vec![(0.5, 3.0), (1.0, 1.5)],
            above: 1.5,
            sum: 1.5
        }
    );
    assert_eq!(
        custom.families[3].series[0].value,
        CustomValue::Summary {
            count: 1.5,
            sum: 1.5
        }
    );
}
