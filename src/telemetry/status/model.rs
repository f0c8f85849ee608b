//! What a status says. These are also the fields of its JSON.
//!
//! Durations are in seconds and memory in bytes, as the names say; `timestamp` is Unix time. `null` means unknown.

use std::collections::BTreeMap;

use serde::Serialize;

/// The state of a server at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// That moment.
    pub timestamp_seconds: f64,
    /// What it comes down to, in words.
    pub health: Health,
    /// httpd's workers.
    pub workers: Workers,
    /// All applications together in the last minute or so; unknown before the first sample.
    pub recent: Option<Window>,
    /// Running requests, oldest first; not more than [`Status::MOST_ROWS`].
    pub running: Vec<RequestStatus>,
    /// How many there are.
    pub running_count: usize,
    /// Applications, by label.
    pub applications: Vec<ApplicationStatus>,
    /// Refused, timed-out and slow requests, newest first.
    pub events: Vec<EventStatus>,
    /// Children that ended unexpectedly, newest first; the last few.
    pub deaths: Vec<DeathStatus>,
    /// Living children, by pid; not more than [`Status::MOST_ROWS`].
    pub children: Vec<ChildStatus>,
    /// How many there are.
    pub children_count: usize,
    /// Number of the code that children are to serve.
    pub code_revision: u64,
    /// The last rolling replacement of the children; `null` where there was none.
    pub roll: Option<RollStatus>,
    /// What is planned for application groups and how they have their GIL, those of which either is known.
    pub groups: Vec<GroupStatus>,
    /// Whether anything is measured; where `WSGIMetrics` is off, all numbers but those of children are zero.
    pub measured: bool,
    /// Since the server was started.
    pub totals: Totals,
    /// What runs here.
    pub server: ServerStatus,
    /// The memory in which all of this was counted.
    pub segment: SegmentUse,
}

impl Status {
    /// Most running requests and children that are listed.
    pub const MOST_ROWS: usize = 500;
}

/// How urgent something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is known to be wrong.
    #[default]
    Ok,
    /// Worth a look.
    Notice,
    /// Requests fail or wait.
    Trouble,
}

impl Level {
    /// In a word.
    pub fn text(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Notice => "Notice",
            Level::Trouble => "Trouble",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How urgent it is.
    pub level: Level,
    /// What it is, as a sentence.
    pub text: String,
}

/// The state in words, most urgent first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Health {
    /// That of the most urgent finding.
    pub level: Level,
    /// What was found; never empty.
    pub findings: Vec<Finding>,
}

/// httpd's workers: each can serve one request at a time.
#[derive(Clone, Debug, Serialize)]
pub struct Workers {
    /// `MaxRequestWorkers`; 0 where unknown.
    pub limit: u64,
    /// Those with a request or a connection; at least those that run a WSGI request.
    pub busy: u64,
    /// Those that wait for one; unknown where no process of the server has looked at the scoreboard.
    pub idle: Option<u64>,
    /// By state.
    pub by_state: Option<BTreeMap<&'static str, u64>>,
    /// Connections by state, of an asynchronous MPM.
    pub connections: Option<BTreeMap<&'static str, u64>>,
    /// `ServerLimit`.
    pub children_limit: u64,
    /// `ThreadsPerChild`.
    pub threads_per_child: u64,
}

/// What happened in some span of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// How long it was.
    pub duration_seconds: f64,
    /// Requests that ended.
    pub requests: u64,
    /// Of them, how many in a second.
    pub requests_per_second: f64,
    /// Those that ended with 5xx, or without a status.
    pub errors: u64,
    /// The share of those.
    pub error_ratio: f64,
    /// Their mean duration; like the quantiles, of the requests that were answered.
    pub mean_seconds: Option<f64>,
    /// The duration that half of them did not exceed.
    pub p50_seconds: Option<f64>,
    /// The duration that 99 % of them did not exceed.
    pub p99_seconds: Option<f64>,
    /// What 99 % of them did not exceed in waiting for their turn; unknown for sampled minutes.
    pub queue_wait_p99_seconds: Option<f64>,
    /// What 99 % of the waits for the GIL did not exceed; unknown for sampled minutes.
    pub gil_wait_p99_seconds: Option<f64>,
}

/// A running request.
#[derive(Clone, Debug, Serialize)]
pub struct RequestStatus {
    /// Label of its application.
    pub application: String,
    /// Its application group, which is its interpreter; empty for the main one.
    pub group: String,
    /// Its method.
    pub method: &'static str,
    /// Path of its URL, without the query.
    pub path: String,
    /// What it is doing.
    pub phase: &'static str,
    /// How long it has been running.
    pub age_seconds: f64,
    /// The child that serves it.
    pub pid: u32,
    /// The thread, as the kernel numbers it.
    pub thread: u32,
}

/// An application.
#[derive(Clone, Debug, Serialize)]
pub struct ApplicationStatus {
    /// Its name in metrics.
    pub label: String,
    /// Where it is mounted.
    pub mount: String,
    /// Its script.
    pub script: String,
    /// Its application group; empty for the main interpreter.
    pub group: String,
    /// Its running requests.
    pub in_flight: usize,
    /// Age of the oldest of them.
    pub oldest_request_seconds: Option<f64>,
    /// The last minute or so; unknown before the first sample.
    pub recent: Option<Window>,
    /// Since the server was started.
    pub since_start: Window,
    /// Uncaught exceptions by phase, since the start.
    pub exceptions: BTreeMap<&'static str, u64>,
    /// Requests refused by reason, since the start.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Requests over a limit of time by stage, since the start.
    pub timeouts: BTreeMap<&'static str, u64>,
    /// Requests that clients gave up, by phase, since the start.
    pub client_aborts: BTreeMap<&'static str, u64>,
    /// Slow requests since the start.
    pub slow_requests: u64,
    /// Living interpreters by state.
    pub interpreters: BTreeMap<&'static str, i64>,
    /// When the oldest of them started.
    pub oldest_interpreter_timestamp_seconds: Option<f64>,
    /// When the newest of them started.
    pub newest_interpreter_timestamp_seconds: Option<f64>,
    /// Imports of the script by result, since the start.
    pub loads: BTreeMap<&'static str, u64>,
    /// Reloads by what caused them, since the start.
    pub reloads: BTreeMap<&'static str, u64>,
    /// Samples of the last minutes, oldest first.
    pub history: Vec<Point>,
}

/// A sample of an application.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Its end.
    pub timestamp_seconds: f64,
    /// How long it was.
    pub duration_seconds: f64,
    /// Requests that ended.
    pub requests: u64,
    /// Those with 5xx, or without a status.
    pub errors: u64,
    /// The duration that half of them did not exceed; unknown without requests.
    pub p50_seconds: Option<f64>,
    /// The duration that 99 % of them did not exceed.
    pub p99_seconds: Option<f64>,
}

/// A refused, timed-out or slow request.
#[derive(Clone, Debug, Serialize)]
pub struct EventStatus {
    /// When it ended.
    pub timestamp_seconds: f64,
    /// How long ago that is.
    pub age_seconds: f64,
    /// `slow`, `rejected` or `timed_out`.
    pub kind: &'static str,
    /// Why it was rejected, or the stage that took too long; empty for slow ones.
    pub detail: &'static str,
    /// Label of its application.
    pub application: String,
    /// Its method.
    pub method: &'static str,
    /// Path of its URL, without the query.
    pub path: String,
    /// Status of the response; `null` where none was sent.
    pub status: Option<u16>,
    /// The child that served it.
    pub pid: u32,
    /// The whole request.
    pub total_seconds: f64,
    /// Of it, inside the application.
    pub application_seconds: f64,
    /// Of it, waiting for the GIL.
    pub gil_wait_seconds: f64,
    /// Of it, reading the body.
    pub input_seconds: f64,
    /// Of it, sending the response.
    pub output_seconds: f64,
}

/// A child that ended without having said that it would.
#[derive(Clone, Debug, Serialize)]
pub struct DeathStatus {
    /// When the parent saw it.
    pub timestamp_seconds: f64,
    /// How long ago that is.
    pub age_seconds: f64,
    /// The child.
    pub pid: u32,
    /// How it ended.
    pub how: String,
    /// What it was running.
    pub running: String,
}

/// A child of httpd.
#[derive(Clone, Debug, Serialize)]
pub struct ChildStatus {
    /// Its number.
    pub pid: u32,
    /// `starting`, `ready`, `not_ready` (its code could not be loaded, and it leaves connections to others) or `draining`.
    pub state: &'static str,
    /// Why it will be replaced, as in the label `reason` of `wsgi_children_recycles_total`; `null` where it is not.
    pub retiring: Option<&'static str>,
    /// Number of the code that it serves; unknown where it has not said so.
    pub revision: Option<u64>,
    /// How long it has been there.
    pub age_seconds: f64,
    /// Resident memory; pages that children share count for each of them.
    pub resident_bytes: Option<u64>,
    /// Number of the configuration that it serves.
    pub generation: u64,
    /// Requests that it runs.
    pub in_flight: usize,
}

/// A rolling replacement of the children by ones with new code.
#[derive(Clone, Debug, Serialize)]
pub struct RollStatus {
    /// `trial`, `rolling`, `done` or `stopped`.
    pub phase: &'static str,
    /// Number of the code that it brings.
    pub revision: u64,
    /// Children that were replaced.
    pub done: u32,
    /// Children that it had to replace when it began.
    pub of: u32,
    /// When it began.
    pub began_timestamp_seconds: f64,
    /// When it was done or stopped.
    pub ended_timestamp_seconds: Option<f64>,
    /// What set it off.
    pub cause: String,
    /// Why it stopped; empty otherwise.
    pub problem: String,
    /// All of this as a sentence.
    pub text: String,
}

/// An application group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// Its name; empty for the main interpreter.
    pub name: String,
    /// `own`, `shared`, `probing` while a child tries it out, or `undecided` where no child has.
    pub gil: &'static str,
    /// The module that forced this, or another reason; empty where there is none.
    pub because_of: String,
    /// The threads that run its requests, and how many requests wait how long, as the configuration says; empty where its
    /// name was not known when httpd started.
    pub plan: String,
}

/// Sums since the server was started, over children that have ended, too.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// All applications together.
    pub requests: Window,
    /// Requests by status class.
    pub by_class: BTreeMap<&'static str, u64>,
    /// Bytes of request bodies that applications were given.
    pub request_body_bytes: u64,
    /// Bytes of response bodies.
    pub response_body_bytes: u64,
    /// Responses that broke the WSGI protocol.
    pub protocol_errors: u64,
    /// CPU time of all children in their own code.
    pub cpu_user_seconds: f64,
    /// CPU time of all children in the kernel.
    pub cpu_system_seconds: f64,
    /// Children that were started.
    pub children_started: u64,
    /// Children that ended as they should.
    pub children_ended: u64,
    /// Children that were killed or crashed.
    pub children_killed: u64,
}

/// What runs here.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// What httpd calls itself.
    pub httpd: String,
    /// Version of the module.
    pub version: String,
    /// Revision that it was built from.
    pub revision: String,
    /// The compiler.
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
    /// Whether Python has its GIL: `enabled` or `disabled`.
    pub python_gil: String,
    /// When the server was started.
    pub start_timestamp_seconds: f64,
    /// How long ago that is.
    pub uptime_seconds: f64,
    /// Number of the configuration that is in force.
    pub config_generation: u64,
    /// When it was loaded.
    pub config_load_timestamp_seconds: f64,
}

/// How full the shared segment is.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentUse {
    /// Its size; only what is used takes memory.
    pub mapped_bytes: u64,
    /// Arenas that a thread has.
    pub arenas_used: u64,
    /// All arenas.
    pub arenas: u64,
    /// What had to be put elsewhere since the start, by what there was no room for.
    pub overflows: BTreeMap<&'static str, u64>,
    /// How long the last scrape took; 0 before the first.
    pub last_scrape_seconds: f64,
    /// How long ago the last sample of the history was taken.
    pub last_sample_age_seconds: Option<f64>,
}
