//! The content of a status, which is also its JSON.
//!
//! Durations are in seconds and memory in bytes, as the names say; `timestamp` is Unix time. `null` means unknown.

use std::collections::BTreeMap;

use serde::Serialize;

/// The state of a server at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Time of the status.
    pub timestamp_seconds: f64,
    /// Summary in words.
    pub health: Health,
    /// Workers of httpd.
    pub workers: Workers,
    /// All applications together in about the last minute; unknown before the first sample.
    pub recent: Option<Window>,
    /// Running requests, oldest first; at most [`Status::MOST_ROWS`].
    pub running: Vec<RequestStatus>,
    /// Number of all running requests.
    pub running_count: usize,
    /// Applications, by label.
    pub applications: Vec<ApplicationStatus>,
    /// Refused, timed-out and slow requests, newest first.
    pub events: Vec<EventStatus>,
    /// The last children and processes of groups that ended unexpectedly, newest first.
    pub deaths: Vec<DeathStatus>,
    /// Living children, by pid; at most [`Status::MOST_ROWS`].
    pub children: Vec<ChildStatus>,
    /// Number of all living children.
    pub children_count: usize,
    /// Process groups, in the order of the configuration.
    pub process_groups: Vec<ProcessGroupStatus>,
    /// Revision of the code that children should serve.
    pub code_revision: u64,
    /// The current or last roll; `null` if there was none.
    pub roll: Option<RollStatus>,
    /// Application groups with a known plan or GIL decision.
    pub groups: Vec<GroupStatus>,
    /// Whether the server measures anything. If `WSGIMetrics` is off, all numbers but those of children are zero.
    pub measured: bool,
    /// Sums since the server was started.
    pub totals: Totals,
    /// Versions and configuration of the server.
    pub server: ServerStatus,
    /// Use of the shared segment.
    pub segment: SegmentUse,
}

impl Status {
    /// Most running requests and most children that are listed.
    pub const MOST_ROWS: usize = 500;

    /// Returns the processes of all groups, each with its group.
    pub(super) fn group_processes(
        &self,
    ) -> impl Iterator<Item = (&ProcessGroupStatus, &ChildStatus)> {
        let groups = self.process_groups.iter();
        groups.flat_map(|group| group.processes.iter().map(move |process| (group, process)))
    }
}

/// Urgency of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// No problem is known.
    #[default]
    Ok,
    /// Worth a look.
    Notice,
    /// Requests fail or wait.
    Trouble,
}

impl Level {
    /// Returns the level as a word.
    pub fn text(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Notice => "Notice",
            Level::Trouble => "Trouble",
        }
    }
}

/// A statement about the health of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Urgency of the finding.
    pub level: Level,
    /// The finding as a sentence.
    pub text: String,
}

/// The findings, most urgent first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// Level of the most urgent finding.
    pub level: Level,
    /// Findings; never empty.
    pub findings: Vec<Finding>,
}

/// Workers of httpd, each of which can serve one request at a time.
#[derive(Clone, Debug, Serialize)]
pub struct Workers {
    /// `MaxRequestWorkers`; 0 if unknown.
    pub limit: u64,
    /// Number of workers with a request or a connection; at least the number of running WSGI requests.
    pub busy: u64,
    /// Number of waiting workers; unknown if no process of the server has read the scoreboard.
    pub idle: Option<u64>,
    /// Number of workers by state.
    pub by_state: Option<BTreeMap<&'static str, u64>>,
    /// Number of connections by state; only for an asynchronous MPM.
    pub connections: Option<BTreeMap<&'static str, u64>>,
    /// `ServerLimit`.
    pub children_limit: u64,
    /// `ThreadsPerChild`.
    pub threads_per_child: u64,
}

/// The requests of a span of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// Length of the span.
    pub duration_seconds: f64,
    /// Number of finished requests.
    pub requests: u64,
    /// Finished requests per second.
    pub requests_per_second: f64,
    /// Number of finished requests with status 5xx or without a status.
    pub errors: u64,
    /// Share of `errors` among the finished requests.
    pub error_ratio: f64,
    /// Mean duration of the answered requests. Both quantiles are of the same requests.
    pub mean_seconds: Option<f64>,
    /// Median of the duration.
    pub p50_seconds: Option<f64>,
    /// 99th percentile of the duration.
    pub p99_seconds: Option<f64>,
    /// 99th percentile of the wait in the queue; unknown for sampled minutes.
    pub queue_wait_p99_seconds: Option<f64>,
    /// 99th percentile of the waits for the GIL; unknown for sampled minutes.
    pub gil_wait_p99_seconds: Option<f64>,
}

/// A running request.
#[derive(Clone, Debug, Serialize)]
pub struct RequestStatus {
    /// Label of the application.
    pub application: String,
    /// Application group, which names the interpreter; empty for the main interpreter.
    pub group: String,
    /// Method.
    pub method: &'static str,
    /// Path of the URL, without the query.
    pub path: String,
    /// Process group that runs the request; empty for httpd's children.
    pub process_group: String,
    /// Phase of the request.
    pub phase: &'static str,
    /// Time since the request began.
    pub age_seconds: f64,
    /// Process id of the child that serves the request, or of the process of a group once that has begun it.
    pub pid: u32,
    /// Thread id of the kernel.
    pub thread: u32,
}

/// An application.
#[derive(Clone, Debug, Serialize)]
pub struct ApplicationStatus {
    /// Value of the label `app` in metrics.
    pub label: String,
    /// URL path at which the application is mounted.
    pub mount: String,
    /// Path of the script.
    pub script: String,
    /// Application group; empty for the main interpreter.
    pub group: String,
    /// Number of running requests.
    pub in_flight: usize,
    /// Age of the oldest running request.
    pub oldest_request_seconds: Option<f64>,
    /// About the last minute; unknown before the first sample.
    pub recent: Option<Window>,
    /// Since the server was started.
    pub since_start: Window,
    /// Uncaught exceptions by phase, since the start.
    pub exceptions: BTreeMap<&'static str, u64>,
    /// Refused requests by reason, since the start.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Requests over a time limit by stage, since the start.
    pub timeouts: BTreeMap<&'static str, u64>,
    /// Requests that clients aborted, by phase, since the start.
    pub client_aborts: BTreeMap<&'static str, u64>,
    /// Slow requests since the start.
    pub slow_requests: u64,
    /// Living interpreters by state.
    pub interpreters: BTreeMap<&'static str, i64>,
    /// Start of the oldest living interpreter.
    pub oldest_interpreter_timestamp_seconds: Option<f64>,
    /// Start of the newest living interpreter.
    pub newest_interpreter_timestamp_seconds: Option<f64>,
    /// Imports of the script by result, since the start.
    pub loads: BTreeMap<&'static str, u64>,
    /// Reloads by trigger, since the start.
    pub reloads: BTreeMap<&'static str, u64>,
    /// Samples of the last minutes, oldest first.
    pub history: Vec<Point>,
}

/// A sample of an application.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// End of the interval.
    pub timestamp_seconds: f64,
    /// Length of the interval.
    pub duration_seconds: f64,
    /// Number of finished requests.
    pub requests: u64,
    /// Number of finished requests with status 5xx or without a status.
    pub errors: u64,
    /// Median of the duration; unknown without requests.
    pub p50_seconds: Option<f64>,
    /// 99th percentile of the duration; unknown without requests.
    pub p99_seconds: Option<f64>,
}

/// A refused, timed-out or slow request.
#[derive(Clone, Debug, Serialize)]
pub struct EventStatus {
    /// Time at which the request ended.
    pub timestamp_seconds: f64,
    /// Time since then.
    pub age_seconds: f64,
    /// `slow`, `rejected` or `timed_out`.
    pub kind: &'static str,
    /// Why the request was rejected, or the stage that took too long; empty for slow requests.
    pub detail: &'static str,
    /// Label of the application.
    pub application: String,
    /// Method.
    pub method: &'static str,
    /// Path of the URL, without the query.
    pub path: String,
    /// HTTP status of the response; `null` if none was sent.
    pub status: Option<u16>,
    /// Process id of the child that served the request.
    pub pid: u32,
    /// Duration of the whole request.
    pub total_seconds: f64,
    /// Time inside the application.
    pub application_seconds: f64,
    /// Time of the waits for the GIL.
    pub gil_wait_seconds: f64,
    /// Time of reading the request body.
    pub input_seconds: f64,
    /// Time of sending the response.
    pub output_seconds: f64,
}

/// A child, or a process of a group, that ended unexpectedly.
#[derive(Clone, Debug, Serialize)]
pub struct DeathStatus {
    /// Time at which the parent saw the end.
    pub timestamp_seconds: f64,
    /// Time since then.
    pub age_seconds: f64,
    /// Process id.
    pub pid: u32,
    /// How the process ended.
    pub how: String,
    /// What the process was running.
    pub running: String,
}

/// A child of httpd, or a process of a group.
#[derive(Clone, Debug, Serialize)]
pub struct ChildStatus {
    /// Process id.
    pub pid: u32,
    /// `starting`, `ready`, `not_ready` (the child could not load its code and leaves connections to others) or
    /// `draining`.
    pub state: &'static str,
    /// Why the child will be replaced: a value of the label `reason` of `wsgi_children_recycles_total`; `null` if it
    /// will not be replaced.
    pub retiring: Option<&'static str>,
    /// Revision of the code that the child serves; unknown without a slot on the board.
    pub revision: Option<u64>,
    /// Age of the child.
    pub age_seconds: f64,
    /// Resident memory; shared pages count for each child.
    pub resident_bytes: Option<u64>,
    /// Number of the configuration that the child serves.
    pub generation: u64,
    /// Number of requests that the child is running.
    pub in_flight: usize,
}

/// A process group: processes that run applications outside of httpd's children (`WSGIDaemonProcess`).
#[derive(Clone, Debug, Serialize)]
pub struct ProcessGroupStatus {
    /// Name of the group.
    pub name: String,
    /// Version of Python; empty until the first process has started it.
    pub python: String,
    /// Living processes, by pid; at most [`Status::MOST_ROWS`].
    pub processes: Vec<ChildStatus>,
    /// Revision of the code that its processes should serve.
    pub code_revision: u64,
    /// Application groups of its processes, with a known plan or GIL decision.
    pub groups: Vec<GroupStatus>,
    /// Number of processes started since the server was started.
    pub started: u64,
    /// Number of processes that ended as planned.
    pub ended: u64,
    /// Number of processes that were killed or crashed.
    pub killed: u64,
    /// Number of processes that asked for a successor, by reason.
    pub replaced: BTreeMap<&'static str, u64>,
    /// User CPU time of all processes, those that have ended included.
    pub cpu_user_seconds: f64,
    /// System CPU time of all processes.
    pub cpu_system_seconds: f64,
}

/// A roll: the rolling replacement of the children by new ones with new code.
#[derive(Clone, Debug, Serialize)]
pub struct RollStatus {
    /// `trial`, `rolling`, `done` or `stopped`.
    pub phase: &'static str,
    /// Revision of the code that the roll brings.
    pub revision: u64,
    /// Number of children replaced so far.
    pub done: u32,
    /// Number of children to replace, counted when the roll began.
    pub of: u32,
    /// Time at which the roll began.
    pub began_timestamp_seconds: f64,
    /// Time at which the roll was done or stopped.
    pub ended_timestamp_seconds: Option<f64>,
    /// Cause of the roll.
    pub cause: String,
    /// Why the roll stopped; otherwise empty.
    pub problem: String,
    /// The roll as a sentence.
    pub text: String,
}

/// An application group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// Name of the group; empty for the main interpreter.
    pub name: String,
    /// `own` or `shared`; `probing` while a child tries which of them works; `undecided` before that.
    pub gil: &'static str,
    /// The module or other reason that forced the decision; empty if there is none.
    pub because_of: String,
    /// The configured threads of the group and the limits of its queue; empty if the name was not known when httpd
    /// started.
    pub plan: String,
}

/// Sums since the server was started, including children that have ended.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// All applications together.
    pub requests: Window,
    /// Number of requests by status class.
    pub by_class: BTreeMap<&'static str, u64>,
    /// Bytes of request bodies passed to applications.
    pub request_body_bytes: u64,
    /// Bytes of response bodies.
    pub response_body_bytes: u64,
    /// Number of responses that broke the WSGI protocol.
    pub protocol_errors: u64,
    /// User CPU time of all children.
    pub cpu_user_seconds: f64,
    /// System CPU time of all children.
    pub cpu_system_seconds: f64,
    /// Number of children started.
    pub children_started: u64,
    /// Number of children that ended as planned.
    pub children_ended: u64,
    /// Number of children that were killed or crashed.
    pub children_killed: u64,
}

/// Versions and configuration of the server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// Server version string of httpd.
    pub httpd: String,
    /// Version of the module.
    pub version: String,
    /// Revision that the module was built from.
    pub revision: String,
    /// Version of the Rust compiler.
    pub rustc: String,
    /// Name of the MPM.
    pub mpm: String,
    /// Whether a child has several threads.
    pub threaded: bool,
    /// Whether there are several children.
    pub forked: bool,
    /// Version of Python.
    pub python: String,
    /// Implementation of Python.
    pub python_implementation: String,
    /// State of Python's GIL: `enabled` or `disabled`.
    pub python_gil: String,
    /// Time at which the server was started.
    pub start_timestamp_seconds: f64,
    /// Time since then.
    pub uptime_seconds: f64,
    /// Number of the current configuration.
    pub config_generation: u64,
    /// Time at which the configuration was loaded.
    pub config_load_timestamp_seconds: f64,
}

/// Use of the shared segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentUse {
    /// Size of the segment; only used parts take memory.
    pub mapped_bytes: u64,
    /// Number of arenas that have an owner.
    pub arenas_used: u64,
    /// Number of all arenas.
    pub arenas: u64,
    /// Number of overflows since the start, by the table that was full.
    pub overflows: BTreeMap<&'static str, u64>,
    /// Duration of the last scrape; 0 before the first.
    pub last_scrape_seconds: f64,
    /// Time since the last sample of the history.
    pub last_sample_age_seconds: Option<f64>,
}
