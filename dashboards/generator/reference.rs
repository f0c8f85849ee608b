//! `metrics.md`: every metric, from the catalogue.

use wsgi_telemetry::catalogue::{Buckets, FAMILIES, Family, Kind, PROCESS_GROUP};

/// Returns the content of the page.
pub(crate) fn reference() -> String {
    let mut text = "<!-- Made by `cargo run -p wsgi-dashboards` from src/telemetry/catalogue.rs. -->\n\
         # Metrics\n\n\
         Every number is that of the whole server: all children together, those that have ended included. `app` is the\n\
         application, `_other` stands for those that found no room in the table. `process_group` is the name of a\n\
         `WSGIDaemonProcess`, on the series of its processes; the series of httpd's children do not have it. Metrics of an\n\
         application include what it did in process groups. A histogram `x` has the series `x_bucket` (label `le`), `x_sum`\n\
         and `x_count`.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n"
        .to_owned();
    for family in FAMILIES {
        text += &format!(
            "| `{}` | {} | {} | {} |\n",
            family.name,
            kind(family),
            labels(family),
            family.help
        );
    }
    text += "\n## Buckets\n\nUpper bounds in seconds, inclusive; `+Inf` follows.\n\n| buckets | bounds |\n|---|---|\n";
    for (name, buckets) in BUCKETS {
        text += &format!("| {name} | {} |\n", buckets.le().join(", "));
    }
    text
}

const BUCKETS: [(&str, Buckets); 5] = [
    ("latency", Buckets::Latency),
    ("wait", Buckets::Wait),
    ("GIL", Buckets::Gil),
    ("load", Buckets::Load),
    ("garbage collection", Buckets::Gc),
];

fn kind(family: &Family) -> String {
    match family.kind {
        Kind::Counter => "counter".into(),
        Kind::Gauge => "gauge".into(),
        Kind::Histogram(buckets) => {
            let name = BUCKETS
                .iter()
                .find(|(_, which)| *which == buckets)
                .map_or("", |(name, _)| name);
            format!("histogram ({name} buckets)")
        }
    }
}

fn labels(family: &Family) -> String {
    let mut labels = Vec::new();
    if family.has_app() {
        labels.push("`app`".to_owned());
    }
    if family.has_process_group() {
        labels.push(format!("`{PROCESS_GROUP}`"));
    }
    for label in family.labels {
        labels.push(if label.values.is_empty() {
            format!("`{}`", label.name)
        } else {
            format!("`{}` = {}", label.name, label.values.join(", "))
        });
    }
    if labels.is_empty() {
        "–".into()
    } else {
        labels.join("; ")
    }
}
