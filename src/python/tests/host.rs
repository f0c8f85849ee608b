//! The host of a test: supplies the body in given pieces, and records the engine's calls.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use wsgi_abi::{
    Admission, Arenas, Bytes, Fault, GilDecision, GilMode, GroupOptions, HostResult, HostTable,
    Level, Presence, RequestHost, ResponseHead, Retire, RunOutcome, Slice, Strategy, WriteEnd,
    host_table,
};
use wsgi_telemetry::writer;

/// A part of a request's body.
pub(super) enum Piece {
    Data(Vec<u8>),
    /// Something to wait for before the next piece arrives.
    Wait(Box<dyn FnOnce() + Send>),
    Aborted,
    Failed(Fault, &'static str),
}

impl Piece {
    pub(super) fn text(text: &str) -> Piece {
        Piece::Data(text.into())
    }
}

/// The recorded calls and the outcome of a request.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) outcome: Option<RunOutcome>,
    /// Empty if the response was not started.
    pub(super) status_line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content_length: Option<u64>,
    pub(super) writes: Vec<(Vec<u8>, WriteEnd)>,
    pub(super) file: Option<Vec<u8>>,
    pub(super) cut: bool,
    /// Another thread has answered with 504.
    pub(super) given_up: bool,
    /// Level and line.
    pub(super) log: Vec<(i32, String)>,
    /// Lines that were logged while another call was, or may have been, under way; they are also in `log`.
    pub(super) beside: Vec<String>,
    /// The size that each read asked for.
    pub(super) reads: Vec<usize>,
}

impl Recorded {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Returns the whole body.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .writes
            .iter()
            .flat_map(|write| write.0.clone())
            .collect();
        bytes.extend(self.file.iter().flatten());
        bytes
    }

    /// Returns the writes, as text.
    pub(super) fn pieces(&self) -> Vec<(&str, WriteEnd)> {
        let writes = self.writes.iter();
        writes
            .map(|(data, end)| (std::str::from_utf8(data).unwrap(), *end))
            .collect()
    }

    /// Returns the lines of one level of the log.
    pub(super) fn lines(&self, level: i32) -> Vec<&str> {
        let of_level = self.log.iter().filter(|(at, _)| *at == level);
        of_level.map(|(_, line)| line.as_str()).collect()
    }

    pub(super) fn logged(&self, fragment: &str) -> bool {
        self.log.iter().any(|(_, line)| line.contains(fragment))
    }

    pub(super) fn is(&self, outcome: RunOutcome) -> bool {
        self.outcome == Some(outcome)
    }
}

/// One request on the host's side.
#[derive(Default)]
pub(super) struct Host {
    pub(super) body: Mutex<VecDeque<Piece>>,
    /// From the write with this number on, the client is gone.
    pub(super) aborted_after: Option<usize>,
    /// The client has closed the connection.
    pub(super) is_gone: AtomicBool,
    record: Mutex<Recorded>,
    /// A call that may block is under way.
    busy: AtomicBool,
    ended: AtomicBool,
}

impl Host {
    /// Runs a request with this host.
    pub(super) fn run(self, run: impl FnOnce(&'static Host) -> RunOutcome) -> Recorded {
        // Kept until the process ends, so that a call after the end of the request is detected and not undefined
        // behaviour.
        let host: &'static Host = Box::leak(Box::new(self));
        let outcome = run(host);
        host.ended.store(true, Ordering::SeqCst);
        let mut record = std::mem::take(&mut *lock(&host.record));
        record.outcome = Some(outcome);
        record
    }

    fn check_open(&self) {
        let ended = self.ended.load(Ordering::SeqCst);
        aborting(|| assert!(!ended, "a call after the end of the request"));
    }

    /// Begins a call that may block: without the GIL, and one at a time.
    fn enter(&self) -> Busy<'_> {
        aborting(|| assert!(!holds_gil(), "a call that may block, with the GIL held"));
        self.enter_shortly()
    }

    /// Begins a call that does not block: one at a time.
    fn enter_shortly(&self) -> Busy<'_> {
        self.check_open();
        aborting(|| {
            let busy = self.busy.swap(true, Ordering::SeqCst);
            assert!(!busy, "two calls at a time");
        });
        Busy(&self.busy)
    }

    fn read(&self, into: &mut [u8]) -> HostResult {
        lock(&self.record).reads.push(into.len());
        if into.is_empty() {
            return HostResult::done(0);
        }
        loop {
            // The lock is not held while waiting for the piece.
            let piece = lock(&self.body).pop_front();
            match piece {
                None => return HostResult::done(0),
                Some(Piece::Wait(wait)) => wait(),
                Some(Piece::Aborted) => return HostResult::aborted(),
                Some(Piece::Failed(fault, reason)) => return HostResult::failed(fault, reason),
                Some(Piece::Data(data)) if data.is_empty() => {}
                Some(Piece::Data(mut data)) => {
                    let rest = data.split_off(data.len().min(into.len()));
                    into[..data.len()].copy_from_slice(&data);
                    if !rest.is_empty() {
                        lock(&self.body).push_front(Piece::Data(rest));
                    }
                    return HostResult::done(data.len());
                }
            }
        }
    }

    fn is_aborted(&self, record: &Recorded) -> bool {
        self.aborted_after
            .is_some_and(|after| record.writes.len() >= after)
    }
}

/// Ends the test process after a failed assertion about the contract, because the engine would treat a panic as a
/// failed call.
fn aborting(check: impl FnOnce() + std::panic::UnwindSafe) {
    if std::panic::catch_unwind(check).is_err() {
        std::process::abort();
    }
}

struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the calling thread is attached. `PyGILState_Check` always returns yes once there is a sub-interpreter.
pub(super) fn holds_gil() -> bool {
    // SAFETY: neither function needs the GIL. Before 3.12 the first returns the state of whichever thread holds the
    // GIL, and the second the one state of this thread.
    unsafe {
        let current = ffi::compat::PyThreadState_GetUnchecked();
        !current.is_null() && current == ffi::PyGILState_GetThisThreadState()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of the server's log, from all tests.
static SERVER_LOG: Mutex<Vec<(i32, String)>> = Mutex::new(Vec::new());

/// The decisions for groups: name, choice, module.
pub(super) static CHOICES: Mutex<Vec<(String, GilDecision, String)>> = Mutex::new(Vec::new());

/// The reasons for which the child should be replaced.
pub(super) static RETIRED: Mutex<Vec<Retire>> = Mutex::new(Vec::new());

/// Whether the server's log has such a line.
pub(super) fn server_logged(level: i32, line: &str) -> bool {
    server_lines(level, line) > 0
}

/// Returns how many such lines the server's log has.
pub(super) fn server_lines(level: i32, line: &str) -> usize {
    let log = lock(&SERVER_LOG);
    let such = log.iter().filter(|(at, text)| *at == level && text == line);
    such.count()
}

/// Returns the admission of a group: that of the strategy under test, because the tests must pass with each. A name
/// like "run-pool-places=2-depth=3-timeout=50-share=4-anything" sets its own.
fn admission(group: &str) -> Admission {
    let asked = std::env::var("WSGI_TEST_EXECUTOR")
        .ok()
        .filter(|name| !name.is_empty());
    let mut words = group.split('-');
    let own = words.next() == Some("run");
    let strategy = match own.then(|| words.next()).flatten() {
        Some(strategy) => strategy,
        None => asked.as_deref().unwrap_or("direct"),
    };
    let strategy = match strategy {
        "delegate" => Strategy::Delegate,
        "pool" => Strategy::Pool,
        "direct" => Strategy::Direct,
        other => panic!("{other} is none of direct, delegate, pool"),
    };
    let mut admission = Admission {
        strategy,
        least: 2,
        most: 25,
        pool_size: 3,
        ..Admission::OPEN
    };
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let value = value.parse().unwrap();
        match name {
            "places" => {
                (admission.least, admission.most, admission.pool_size) = (value, value, value)
            }
            "most" => admission.most = value,
            "depth" => admission.queue_depth = value,
            "timeout" => admission.queue_timeout = value,
            "share" => admission.share = value,
            other => panic!("{other} is no part of an admission"),
        }
    }
    admission
}

pub(super) static TABLE: HostTable = host_table::<Host>();

impl wsgi_abi::Host for Host {
    fn calls(&self) -> &dyn RequestHost {
        self
    }

    fn log_server(level: Level, line: &[u8]) {
        let (level, line) = (level as i32, text(line));
        if std::env::var_os("WSGI_TEST_ECHO").is_some() {
            eprintln!("[{level}] {line}");
        }
        lock(&SERVER_LOG).push((level, line));
    }

    /// Restricts what groups may do whose name begins with "restricted", gives "with-path" a search path, "own-3-" and
    /// "auto-3-" three replicas, and "open-environ" the environment of the process.
    fn group_options(group: &[u8]) -> GroupOptions {
        static DIRS: [Bytes<'static>; 2] = [
            Bytes::new(b"/nonexistent/one"),
            Bytes::new(b"/nonexistent/two"),
        ];
        static LAYERS: [Slice<'static, Bytes<'static>>; 1] = [Slice::new(&DIRS)];
        let restricted = group.starts_with(b"restricted");
        let layers = group == b"with-path";
        let name = text(group);
        let mut words = name.split('-');
        let gil = match words.next() {
            Some("own") => GilMode::Own,
            Some("auto") => GilMode::Auto,
            _ => GilMode::Shared,
        };
        let replicas = words.next().and_then(|count| count.parse().ok());
        GroupOptions {
            gil,
            replicas: replicas.unwrap_or(1),
            restrict_stdin: restricted,
            restrict_stdout: restricted,
            restrict_signal: restricted,
            private_environ: !group.starts_with(b"open-environ"),
            python_path: Slice::new(if layers { &LAYERS } else { &[] }),
            admission: admission(&name),
            main: name.starts_with("run-"),
            threads: 25,
            ..GroupOptions::default()
        }
    }

    fn gil_decision(group: &[u8]) -> GilDecision {
        let known = lock(&CHOICES);
        let mut known = known.iter().rev();
        let found = known.find(|(name, ..)| *name == text(group));
        found.map_or(GilDecision::Unknown, |(_, choice, _)| *choice)
    }

    fn gil_decided(group: &[u8], choice: GilDecision, module: &[u8]) {
        lock(&CHOICES).push((text(group), choice, text(module)));
    }

    fn arenas(now: u64) -> Arenas {
        match (writer::arena(now), writer::process()) {
            (Some(thread), Some(process)) => Arenas {
                thread: thread.index(),
                process: process.index(),
            },
            _ => Arenas::NONE,
        }
    }

    fn retire(why: Retire) {
        lock(&RETIRED).push(why);
    }
}

impl RequestHost for Host {
    fn log(&self, level: Level, line: &[u8]) {
        let _busy = self.enter_shortly();
        lock(&self.record).log.push((level as i32, text(line)));
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        self.check_open();
        let mut record = lock(&self.record);
        record.log.push((level as i32, text(line)));
        record.beside.push(text(line));
    }

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        let _busy = self.enter();
        self.read(into)
    }

    fn read_at_hand(&self, into: &mut [u8]) -> HostResult {
        let _busy = self.enter();
        if matches!(lock(&self.body).front(), Some(Piece::Wait(_))) {
            return HostResult::later();
        }
        self.read(into)
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let _busy = self.enter();
        let mut record = lock(&self.record);
        let second = !record.status_line.is_empty();
        aborting(|| assert!(!second, "a second start_response"));
        record.status_line = text(head.status_line.get_or_empty());
        let code = record.status_line[..3].parse::<u16>().unwrap();
        aborting(|| assert_eq!(code, head.status));
        let headers = head.headers.get_or_empty().iter();
        let headers = headers.map(|header| {
            (
                text(header.name.get_or_empty()),
                text(header.value.get_or_empty()),
            )
        });
        record.headers = headers.collect();
        record.content_length = u64::try_from(head.content_length).ok();
        HostResult::done(0)
    }

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let _busy = self.enter();
        let mut record = lock(&self.record);
        let started = !record.status_line.is_empty();
        let mut ends = record.writes.iter().map(|write| write.1);
        let ended = ends.any(|end| matches!(end, WriteEnd::End | WriteEnd::EndNow));
        aborting(|| {
            assert!(started, "a write before start_response");
            assert!(!ended, "a write after the end");
        });
        if self.is_aborted(&record) {
            return HostResult::aborted();
        }
        let data = chunks.iter().flat_map(|chunk| chunk.get_or_empty());
        let data = data.copied().collect();
        record.writes.push((data, end));
        HostResult::done(0)
    }

    fn flush(&self) -> HostResult {
        let _busy = self.enter();
        let record = lock(&self.record);
        let started = !record.status_line.is_empty();
        aborting(|| assert!(started, "a flush before start_response"));
        if self.is_aborted(&record) {
            return HostResult::aborted();
        }
        HostResult::done(0)
    }

    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        let _busy = self.enter();
        let mut record = lock(&self.record);
        let started = !record.status_line.is_empty();
        aborting(|| assert!(started, "a file before start_response"));
        if self.is_aborted(&record) {
            return HostResult::aborted();
        }
        let mut content = vec![0; usize::try_from(length).unwrap()];
        let file = File::from(file);
        file.read_exact_at(&mut content, offset).unwrap();
        record.file = Some(content);
        HostResult::done(0)
    }

    fn cut_response(&self) {
        let _busy = self.enter();
        let mut record = lock(&self.record);
        let started = !record.status_line.is_empty();
        aborting(|| assert!(started, "nothing to cut"));
        record.cut = true;
    }

    fn client_presence(&self) -> Presence {
        let _busy = self.enter_shortly();
        if self.is_gone.load(Ordering::SeqCst) {
            Presence::Gone
        } else {
            Presence::Here
        }
    }

    fn give_up(&self) {
        let _busy = self.enter();
        lock(&self.record).given_up = true;
    }

    fn ssl_variable(&self, name: &[u8]) -> Option<&[u8]> {
        let _busy = self.enter();
        match name {
            b"HTTPS" => Some(b"on"),
            b"SSL_CLIENT_S_DN" => Some(b"CN=caf\xe9"),
            _ => None,
        }
    }
}
