//! Every family that is not recorded in each request is recorded through the macros of `metrics` and arrives in the
//! exposition.

#![allow(clippy::unwrap_used)]

mod support;

use metrics::{SharedString, counter, gauge, histogram};

use support::{page, parse, promtool_is_silent, segment, value};
use wsgi_telemetry::catalogue::{FAMILIES, Id, Kind, Source};
use wsgi_telemetry::{Format, Geometry, install_recorder, writer};

/// The application whose metrics are recorded.
const APP: &str = "/shop";

/// Families that are recorded in each request, or for each line of a log, by direct writes to cells.
const IN_REQUESTS: &[Id] = &[
    Id::Requests,
    Id::RequestDuration,
    Id::ApplicationDuration,
    Id::TimeToFirstByte,
    Id::InputRead,
    Id::OutputWrite,
    Id::RequestBody,
    Id::ResponseBody,
    Id::Exceptions,
    Id::ProtocolErrors,
    Id::ClientAborts,
    Id::Rejected,
    Id::Timeouts,
    Id::SlowRequests,
    Id::LogLines,
    Id::QueueWait,
    Id::GilWait,
    Id::GilHeld,
    // The recorder itself counts this one.
    Id::MetricsOverflows,
];

#[test]
fn every_family_off_the_request_path_arrives() {
    let segment = segment(Geometry {
        arenas: 16,
        applications: 4,
        series: 64,
    });
    install_recorder(segment, &writer::OfThisProcess);
    // The parent has no arena: only families in the segment's header are recorded.
    counter!("wsgi_children_started_total").increment(2);
    counter!("wsgi_interpreter_starts_total", "app" => APP).increment(7);
    counter!("jobs_total").increment(7);

    writer::start(segment, 0);
    let owner = writer::owner().unwrap();
    segment.application_named(APP, ["/shop", "/srv/shop.wsgi", ""], owner);
    let families = FAMILIES
        .iter()
        .filter(|family| family.source != Source::Derived && !IN_REQUESTS.contains(&family.id));
    let mut expected = Vec::new();
    for family in families {
        for series in 0..family.series() {
            let names = family.labels.iter().map(|label| label.name);
            let mut labels: Vec<(&str, &str)> = names.zip(family.values(series)).collect();
            if family.has_app() {
                labels.insert(0, ("app", APP));
            }
            let number = 3 + series as u64;
            let owned: Vec<(SharedString, SharedString)> = labels
                .iter()
                .map(|&(name, value)| (name.to_owned().into(), value.to_owned().into()))
                .collect();
            let name = family.id.name();
            let (sample, recorded) = match family.kind {
                Kind::Counter => {
                    counter!(name, &owned).increment(number);
                    let seconds = name.ends_with("_seconds_total");
                    let scale = if seconds { 1e9 } else { 1.0 };
                    (name.to_owned(), number as f64 / scale)
                }
                Kind::Gauge => {
                    gauge!(name, &owned).increment(number as f64);
                    (name.to_owned(), number as f64)
                }
                Kind::Histogram(_) => {
                    histogram!(name, &owned).record(number as f64);
                    (format!("{name}_sum"), number as f64)
                }
            };
            let started = if family.id == Id::ChildrenStarted {
                2.0
            } else {
                0.0
            };
            expected.push((sample, labels, recorded + started));
        }
    }
    counter!("jobs_total").increment(5);
    assert!(expected.len() > 40, "{}", expected.len());

    let text = page(&segment, Format::Text);
    let page = parse(&text, Format::Text);
    for (sample, labels, recorded) in expected {
        assert_eq!(
            value(&page, &sample, &labels),
            Some(recorded),
            "{sample} {labels:?}"
        );
    }
    assert_eq!(value(&page, "jobs_total", &[]), Some(5.0));
    promtool_is_silent(&text);

    // After a restart in the same process the segment may be another one; all that was registered is forgotten.
    let next = support::segment(segment.geometry());
    install_recorder(next, &writer::OfThisProcess);
    counter!("wsgi_children_started_total").increment(1);
    let page = parse(&support::page(&next, Format::Text), Format::Text);
    assert_eq!(value(&page, "wsgi_children_started_total", &[]), Some(1.0));

    // The copy of a child that an application forked records nothing.
    writer::detach();
    counter!("wsgi_children_started_total").increment(1);
    gauge!("wsgi_python_threads", "app" => APP).set(1_000.0);
    let page = parse(&support::page(&next, Format::Text), Format::Text);
    assert_eq!(value(&page, "wsgi_children_started_total", &[]), Some(1.0));
}
