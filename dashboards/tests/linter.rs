//! The 17 rules of Grafana's dashboard-linter, which itself is a Go program that not everybody can build.

use crate::promql::{self, Expr};
use promql_parser::parser::{self, VectorSelector};
use serde_json::{Value, json};
use wsgi_dashboards::Choice;
use wsgi_dashboards::dashboards;

/// What a rule found, by the linter's name of the rule.
type Findings = Vec<(&'static str, String)>;

/// The units of Grafana that are used here; a new one is added after a look into its list of units.
const UNITS: &[&str] = &[
    "none",
    "short",
    "percentunit",
    "reqps",
    "ops",
    "cps",
    "s",
    "bytes",
    "Bps",
];
/// The kinds of panels that have queries.
const WITH_QUERIES: &[&str] = &[
    "timeseries",
    "stat",
    "table",
    "heatmap",
    "gauge",
    "graph",
    "singlestat",
];

fn lint(dashboard: &Value) -> Findings {
    let mut found = Vec::new();
    templates(dashboard, &mut found);
    if dashboard["editable"] != false {
        found.push(("uneditable-dashboard", "it can be edited".into()));
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        if WITH_QUERIES.contains(&panel["type"].as_str().unwrap()) {
            panel_rules(panel, &mut found);
            for target in panel["targets"].as_array().unwrap() {
                target_rules(target, &mut found);
            }
        }
    }
    found
}

fn templates(dashboard: &Value, found: &mut Findings) {
    let list = dashboard["templating"]["list"].as_array().unwrap();
    let sources: Vec<_> = list
        .iter()
        .filter(|it| it["type"] == "datasource")
        .collect();
    match sources[..] {
        [it] if it["name"] == "datasource"
            && it["label"] == "Data source"
            && it["query"] == "prometheus" => {}
        _ => found.push(("template-datasource-rule", format!("{sources:?}"))),
    }
    for (rule, name, label) in [
        ("template-job-rule", "job", "Job"),
        ("template-instance-rule", "instance", "Instance"),
    ] {
        let sound = list.iter().any(|it| {
            it["name"] == name
                && it["label"] == label
                && it["type"] == "query"
                && it["datasource"]["uid"] == "${datasource}"
                && it["multi"] == true
                && it["allValue"] == ".+"
        });
        if !sound {
            found.push((rule, format!("no sound variable {name}")));
        }
    }
    for variable in list.iter().filter(|it| it["type"] == "query") {
        let query = variable["query"].as_str().unwrap();
        let selector = query
            .strip_prefix("label_values(")
            .and_then(|it| it.rsplit_once(", "));
        match selector.map(|(selector, _)| promql::parse(selector)) {
            Some(Ok(_)) => {}
            other => found.push(("template-label-promql-rule", format!("{query}: {other:?}"))),
        }
        if variable["refresh"] != 2 {
            found.push((
                "template-on-time-change-reload-rule",
                variable["name"].to_string(),
            ));
        }
    }
}

fn panel_rules(panel: &Value, found: &mut Findings) {
    let title = panel["title"].as_str().unwrap_or_default();
    if panel["datasource"]["uid"] != "${datasource}" {
        found.push(("panel-datasource-rule", title.into()));
    }
    if title.is_empty() || panel["description"].as_str().is_none_or(str::is_empty) {
        found.push(("panel-title-description-rule", title.into()));
    }
    if !panel["fieldConfig"]["defaults"]["unit"]
        .as_str()
        .is_some_and(|unit| UNITS.contains(&unit))
    {
        found.push(("panel-units-rule", title.into()));
    }
    if panel["targets"].as_array().is_none_or(Vec::is_empty) {
        found.push(("panel-no-targets-rule", title.into()));
    }
}

fn target_rules(target: &Value, found: &mut Findings) {
    let expr = target["expr"].as_str().unwrap();
    if target["datasource"]["type"] == "loki" {
        // Both rules about LogQL hold as long as nobody asks Loki.
        found.push(("target-logql-rule", expr.into()));
        found.push(("target-logql-auto-rule", expr.into()));
    }
    // An interval and values that nobody would write by hand stand in for the variables.
    let choice = Choice {
        job: "$job".into(),
        instance: "$instance".into(),
        app: "$app".into(),
        rate_interval: "4321s".into(),
    };
    let parsed = match parser::parse(&choice.fill(expr)) {
        Ok(parsed) => parsed,
        Err(error) => return found.push(("target-promql-rule", format!("{expr}: {error}"))),
    };
    promql::walk(&parsed, None, &mut |node, parent| {
        let (selector, ranged) = match node {
            Expr::VectorSelector(selector) => (selector, None),
            Expr::MatrixSelector(matrix) => (&matrix.vs, Some(matrix.range)),
            _ => return,
        };
        for (rule, label, wanted) in [
            ("target-job-rule", "job", "$job"),
            ("target-instance-rule", "instance", "$instance"),
        ] {
            if !has_matcher(selector, label, wanted) {
                found.push((rule, expr.into()));
            }
        }
        let function = match parent {
            Some(Expr::Call(call)) => call.func.name,
            _ => "",
        };
        if ranged.is_some_and(|range| range.as_secs() != 4321) {
            found.push(("target-rate-interval-rule", expr.into()));
        }
        let counter = selector
            .name
            .as_deref()
            .is_some_and(|name| name.ends_with("_total"));
        if counter && (ranged.is_none() || !["rate", "irate", "increase"].contains(&function)) {
            found.push(("target-counter-agg-rule", expr.into()));
        }
    });
}

fn has_matcher(selector: &VectorSelector, label: &str, value: &str) -> bool {
    selector
        .matchers
        .find_matchers(label)
        .iter()
        .any(|matcher| matcher.value == value && matcher.to_string().contains("=~"))
}

fn generated() -> Vec<(&'static str, Value)> {
    dashboards()
        .iter()
        .map(|dashboard| {
            (
                dashboard.name,
                serde_json::from_str(&crate::file(&format!("{}.json", dashboard.name))).unwrap(),
            )
        })
        .collect()
}

#[test]
fn dashboards_pass_the_linter() {
    for (name, dashboard) in generated() {
        assert_eq!(lint(&dashboard), [], "{name}");
    }
}

/// Each rule by name, with a change that it has to notice: the first panel with queries stands for all.
#[test]
fn the_linter_notices() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("template-datasource-rule", |it| {
            it["templating"]["list"][0]["label"] = json!("Prometheus")
        }),
        ("template-job-rule", |it| {
            it["templating"]["list"][1]["multi"] = json!(false)
        }),
        ("template-instance-rule", |it| {
            it["templating"]["list"][2]["allValue"] = json!(".*")
        }),
        ("template-label-promql-rule", |it| {
            it["templating"]["list"][2]["query"] = json!("label_values(up{, job)")
        }),
        ("template-on-time-change-reload-rule", |it| {
            it["templating"]["list"][2]["refresh"] = json!(1)
        }),
        ("panel-datasource-rule", |it| {
            it["panels"][1]["datasource"]["uid"] = json!("prometheus")
        }),
        ("panel-title-description-rule", |it| {
            it["panels"][1]["description"] = json!("")
        }),
        ("panel-units-rule", |it| {
            it["panels"][1]["fieldConfig"]["defaults"]["unit"] = json!("furlongs")
        }),
        ("panel-no-targets-rule", |it| {
            it["panels"][1]["targets"] = json!([])
        }),
        ("target-logql-rule", |it| {
            it["panels"][1]["targets"][0]["datasource"]["type"] = json!("loki")
        }),
        ("target-logql-auto-rule", |it| {
            it["panels"][1]["targets"][0]["datasource"]["type"] = json!("loki")
        }),
        ("target-promql-rule", |it| replace(it, "sum (", "sum by (")),
        ("target-rate-interval-rule", |it| {
            replace(it, "$__rate_interval", "5m")
        }),
        ("target-job-rule", |it| {
            replace(it, r#"job=~"$job""#, r#"job="wsgi""#)
        }),
        ("target-instance-rule", |it| {
            replace(it, r#"instance=~"$instance", "#, "")
        }),
        ("target-counter-agg-rule", |it| {
            replace(it, "rate(", "deriv(")
        }),
        ("uneditable-dashboard", |it| it["editable"] = json!(true)),
    ];
    assert_eq!(changes.len(), 17);
    let (_, sound) = generated().remove(0);
    for (rule, change) in changes {
        let mut broken = sound.clone();
        change(&mut broken);
        assert_ne!(broken, sound, "{rule}: the change changes nothing");
        let found = lint(&broken);
        assert!(
            found.iter().any(|(name, _)| name == rule),
            "{rule} saw nothing; found {found:?}"
        );
    }
}

fn replace(dashboard: &mut Value, from: &str, to: &str) {
    let expr = &mut dashboard["panels"][1]["targets"][0]["expr"];
    *expr = json!(expr.as_str().unwrap().replace(from, to));
}

#[test]
fn panels_do_not_overlap_and_fill_their_rows() {
    for (name, dashboard) in generated() {
        let mut taken = std::collections::BTreeMap::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= 24, "{name}: {}", panel["title"]);
            for cell in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (y, x))) {
                if let Some(other) = taken.insert(cell, &panel["title"]) {
                    panic!("{name}: {} stands on {other}", panel["title"]);
                }
            }
        }
        let rows = taken.last_key_value().unwrap().0.0 + 1;
        assert_eq!(taken.len() as u64, rows * 24, "{name}: there are holes");
    }
}

#[test]
fn every_panel_links_to_the_runbook_and_ids_are_unique() {
    let mut uids = std::collections::BTreeSet::new();
    for (name, dashboard) in generated() {
        assert!(uids.insert(dashboard["uid"].to_string()), "{name}");
        assert!(
            dashboard["id"].is_null() && dashboard["schemaVersion"] == 39,
            "{name}"
        );
        let mut ids = std::collections::BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{name}: {}",
                panel["title"]
            );
            if panel["type"] != "row" {
                assert!(
                    panel["links"][0]["url"]
                        .as_str()
                        .unwrap()
                        .contains("runbook.md#"),
                    "{}",
                    panel["title"]
                );
            }
        }
        assert_eq!(
            dashboard["annotations"]["list"].as_array().unwrap().len(),
            2,
            "{name}"
        );
    }
}
