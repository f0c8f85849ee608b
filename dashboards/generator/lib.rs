//! Dashboards, rules, and what explains them, made from one table of panels, one of rules, and the catalogue of metrics.
//!
//! To add a panel is to add a row in `overview`, `interpreters` or `server`; an alert, a row in `alerts` and its cases in
//! `cases`. `cargo run -p wsgi-dashboards` writes the files, and the tests insist that they are what it would write.

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

/// The dashboards, in reading order.
pub fn dashboards() -> [&'static Dashboard; 3] {
    [
        &overview::OVERVIEW,
        &interpreters::INTERPRETERS,
        &server::SERVER,
    ]
}

/// Metrics that are in no dashboard and no alert, each with the reason.
pub const UNUSED: &[(&str, &str)] = &[(
    "wsgi_python_gc_pending_objects",
    "goes up and down with every collection; the collections themselves are shown, this explains one by hand",
)];

/// All files, by name.
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
    /// The name of the dashboard.
    pub dashboard: &'static str,
    /// The title of the panel, or the name of the annotation.
    pub panel: &'static str,
    /// PromQL with Grafana's variables in it.
    pub expr: String,
    /// Why it may return nothing on a server that is well and under load, if it may.
    pub may_be_empty: Option<&'static str>,
}

impl Query {
    /// PromQL as Grafana would send it.
    pub fn with(&self, choice: &Choice) -> String {
        choice.fill(&self.expr)
    }
}

/// What is chosen on a dashboard: regular expressions, and a duration.
#[derive(Clone, Debug)]
pub struct Choice {
    /// `$job`.
    pub job: String,
    /// `$instance`.
    pub instance: String,
    /// `$app`.
    pub app: String,
    /// `$__rate_interval`, which Grafana takes to be at least four scrapes.
    pub rate_interval: String,
}

impl Choice {
    /// Everything there is, with this rate interval.
    pub fn everything(rate_interval: &str) -> Choice {
        let all = || ".+".to_owned();
        Choice {
            job: all(),
            instance: all(),
            app: all(),
            rate_interval: rate_interval.into(),
        }
    }

    /// Puts the choice in place of Grafana's variables.
    pub fn fill(&self, expr: &str) -> String {
        expr.replace("$__rate_interval", &self.rate_interval)
            .replace("$job", &self.job)
            .replace("$instance", &self.instance)
            .replace("$app", &self.app)
    }
}

/// The queries of all panels and annotations.
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
