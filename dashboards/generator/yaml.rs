//! The files of rules and of their tests, in the formats of Prometheus and promtool.

use std::collections::BTreeMap;

use serde::Serialize;

/// First line of each generated file.
const GENERATED: &str =
    "# Made by `cargo run -p wsgi-dashboards`: edit dashboards/generator instead.\n";

/// A file of rules.
#[derive(Serialize)]
pub(crate) struct Rules {
    pub(crate) groups: [Group; 1],
}

#[derive(Serialize)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Rule {
    Record {
        record: &'static str,
        expr: &'static str,
    },
    Alert {
        alert: &'static str,
        expr: String,
        r#for: &'static str,
        labels: Labels<'static>,
        annotations: Annotations,
    },
}

pub(crate) type Labels<'a> = BTreeMap<&'a str, String>;

#[derive(Serialize)]
pub(crate) struct Annotations {
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) runbook_url: String,
}

/// A file of tests.
#[derive(Serialize)]
pub(crate) struct Tests {
    pub(crate) rule_files: [&'static str; 2],
    pub(crate) evaluation_interval: &'static str,
    pub(crate) tests: Vec<Test>,
}

#[derive(Serialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) interval: &'static str,
    pub(crate) input_series: Vec<Series>,
    #[serde(flatten)]
    pub(crate) expected: Expected,
}

#[derive(Serialize)]
pub(crate) struct Series {
    pub(crate) series: String,
    pub(crate) values: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expected {
    PromqlExprTest([Evaluation; 1]),
    AlertRuleTest([Alerting; 1]),
}

#[derive(Serialize)]
pub(crate) struct Evaluation {
    pub(crate) expr: &'static str,
    pub(crate) eval_time: &'static str,
    pub(crate) exp_samples: [Sample; 1],
}

#[derive(Serialize)]
pub(crate) struct Sample {
    pub(crate) labels: String,
    pub(crate) value: f64,
}

#[derive(Serialize)]
pub(crate) struct Alerting {
    pub(crate) alertname: &'static str,
    pub(crate) eval_time: &'static str,
    pub(crate) exp_alerts: Vec<Firing>,
}

#[derive(Serialize)]
pub(crate) struct Firing {
    pub(crate) exp_labels: Labels<'static>,
    pub(crate) exp_annotations: Annotations,
}

/// Returns the text of a file; `comment` holds further comment lines, or nothing.
pub(crate) fn file(comment: &str, content: &impl Serialize) -> String {
    let yaml = serde_yaml_ng::to_string(content);
    format!(
        "{GENERATED}{comment}{}",
        yaml.expect("text, numbers, lists and maps")
    )
}
