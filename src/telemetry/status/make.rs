//! Makes a [`Status`] from numbers.

use std::collections::BTreeMap;

use crate::board::{BoardSnapshot, ChildEntry, ChildState, GroupDecision};
use crate::catalogue::{
    ABORT_PHASE, CODE, CONNECTION_STATE, CPU_MODE, EXCEPTION_PHASE, EXIT, INTERPRETER_STATE, Id,
    Label, METHOD, OVERFLOW, RECYCLE_REASON, REJECTION, RESULT, TIMEOUT_STAGE, TRIGGER,
    WORKER_STATE, value,
};
use crate::reading::{ApplicationNumbers, Child, Numbers, ProcessGroupNumbers, Snapshot};
use crate::reading::{Interval, Sample};
use crate::requests::Notable;
use crate::segment::Fact;
use crate::segment::Role;

use super::model::{
    ApplicationStatus, ChildStatus, DeathStatus, EventStatus, GroupStatus, Health, Point,
    ProcessGroupStatus, RequestStatus, SegmentUse, ServerStatus, Status, Totals, Workers,
};
use super::roll;
use super::tally::{self, Tally, of_class, window_of};
use super::units::{seconds, whole};

/// Age in seconds from which a sample does not count as recent.
const RECENT: f64 = 75.0;
/// Least length in seconds of the samples that make up the last minute: they are not taken on the second.
const MINUTE: f64 = 55.0;

impl Status {
    /// Returns the current status, with rates of the last minute of `history`.
    pub fn new(snapshot: &Snapshot, history: &[Sample]) -> Self {
        Self::made(snapshot, None, history)
    }

    /// Returns the current status, with rates since `earlier`.
    pub fn since(snapshot: &Snapshot, earlier: &Snapshot, history: &[Sample]) -> Self {
        Self::made(snapshot, Some(earlier), history)
    }

    fn made(snapshot: &Snapshot, earlier: Option<&Snapshot>, history: &[Sample]) -> Self {
        let now = seconds(snapshot.unix);
        let uptime = uptime(snapshot);
        let recent = last_minute(history, now);
        let by_label = running_by_label(snapshot);
        let in_flight = running_by_pid(snapshot);
        let applications: Vec<ApplicationStatus> = snapshot
            .applications
            .iter()
            .map(|numbers| application(snapshot, numbers, earlier, history, &recent, &by_label))
            .filter(|application| application.label != "_other" || application.was_used())
            .collect();
        let all = tally::of_all(snapshot);
        let recent = match earlier {
            Some(earlier) => Some(
                all.clone()
                    .minus(&tally::of_all(earlier))
                    .window(between(earlier, snapshot)),
            ),
            None => window_of(&recent, |sample| {
                sample
                    .applications
                    .values()
                    .copied()
                    .reduce(Interval::and)
                    .unwrap_or_default()
            }),
        };
        let mut status = Self {
            timestamp_seconds: now,
            health: Health::default(),
            workers: workers(snapshot),
            recent,
            running: running(snapshot),
            running_count: snapshot.running.len(),
            applications,
            events: events(snapshot),
            deaths: deaths(snapshot),
            children: children(
                &snapshot.children,
                &snapshot.board,
                snapshot.unix,
                &in_flight,
            ),
            children_count: snapshot.children.len(),
            process_groups: snapshot
                .process_groups
                .iter()
                .map(|group| process_group(group, snapshot.unix, &in_flight))
                .collect(),
            code_revision: snapshot.board.revision,
            roll: roll::of(snapshot),
            groups: groups(&snapshot.board),
            measured: snapshot.records,
            totals: totals(snapshot, &all, uptime),
            server: server(snapshot, uptime),
            segment: SegmentUse {
                mapped_bytes: snapshot.mapped,
                arenas_used: snapshot.arenas_used,
                arenas: snapshot.arenas,
                overflows: by(OVERFLOW, |at| {
                    whole(snapshot.header.counter(Id::MetricsOverflows, at))
                }),
                last_scrape_seconds: seconds(snapshot.last_scrape),
                last_sample_age_seconds: history
                    .last()
                    .map(|sample| (now - seconds(sample.at)).max(0.0)),
            },
        };
        status.health = Health::of(&status);
        status
    }
}

impl ApplicationStatus {
    /// Returns whether the application ever had a request.
    fn was_used(&self) -> bool {
        let refused: u64 = self
            .rejected
            .values()
            .fold(0, |sum, &n| sum.saturating_add(n));
        self.since_start.requests > 0 || self.in_flight > 0 || refused > 0
    }
}

fn last_minute(history: &[Sample], now: f64) -> Vec<&Sample> {
    let mut length = 0.0;
    let newest_first = history.iter().rev();
    newest_first
        .take_while(|sample| now - seconds(sample.at) < RECENT)
        .take_while(|sample| {
            let wanted = length < MINUTE;
            length += sample.seconds;
            wanted
        })
        .collect()
}

fn uptime(snapshot: &Snapshot) -> f64 {
    seconds(snapshot.unix.saturating_sub(snapshot.start))
}

/// Returns the number of running requests and the stamp of the oldest, by label.
fn running_by_label(snapshot: &Snapshot) -> BTreeMap<&str, (usize, u64)> {
    let known = snapshot.applications.iter().map(|known| &known.application);
    let labels: BTreeMap<_, _> = known.map(|known| (known.app, &*known.label)).collect();
    let mut running: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for request in &snapshot.running {
        let label = labels.get(&request.app).copied().unwrap_or("_other");
        let (count, since) = running.entry(label).or_insert((0, request.since));
        *count += 1;
        *since = request.since.min(*since);
    }
    running
}

fn between(earlier: &Snapshot, later: &Snapshot) -> f64 {
    seconds(later.now.saturating_sub(earlier.now))
}

fn application(
    snapshot: &Snapshot,
    numbers: &ApplicationNumbers,
    earlier: Option<&Snapshot>,
    history: &[Sample],
    recent: &[&Sample],
    running: &BTreeMap<&str, (usize, u64)>,
) -> ApplicationStatus {
    let uptime = uptime(snapshot);
    let entry = &numbers.application;
    let cells = &numbers.numbers;
    let (in_flight, oldest) = match running.get(&*entry.label) {
        Some(&(count, since)) => (count, Some(seconds(snapshot.now.saturating_sub(since)))),
        None => (0, None),
    };
    let tally = Tally::of(cells);
    let recent = match earlier {
        Some(earlier) => {
            let before = earlier
                .applications
                .iter()
                .find(|before| before.application.label == entry.label);
            let before = before.map_or_else(Tally::default, |before| Tally::of(&before.numbers));
            Some(
                tally
                    .clone()
                    .minus(&before)
                    .window(between(earlier, snapshot)),
            )
        }
        None => window_of(recent, |sample| {
            sample
                .applications
                .get(&entry.label)
                .copied()
                .unwrap_or_default()
        }),
    };
    let counted = |id: Id, label: Label| by(label, |at| whole(cells.counter(id, at)));
    ApplicationStatus {
        label: entry.label.clone(),
        mount: entry.mount.clone(),
        script: entry.script.clone(),
        group: entry.group.clone(),
        in_flight,
        oldest_request_seconds: oldest,
        recent,
        since_start: tally.window(uptime),
        exceptions: counted(Id::Exceptions, EXCEPTION_PHASE),
        rejected: counted(Id::Rejected, REJECTION),
        timeouts: counted(Id::Timeouts, TIMEOUT_STAGE),
        client_aborts: counted(Id::ClientAborts, ABORT_PHASE),
        slow_requests: whole(cells.counter(Id::SlowRequests, 0)),
        interpreters: by(INTERPRETER_STATE, |at| cells.gauge(Id::Interpreters, at)),
        oldest_interpreter_timestamp_seconds: numbers.interpreters_since.map(|(at, _)| seconds(at)),
        newest_interpreter_timestamp_seconds: numbers.interpreters_since.map(|(_, at)| seconds(at)),
        loads: counted(Id::ApplicationLoads, RESULT),
        reloads: counted(Id::ApplicationReloads, TRIGGER),
        history: history
            .iter()
            .map(|sample| point(sample, &entry.label))
            .collect(),
    }
}

fn point(sample: &Sample, label: &str) -> Point {
    let interval = sample.applications.get(label).copied().unwrap_or_default();
    let answered = interval.answered > 0;
    Point {
        timestamp_seconds: seconds(sample.at),
        duration_seconds: sample.seconds,
        requests: interval.requests,
        errors: interval.errors,
        p50_seconds: answered.then_some(interval.p50),
        p99_seconds: answered.then_some(interval.p99),
    }
}

/// Returns a number for each value of a label.
fn by<T>(label: Label, number: impl Fn(usize) -> T) -> BTreeMap<&'static str, T> {
    let values = label.values.iter().enumerate();
    values.map(|(at, &value)| (value, number(at))).collect()
}

/// Returns the name of value `at` of a label.
fn named(label: Label, at: usize) -> &'static str {
    label.values.get(at).copied().unwrap_or("unknown")
}

fn method(at: usize) -> &'static str {
    METHOD.values.get(at).copied().unwrap_or("_OTHER")
}

fn workers(snapshot: &Snapshot) -> Workers {
    let running = snapshot.running.len() as u64;
    let state = |name| {
        let scoreboard = snapshot.scoreboard?;
        Some(scoreboard.workers[value(WORKER_STATE, name)])
    };
    let occupied = [
        "reading",
        "writing",
        "keepalive",
        "closing",
        "logging",
        "graceful",
    ];
    let seen = occupied
        .into_iter()
        .filter_map(state)
        .fold(0, u64::saturating_add);
    Workers {
        limit: snapshot.workers_limit,
        busy: seen.max(running),
        idle: state("idle"),
        by_state: snapshot
            .scoreboard
            .map(|scoreboard| by(WORKER_STATE, |at| scoreboard.workers[at])),
        connections: snapshot
            .scoreboard
            .and_then(|scoreboard| scoreboard.connections)
            .map(|connections| by(CONNECTION_STATE, |at| connections[at])),
        children_limit: snapshot.children_limit,
        threads_per_child: snapshot.threads_per_child,
    }
}

fn running(snapshot: &Snapshot) -> Vec<RequestStatus> {
    let first = snapshot.running.iter().take(Status::MOST_ROWS);
    let request = |running: &crate::Running| RequestStatus {
        application: snapshot.label(running.app).to_owned(),
        group: group_of(snapshot, running),
        method: method(running.method),
        path: running.url.clone(),
        process_group: running.process_group.clone(),
        phase: running.phase.text(),
        age_seconds: seconds(snapshot.now.saturating_sub(running.since)),
        pid: running.pid,
        thread: running.thread,
    };
    first.map(request).collect()
}

/// Returns the group of a request; if the request has none, that of its application.
fn group_of(snapshot: &Snapshot, running: &crate::Running) -> String {
    let applications = snapshot.applications.iter().map(|known| &known.application);
    let own = |application: &&crate::Application| application.app == running.app;
    match applications.into_iter().find(own) {
        Some(application) if running.group.is_empty() => application.group.clone(),
        _ => running.group.clone(),
    }
}

fn events(snapshot: &Snapshot) -> Vec<EventStatus> {
    let event = |event: &crate::Event| {
        let (kind, detail) = match event.why {
            Notable::Slow => ("slow", ""),
            Notable::Rejected(reason) => ("rejected", named(REJECTION, reason.into())),
            Notable::TimedOut(stage) => ("timed_out", named(TIMEOUT_STAGE, stage.into())),
        };
        EventStatus {
            timestamp_seconds: seconds(event.at),
            age_seconds: seconds(snapshot.unix.saturating_sub(event.at)),
            kind,
            detail,
            application: snapshot.label(event.app).to_owned(),
            method: method(event.method),
            path: event.url.clone(),
            status: (event.status != 0).then_some(event.status),
            pid: event.pid,
            total_seconds: seconds(event.total),
            application_seconds: seconds(event.application),
            gil_wait_seconds: seconds(event.gil_wait),
            input_seconds: seconds(event.input),
            output_seconds: seconds(event.output),
        }
    };
    snapshot.events.iter().map(event).collect()
}

fn deaths(snapshot: &Snapshot) -> Vec<DeathStatus> {
    let death = |death: &crate::Death| DeathStatus {
        timestamp_seconds: seconds(death.at),
        age_seconds: seconds(snapshot.unix.saturating_sub(death.at)),
        pid: death.pid,
        how: death.how.clone(),
        running: death.running.clone(),
    };
    snapshot.deaths.iter().map(death).collect()
}

/// Returns the number of running requests by process.
fn running_by_pid(snapshot: &Snapshot) -> BTreeMap<u32, usize> {
    let mut in_flight: BTreeMap<u32, usize> = BTreeMap::new();
    for running in &snapshot.running {
        *in_flight.entry(running.pid).or_default() += 1;
    }
    in_flight
}

/// Returns the children, or the processes of a group, with what they say on their board.
fn children(
    children: &[Child],
    board: &BoardSnapshot,
    unix: u64,
    in_flight: &BTreeMap<u32, usize>,
) -> Vec<ChildStatus> {
    let entries = board.children.iter();
    let board: BTreeMap<u32, &ChildEntry> = entries.map(|entry| (entry.pid, entry)).collect();
    let said = |child: &Child| {
        let entry = board.get(&child.pid);
        entry.filter(|entry| entry.generation == child.generation)
    };
    let child = |child: &Child| ChildStatus {
        pid: child.pid,
        state: state(child.state, said(child).map(|entry| entry.state)),
        retiring: said(child).and_then(|entry| Some(entry.retire?.label())),
        revision: said(child).map(|entry| entry.revision),
        age_seconds: seconds(unix.saturating_sub(child.started)),
        resident_bytes: child.resident,
        generation: child.generation,
        in_flight: in_flight.get(&child.pid).copied().unwrap_or(0),
    };
    children.iter().take(Status::MOST_ROWS).map(child).collect()
}

fn process_group(
    group: &ProcessGroupNumbers,
    unix: u64,
    in_flight: &BTreeMap<u32, usize>,
) -> ProcessGroupStatus {
    let exited = |how| whole(group.header.counter(Id::ChildrenExited, value(EXIT, how)));
    let cpu = |mode| {
        seconds(
            group
                .process
                .counter(Id::ChildrenCpu, value(CPU_MODE, mode)),
        )
    };
    let replaced = |at| whole(group.header.counter(Id::ChildrenRecycles, at));
    ProcessGroupStatus {
        name: group.name.clone(),
        python: group.facts[Fact::Python as usize].clone(),
        processes: children(&group.children, &group.board, unix, in_flight),
        code_revision: group.board.revision,
        groups: groups(&group.board),
        started: whole(group.header.counter(Id::ChildrenStarted, 0)),
        ended: exited("clean"),
        killed: exited("killed"),
        replaced: by(RECYCLE_REASON, replaced),
        cpu_user_seconds: cpu("user"),
        cpu_system_seconds: cpu("system"),
    }
}

/// Returns the state of a child, from its role in the segment and its state on the board.
fn state(role: Role, said: Option<ChildState>) -> &'static str {
    match (role, said) {
        (Role::Draining, _) | (_, Some(ChildState::Draining)) => "draining",
        (_, Some(ChildState::NotReady)) => "not_ready",
        (_, Some(ChildState::Starting)) | (Role::Starting, None) => "starting",
        (_, Some(ChildState::Ready)) | (Role::Ready | Role::Thread, None) => "ready",
    }
}

fn groups(board: &BoardSnapshot) -> Vec<GroupStatus> {
    let groups = board.groups.iter().filter_map(|group| {
        let gil = match group.decision {
            GroupDecision::Unknown if group.plan.is_empty() => return None,
            GroupDecision::Unknown => "undecided",
            GroupDecision::Probing { .. } => "probing",
            GroupDecision::Own => "own",
            GroupDecision::Shared => "shared",
        };
        let (name, because_of) = (group.name.clone(), group.module.clone());
        Some(GroupStatus {
            name,
            gil,
            because_of,
            plan: group.plan.clone(),
        })
    });
    let mut groups: Vec<GroupStatus> = groups.collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups
}

fn totals(snapshot: &Snapshot, all: &Tally, uptime: f64) -> Totals {
    let sum = |of: &dyn Fn(&Numbers) -> u128| {
        let numbers = snapshot.applications.iter().map(|app| of(&app.numbers));
        whole(numbers.fold(0, u128::saturating_add))
    };
    let cpu = |mode| {
        seconds(
            snapshot
                .process
                .counter(Id::ChildrenCpu, value(CPU_MODE, mode)),
        )
    };
    let exited = |how| {
        whole(
            snapshot
                .header
                .counter(Id::ChildrenExited, value(EXIT, how)),
        )
    };
    Totals {
        requests: all.window(uptime),
        by_class: by(CODE, |code| sum(&|numbers| of_class(numbers, code))),
        request_body_bytes: sum(&|numbers| numbers.counter(Id::RequestBody, 0)),
        response_body_bytes: sum(&|numbers| numbers.counter(Id::ResponseBody, 0)),
        protocol_errors: sum(&|numbers| numbers.counter(Id::ProtocolErrors, 0)),
        cpu_user_seconds: cpu("user"),
        cpu_system_seconds: cpu("system"),
        children_started: whole(snapshot.header.counter(Id::ChildrenStarted, 0)),
        children_ended: exited("clean"),
        children_killed: exited("killed"),
    }
}

fn server(snapshot: &Snapshot, uptime: f64) -> ServerStatus {
    let fact = |fact| snapshot.fact(fact).to_owned();
    ServerStatus {
        httpd: fact(Fact::Httpd),
        version: fact(Fact::Version),
        revision: fact(Fact::Revision),
        rustc: fact(Fact::Rustc),
        mpm: fact(Fact::Mpm),
        threaded: snapshot.threaded,
        forked: snapshot.forked,
        python: fact(Fact::Python),
        python_implementation: fact(Fact::Implementation),
        python_gil: fact(Fact::Gil),
        start_timestamp_seconds: seconds(snapshot.start),
        uptime_seconds: uptime,
        config_generation: snapshot.generation,
        config_load_timestamp_seconds: seconds(snapshot.config_load),
    }
}
