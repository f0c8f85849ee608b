//! A running httpd: requests to it, its stop, and the check of its error log.

use std::collections::{BTreeSet, HashMap};
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

/// A running server. Dropping it stops it, and fails the test if the error log contains a complaint that was not
/// announced.
pub struct Server {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    root: PathBuf,
    mpm: Mpm,
    /// The process group of the suite runs its applications.
    is_in_group: bool,
    announced: Mutex<Vec<Regex>>,
    /// For each pattern, the number of records that the log had when the pattern was last found.
    expected: Mutex<HashMap<String, usize>>,
    limit: Limit,
    ended: bool,
}

impl Server {
    /// Takes over a server that has just been started.
    pub(super) fn new(
        child: Child,
        ports: Ports,
        root: PathBuf,
        mpm: Mpm,
        is_in_group: bool,
    ) -> Self {
        let limit = Limit::of_server(Pid::try_from(child.id()).unwrap(), &root);
        Server {
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.server)),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.metrics)),
            root,
            mpm,
            is_in_group,
            announced: Mutex::new(Vec::new()),
            expected: Mutex::default(),
            limit,
            ended: false,
        }
    }

    /// Sends a `GET` on a new connection.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// Sends one request on a new connection; anything but a complete HTTP message ends the test.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        match self.try_send(request) {
            Ok(response) => response,
            Err(error) => panic!("{} {}: {error}", request.method(), request.target()),
        }
    }

    /// Sends one request on a new connection.
    pub fn try_send(&self, request: &Request) -> Result<Response, ClientError> {
        Connection::open(self.address)?.exchange(request)
    }

    /// Sends a `GET` on a new connection, and does not read the response.
    #[track_caller]
    pub fn ask(&self, target: &str) -> Connection {
        let mut connection = self.connect();
        connection.send(Request::get(target).to_bytes());
        connection
    }

    /// Opens a connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).unwrap()
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address on which the helper process for metrics listens, if the server has one.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Returns the port on which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the server root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the MPM under which it runs.
    pub fn mpm(&self) -> Mpm {
        self.mpm
    }

    /// Returns the parent process.
    pub fn pid(&self) -> Pid {
        Pid::try_from(self.child.id()).unwrap()
    }

    /// Returns the serving children.
    pub fn children(&self) -> Vec<Pid> {
        let mut children = process::children_of(self.pid());
        children.retain(|pid| !process::name(*pid).starts_with("wsgi-"));
        children
    }

    /// Returns the helper process that answers requests for metrics.
    pub fn helper(&self) -> Option<Pid> {
        self.process("wsgi-metrics")
    }

    /// Returns the process that replaces children, the reloader.
    pub fn reloader(&self) -> Option<Pid> {
        self.process("wsgi-reloader")
    }

    /// Returns the process that supervises process groups.
    pub fn supervisor(&self) -> Option<Pid> {
        self.process("wsgi-groups")
    }

    /// Returns the processes of process groups.
    pub fn group_processes(&self) -> BTreeSet<Pid> {
        let supervisors = process::children_of(self.pid()).into_iter();
        let supervisors = supervisors.filter(|pid| process::name(*pid) == "wsgi-groups");
        let processes = supervisors.flat_map(process::children_of);
        processes
            .filter(|pid| process::name(*pid) == "wsgi-group")
            .collect()
    }

    fn process(&self, name: &str) -> Option<Pid> {
        let children = process::children_of(self.pid());
        children.into_iter().find(|pid| process::name(*pid) == name)
    }

    /// Returns the processes that run the applications: the children, or the processes of the group in which the suite
    /// runs them.
    pub fn app_processes(&self) -> Vec<Pid> {
        if self.is_in_group {
            self.group_processes().into_iter().collect()
        } else {
            self.children()
        }
    }

    /// Returns the only process that runs the applications.
    #[track_caller]
    pub fn only_process(&self) -> Pid {
        only_of("processes", || self.app_processes())
    }

    /// Returns the only child. A helper that was just forked has the name of a child for a moment.
    #[track_caller]
    pub fn only_child(&self) -> Pid {
        only_of("children", || self.children())
    }

    /// Writes a file in the server root while the server runs.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        put(&self.root.join(path), content.as_ref());
    }

    /// Returns the records of the error log so far.
    pub fn records(&self) -> Vec<Record> {
        log::read(&self.error_log())
    }

    /// Returns the error log so far, as text.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.error_log()).unwrap_or_default()).into_owned()
    }

    /// Returns the access log so far: status, bytes of the body, method, URL.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.root.join("access.log")).unwrap_or_default()
    }

    /// Waits for a record that matches, and announces the complaints that match. A record satisfies a pattern once: a
    /// test that expects the same pattern again, in another round, waits for another record.
    #[track_caller]
    pub fn expect_log(&self, pattern: &str) -> Record {
        let before = self.expected.lock().unwrap().get(pattern).copied();
        self.expect_log_after(LogMark(before.unwrap_or(0)), pattern)
    }

    /// Returns the present end of the error log, for [`Server::expect_log_after`].
    pub fn log_mark(&self) -> LogMark {
        LogMark(self.records().len())
    }

    /// Does the same as [`Server::expect_log`], but only records after the mark count.
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

    /// Announces complaints that match and may or may not come.
    pub fn allow_log(&self, pattern: &str) -> Regex {
        let regex = Regex::new(pattern).expect("the pattern is a regular expression");
        self.announced.lock().unwrap().push(regex.clone());
        regex
    }

    /// Returns the number of matching records in the log so far.
    pub fn count_log(&self, pattern: &str) -> usize {
        let regex = Regex::new(pattern).expect("the pattern is a regular expression");
        self.records()
            .iter()
            .filter(|record| regex.is_match(&record.message))
            .count()
    }

    /// Sends `SIGUSR1`, and waits until none of the present children and processes of groups is left.
    pub fn graceful_restart(&self) {
        self.restart(process::graceful);
    }

    /// Sends `SIGHUP`, and waits until none of the present children and processes of groups is left.
    pub fn restart_now(&self) {
        self.wait_until_quiet();
        self.restart(process::hang_up);
    }

    /// Stops the server, checks its log, and returns the time that the stop took.
    pub fn stop(mut self) -> Duration {
        self.end()
    }

    /// Stops the server like [`Server::stop`], and starts it again with the same configuration and port.
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
        let of_groups = self.group_processes();
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
        eventually("the processes of groups from before have ended", || {
            self.group_processes().is_disjoint(&of_groups).then_some(())
        });
    }

    /// Waits until the server has finished the connections that it is closing. A child of the event MPM that is told to
    /// end at once may otherwise crash in httpd's own `close_worker_sockets`, which races with a worker that frees its
    /// socket.
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
        let mut children = process::children_of(self.pid());
        children.extend(self.group_processes());
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
        assert!(left.is_empty(), "processes outlived the parent: {left:?}");
        self.ended = true;
        // httpd asks a child a second time after 1.5 s, which is short on a busy machine. A child that httpd has to
        // kill (AH00046) is a fault.
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

    /// Returns false if the port was taken; panics if httpd ends for another reason or never answers.
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
            // A failing check unwinds from here; this guard does the work that is needed in any case.
            let cleanup = Cleanup(self);
            cleanup.0.end();
            return;
        }
        Cleanup(self);
    }
}

/// Waits until there is only one of these processes, and returns it.
#[track_caller]
fn only_of(what: &str, processes: impl Fn() -> Vec<Pid>) -> Pid {
    let only = eventually_within(PATIENCE, || match processes()[..] {
        [only] => Some(only),
        _ => None,
    });
    only.unwrap_or_else(|| panic!("{what}: {:?}", processes()))
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
