//! The tables of the status page.

use super::html::moment;
use super::markup::{Column, Markup, Row};
use super::model::{Application, Child, Event, Request, Status, Window};
use super::spark;
use super::units::{bytes, count, duration, duration_or_dash, percent, plural, rate};

/// Rows that are shown of long tables.
const ROWS: usize = 100;
/// Age in seconds from which a running request stands out.
const OLD: f64 = 30.0;

const RUNNING: &[Column] = &[
    Column::words("Request"),
    Column::numbers("Running for"),
    Column::words("What it does"),
    Column::words("Application"),
    Column::words("Interpreter"),
    Column::numbers("Child"),
    Column::numbers("Thread"),
];

pub(super) fn running(page: &mut Markup, status: &Status) {
    page.raw("<section><h2>Running now</h2>");
    if status.running.is_empty() {
        page.raw("<p>No request is running.</p></section>");
        return;
    }
    let caption = match status.running_count {
        shown if shown <= ROWS => String::from("Requests that are running, oldest first."),
        all => format!(
            "The oldest {ROWS} of {} running requests.",
            count(all as u64)
        ),
    };
    let row = |request: &Request| {
        Row::new(request.age_seconds >= OLD)
            .with(|cell| url(cell, request.method, &request.path))
            .cell(duration(request.age_seconds))
            .cell(request.phase)
            .cell(&request.application)
            .cell(interpreter(&request.group))
            .cell(request.pid)
            .cell(request.thread)
    };
    page.table(caption, RUNNING, status.running.iter().take(ROWS).map(row));
    page.raw("</section>");
}

fn url(cell: &mut Markup, method: &str, path: &str) {
    cell.raw("<span class=\"path\">");
    cell.text(format_args!("{method} {path}")).raw("</span>");
}

/// The name of an interpreter.
fn interpreter(group: &str) -> &str {
    if group.is_empty() { "main" } else { group }
}

const APPLICATIONS: &[Column] = &[
    Column::words("Application"),
    Column::numbers("Running"),
    Column::numbers("Per second"),
    Column::numbers("Failed"),
    Column::numbers("Half within"),
    Column::numbers("99 % within"),
    Column::words("99 % over 10 minutes"),
    Column::words("Waits since start (99 %)"),
    Column::words("Interpreters"),
    Column::words("Since start"),
];

pub(super) fn applications(page: &mut Markup, status: &Status) {
    page.raw("<section><h2>Applications</h2>");
    if status.applications.is_empty() {
        page.raw("<p>No application has been called yet.</p></section>");
        return;
    }
    let caption = match &status.recent {
        Some(recent) => format!(
            "Rates and durations of the last {}; the counts at the end are since the server was started.",
            duration(recent.duration_seconds.round())
        ),
        None => String::from(
            "Rates and durations appear after the first samples, within half a minute.",
        ),
    };
    let now = status.timestamp_seconds;
    let rows = status.applications.iter().map(|app| application(app, now));
    page.table(caption, APPLICATIONS, rows);
    page.raw("</section>");
}

fn application(app: &Application, now: f64) -> Row {
    let failed = app
        .interpreters
        .get("failed")
        .is_some_and(|count| *count > 0);
    let stuck = app.oldest_request_seconds.is_some_and(|age| age >= OLD);
    let recent = app.recent.as_ref();
    let of = |text: &dyn Fn(&Window) -> String| recent.map_or_else(|| "–".to_owned(), text);
    Row::new(failed || stuck)
        .with(|cell| {
            cell.text(&app.label);
            if !app.script.is_empty() {
                under(
                    cell,
                    format_args!("{} at {}", app.script, place(&app.mount)),
                );
            }
            if !app.group.is_empty() {
                under(cell, format_args!("interpreter {}", app.group));
            }
        })
        .with(|cell| {
            cell.text(count(app.in_flight as u64));
            if let Some(age) = app.oldest_request_seconds {
                under(cell, format_args!("oldest {}", duration(age)));
            }
        })
        .cell(of(&|recent| rate(recent.requests_per_second)))
        .cell(of(&|recent| percent(recent.error_ratio)))
        .cell(of(&|recent| duration_or_dash(recent.p50_seconds)))
        .cell(of(&|recent| duration_or_dash(recent.p99_seconds)))
        .with(|cell| match spark::latency(&app.history, now) {
            Some(line) => {
                cell.piece(&line);
            }
            None => {
                cell.text("no requests");
            }
        })
        .with(|cell| {
            let total = &app.since_start;
            let queue = duration_or_dash(total.queue_wait_p99_seconds);
            let gil = duration_or_dash(total.gil_wait_p99_seconds);
            cell.raw("<div>")
                .text(format_args!("turn {queue}"))
                .raw("</div>");
            cell.raw("<div>")
                .text(format_args!("GIL {gil}"))
                .raw("</div>");
        })
        .cell(states(app))
        .cell(since_start(app))
}

fn under(cell: &mut Markup, text: impl std::fmt::Display) {
    cell.raw(" <span class=\"under\">")
        .text(text)
        .raw("</span>");
}

fn place(mount: &str) -> &str {
    if mount.is_empty() { "/" } else { mount }
}

/// The interpreters of an application by state, as far as there are any.
fn states(app: &Application) -> String {
    let order = ["failed", "starting", "ready", "draining"];
    let states = order.iter().filter_map(|state| {
        let count = app.interpreters.get(state).filter(|count| **count != 0)?;
        Some(format!("{count} {state}"))
    });
    let states: Vec<String> = states.collect();
    if states.is_empty() {
        String::from("none")
    } else {
        states.join(", ")
    }
}

/// What an application's counters say, as far as it is worth saying.
fn since_start(app: &Application) -> String {
    let total = |counts: &std::collections::BTreeMap<&str, u64>| {
        counts
            .values()
            .fold(0, |sum: u64, &n| sum.saturating_add(n))
    };
    let mut said = vec![plural(app.since_start.requests, "request", "requests")];
    let loads = app.loads.get("ok").copied().unwrap_or(0);
    let failures = app.loads.get("error").copied().unwrap_or(0);
    for (count, one, many) in [
        (app.since_start.errors, "failed", "failed"),
        (total(&app.exceptions), "exception", "exceptions"),
        (total(&app.timeouts), "timed out", "timed out"),
        (app.slow_requests, "slow", "slow"),
        (
            total(&app.client_aborts),
            "given up by clients",
            "given up by clients",
        ),
        (loads, "load", "loads"),
        (failures, "failed load", "failed loads"),
        (total(&app.reloads), "reload", "reloads"),
    ] {
        if count > 0 {
            said.push(plural(count, one, many));
        }
    }
    if total(&app.rejected) > 0 {
        let reasons = app.rejected.iter().filter(|(_, count)| **count > 0);
        let reasons: Vec<String> = reasons
            .map(|(reason, number)| format!("{} {}", reason.replace('_', " "), count(*number)))
            .collect();
        said.push(format!("refused: {}", reasons.join(", ")));
    }
    said.join(" · ")
}

const EVENTS: &[Column] = &[
    Column::words("Request"),
    Column::words("When"),
    Column::words("What happened"),
    Column::numbers("Status"),
    Column::words("Application"),
    Column::numbers("Whole time"),
    Column::numbers("Application"),
    Column::numbers("GIL"),
    Column::numbers("Reading"),
    Column::numbers("Sending"),
    Column::numbers("Child"),
];

pub(super) fn events(page: &mut Markup, status: &Status) {
    page.raw("<section><h2>Refused, cut off and slow</h2>");
    if status.events.is_empty() {
        page.raw("<p>No request has been refused, cut off or noted as slow.</p></section>");
        return;
    }
    let row = |event: &Event| {
        Row::new(event.kind != "slow" && event.age_seconds < 300.0)
            .with(|cell| url(cell, event.method, &event.path))
            .with(|cell| {
                cell.raw("<span>");
                moment(cell, event.timestamp_seconds);
                cell.raw("</span>");
                under(cell, format_args!("{} ago", duration(event.age_seconds)));
            })
            .cell(happened(event))
            .cell(
                event
                    .status
                    .map_or_else(|| "none".to_owned(), |status| status.to_string()),
            )
            .cell(&event.application)
            .cell(duration(event.total_seconds))
            .cell(duration(event.application_seconds))
            .cell(duration(event.gil_wait_seconds))
            .cell(duration(event.input_seconds))
            .cell(duration(event.output_seconds))
            .cell(event.pid)
    };
    let caption = "Requests of note, newest first; the whole time, and what of it was spent in the application, waiting for the GIL, reading the body and sending the response.";
    page.table(caption, EVENTS, status.events.iter().map(row));
    page.raw("</section>");
}

fn happened(event: &Event) -> String {
    let detail = event.detail.replace('_', " ");
    match event.kind {
        "rejected" => format!("refused: {detail}"),
        "timed_out" => format!("cut off: {detail} took too long"),
        _ => String::from("slow"),
    }
}

const CHILDREN: &[Column] = &[
    Column::words("Child"),
    Column::words("State"),
    Column::numbers("Running"),
    Column::numbers("Memory"),
    Column::numbers("Age"),
    Column::numbers("Configuration"),
];

pub(super) fn children(page: &mut Markup, status: &Status) {
    page.raw("<section><h2>Children</h2>");
    let current = status.server.config_generation;
    let row = |child: &Child| {
        let former = child.generation != current;
        Row::new(child.state != "ready")
            .cell(child.pid)
            .cell(child.state)
            .cell(count(child.in_flight as u64))
            .cell(child.resident_bytes.map_or_else(|| "–".to_owned(), bytes))
            .cell(duration(child.age_seconds))
            .cell(if former {
                format!("{} (former)", child.generation)
            } else {
                child.generation.to_string()
            })
    };
    let totals = &status.totals;
    let mut caption = format!(
        "Since the start: {} started, {} ended, {} killed or crashed.",
        count(totals.children_started),
        count(totals.children_ended),
        count(totals.children_killed)
    );
    if status.children_count > ROWS {
        caption.push_str(&format!(" The first {ROWS} of {}.", status.children_count));
    }
    page.table(
        caption,
        CHILDREN,
        status.children.iter().take(ROWS).map(row),
    );
    page.raw("</section>");
}
