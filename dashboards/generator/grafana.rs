//! A dashboard as classic Grafana JSON, which every Grafana since 9 imports.

use crate::panel::{Dashboard, Item, Panel, Target, View, target, written_out};
use crate::parameters::Parameters;
use serde_json::{Value, json};

/// The tag that links the dashboards to each other.
const TAG: &str = "mod_wsgi_rs";

/// Marks on the time axis: name, colour, query.
pub const ANNOTATIONS: [(&str, &str, Target); 2] = [
    (
        "Configuration loads",
        "blue",
        target(
            "{{instance}}",
            "changes(wsgi_config_load_timestamp_seconds{$S}[$R]) > 0",
        ),
    ),
    (
        "Killed children",
        "red",
        target(
            "{{instance}}",
            r#"increase(wsgi_children_exited_total{$S, how="killed"}[$R]) > 0"#,
        ),
    ),
];

/// Returns the content of the file.
pub fn dashboard(dashboard: &Dashboard, parameters: &Parameters) -> Value {
    let mut id = 0;
    let panels: Vec<Value> = dashboard
        .layout()
        .into_iter()
        .map(|(item, place)| {
            id += 1;
            let place = json!({"x": place.x, "y": place.y, "w": place.w, "h": place.h});
            match item {
                Item::Heading(question) => {
                    json!({"id": id, "type": "row", "title": question, "collapsed": false, "gridPos": place, "panels": []})
                }
                Item::Panel(it) => panel(it, id, place, parameters),
            }
        })
        .collect();
    json!({
        "id": null,
        "uid": format!("wsgi-{}", dashboard.name),
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "links": [{
            "type": "dashboards", "title": "WSGI", "tags": [TAG], "asDropdown": false, "icon": "external link",
            "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "", "url": "",
        }],
        "annotations": {"list": annotations()},
        "templating": {"list": variables(dashboard)},
        "panels": panels,
    })
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn annotations() -> Vec<Value> {
    ANNOTATIONS
        .iter()
        .map(|(name, colour, target)| {
            json!({
                "name": name, "enable": true, "hide": false, "iconColor": colour, "datasource": source(),
                "expr": target.grafana(), "titleFormat": name, "textFormat": target.legend, "useValueForTime": false,
            })
        })
        .collect()
}

fn variables(dashboard: &Dashboard) -> Vec<Value> {
    let mut list = vec![
        json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "regex": "",
            "refresh": 1, "multi": false, "includeAll": false, "hide": 0, "skipUrlSync": false, "options": [],
            "current": {},
        }),
        variable("job", "Job", "label_values(wsgi_build_info, job)"),
        variable(
            "instance",
            "Instance",
            r#"label_values(wsgi_build_info{job=~"$job"}, instance)"#,
        ),
    ];
    if dashboard.by_application {
        let query = format!(
            "label_values({}, app)",
            written_out("wsgi_requests_total{$S}")
        );
        list.push(variable("app", "Application", &query));
    }
    list
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "datasource": source(), "definition": query, "query": query,
        "refresh": 2, "multi": true, "includeAll": true, "allValue": ".+", "sort": 1, "regex": "", "hide": 0,
        "skipUrlSync": false, "options": [], "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
    })
}

fn panel(panel: &Panel, id: u32, place: Value, parameters: &Parameters) -> Value {
    let targets: Vec<Value> = panel
        .targets
        .iter()
        .zip('A'..='Z')
        .map(|(target, letter)| {
            json!({
                "refId": letter.to_string(), "datasource": source(), "editorMode": "code", "expr": target.grafana(),
                "legendFormat": target.legend, "instant": panel.instant(), "range": !panel.instant(),
                "format": match panel.view {
                    View::Heatmap => "heatmap",
                    View::Table => "table",
                    View::Lines | View::Stacked | View::Number => "time_series",
                },
            })
        })
        .collect();
    let mut value = json!({
        "id": id,
        "type": match panel.view {
            View::Lines | View::Stacked => "timeseries",
            View::Number => "stat",
            View::Heatmap => "heatmap",
            View::Table => "table",
        },
        "title": panel.title,
        "description": panel.description,
        "datasource": source(),
        "gridPos": place,
        "links": [{
            "title": format!("Runbook: {}", panel.runbook),
            "url": parameters.runbook_entry(panel.runbook),
            "targetBlank": true,
        }],
        "fieldConfig": {"defaults": defaults(panel, parameters), "overrides": []},
        "options": options(panel),
        "targets": targets,
    });
    if panel.view == View::Table {
        value["transformations"] = transformations(panel);
    }
    value
}

fn defaults(panel: &Panel, parameters: &Parameters) -> Value {
    let limit = panel.limit.map(|limit| limit(parameters));
    let mut steps =
        vec![json!({"color": if limit.is_some() { "green" } else { "text" }, "value": null})];
    steps.extend(limit.map(|limit| json!({"color": "red", "value": limit})));
    let mut defaults =
        json!({"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}});
    match panel.view {
        View::Number => defaults["color"] = json!({"mode": "thresholds"}),
        View::Lines | View::Stacked => {
            let stacked = panel.view == View::Stacked;
            defaults["min"] = json!(0);
            defaults["color"] = json!({"mode": "palette-classic"});
            defaults["custom"] = json!({
                "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "showPoints": "auto", "pointSize": 4,
                "fillOpacity": if stacked { 40 } else { 8 }, "spanNulls": false,
                "stacking": {"mode": if stacked { "normal" } else { "none" }, "group": "A"},
                "thresholdsStyle": {"mode": if limit.is_some() { "dashed" } else { "off" }},
            });
        }
        View::Heatmap | View::Table => {}
    }
    defaults
}

fn options(panel: &Panel) -> Value {
    match panel.view {
        View::Lines | View::Stacked => json!({
            "legend": {"showLegend": true, "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"],
                "sortBy": "Max", "sortDesc": true},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }),
        View::Number => json!({
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "value",
        }),
        View::Heatmap => json!({
            "calculate": false, "cellGap": 1, "showValue": "never",
            "color": {"mode": "scheme", "scheme": "Blues", "fill": "blue", "scale": "exponential", "exponent": 0.5,
                "steps": 32, "reverse": false},
            "yAxis": {"unit": panel.unit, "axisPlacement": "left", "reverse": false},
            "rowsFrame": {"layout": "auto"}, "cellValues": {"unit": "short"}, "filterValues": {"le": 1e-9},
            "exemplars": {"color": "orange"}, "legend": {"show": true}, "tooltip": {"show": true, "yHistogram": true},
        }),
        View::Table => json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false}}),
    }
}

/// Joins the tables by the labels that they share into one row for each server or application, without time and the
/// constant 1.
fn transformations(panel: &Panel) -> Value {
    let mut hidden = serde_json::Map::new();
    hidden.insert("Time".into(), json!(true));
    if let [_] = panel.targets {
        hidden.insert("Value".into(), json!(true));
    }
    for (_, letter) in panel.targets.iter().zip('A'..='Z') {
        hidden.insert(format!("Value #{letter}"), json!(true));
    }
    json!([{"id": "merge", "options": {}}, {"id": "organize", "options": {"excludeByName": hidden}}])
}
