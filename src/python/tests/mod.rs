//! Drives the engine through a host table of test functions, without httpd.
//!
//! Python starts once in a process, and tests are threads of one process, so they share the interpreters. Each test has
//! its own script files, and its own application group if it changes what belongs to the interpreter.

// Names for the types of the test tables would not make them clearer.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

mod admission;
mod body;
mod close;
mod deadlines;
mod environ;
mod errors_log;
mod events;
mod extensions;
mod faults;
mod file_wrapper;
mod gil;
mod host;
mod input;
mod interpreters;
mod leaks;
mod metrics;
mod nested;
mod private_environ;
mod refusals;
#[cfg(all(Py_3_13, not(Py_GIL_DISABLED)))]
mod replicas;
mod scripts;
mod sources;
mod stacks;
mod start_response;
mod stop;
mod telemetry;
mod threads;

use std::collections::VecDeque;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;
use wsgi_abi::{
    BodyPlan, Bytes, EnvEntry, Environ, KeyKind, Limits, RunOutcome, RunRequest, SegmentView,
    Slice, Target, Times, Timing,
};
use wsgi_telemetry::{App, Geometry, Segment, memory, writer};

use host::{Host, Piece, Recorded};

/// The level of `wsgi.errors`, and of errors.
const ERROR: i32 = 3;

/// The code that the scripts of the tests have in common.
const PRELUDE: &str = r#"
import sys

def respond(start_response, value):
    """A whole response with `value` as its body."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [value if isinstance(value, bytes) else str(value).encode()]

def attempt(function, *args):
    """What the call gives, or how it fails."""
    try:
        return function(*args)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

class Body:
    """An iterable that counts the calls of its close()."""
    closed = 0

    def __init__(self, chunks):
        self.chunks = iter(chunks)

    def __iter__(self):
        return self.chunks

    def close(self):
        Body.closed += 1
"#;

/// Starts Python, unless another test did.
fn start() {
    static STARTED: OnceLock<()> = OnceLock::new();
    let start = || {
        // SAFETY: the functions keep the contract of the table.
        unsafe { crate::host::set(&host::TABLE) };
        let process = crate::Process {
            maximum_processes: 3,
            threads_per_process: 25,
            apache_version: [2, 4, 57],
            server_description: b"Test/1.0 (caf\xe9)".to_vec(),
            mpm_name: b"event".to_vec(),
            server_software: b"Test/1.0".to_vec(),
            ..crate::Process::default()
        };
        let segment = segment();
        writer::start(segment, 0);
        let geometry = segment.geometry();
        let config = crate::Config {
            free_threading: gil::asked(),
            process,
            segment: SegmentView {
                cells: Slice::new(segment.cells()),
                arenas: geometry.arenas,
                applications: geometry.applications,
                series: geometry.series,
                detached: Some(writer::detached()),
            },
            ..crate::Config::default()
        };
        crate::start(config).unwrap();
    };
    STARTED.get_or_init(|| match cfg!(Py_3_14) {
        // The thread that starts Python must live as long as Python, and the threads of tests end.
        true => crate::cpython::threads::on_one_that_stays("python", start).expect("Python starts"),
        false => start(),
    });
}

/// Returns the segment that all tests count in.
fn segment() -> Segment {
    static SEGMENT: OnceLock<Segment> = OnceLock::new();
    *SEGMENT.get_or_init(|| {
        let geometry = Geometry::new(500, 1, 50, 256);
        let cells = memory::anonymous(geometry.words()).unwrap();
        Segment::create(cells, geometry, std::process::id()).unwrap()
    })
}

/// A script in its own file.
struct Script {
    path: PathBuf,
    _dir: TempDir,
}

impl Script {
    /// Makes a script with `source` after the prelude.
    fn new(source: &str) -> Script {
        let dir = tempfile::tempdir().unwrap();
        let script = Script {
            path: dir.path().join("test.wsgi"),
            _dir: dir,
        };
        script.write(source);
        script
    }

    /// Makes a script with an `application(environ, start_response)` of these lines.
    fn app(lines: &str) -> Script {
        let mut source = String::from("def application(environ, start_response):\n");
        for line in lines.lines() {
            source += &format!("    {line}\n");
        }
        Script::new(&source)
    }

    /// Returns the modification time, as httpd passes it.
    fn mtime(&self) -> i64 {
        let modified = std::fs::metadata(&self.path).unwrap().modified().unwrap();
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_micros()).unwrap()
    }

    /// Rewrites the file.
    fn write(&self, source: &str) {
        std::fs::write(&self.path, format!("{PRELUDE}\n{source}")).unwrap();
    }

    fn request(&self) -> Request<'_> {
        let mtime = self.path.exists().then(|| self.mtime());
        Request::new(&self.path).mtime(mtime.unwrap_or(1))
    }

    fn run(&self) -> Recorded {
        self.request().run()
    }

    /// Returns the body of a successful response.
    fn text(&self) -> String {
        self.request().text()
    }
}

/// Returns the value of a Python expression inside an application, as text, or the exception that it raises.
fn ask(expression: &str) -> String {
    Script::app(&format!(
        "return respond(start_response, attempt(lambda: {expression}))"
    ))
    .text()
}

/// Makes a request and runs it.
struct Request<'a> {
    script: &'a Path,
    group: String,
    callable: String,
    entries: Vec<(KeyKind, u16, Vec<u8>, Option<Vec<u8>>)>,
    host: Host,
    resource: String,
    mtime: i64,
    reloading: bool,
    load_timeout: u32,
    https: bool,
    has_body: bool,
    header_only: bool,
    apache_request: *mut c_void,
    app: App,
    limits: Limits,
    body_ahead: u32,
}

impl<'a> Request<'a> {
    fn new(script: &'a Path) -> Request<'a> {
        Request {
            script,
            group: String::new(),
            callable: String::from("application"),
            entries: Vec::new(),
            host: Host::default(),
            resource: String::from("/resource"),
            mtime: 1,
            reloading: true,
            load_timeout: 30,
            https: false,
            has_body: false,
            header_only: false,
            apache_request: std::ptr::null_mut(),
            app: App::OTHER,
            limits: Limits::default(),
            body_ahead: 0,
        }
    }

    /// Sets the application that the request counts for.
    fn app(mut self, app: App) -> Self {
        self.app = app;
        self
    }

    /// Sets the limits in milliseconds: until the interruption, the grace, and until the request counts as slow.
    fn limits(mut self, request: u32, grace: u32, slow: u32) -> Self {
        self.limits = Limits {
            request,
            grace,
            slow,
        };
        self
    }

    /// Sets how much of the body is read before Python is entered.
    fn body_ahead(mut self, bytes: u32) -> Self {
        self.body_ahead = bytes;
        self
    }

    /// Closes the connection of the client.
    fn gone(self) -> Self {
        self.host
            .is_gone
            .store(true, std::sync::atomic::Ordering::SeqCst);
        self
    }

    fn group(mut self, group: &str) -> Self {
        self.group = group.to_owned();
        self
    }

    fn callable(mut self, name: &str) -> Self {
        self.callable = name.to_owned();
        self
    }

    /// Sets the modification time, as the module would pass it.
    fn mtime(mut self, mtime: i64) -> Self {
        self.mtime = mtime;
        self
    }

    fn known(mut self, id: u16, value: &[u8]) -> Self {
        self.entries
            .push((KeyKind::Known, id, Vec::new(), Some(value.to_vec())));
        self
    }

    fn header(mut self, name: &str, value: &[u8]) -> Self {
        self.entries
            .push((KeyKind::Header, 0, name.into(), Some(value.to_vec())));
        self
    }

    fn literal(mut self, key: &[u8], value: Option<&[u8]>) -> Self {
        let value = value.map(<[u8]>::to_vec);
        self.entries
            .push((KeyKind::Literal, 0, key.to_vec(), value));
        self
    }

    fn body(mut self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        self.host.body = pieces.into_iter().collect::<VecDeque<_>>().into();
        self.has_body = true;
        self
    }

    /// Makes the client leave after this many writes.
    fn aborted_after(mut self, writes: usize) -> Self {
        self.host.aborted_after = Some(writes);
        self
    }

    fn header_only(mut self) -> Self {
        self.header_only = true;
        self
    }

    fn run(mut self) -> Recorded {
        start();
        let host = std::mem::take(&mut self.host);
        let entries: Vec<EnvEntry<'_>> = self
            .entries
            .iter()
            .map(|(kind, id, key, value)| EnvEntry {
                kind: *kind,
                id: *id,
                key: Bytes::new(key),
                value: value.as_deref().into(),
            })
            .collect();
        let times = Times::default();
        host.run(|request| {
            let raw = RunRequest::new(
                Target {
                    group: Bytes::new(self.group.as_bytes()),
                    script_mtime: self.mtime,
                    script_reloading: self.reloading,
                    load_timeout: self.load_timeout,
                    callable: Bytes::new(self.callable.as_bytes()),
                    resource: Bytes::new(self.resource.as_bytes()),
                    app: self.app.number(),
                    ..Target::new(self.script.as_os_str().as_encoded_bytes())
                },
                Environ {
                    https: self.https,
                    header_only: self.header_only,
                    apache_request: self.apache_request,
                    ..Environ::new(&entries)
                },
                BodyPlan {
                    is_there: self.has_body,
                    ahead: self.body_ahead,
                },
                self.limits,
                Timing {
                    received: 1_700_000_000_250_000,
                    times: Some(&times),
                    ..Timing::default()
                },
            );
            // SAFETY: a request of the host that was set, owned by this thread.
            unsafe { crate::run(&raw.for_host(request)) }
        })
    }

    /// Returns the body of a successful response.
    fn text(self) -> String {
        let exchange = self.run();
        assert_eq!(
            exchange.outcome,
            Some(RunOutcome::Responded),
            "{exchange:?}"
        );
        exchange.text()
    }
}
