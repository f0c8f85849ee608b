//! The process that answers for `WSGIMetricsListen`: one request per connection, one thread per connection, and nothing
//! of httpd or Python.
//!
//! It answers whatever the children do. It bounds the number of connections, the head of a request, and the time that a
//! client may take. If all slots are taken, a new connection gets the slot of the one that has kept the process waiting
//! longest. So clients that hold connections cannot keep others out.
//!
//! Each response ends its connection: a scraper sends a request only every few seconds, so a connection that stays open
//! for the next one would only occupy a slot.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with, sockopt};
use wsgi_httpd::process;
use wsgi_telemetry::Segment;

use super::pages::{self, Page, Subject};
use super::segment;
use crate::polling::is_readable;

/// Highest number of connections at once.
const CONNECTIONS: usize = 16;
/// Highest number of bytes in the head of a request.
const LONGEST_HEAD: usize = 16 * 1024;
/// Highest number of headers in a request.
const HEADERS: usize = 64;
/// How long a client may take to send its request, and then to receive the response.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take to receive the response while another connection needs the slot.
const GRACE: Duration = Duration::from_millis(250);
/// How long data that a client sends after its response are still read.
const LINGER: Duration = Duration::from_millis(200);
/// How long a new connection waits before a slot is looked for again.
const LOOK: Duration = Duration::from_millis(50);
/// How long open connections may take once the process must end. Shorter than the parent waits.
const LAST: Duration = Duration::from_millis(900);

/// The body of the helper: answers at `listener` until `ending` is readable.
pub(crate) fn run(ending: OwnedFd, listener: Vec<OwnedFd>) {
    let (Some(segment), Some(listener)) = (segment::current(), listener.into_iter().next()) else {
        return;
    };
    while !is_readable(&ending) {
        wait(&[&listener, &ending], PATIENCE);
        if !is_readable(&listener) || !SLOTS.make_room() {
            continue;
        }
        let Ok(stream) = accept(&listener) else {
            continue;
        };
        let slot = SLOTS.take(stream);
        let serve = move || serve_connection(&slot, segment);
        if std::thread::Builder::new().spawn(serve).is_err() {
            // The failure has closed the connection; there may be a thread for the next one.
            wait(&[], LOOK);
        }
    }
    drop(listener);
    let until = Instant::now() + LAST;
    while !SLOTS.are_empty() && Instant::now() < until {
        wait(&[], Duration::from_millis(1));
    }
}

/// The open connections, at most [`CONNECTIONS`].
static SLOTS: Slots = Slots {
    open: Mutex::new(Vec::new()),
    left: Condvar::new(),
};

struct Slots {
    /// In the order in which they were accepted.
    open: Mutex<Vec<Arc<Connection>>>,
    /// Signalled when a connection has given its slot back.
    left: Condvar,
}

struct Connection {
    /// A TCP or a Unix socket: the calls are the same for both.
    stream: UnixStream,
    stage: Mutex<ConnectionStage>,
}

/// What a connection waits for, and since when.
#[derive(Clone, Copy)]
enum ConnectionStage {
    /// The client is sending its request, or has not begun to.
    Reading(Instant),
    /// The response is being made.
    Answering,
    /// The client is receiving the response.
    Writing(Instant),
    /// The connection was closed to make room.
    Closed,
}

impl Slots {
    fn open(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn are_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Returns whether there is room for one more connection. If there is none, closes one that can be spared, and
    /// waits up to [`LOOK`] for its thread to leave.
    fn make_room(&self) -> bool {
        let open = self.open();
        if open.len() < CONNECTIONS {
            return true;
        }
        let now = Instant::now();
        let is_closed = |one: &Arc<Connection>| matches!(one.stage(), ConnectionStage::Closed);
        // A thread with something to read goes on at once, so its connection is not closed.
        let waits = |one: &&Arc<Connection>| match one.stage() {
            ConnectionStage::Reading(_) => !is_readable(&one.stream),
            _ => true,
        };
        let spared = open
            .iter()
            .filter(waits)
            .min_by_key(|one| one.stage().rank(now));
        if !open.iter().any(is_closed)
            && let Some(spared) = spared
        {
            spared.close(now);
        }
        let room = self
            .left
            .wait_timeout_while(open, LOOK, |open| open.len() >= CONNECTIONS);
        let (open, _) = room.unwrap_or_else(PoisonError::into_inner);
        open.len() < CONNECTIONS
    }

    fn take(&'static self, stream: UnixStream) -> Slot {
        let connection = Arc::new(Connection {
            stream,
            stage: Mutex::new(ConnectionStage::Reading(Instant::now())),
        });
        self.open().push(Arc::clone(&connection));
        Slot {
            slots: self,
            connection,
        }
    }
}

impl ConnectionStage {
    /// Returns the order in which connections are closed, lowest first: connections without a complete request, then
    /// those that do not receive their response; within a stage, the connection that reached it first.
    fn rank(self, now: Instant) -> (u8, Instant) {
        match self {
            Self::Reading(since) => (0, since),
            Self::Writing(since) => (1, since),
            Self::Answering | Self::Closed => (2, now),
        }
    }
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, ConnectionStage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self) -> ConnectionStage {
        *self.lock()
    }

    /// Notes the new stage. Fails if the connection was closed.
    fn enter(&self, stage: ConnectionStage) -> io::Result<()> {
        let mut current = self.lock();
        if matches!(*current, ConnectionStage::Closed) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        *current = stage;
        Ok(())
    }

    /// Closes the connection if it can be spared. That wakes its thread, which gives the slot back.
    fn close(&self, now: Instant) {
        let mut stage = self.lock();
        let is_spared = match *stage {
            ConnectionStage::Reading(_) => true,
            ConnectionStage::Writing(since) => now.saturating_duration_since(since) >= GRACE,
            ConnectionStage::Answering | ConnectionStage::Closed => false,
        };
        if is_spared {
            *stage = ConnectionStage::Closed;
            // It fails if the client has closed the connection, which wakes the thread, too.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }

    /// Reads what has arrived. Waits until `until` at most.
    fn read(&self, into: &mut [u8], until: Instant) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(until)?))?;
        (&self.stream).read(into)
    }

    /// Writes a whole response.
    fn write(&self, mut data: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        let until = now + PATIENCE;
        self.enter(ConnectionStage::Writing(now))?;
        while !data.is_empty() {
            self.stream.set_write_timeout(Some(left(until)?))?;
            match (&self.stream).write(data) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => data = &data[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads for a moment what the client still sends: closing a connection with unread data would destroy the
    /// response.
    fn linger(&self) -> io::Result<()> {
        let until = Instant::now() + LINGER;
        self.stream.shutdown(Shutdown::Write)?;
        while self.read(&mut [0; 4096], until)? > 0 {}
        Ok(())
    }
}

/// The slot of a connection, given back by drop.
struct Slot {
    slots: &'static Slots,
    connection: Arc<Connection>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let is_other = |one: &Arc<Connection>| !Arc::ptr_eq(one, &self.connection);
        self.slots.open().retain(is_other);
        self.slots.left.notify_all();
    }
}

fn accept(listener: &OwnedFd) -> io::Result<UnixStream> {
    let socket = accept_with(listener, SocketFlags::CLOEXEC)?;
    // A Unix socket refuses this, which does no harm.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    Ok(socket.into())
}

/// Waits until one of the descriptors is readable or the time is over.
fn wait(readable: &[&OwnedFd], limit: Duration) {
    let mut polled: Vec<PollFd<'_>> = readable
        .iter()
        .map(|fd| PollFd::new(*fd, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // The caller checks in any case what is readable.
    let _ = poll(&mut polled, Some(&limit));
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// Answers the request of one connection. A failure ends the connection, which its client notices.
fn serve_connection(slot: &Slot, segment: Segment) {
    let connection = &*slot.connection;
    let serve = || {
        let Some(request) = read_request(connection)? else {
            return Ok(());
        };
        connection.enter(ConnectionStage::Answering)?;
        connection.write(&respond(&request, segment))?;
        connection.linger()
    };
    let _: io::Result<()> = serve();
}

/// The parts of a request that matter, or what is wrong with it.
struct ParsedRequest {
    /// The status of the response, if it is not a page.
    error: Option<&'static str>,
    target: String,
    accept: Option<Vec<u8>>,
    head_only: bool,
}

impl ParsedRequest {
    fn wrong(error: &'static str) -> Self {
        Self {
            error: Some(error),
            target: String::new(),
            accept: None,
            head_only: false,
        }
    }
}

/// Reads the request. Returns `None` if the client has closed the connection.
fn read_request(connection: &Connection) -> io::Result<Option<ParsedRequest>> {
    let until = Instant::now() + PATIENCE;
    let mut input = Vec::new();
    loop {
        if let Some(request) = parse(&input) {
            return Ok(Some(request));
        }
        if input.len() >= LONGEST_HEAD {
            return Ok(Some(ParsedRequest::wrong(TOO_LARGE)));
        }
        let mut chunk = [0; 4096];
        match connection.read(&mut chunk, until) {
            Ok(0) => return Ok(None),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

const TOO_LARGE: &str = "431 Request Header Fields Too Large";

/// Parses the request at the start of `input`; `None` if its head is not complete yet. A body is not read.
fn parse(input: &[u8]) -> Option<ParsedRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(input) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => return Some(ParsedRequest::wrong(TOO_LARGE)),
        Err(_) => return Some(ParsedRequest::wrong("400 Bad Request")),
    }
    let is_accept = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("Accept");
    let method = request.method.unwrap_or_default();
    Some(ParsedRequest {
        error: (!matches!(method, "GET" | "HEAD")).then_some("405 Method Not Allowed"),
        target: request.path.unwrap_or_default().into(),
        accept: request
            .headers
            .iter()
            .find(is_accept)
            .map(|header| header.value.to_vec()),
        head_only: method == "HEAD",
    })
}

/// Makes the whole response.
fn respond(request: &ParsedRequest, segment: Segment) -> Vec<u8> {
    let (status, page) = match request.error {
        Some(status) => (status, text(status)),
        None => find(&request.target, segment, request.accept.as_deref()),
    };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n",
        process::http_date(),
        page.content_type,
        page.body.len(),
    );
    if let Some(policy) = page.policy {
        head.push_str(&format!("Content-Security-Policy: {policy}\r\n"));
    }
    if status.starts_with("405") {
        head.push_str("Allow: GET, HEAD\r\n");
    }
    head.push_str("\r\n");
    if !request.head_only {
        head.push_str(&page.body);
    }
    head.into_bytes()
}

/// Returns the status and the page of a target, which may be a whole URL.
fn find(target: &str, segment: Segment, accept: Option<&[u8]>) -> (&'static str, Page) {
    const OK: &str = "200 OK";
    let local = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let page = |subject| pages::page(segment, subject, query.as_bytes(), accept);
    match path {
        "/metrics" => (OK, page(Subject::Metrics)),
        "/wsgi-status" => (OK, page(Subject::Status)),
        "/" => (OK, index()),
        _ => ("404 Not Found", text("404 Not Found")),
    }
}

fn text(line: &str) -> Page {
    Page {
        content_type: "text/plain; charset=utf-8",
        policy: None,
        body: format!("{line}\n"),
    }
}

fn index() -> Page {
    Page {
        content_type: "text/html; charset=utf-8",
        policy: Some("default-src 'none'; frame-ancestors 'none'"),
        body: String::from(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>mod_wsgi_rs</title></head><body>\n\
             <h1>mod_wsgi_rs</h1>\n<ul>\n<li><a href=\"/wsgi-status\">Status</a>, also as \
             <a href=\"/wsgi-status?format=json\">JSON</a></li>\n<li><a href=\"/metrics\">Metrics</a> for \
             Prometheus</li>\n</ul>\n</body></html>\n",
        ),
    }
}
