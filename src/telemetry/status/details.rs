//! The end of the status page: the server, and its totals.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::model::Status;
use super::units::{bytes, calendar, count, duration, duration_or_dash, plural};

/// Writes what is needed least often.
pub(super) fn details(status: &Status) -> Markup {
    let server = &status.server;
    let workers = &status.workers;
    let totals = &status.totals;
    let of_server = facts(|facts| {
        facts.fact(
            "Started",
            ago(server.start_timestamp_seconds, server.uptime_seconds),
        );
        let loaded = server.config_load_timestamp_seconds;
        if loaded > 0.0 {
            let age = status.timestamp_seconds - loaded;
            let number = server.config_generation;
            facts.fact(
                "Configuration",
                format!("number {number}, loaded {}", ago(loaded, age)),
            );
        }
        facts.fact("httpd", server.httpd.clone());
        facts.fact(
            "mod_wsgi_rs",
            [&*server.version, &*server.revision].join(" "),
        );
        let gil = match &*server.python_gil {
            "" => String::new(),
            gil => format!(", GIL {gil}"),
        };
        let python = [&*server.python_implementation, &*server.python].join(" ");
        facts.fact("Python", format!("{}{gil}", python.trim()));
        facts.fact("Compiler", server.rustc.clone());
        let (limit, children) = (count(workers.limit), count(workers.children_limit));
        let threads = plural(workers.threads_per_child, "thread", "threads");
        let limits = format!("at most {limit} workers in {children} children of {threads}");
        facts.fact("MPM", [&*server.mpm, &*limits].join(": "));
        if let Some(states) = &workers.by_state {
            facts.fact("Workers", listed(states));
        }
        if let Some(connections) = &workers.connections {
            facts.fact("Connections", listed(connections));
        }
    });
    let since_start = facts(|facts| {
        let requests = &totals.requests;
        facts.fact(
            "Requests",
            format!(
                "{} ({})",
                count(requests.requests),
                listed(&totals.by_class)
            ),
        );
        facts.fact("Mean duration", duration_or_dash(requests.mean_seconds));
        facts.fact(
            "Median, 99 % within",
            format!(
                "{}, {}",
                duration_or_dash(requests.p50_seconds),
                duration_or_dash(requests.p99_seconds)
            ),
        );
        facts.fact("Request bodies", bytes(totals.request_body_bytes));
        facts.fact("Response bodies", bytes(totals.response_body_bytes));
        facts.fact("Protocol errors", count(totals.protocol_errors));
        facts.fact(
            "CPU time",
            format!(
                "{} user, {} system",
                duration(totals.cpu_user_seconds),
                duration(totals.cpu_system_seconds)
            ),
        );
    });
    let of_segment = facts(|facts| {
        let segment = &status.segment;
        facts.fact("Segment", format!("{} mapped", bytes(segment.mapped_bytes)));
        facts.fact(
            "Arenas",
            format!(
                "{} of {} used",
                count(segment.arenas_used),
                count(segment.arenas)
            ),
        );
        facts.fact("Overflows", listed(&segment.overflows));
        facts.fact(
            "Last scrape",
            format!("took {}", duration(segment.last_scrape_seconds)),
        );
    });
    html! {
        div {
            (section("Server", &of_server))
            (section("Since the start", &since_start))
            (section("Where this is counted", &of_segment))
        }
    }
}

fn ago(unix: f64, age: f64) -> String {
    let (date, time) = calendar(unix);
    format!("{date} {time} UTC, {} ago", duration(age))
}

/// Returns the counts that are not zero.
pub(super) fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let some: Vec<String> = counts
        .iter()
        .filter(|(_, number)| **number > 0)
        .map(|(name, number)| format!("{} {}", count(*number), name.replace('_', " ")))
        .collect();
    if some.is_empty() {
        String::from("none")
    } else {
        some.join(", ")
    }
}

/// The names of facts with what they are.
#[derive(Default)]
struct Facts(Vec<(&'static str, String)>);

impl Facts {
    /// Appends a fact, unless it is unknown.
    fn fact(&mut self, name: &'static str, value: String) {
        let value = value.trim();
        if !value.is_empty() {
            self.0.push((name, value.to_owned()));
        }
    }
}

fn facts(add: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = Facts::default();
    add(&mut facts);
    facts
}

fn section(title: &'static str, facts: &Facts) -> Markup {
    html! {
        section {
            h2 { (title) }
            dl class="facts" {
                @for (name, value) in &facts.0 {
                    dt { (name) }
                    dd { (value) }
                }
            }
        }
    }
}
