//! One httpd: asked, stopped, and held to a silent error log.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use regex::Regex;

use crate::client::connection::{ClientError, Connection};
use crate::client::request::Request;
use crate::client::response::Response;
use crate::machine::process::{self, Pid};
use crate::mpm::Mpm;
use crate::server::description::Ports;
use crate::server::limit::Limit;
use crate::server::log::{self, Record};
use crate::server::root::{put, spawn};
use crate::wait::eventually::{PATIENCE, eventually, eventually_within};

/// A place in the error log.
#[derive(Clone, Copy)]
pub struct LogMark(usize);

/// A running server. Dropping it stops it, and fails the test if the error log holds a complaint that was not announced.
pub struct Server {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    root: PathBuf,
    mpm: Mpm,
    announced: Mutex<Vec<Regex>>,
    /// By pattern: how many records the log had when the pattern was found last.
    expected: Mutex<HashMap<String, usize>>,
    limit: Limit,
    ended: bool,
}

impl Server {
    /// A server that was started just now.
    pub(super) fn new(child: Child, ports: Ports, root: PathBuf, mpm: Mpm) -> Self {
        let limit = Limit::of_server(Pid::try_from(child.id()).unwrap(), &root);
        Server {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.server)),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.metrics)),
            root,
            mpm,
            announced: Mutex::new(Vec::new()),
            expected: Mutex::default(),
            limit,
            ended: false,
        }
    }

    /// `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// One request on a connection of its own; anything but a complete HTTP message ends the test.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        match self.try_send(request) {
            Ok(response) => response,
            Err(error) => panic!("{} {}: {error}", request.method(), request.target()),
        }
    }

    /// One request on a connection of its own.
    pub fn try_send(&self, request: &Request) -> Result<Response, ClientError> {
        Connection::open(self.address)?.exchange(request)
    }

    /// Sends a `GET` on a connection of its own, and leaves the response there to be read.
    #[track_caller]
    pub fn ask(&self, target: &str) -> Connection {
        let mut connection = self.connect();
        connection.send(Request::get(target).to_bytes());
        connection
    }

    /// A connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).unwrap()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the helper process for metrics listens, if the server has one.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The server root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The MPM it runs under.
    pub fn mpm(&self) -> Mpm {
        self.mpm
    }

    /// The first process.
    pub fn pid(&self) -> Pid {
        Pid::try_from(self.child.id()).unwrap()
    }

    /// The children that serve.
    pub fn children(&self) -> Vec<Pid> {
        let mut children = process::children_of(self.pid());
        children.retain(|pid| !process::name(*pid).starts_with("wsgi-"));
        children
    }

    /// The process that answers for metrics.
    pub fn helper(&self) -> Option<Pid> {
        self.process("wsgi-metrics")
    }

    /// The process that replaces children.
    pub fn reloader(&self) -> Option<Pid> {
        self.process("wsgi-reloader")
    }

    fn process(&self, name: &str) -> Option<Pid> {
        let children = process::children_of(self.pid());
        children.into_iter().find(|pid| process::name(*pid) == name)
    }

    /// The only child. A helper that was forked just now has the name of a child for a moment.
    #[track_caller]
    pub fn only_child(&self) -> Pid {
        let only = eventually_within(PATIENCE, || match self.children()[..] {
            [only] => Some(only),
            _ => None,
        });
        only.unwrap_or_else(|| panic!("children: {:?}", self.children()))
    }

    /// Writes a file below the server root, while the server runs.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        put(&self.root.join(path), content.as_ref());
    }

    /// The records of the error log so far.
    pub fn records(&self) -> Vec<Record> {
        log::read(&self.error_log())
    }

    /// The error log so far, as text.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.error_log()).unwrap_or_default()).into_owned()
    }

    /// The access log so far: status, body bytes, method, URL.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.root.join("access.log")).unwrap_or_default()
    }

    /// Waits for a record that matches, and takes complaints that match as announced. A record satisfies a pattern once:
    /// a test that expects the same pattern again, in another round, waits for another record.
    #[track_caller]
    pub fn expect_log(&self, pattern: &str) -> Record {
        let before = self.expected.lock().unwrap().get(pattern).copied();
        self.expect_log_after(LogMark(before.unwrap_or(0)), pattern)
    }

    /// Where the error log ends now, for [`Server::expect_log_after`].
    pub fn log_mark(&self) -> LogMark {
        LogMark(self.records().len())
    }

    /// As [`Server::expect_log`], but only records behind the mark count.
    #[track_caller]
    pub fn expect_log_after(&self, mark: LogMark, pattern: &str) -> Record {
        let regex = self.allow_log(pattern);
        let found = eventually_within(PATIENCE, || {
            let records = self.records().into_iter().enumerate().skip(mark.0);
            let mut matching = records.filter(|(_, record)| regex.is_match(&record.message));
            matching.next()
        });
        let Some((at, record)) = found else {
            panic!(
                "no record in the error log, behind its first {}, matches {pattern:?}",
                mark.0
            )
        };
        self.expected.lock().unwrap().insert(pattern.into(), at + 1);
        record
    }

    /// Takes complaints that match as announced, whether they come or not.
    pub fn allow_log(&self, pattern: &str) -> Regex {
        let regex = Regex::new(pattern).expect("the pattern is a regular expression");
        self.announced.lock().unwrap().push(regex.clone());
        regex
    }

    /// How often the log holds a match so far.
    pub fn count_log(&self, pattern: &str) -> usize {
        let regex = Regex::new(pattern).expect("the pattern is a regular expression");
        self.records()
            .iter()
            .filter(|record| regex.is_match(&record.message))
            .count()
    }

    /// `SIGUSR1`, and waits until none of the children from before is left.
    pub fn graceful_restart(&self) {
        self.restart(process::graceful);
    }

    /// `SIGHUP`, and waits until none of the children from before is left.
    pub fn restart_now(&self) {
        self.wait_until_quiet();
        self.restart(process::hang_up);
    }

    /// Stops the server, reads its log, and says how long the stop took.
    pub fn stop(mut self) -> Duration {
        self.end()
    }

    /// Stops the server as [`Server::stop`] does, and starts it again as it was, on the same port.
    pub fn start_again(&mut self) {
        self.end();
        self.child = spawn(&self.root, false);
        self.ended = false;
        self.limit = Limit::of_server(self.pid(), &self.root);
        assert!(
            self.wait_until_it_answers(),
            "something else has the port: {}",
            self.output()
        );
    }

    fn restart(&self, signal: fn(Pid)) {
        let before = self.children();
        let resumed = self.count_log("resuming normal operations");
        signal(self.pid());
        eventually("httpd resumes after the restart", || {
            (self.count_log("resuming normal operations") > resumed).then_some(())
        });
        eventually(
            "the children from before have ended and new ones serve",
            || {
                let now = self.children();
                (!now.is_empty() && before.iter().all(|pid| !now.contains(pid))).then_some(())
            },
        );
    }

    /// Lets the server finish the connections it is closing. A child of the event MPM that is told to end at once
    /// may otherwise crash in httpd's own `close_worker_sockets`, which races with a worker that frees its socket.
    fn wait_until_quiet(&self) {
        let patience = if self.mpm == Mpm::Event {
            Duration::from_secs(1)
        } else {
            Duration::ZERO
        };
        eventually_within(patience, || {
            (!process::has_connections(self.port())).then_some(())
        });
    }

    fn end(&mut self) -> Duration {
        self.wait_until_quiet();
        let start = Instant::now();
        let children = process::children_of(self.pid());
        process::terminate(self.pid());
        let status = eventually_within(PATIENCE, || self.child.try_wait().unwrap());
        let took = start.elapsed();
        let status =
            status.unwrap_or_else(|| panic!("httpd did not stop within {PATIENCE:?} of SIGTERM"));
        assert!(status.success(), "httpd ended with {status}");
        let left: Vec<Pid> = children
            .into_iter()
            .filter(|pid| process::is_alive(*pid))
            .collect();
        assert!(left.is_empty(), "children outlived their parent: {left:?}");
        self.ended = true;
        // httpd asks a child a second time after 1.5 s, which is little on a busy machine. One that it has to kill (AH00046)
        // is a fault.
        self.allow_log("^AH00045");
        let complaints = log::unannounced(&self.records(), &self.announced.lock().unwrap());
        let lines: Vec<String> = complaints
            .iter()
            .map(|record| format!("{}:{} {}", record.module, record.level, record.message))
            .collect();
        assert!(
            lines.is_empty(),
            "{} unannounced in the error log:\n{}",
            lines.len(),
            lines.join("\n")
        );
        took
    }

    /// False when the port was taken; panics when httpd ends for another reason or never answers.
    pub(super) fn wait_until_it_answers(&mut self) -> bool {
        let answered = eventually_within(PATIENCE, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let mut connection = Connection::open(self.address).ok()?;
            connection
                .exchange(&Request::new("OPTIONS", "*"))
                .ok()
                .map(|_| Ok(()))
        });
        match answered {
            Some(Ok(())) => true,
            Some(Err(_)) if self.output().contains("Address already in use") => {
                self.ended = true;
                false
            }
            Some(Err(status)) => panic!("httpd ended at start with {status}"),
            None => panic!("httpd gave no answer within {PATIENCE:?}"),
        }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.root.join("output.log")).unwrap_or_default()
    }

    fn error_log(&self) -> PathBuf {
        self.root.join("error.log")
    }

    fn explain(&self) {
        eprintln!(
            "--- httpd.conf\n{}",
            fs::read_to_string(self.root.join("httpd.conf")).unwrap_or_default()
        );
        eprintln!("--- output of httpd\n{}", self.output());
        eprintln!(
            "--- access log, last lines\n{}",
            log::tail(&self.root.join("access.log"), 15)
        );
        eprintln!(
            "--- error log, last lines\n{}",
            log::tail(&self.error_log(), 60)
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if !failed && !self.ended {
            // A failing check unwinds from here; this guard does what must happen in any case.
            let cleanup = Cleanup(self);
            cleanup.0.end();
            return;
        }
        Cleanup(self);
    }
}

/// Ends the processes and removes the folder; after a failure it first prints the configuration and the logs.
struct Cleanup<'a>(&'a mut Server);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        let server = &mut *self.0;
        if std::thread::panicking() {
            server.explain();
        }
        let parent = server.pid();
        if matches!(server.child.try_wait(), Ok(None)) {
            let children = process::children_of(parent);
            process::kill(parent);
            children.into_iter().for_each(process::kill);
            let _ = server.child.wait();
        }
        let _ = fs::remove_dir_all(&server.root);
    }
}
