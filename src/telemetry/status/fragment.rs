//! A block for httpd's own `server-status`, as HTML and as `Key: value`.

use std::fmt::Write;

use maud::html;

use super::model::Status;
use super::table::{Column, Row, table};
use super::units::{count, duration_or_dash, percent, rate, span};

const COLUMNS: &[Column] = &[
    Column::words("Application"),
    Column::numbers("Running"),
    Column::numbers("Oldest"),
    Column::numbers("Per second"),
    Column::numbers("Failed"),
    Column::numbers("99 % within"),
    Column::numbers("Requests since start"),
];

/// Returns the block for the page of mod_status.
pub fn render_html_fragment(status: &Status) -> String {
    let rows = status.applications.iter().map(|app| {
        let recent = app.recent.as_ref();
        let dash = || String::from("–");
        Row::new(false)
            .cell(&app.label)
            .cell(count(app.in_flight as u64))
            .cell(duration_or_dash(app.oldest_request_seconds))
            .cell(recent.map_or_else(dash, |recent| rate(recent.requests_per_second)))
            .cell(recent.map_or_else(dash, |recent| percent(recent.error_ratio)))
            .cell(recent.map_or_else(dash, |recent| duration_or_dash(recent.p99_seconds)))
            .cell(count(app.since_start.requests))
    });
    let span = status
        .recent
        .as_ref()
        .map(|recent| span(recent.duration_seconds));
    let caption = match span {
        Some(span) => format!("Rates, failures and durations of the last {span}"),
        None => String::from("Rates, failures and durations appear within half a minute"),
    };
    let block = html! {
        hr;
        h2 { "WSGI applications" }
        ul {
            @for finding in &status.health.findings {
                li { (finding.level.text()) ": " (finding.text) }
            }
        }
        (table(caption, COLUMNS, rows))
    };
    block.into_string()
}

/// Returns the lines for `server-status?auto`.
pub fn render_auto(status: &Status) -> String {
    let mut text = String::new();
    let totals = &status.totals;
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "Wsgi{key}: {value}");
    };
    line("Health", &status.health.level.text());
    line("WorkersBusy", &status.workers.busy);
    line("WorkersLimit", &status.workers.limit);
    line("RequestsRunning", &status.running_count);
    let oldest = status
        .running
        .first()
        .map_or(0.0, |request| request.age_seconds);
    line("OldestRequestSeconds", &format_args!("{oldest:.3}"));
    line("TotalRequests", &totals.requests.requests);
    line("TotalErrors", &totals.requests.errors);
    if let Some(recent) = &status.recent {
        line(
            "ReqPerSec",
            &format_args!("{:.3}", recent.requests_per_second),
        );
        line("ErrorRatio", &format_args!("{:.6}", recent.error_ratio));
        if let Some(p99) = recent.p99_seconds {
            line("P99Seconds", &format_args!("{p99:.6}"));
        }
    }
    line("Children", &status.children_count);
    line("ChildrenKilled", &totals.children_killed);
    text
}
