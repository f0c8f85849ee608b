//! Dashboards, rules and runbook, made from a table of panels, a table of alerts, and the catalogue of metrics.
//!
//! To add a panel, add a row in `overview`, `interpreters` or `server`; to add an alert, a row in `alerts` and its
//! cases in `cases`. `cargo run -p wsgi-dashboards` writes the files, and the tests check that the files in the tree
//! are up to date.

#![forbid(unsafe_code)]

pub mod alerts;
pub mod cases;
pub mod grafana;
mod interpreters;
mod overview;
pub mod panel;
pub mod parameters;
pub mod prometheus;
mod reference;
pub mod rules;
pub mod runbook;
mod server;
mod yaml;

use panel::Dashboard;
use parameters::Parameters;

/// Returns the dashboards, in reading order.
pub fn dashboards() -> [&'static Dashboard; 3] {
    [
        &overview::OVERVIEW,
        &interpreters::INTERPRETERS,
        &server::SERVER,
    ]
}

/// Metrics that no dashboard and no alert uses, each with the reason.
pub const UNUSED: &[(&str, &str)] = &[(
    "wsgi_python_gc_pending_objects",
    "goes up and down with every collection; the collections themselves are shown, this explains one by hand",
)];

/// Returns all files, by name.
pub fn files(parameters: &Parameters) -> Vec<(String, String)> {
    let mut files: Vec<_> = dashboards()
        .iter()
        .map(|dashboard| {
            let json = grafana::dashboard(dashboard, parameters);
            (format!("{}.json", dashboard.name), format!("{json:#}\n"))
        })
        .collect();
    files.push(("recording-rules.yml".into(), rules::recording_rules()));
    files.push(("alert-rules.yml".into(), rules::alert_rules(parameters)));
    files.push(("rules-test.yml".into(), cases::rules_test(parameters)));
    files.push(("runbook.md".into(), runbook::runbook(parameters)));
    files.push(("metrics.md".into(), reference::reference()));
    files
}

/// A query of a panel, or of an annotation.
#[derive(Clone, Debug)]
pub struct Query {
    /// Name of the dashboard.
    pub dashboard: &'static str,
    /// Title of the panel, or name of the annotation.
    pub panel: &'static str,
    /// PromQL with Grafana's variables in it.
    pub expr: String,
    /// Why the query may return nothing on a healthy server under load; `None` if it may not.
    pub may_be_empty: Option<&'static str>,
}

impl Query {
    /// Returns the query as Grafana would send it.
    pub fn with(&self, choice: &Choice) -> String {
        choice.fill(&self.expr)
    }
}

/// The values of a dashboard's variables: regular expressions, and a duration.
#[derive(Clone, Debug)]
pub struct Choice {
    /// `$job`.
    pub job: String,
    /// `$instance`.
    pub instance: String,
    /// `$app`.
    pub app: String,
    /// `$__rate_interval`: in Grafana at least four scrape intervals.
    pub rate_interval: String,
}

impl Choice {
    /// Selects everything, with this rate interval.
    pub fn everything(rate_interval: &str) -> Choice {
        let all = || ".+".to_owned();
        Choice {
            job: all(),
            instance: all(),
            app: all(),
            rate_interval: rate_interval.into(),
        }
    }

    /// Replaces Grafana's variables with their values.
    pub fn fill(&self, expr: &str) -> String {
        expr.replace("$__rate_interval", &self.rate_interval)
            .replace("$job", &self.job)
            .replace("$instance", &self.instance)
            .replace("$app", &self.app)
    }
}

/// Returns the queries of all panels and annotations.
pub fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            queries.extend(panel.targets.iter().map(|target| Query {
                dashboard: dashboard.name,
                panel: panel.title,
                expr: target.grafana(),
                may_be_empty: panel.may_be_empty,
            }));
        }
        queries.extend(grafana::ANNOTATIONS.iter().map(|(name, _, target)| Query {
            dashboard: dashboard.name,
            panel: name,
            expr: target.grafana(),
            may_be_empty: Some("nothing happened that it would mark"),
        }));
    }
    queries
}
