//! The sections of the status page, each with its table.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::details::listed;
use super::html::{moment, under};
use super::model::{
    ApplicationStatus, ChildStatus, DeathStatus, EventStatus, GroupStatus, ProcessGroupStatus,
    RequestStatus, Status, Window,
};
use super::spark;
use super::table::{Column, Row, table};
use super::units::{bytes, count, duration, duration_or_dash, percent, plural, rate, span};

/// Number of running requests that are shown at once.
const FIRST: usize = 20;
/// Number of children that are shown.
const ROWS: usize = 100;
/// Age in seconds from which a running request is highlighted.
const OLD: f64 = 30.0;

const RUNNING: &[Column] = &[
    Column::words("Request"),
    Column::numbers("Running for"),
    Column::words("What it does"),
    Column::words("Application"),
    Column::words("Interpreter"),
    Column::numbers("Process"),
    Column::numbers("Thread"),
];

pub(super) fn running(status: &Status) -> Markup {
    let row = |request: &RequestStatus| {
        Row::new(request.age_seconds >= OLD)
            .markup(url(request.method, &request.path))
            .cell(duration(request.age_seconds))
            .cell(request.phase)
            .cell(&request.application)
            .cell(interpreter_of(request))
            .cell(request.pid)
            .cell(request.thread)
    };
    let (first, rest) = status.running.split_at(FIRST.min(status.running.len()));
    html! {
        section {
            h2 { "Running now" }
            @if first.is_empty() {
                p { "No request is running." }
            } @else {
                (table(format_args!("Oldest first: {}.", phases(&status.running)), RUNNING, first.iter().map(row)))
                @if status.running_count > FIRST {
                    details {
                        summary { (count((status.running_count - FIRST) as u64)) " more running requests" }
                        (table(
                            format_args!("Younger ones, up to {}.", Status::MOST_ROWS),
                            RUNNING,
                            rest.iter().map(row),
                        ))
                    }
                }
            }
        }
    }
}

/// Returns the number of requests in each phase, the most frequent first.
pub(super) fn phases(running: &[RequestStatus]) -> String {
    let mut phases: Vec<(&str, u64)> = Vec::new();
    for request in running {
        match phases.iter_mut().find(|(phase, _)| *phase == request.phase) {
            Some((_, number)) => *number += 1,
            None => phases.push((request.phase, 1)),
        }
    }
    phases.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let said = phases
        .iter()
        .map(|(phase, number)| format!("{} {phase}", count(*number)));
    said.collect::<Vec<_>>().join(", ")
}

fn url(method: &str, path: &str) -> Markup {
    html! { span class="path" { (method) " " (path) } }
}

/// Returns the name of an interpreter.
pub(super) fn interpreter(group: &str) -> &str {
    match group {
        "" | "%{GLOBAL}" => "main",
        named => named,
    }
}

/// Returns the name of the interpreter of a request, with its process group.
pub(super) fn interpreter_of(request: &RequestStatus) -> String {
    let interpreter = interpreter(&request.group);
    match request.process_group.as_str() {
        "" => interpreter.to_owned(),
        group => format!("{interpreter} in group {group}"),
    }
}

const APPLICATIONS: &[Column] = &[
    Column::words("Application"),
    Column::numbers("Running"),
    Column::numbers("Per second"),
    Column::numbers("Failed"),
    Column::numbers("Median"),
    Column::numbers("99 % within"),
    Column::wide("99 % within, over 10 minutes"),
    Column::words("Interpreters"),
];

pub(super) fn applications(status: &Status) -> Markup {
    let caption = match &status.recent {
        Some(recent) => format!(
            "Rates and durations of the last {}.",
            span(recent.duration_seconds)
        ),
        None => String::from(
            "Rates and durations appear after the first samples, within half a minute.",
        ),
    };
    let now = status.timestamp_seconds;
    let rows = status.applications.iter().map(|app| application(app, now));
    html! {
        section {
            h2 { "Applications" }
            @if status.applications.is_empty() {
                p { "No application has been called yet." }
            } @else {
                (table(caption, APPLICATIONS, rows))
            }
        }
    }
}

fn application(app: &ApplicationStatus, now: f64) -> Row {
    let failed = app
        .interpreters
        .get("failed")
        .is_some_and(|count| *count > 0);
    let stuck = app.oldest_request_seconds.is_some_and(|age| age >= OLD);
    let recent = app.recent.as_ref();
    let of = |text: &dyn Fn(&Window) -> String| recent.map_or_else(|| "–".to_owned(), text);
    Row::new(failed || stuck)
        .markup(html! {
            (app.label)
            @if !app.script.is_empty() {
                (under(format_args!("{} at {}", app.script, place(&app.mount))))
            }
            (under(format_args!("interpreter {}", interpreter(&app.group))))
        })
        .markup(html! {
            (count(app.in_flight as u64))
            @if let Some(age) = app.oldest_request_seconds {
                (under(format_args!("oldest {}", duration(age))))
            }
        })
        .cell(of(&|recent| rate(recent.requests_per_second)))
        .cell(of(&|recent| percent(recent.error_ratio)))
        .cell(of(&|recent| duration_or_dash(recent.p50_seconds)))
        .cell(of(&|recent| duration_or_dash(recent.p99_seconds)))
        .markup(spark::latency(&app.history, now).unwrap_or_else(|| html! { "no requests" }))
        .cell(states(app))
}

fn place(mount: &str) -> &str {
    if mount.is_empty() { "/" } else { mount }
}

/// Returns the numbers of an application's interpreters by state, without zeros.
pub(super) fn states(app: &ApplicationStatus) -> String {
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

const TOTALS: &[Column] = &[
    Column::words("Application"),
    Column::numbers("Requests"),
    Column::numbers("Failed"),
    Column::numbers("Exceptions"),
    Column::numbers("Cut off"),
    Column::numbers("Slow"),
    Column::numbers("Given up by client"),
    Column::words("Refused"),
    Column::words("Loads"),
    Column::numbers("Reloads"),
    Column::numbers("Queue wait (99 %)"),
    Column::numbers("GIL wait (99 %)"),
];

pub(super) fn totals(status: &Status) -> Markup {
    let rows = status.applications.iter().map(|app| {
        let total = &app.since_start;
        let sum = |counts: &BTreeMap<&str, u64>| {
            count(
                counts
                    .values()
                    .fold(0, |sum: u64, &n| sum.saturating_add(n)),
            )
        };
        Row::default()
            .cell(&app.label)
            .cell(count(total.requests))
            .cell(count(total.errors))
            .cell(sum(&app.exceptions))
            .cell(sum(&app.timeouts))
            .cell(count(app.slow_requests))
            .cell(sum(&app.client_aborts))
            .cell(listed(&app.rejected))
            .cell(listed(&app.loads))
            .cell(sum(&app.reloads))
            .cell(duration_or_dash(total.queue_wait_p99_seconds))
            .cell(duration_or_dash(total.gil_wait_p99_seconds))
    });
    let start = duration(status.server.uptime_seconds);
    let caption = format!("What was counted in the {start} since the server was started.");
    html! {
        @if !status.applications.is_empty() {
            section {
                h2 { "Applications since the start" }
                (table(caption, TOTALS, rows))
            }
        }
    }
}

const EVENTS: &[Column] = &[
    Column::words("Request"),
    Column::words("When"),
    Column::words("What happened"),
    Column::numbers("Status"),
    Column::words("Application"),
    Column::numbers("Whole time"),
    Column::numbers("In application"),
    Column::numbers("GIL"),
    Column::numbers("Reading"),
    Column::numbers("Sending"),
    Column::numbers("Child"),
];

pub(super) fn events(status: &Status) -> Markup {
    let row = |event: &EventStatus| {
        Row::new(event.kind != "slow" && event.age_seconds < 300.0)
            .markup(url(event.method, &event.path))
            .markup(when(event.timestamp_seconds, event.age_seconds))
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
    let caption = "Requests of note, newest first; the whole time, and what of it was spent in the \
        application, waiting for the GIL, reading the body and sending the response.";
    html! {
        section {
            h2 { "Refused, cut off and slow" }
            @if status.events.is_empty() {
                p { "No request has been refused, cut off or noted as slow." }
            } @else {
                (table(caption, EVENTS, status.events.iter().map(row)))
            }
        }
    }
}

fn when(unix_seconds: f64, age_seconds: f64) -> Markup {
    html! {
        span { (moment(unix_seconds)) }
        (under(format_args!("{} ago", duration(age_seconds))))
    }
}

pub(super) fn happened(event: &EventStatus) -> String {
    let detail = event.detail.replace('_', " ");
    match event.kind {
        "rejected" => format!("refused: {detail}"),
        "timed_out" => format!("cut off: {detail} took too long"),
        _ => String::from("slow"),
    }
}

const DEATHS: &[Column] = &[
    Column::words("When"),
    Column::numbers("Child"),
    Column::words("How it ended"),
    Column::words("What it was running"),
];

/// Returns the section on processes that ended unexpectedly; empty if there are none.
pub(super) fn deaths(status: &Status) -> Markup {
    let row = |death: &DeathStatus| {
        Row::new(death.age_seconds < 300.0)
            .markup(when(death.timestamp_seconds, death.age_seconds))
            .cell(death.pid)
            .cell(&death.how)
            .cell(&death.running)
    };
    html! {
        @if !status.deaths.is_empty() {
            section {
                h2 { "Processes that ended unexpectedly" }
                (table("The last ones, newest first.", DEATHS, status.deaths.iter().map(row)))
            }
        }
    }
}

const CHILDREN: &[Column] = &[
    Column::words("Child"),
    Column::words("State"),
    Column::numbers("Running"),
    Column::numbers("Memory"),
    Column::numbers("Age"),
    Column::numbers("Code"),
    Column::numbers("Configuration"),
];

/// Makes the row of a child, or of a process of a group.
fn process(process: &ChildStatus, current: u64) -> Row {
    let is_former = process.generation != current;
    Row::new(process.state != "ready" || process.retiring.is_some())
        .cell(process.pid)
        .cell(child_state(process))
        .cell(count(process.in_flight as u64))
        .cell(process.resident_bytes.map_or_else(|| "–".to_owned(), bytes))
        .cell(duration(process.age_seconds))
        .cell(revision(process))
        .cell(if is_former {
            format!("{} (former)", process.generation)
        } else {
            process.generation.to_string()
        })
}

pub(super) fn children(status: &Status) -> Markup {
    let current = status.server.config_generation;
    let row = |child| process(child, current);
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
    html! {
        section {
            h2 { "Children" }
            @if let Some(roll) = &status.roll {
                p { (roll.text) }
            }
            (table(caption, CHILDREN, status.children.iter().take(ROWS).map(row)))
        }
    }
}

const PROCESSES: &[Column] = &[
    Column::numbers("Process"),
    Column::words("State"),
    Column::numbers("Running"),
    Column::numbers("Memory"),
    Column::numbers("Age"),
    Column::numbers("Code"),
    Column::numbers("Configuration"),
    Column::words("Group"),
];

/// Returns the section on the processes of groups; empty if there are none.
pub(super) fn process_groups(status: &Status) -> Markup {
    let current = status.server.config_generation;
    let processes = status.group_processes();
    let row = |(group, of_group): (&ProcessGroupStatus, &ChildStatus)| {
        process(of_group, current).cell(&group.name)
    };
    html! {
        @if !status.process_groups.is_empty() {
            section {
                h2 { "Process groups" }
                ul {
                    @for group in &status.process_groups {
                        li { (process_group(group)) }
                    }
                }
                (table("Living processes.", PROCESSES, processes.take(ROWS).map(row)))
                @for group in status.process_groups.iter().filter(|group| !group.groups.is_empty()) {
                    (table(
                        format_args!("Application groups of {}.", group.name),
                        GROUPS,
                        group.groups.iter().map(application_group),
                    ))
                }
            }
        }
    }
}

/// Returns what is known of a process group, in one line.
pub(super) fn process_group(group: &ProcessGroupStatus) -> String {
    let now = match group.processes.len() as u64 {
        0 => "no process now".to_owned(),
        processes => format!("{} now", plural(processes, "process", "processes")),
    };
    let python = match group.python.as_str() {
        "" => String::new(),
        version => format!(", Python {version}"),
    };
    let mut line = format!(
        "{}: {now}{python}; {} started, {} ended, {} killed or crashed",
        group.name,
        count(group.started),
        count(group.ended),
        count(group.killed)
    );
    if group.replaced.values().any(|number| *number > 0) {
        line.push_str(&format!("; replaced: {}", listed(&group.replaced)));
    }
    line
}

/// Returns the state of a child, and why it will be replaced.
pub(super) fn child_state(child: &ChildStatus) -> String {
    let state = child.state.replace('_', " ");
    match child.retiring.map(|reason| reason.replace('_', " ")) {
        None => state,
        Some(reason) if child.state == "ready" => format!("retiring: {reason}"),
        Some(reason) => format!("{state}: {reason}"),
    }
}

/// Returns the revision of the code that a child serves.
pub(super) fn revision(child: &ChildStatus) -> String {
    let known = child.revision.map(|revision| revision.to_string());
    known.unwrap_or_else(|| "–".to_owned())
}

const GROUPS: &[Column] = &[
    Column::words("Application group"),
    Column::words("GIL"),
    Column::words("Because of"),
    Column::words("Plan"),
];

fn application_group(group: &GroupStatus) -> Row {
    Row::default()
        .cell(interpreter(&group.name))
        .cell(gil(group))
        .cell(&group.because_of)
        .cell(&group.plan)
}

pub(super) fn groups(status: &Status) -> Markup {
    let caption = "Whether each has interpreters with a GIL of their own, as a child found out when it loaded the code; and what is \
         planned for its threads in each child.";
    html! {
        @if !status.groups.is_empty() {
            section {
                h2 { "Application groups" }
                (table(caption, GROUPS, status.groups.iter().map(application_group)))
            }
        }
    }
}

/// Returns the GIL decision of a group in words.
pub(super) fn gil(group: &GroupStatus) -> &'static str {
    match group.gil {
        "own" => "its own",
        "shared" => "shared with the process",
        "undecided" => "as planned",
        _ => "being tried out",
    }
}
