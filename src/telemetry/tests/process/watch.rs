//! The scraper: takes snapshots one after the other, and compares each with the previous one and with the acknowledged
//! requests.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wsgi_telemetry::catalogue::{ANSWERED, CODE, FAMILIES, Family, Id, Kind, METHOD, Source};
use wsgi_telemetry::{CustomValue, Numbers, Segment, Snapshot};

use crate::board::{APPLICATIONS, Board};

/// The errors found, for the test to report at its end.
#[derive(Default)]
pub(crate) struct Wrongs {
    counts: Mutex<Vec<String>>,
    shown: Mutex<Vec<String>>,
}

/// Number of errors to report: enough to see the cause.
const MOST_TOLD: usize = 8;

impl Wrongs {
    /// Checks a count. If it is wrong, the test need not go on.
    pub(crate) fn check(&self, holds: bool, wrong: impl FnOnce() -> String) {
        note(&self.counts, holds, wrong);
    }

    /// Checks a displayed value other than a count.
    pub(crate) fn check_shown(&self, holds: bool, wrong: impl FnOnce() -> String) {
        note(&self.shown, holds, wrong);
    }

    pub(crate) fn are_counts_wrong(&self) -> bool {
        !self.counts.lock().unwrap().is_empty()
    }

    /// Returns the errors in counts and in other displayed values.
    pub(crate) fn list(&self) -> (Vec<String>, Vec<String>) {
        let of = |list: &Mutex<Vec<String>>| list.lock().unwrap().clone();
        (of(&self.counts), of(&self.shown))
    }
}

fn note(list: &Mutex<Vec<String>>, holds: bool, wrong: impl FnOnce() -> String) {
    if !holds {
        let mut list = list.lock().unwrap();
        if list.len() < MOST_TOLD {
            list.push(wrong());
        }
    }
}

/// All counters of a snapshot, by where they are counted.
type Counters = BTreeMap<String, Vec<u128>>;

/// Takes snapshots until `done`, and returns their number.
pub(crate) fn watch(segment: Segment, board: Board, done: &AtomicBool, wrongs: &Wrongs) -> u64 {
    let mut before = Counters::new();
    let mut count = 0;
    while !done.load(Relaxed) && !wrongs.are_counts_wrong() {
        let acknowledged = board.acknowledged();
        let snapshot = segment.snapshot();
        let counters = counters(&snapshot);
        for (place, old) in &before {
            grows(place, old, counters.get(place), wrongs);
        }
        check(&snapshot, acknowledged, wrongs);
        before = counters;
        count += 1;
    }
    count
}

fn grows(place: &str, old: &[u128], new: Option<&Vec<u128>>, wrongs: &Wrongs) {
    let Some(new) = new else {
        return wrongs.check(false, || format!("{place} has gone"));
    };
    for (at, (old, new)) in old.iter().zip(new).enumerate() {
        wrongs.check(new >= old, || {
            format!("cell {at} of {place} went back from {old} to {new}")
        });
    }
}

/// Checks what holds in every snapshot.
fn check(snapshot: &Snapshot, acknowledged: [u64; APPLICATIONS.len()], wrongs: &Wrongs) {
    for (label, acknowledged) in APPLICATIONS.into_iter().zip(acknowledged) {
        let counted = numbers(snapshot, label).map_or(0, requests);
        wrongs.check(counted >= acknowledged.into(), || {
            format!(
                "{acknowledged} requests of {label} are acknowledged and only {counted} counted"
            )
        });
    }
    for numbers in snapshot
        .applications
        .iter()
        .map(|application| &application.numbers)
    {
        for (class, name) in ANSWERED.values.iter().enumerate() {
            let (requests, observed) = (requests_of(numbers, class), observed(numbers, class));
            wrongs.check(observed >= requests, || {
                format!("{requests} requests of {name} are counted and only {observed} observed")
            });
        }
    }
    let orders = orders(snapshot);
    let acknowledged = acknowledged.iter().sum::<u64>() as f64;
    wrongs.check(orders >= acknowledged, || {
        format!("{acknowledged} orders are acknowledged and only {orders} counted")
    });
    for running in &snapshot.running {
        let expected = format!("/{}", running.since);
        for text in [&running.url, &running.group] {
            // Empty if its writer was killed in the middle of it.
            wrongs.check_shown(text.is_empty() || *text == expected, || {
                format!("a running request is said to be {text} and {expected}")
            });
        }
    }
    for event in &snapshot.events {
        let times = [event.application, event.gil_wait, event.input, event.output];
        let is_whole = times.iter().all(|&time| time == event.total)
            && event.url == format!("/{}", event.total);
        wrongs.check_shown(is_whole, || {
            format!("an event that two have written: {event:?}")
        });
    }
}

fn counters(snapshot: &Snapshot) -> Counters {
    let mut counters = Counters::new();
    for application in &snapshot.applications {
        let label = application.application.label.clone();
        counters.insert(label, cells(&application.numbers, Source::Application));
    }
    counters.insert(
        String::from("children"),
        cells(&snapshot.process, Source::Process),
    );
    counters.insert(
        String::from("header"),
        cells(&snapshot.header, Source::Header),
    );
    counters.insert(String::from("orders"), vec![orders(snapshot) as u128]);
    counters
}

fn cells(numbers: &Numbers, source: Source) -> Vec<u128> {
    let is_counter = |family: &&Family| family.source == source && family.kind != Kind::Gauge;
    let mut cells = Vec::new();
    for family in FAMILIES.iter().filter(is_counter) {
        for series in 0..family.series() {
            if family.kind == Kind::Counter {
                cells.push(numbers.counter(family.id, series));
            } else {
                let (buckets, sum) = numbers.histogram(family.id, series);
                cells.extend_from_slice(buckets);
                cells.push(sum);
            }
        }
    }
    cells
}

pub(crate) fn numbers<'a>(snapshot: &'a Snapshot, label: &str) -> Option<&'a Numbers> {
    let found = snapshot
        .applications
        .iter()
        .find(|application| application.application.label == label);
    found.map(|application| &application.numbers)
}

/// Returns the number of requests of all methods and classes.
pub(crate) fn requests(numbers: &Numbers) -> u128 {
    let series = 0..Id::Requests.family().series();
    series
        .map(|series| numbers.counter(Id::Requests, series))
        .sum()
}

/// Returns the number of requests of an answered class.
pub(crate) fn requests_of(numbers: &Numbers, class: usize) -> u128 {
    let code = catalogue_code(class);
    let methods = 0..METHOD.values.len();
    methods
        .map(|method| numbers.counter(Id::Requests, method * CODE.values.len() + code))
        .sum()
}

/// Returns the number of an answered class among all classes.
fn catalogue_code(class: usize) -> usize {
    wsgi_telemetry::catalogue::value(CODE, ANSWERED.values[class])
}

pub(crate) fn observed(numbers: &Numbers, class: usize) -> u128 {
    numbers.histogram(Id::RequestDuration, class).0.iter().sum()
}

/// Returns the value of the applications' own counter.
pub(crate) fn orders(snapshot: &Snapshot) -> f64 {
    let series = snapshot
        .custom
        .families
        .iter()
        .flat_map(|family| &family.series);
    series
        .map(|series| match series.value {
            CustomValue::Number(count) => count,
            _ => 0.0,
        })
        .sum()
}
