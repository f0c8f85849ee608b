//! Dashboards and rules against the catalogue.

use crate::promql::Reader;
use std::collections::BTreeSet;
use wsgi_dashboards::alerts::alerts;
use wsgi_dashboards::parameters::Parameters;
use wsgi_dashboards::{UNUSED, dashboards, queries};
use wsgi_telemetry::catalogue::{self, FAMILIES};

#[test]
fn queries_name_what_exists() {
    let mut reader = Reader::default();
    for query in queries() {
        if let Err(error) = reader.read(&query.expr) {
            panic!("{} › {}: {error}", query.dashboard, query.panel);
        }
    }
}

#[test]
fn legends_name_labels_of_their_series() {
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            for target in panel.targets {
                let labels = Reader::default().read(&target.grafana()).unwrap();
                let named: BTreeSet<String> = target
                    .legend
                    .split("{{")
                    .skip(1)
                    .map(|rest| rest.split("}}").next().unwrap().to_owned())
                    .collect();
                assert!(
                    named.is_subset(&labels),
                    "{}: {} of {labels:?}",
                    panel.title,
                    target.legend
                );
                // Two series of one name could not be told apart.
                assert!(
                    panel.instant() || named == labels,
                    "{}: {} lacks some of {labels:?}",
                    panel.title,
                    target.legend
                );
            }
        }
    }
}

#[test]
fn rules_name_what_exists() {
    let mut reader = Reader::with_recordings().unwrap();
    for alert in alerts() {
        let labels = reader
            .read(&(alert.expr)(&Parameters::default()))
            .unwrap_or_else(|error| panic!("{}: {error}", alert.name));
        for template in [alert.summary, alert.description] {
            for (at, marker) in template.match_indices("$labels.") {
                let label: String = template[at + marker.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                assert!(
                    labels.contains(&label),
                    "{}: {label} of {labels:?}",
                    alert.name
                );
            }
        }
    }
}

#[test]
fn every_family_is_shown_or_has_a_reason_not_to_be() {
    let mut reader = Reader::with_recordings().unwrap();
    // What is recorded only is not shown yet.
    reader.met.clear();
    for query in queries() {
        reader.read(&query.expr).unwrap();
    }
    for alert in alerts() {
        reader.read(&(alert.expr)(&Parameters::default())).unwrap();
    }
    for family in FAMILIES {
        let reason = UNUSED.iter().find(|(name, _)| *name == family.name);
        match (reader.met.contains(family.name), reason) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => panic!(
                "{} is neither in a dashboard nor in an alert nor in UNUSED",
                family.name
            ),
            (true, Some(_)) => panic!("{} is used: take it out of UNUSED", family.name),
        }
    }
    for (name, reason) in UNUSED {
        assert!(
            catalogue::by_name(name).is_some() && !reason.is_empty(),
            "{name}"
        );
    }
}

/// The reader can tell right from wrong.
#[test]
fn mistakes_are_found() {
    let mistakes = [
        ("sum by (app) (rate(wsgi_request_total[5m]))", "no metric"),
        ("rate(wsgi_request_duration_seconds[5m])", "histogram"),
        ("rate(wsgi_requests_total_sum[5m])", "no metric"),
        (
            r#"rate(wsgi_requests_total{status="5xx"}[5m])"#,
            "no label status",
        ),
        (r#"rate(wsgi_requests_total{code="500"}[5m])"#, "never 500"),
        (
            r#"rate(wsgi_requests_total{code=~"5xx|non"}[5m])"#,
            "never non",
        ),
        (
            r#"rate(wsgi_gil_wait_seconds_bucket{le="0.005"}[5m])"#,
            "never 0.005",
        ),
        (
            "sum by (pool) (rate(wsgi_requests_total[5m]))",
            "no label pool",
        ),
        (
            "histogram_quantile(0.9, sum by (app) (rate(wsgi_gil_wait_seconds_bucket[5m])))",
            "without le",
        ),
        (
            "sum by (app) (wsgi_requests_in_flight) / sum by (instance) (wsgi_requests_in_flight)",
            "never match",
        ),
        (
            "sum by (app) (wsgi_requests_in_flight) / on (app) sum (wsgi_children)",
            "no label app",
        ),
        ("sum by (app (wsgi_requests_in_flight)", "unclosed"),
    ];
    for (expr, complaint) in mistakes {
        let error = Reader::default().read(expr).expect_err(expr);
        assert!(error.contains(complaint), "{error} should say: {complaint}");
    }
}
