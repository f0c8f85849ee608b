//! `WSGIWarmup`: requests a URL without a client, through the same path as other requests, so that an application has
//! done the work of its first request before the first client comes.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wsgi_abi::keys;
use wsgi_abi::{
    BodyPlan, Bytes, Engine, EnvEntry, Environ, HostResult, KeyKind, Level, Limits, Presence,
    RequestHost, ResponseHead, RunOutcome, RunRequest, Target, Timing, WriteEnd,
};

use super::host::{HostRequest, HostRequests, limit_milliseconds};
use crate::config::inherited;
use crate::config::placement::Warmup;
use crate::log::log_line;
use crate::metrics::applications::app_of_script;

/// The highest number of bytes of a body: a body that never ends would keep the child from serving.
const LONGEST: usize = 64 << 20;

/// `User-Agent` of these requests.
const AGENT: &[u8] = b"mod_wsgi_rs (warm-up)";

/// Receives a response and discards its body.
#[derive(Default)]
struct Unread {
    status: Cell<u16>,
    length: Cell<usize>,
    was_cut: Cell<bool>,
}

impl RequestHost for Unread {
    fn log(&self, level: Level, line: &[u8]) {
        log_line(level, line);
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        log_line(level, line);
    }

    fn read_body(&self, _into: &mut [u8]) -> HostResult {
        HostResult::done(0)
    }

    fn read_at_hand(&self, _into: &mut [u8]) -> HostResult {
        HostResult::done(0)
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        self.status.set(head.status);
        HostResult::done(0)
    }

    fn write(&self, chunks: &[Bytes<'_>], _end: WriteEnd) -> HostResult {
        let bytes: usize = chunks.iter().map(|chunk| chunk.get_or_empty().len()).sum();
        let length = self.length.get().saturating_add(bytes);
        self.length.set(length);
        if length > LONGEST {
            return HostResult::aborted();
        }
        HostResult::done(0)
    }

    fn flush(&self) -> HostResult {
        HostResult::done(0)
    }

    fn send_file(&self, _file: OwnedFd, _offset: u64, _length: u64) -> HostResult {
        HostResult::done(0)
    }

    fn cut_response(&self) {
        self.was_cut.set(true);
    }

    fn client_presence(&self) -> Presence {
        Presence::Here
    }

    fn give_up(&self) {}

    fn ssl_variable(&self, _name: &[u8]) -> Option<&[u8]> {
        None
    }
}

/// Requests a URL from each replica of the application. The error says what was wrong with the response.
pub(crate) fn ask(engine: Engine<HostRequests>, warmup: &Warmup) -> Result<(), String> {
    let replicas = engine.replicas(&warmup.script.group).max(1);
    (0..replicas).try_for_each(|replica| {
        let replica = i32::try_from(replica).unwrap_or(-1);
        ask_one(engine, warmup, replica)
    })
}

/// Returns the limits of the request, which may take as long as a load.
fn limits(group: &[u8]) -> Limits {
    Limits {
        request: limit_milliseconds(startup_limit(group)),
        grace: 1000,
        slow: 0,
    }
}

/// Returns `WSGIStartupTimeout` of a group.
pub(crate) fn startup_limit(group: &[u8]) -> Option<Duration> {
    let process = inherited::current()?;
    let options = process.group_options(&String::from_utf8_lossy(group));
    options.startup_timeout
}

fn ask_one(engine: Engine<HostRequests>, warmup: &Warmup, replica: i32) -> Result<(), String> {
    let script = &warmup.script;
    let port = warmup.port.to_string();
    let host = match warmup.port {
        80 | 443 | 0 => warmup.server_name.clone(),
        _ => [&*warmup.server_name, b":", port.as_bytes()].concat(),
    };
    let pid = std::process::id().to_string();
    let entries = entries(warmup, &port, &host, &pid);
    let unread = Unread::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = RunRequest::new(
        Target {
            group: Bytes::new(&script.group),
            replica,
            script_reloading: false,
            callable: Bytes::new(warmup.callable.as_bytes()),
            resource: Bytes::new(&script.script),
            app: app_of_script(&script.script).number(),
            ..Target::new(&script.script)
        },
        Environ::new(&entries),
        BodyPlan::default(),
        limits(&script.group),
        Timing {
            received: now.map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(0)),
            ..Timing::default()
        },
    );
    match engine.run(run, &HostRequest::new(&unread)) {
        RunOutcome::Responded if unread.was_cut.get() => {
            Err(String::from("the response broke off"))
        }
        RunOutcome::Responded if unread.status.get() < 500 => Ok(()),
        RunOutcome::Responded => Err(format!("the status is {}", unread.status.get())),
        RunOutcome::Failed => Err(String::from(
            "the application failed, as the lines before this one say",
        )),
        RunOutcome::CallableMissing => {
            Err(format!("the script has no callable '{}'", warmup.callable))
        }
        RunOutcome::TimedOut
        | RunOutcome::LoadTimedOut
        | RunOutcome::QueueFull
        | RunOutcome::QueueTimedOut
        | RunOutcome::GivenUp => Err(String::from("there was no response in time")),
        RunOutcome::NoInterpreter => Err(String::from("there is no interpreter left for it")),
        RunOutcome::Draining
        | RunOutcome::ClientGone
        | RunOutcome::ClientLeft
        | RunOutcome::Faulted => Err(String::from("the child ends")),
    }
}

/// Makes the environ of a GET from this machine.
fn entries<'a>(
    warmup: &'a Warmup,
    port: &'a str,
    host: &'a [u8],
    pid: &'a str,
) -> Vec<EnvEntry<'a>> {
    const LOCAL: &[u8] = b"127.0.0.1";
    let known = |id: u16, value: &'a [u8]| entry(KeyKind::Known, id, Bytes::ABSENT, value);
    let (script_name, path_info) = (warmup.script_name.as_bytes(), warmup.path_info.as_bytes());
    let mut entries: Vec<EnvEntry<'a>> = [
        (keys::REQUEST_METHOD, &b"GET"[..]),
        (keys::SCRIPT_NAME, script_name),
        (keys::PATH_INFO, path_info),
        (keys::QUERY_STRING, warmup.query.as_bytes()),
        (keys::REQUEST_URI, warmup.url.as_bytes()),
        (keys::SERVER_PROTOCOL, b"HTTP/1.1"),
        (keys::SERVER_NAME, &warmup.server_name),
        (keys::SERVER_PORT, port.as_bytes()),
        (keys::SERVER_ADDR, LOCAL),
        (keys::REMOTE_ADDR, LOCAL),
        (keys::REMOTE_PORT, b"0"),
        (keys::REQUEST_SCHEME, b"http"),
        (keys::SCRIPT_FILENAME, &warmup.script.script),
        (keys::MOD_WSGI_PROCESS_GROUP, b""),
        (keys::MOD_WSGI_APPLICATION_GROUP, &warmup.script.group),
        (keys::MOD_WSGI_CALLABLE_OBJECT, warmup.callable.as_bytes()),
        (keys::MOD_WSGI_REQUEST_HANDLER, b"wsgi-script"),
        (keys::MOD_WSGI_HANDLER_SCRIPT, b""),
        (keys::MOD_WSGI_SCRIPT_NAME, script_name),
        (keys::MOD_WSGI_PATH_INFO, path_info),
        (keys::MOD_WSGI_LISTENER_HOST, b""),
        (keys::MOD_WSGI_LISTENER_PORT, port.as_bytes()),
        (keys::MOD_WSGI_SERVER_PID, pid.as_bytes()),
        (keys::MOD_WSGI_REQUEST_ID, b"warm-up"),
    ]
    .into_iter()
    .map(|(id, value)| known(id, value))
    .collect();
    for (name, value) in [
        ("HTTP_HOST", host),
        ("HTTP_USER_AGENT", AGENT),
        ("HTTP_ACCEPT", b"*/*"),
        ("mod_wsgi.warmup", b"1"),
    ] {
        entries.push(entry(
            KeyKind::Literal,
            0,
            Bytes::new(name.as_bytes()),
            value,
        ));
    }
    entries
}

fn entry<'a>(kind: KeyKind, id: u16, key: Bytes<'a>, value: &'a [u8]) -> EnvEntry<'a> {
    let value = Bytes::new(value);
    EnvEntry {
        kind,
        id,
        key,
        value,
    }
}
