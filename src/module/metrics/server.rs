//! The helper that answers for `WSGIMetricsListen`: HTTP/1.1 without anything of httpd or Python, a thread for each
//! connection.
//!
//! It answers whatever the children do. Everything about it is bounded: connections, requests of each, the size of a
//! request's head, and how long a client may take. Where all places are taken, a new connection gets that of the one which
//! has kept the helper waiting longest, so clients that hold connections keep no other client out.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wsgi_core::messages::Message;
use wsgi_httpd::process;
use wsgi_httpd::retained::Retained;
use wsgi_telemetry::Segment;

use super::pages::{self, Page, Subject};
use super::segment;
use crate::log::log_message;

/// Most connections at once.
const CONNECTIONS: usize = 16;
/// Most requests of one connection.
const REQUESTS: usize = 1000;
/// Longest head of a request. Bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// Most headers of a request.
const HEADERS: usize = 64;
/// How long a client may take to send a request, to take a response, and to ask again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what a client sends after its last response is still taken.
const LINGER: Duration = Duration::from_millis(200);
/// How long a new connection waits before it is looked again for a place.
const LOOK: Duration = Duration::from_millis(50);
/// How long open connections may take when the helper is to end. Below what the parent waits.
const LAST: Duration = Duration::from_millis(900);

/// How long a client may take a response where somebody else needs its place.
const GRACE: Duration = Duration::from_millis(250);

/// Answers until `ending` can be read. The body of the helper.
pub(crate) fn run(ending: OwnedFd) {
    let Some(segment) = segment::current() else {
        return;
    };
    let listener = match Listener::inherited() {
        Ok(listener) => listener,
        Err(error) => {
            log_message(Message::MetricsListen, &[&"", &error]);
            return;
        }
    };
    let ending = Arc::new(ending);
    while !is_readable(&ending) {
        wait(&[&listener, &*ending], PATIENCE);
        if !is_readable(&listener) || !PLACES.make_room() {
            continue;
        }
        let Ok(stream) = listener.accept() else {
            continue;
        };
        let place = PLACES.take(stream);
        let ending = Arc::clone(&ending);
        let conversation = move || converse(&place, segment, &ending);
        if std::thread::Builder::new().spawn(conversation).is_err() {
            // The connection is closed by that; there may be a thread for the next one.
            wait(&[], LOOK);
        }
    }
    drop(listener);
    let until = Instant::now() + LAST;
    while !PLACES.are_empty() && Instant::now() < until {
        wait(&[], Duration::from_millis(1));
    }
}

/// The connections that are open, at most [`CONNECTIONS`].
static PLACES: Places = Places {
    open: Mutex::new(Vec::new()),
    left: Condvar::new(),
};

struct Places {
    /// In the order in which they came.
    open: Mutex<Vec<Arc<Connection>>>,
    /// Tells that one of them has left.
    left: Condvar,
}

/// One of them.
struct Connection {
    stream: Stream,
    stage: Mutex<Stage>,
}

/// What a connection does, and since when.
#[derive(Clone, Copy)]
enum Stage {
    /// Nothing, between two requests.
    Idle(Instant),
    /// The client sends a request, or has not begun to.
    Asking(Instant),
    /// The response is made.
    Answering,
    /// The client takes the response.
    Taking(Instant),
    /// It was closed to make room.
    Closed,
}

impl Places {
    fn open(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn are_full(&self) -> bool {
        self.open().len() >= CONNECTIONS
    }

    fn are_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Whether there is room for one more; where there is not, a connection that can be spared is closed, and its thread
    /// waited for a moment.
    fn make_room(&self) -> bool {
        let open = self.open();
        if open.len() < CONNECTIONS {
            return true;
        }
        let now = Instant::now();
        let leaving = open.iter().any(|one| matches!(one.stage(), Stage::Closed));
        // A thread that has something to read goes on at once.
        let waits = |one: &&Arc<Connection>| match one.stage() {
            Stage::Idle(_) | Stage::Asking(_) => !is_readable(&one.stream),
            Stage::Answering | Stage::Taking(_) | Stage::Closed => true,
        };
        let spared = open
            .iter()
            .filter(waits)
            .min_by_key(|one| one.stage().rank(now));
        if !leaving && let Some(spared) = spared {
            spared.close(now);
        }
        let room = self
            .left
            .wait_timeout_while(open, LOOK, |open| open.len() >= CONNECTIONS);
        let (open, _) = room.unwrap_or_else(PoisonError::into_inner);
        open.len() < CONNECTIONS
    }

    fn take(&'static self, stream: Stream) -> Place {
        let connection = Arc::new(Connection {
            stream,
            stage: Mutex::new(Stage::Asking(Instant::now())),
        });
        self.open().push(Arc::clone(&connection));
        Place {
            places: self,
            connection,
        }
    }
}

impl Stage {
    /// A lesser stage is closed sooner: first connections without a request, then those with a part of one, then those that
    /// do not take the response; of each stage, the connection that reached it first.
    fn rank(self, now: Instant) -> (u8, Instant) {
        match self {
            Stage::Idle(since) => (0, since),
            Stage::Asking(since) => (1, since),
            Stage::Taking(since) => (2, since),
            Stage::Answering | Stage::Closed => (3, now),
        }
    }
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self) -> Stage {
        *self.lock()
    }

    /// Says what it does now; fails where it was closed.
    fn enter(&self, stage: Stage) -> io::Result<()> {
        let mut current = self.lock();
        if matches!(*current, Stage::Closed) {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        *current = stage;
        Ok(())
    }

    /// Closes it, if it can be spared. Its thread wakes by that and gives the place back.
    fn close(&self, now: Instant) {
        let mut stage = self.lock();
        let is_spared = match *stage {
            Stage::Idle(_) | Stage::Asking(_) => true,
            Stage::Taking(since) => now.saturating_duration_since(since) >= GRACE,
            Stage::Answering | Stage::Closed => false,
        };
        if is_spared {
            *stage = Stage::Closed;
            // Where the client has closed it already, its thread wakes as well.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// A place among the connections, given back by drop.
struct Place {
    places: &'static Places,
    connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_other = |one: &Arc<Connection>| !Arc::ptr_eq(one, &self.connection);
        self.places.open().retain(is_other);
        self.places.left.notify_all();
    }
}

/// Waits until one of them can be read or the time is over.
fn wait(readable: &[&dyn AsFd], limit: Duration) {
    let mut polled: Vec<PollFd<'_>> = readable
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // Whoever waits looks at what has become of it anyway.
    let _ = poll(&mut polled, Some(&limit));
}

fn is_readable(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut polled, Some(&now)), Ok(1..))
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// The socket that the parent has opened.
    fn inherited() -> io::Result<Self> {
        let socket = Retained::get()
            .descriptor()?
            .ok_or(ErrorKind::NotConnected)?;
        let listener = TcpListener::from(socket);
        Ok(match listener.local_addr() {
            Ok(_) => Self::Tcp(listener),
            Err(_) => Self::Unix(OwnedFd::from(listener).into()),
        })
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept()?.0)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    /// Reads what there is, until `until` at most.
    fn read(&self, into: &mut [u8], until: Instant) -> io::Result<usize> {
        let left = left(until)?;
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(left))?;
                (&*stream).read(into)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(left))?;
                (&*stream).read(into)
            }
        }
    }

    /// Writes some of it, until `until` at most.
    fn write(&self, data: &[u8], until: Instant) -> io::Result<usize> {
        let left = left(until)?;
        match self {
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(left))?;
                (&*stream).write(data)
            }
            Self::Unix(stream) => {
                stream.set_write_timeout(Some(left))?;
                (&*stream).write(data)
            }
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// Answers the requests of one connection. What goes wrong ends it, and is the client's to notice.
fn converse(place: &Place, segment: Segment, ending: &OwnedFd) {
    let connection = &*place.connection;
    let mut input = Vec::new();
    for number in 1..=REQUESTS {
        if number > 1 && input.is_empty() && !comes(connection, ending) {
            return;
        }
        let now = Instant::now();
        if connection.enter(Stage::Asking(now)).is_err() {
            return;
        }
        let asked = match read_request(&connection.stream, &mut input, now + PATIENCE) {
            Ok(Some(asked)) => asked,
            Ok(None) | Err(_) => return,
        };
        if connection.enter(Stage::Answering).is_err() {
            return;
        }
        let stays =
            asked.stays && number < REQUESTS && !place.places.are_full() && !is_readable(ending);
        let response = respond(&asked, segment, stays);
        if write(connection, &response).is_err() {
            return;
        }
        if !stays {
            linger(connection);
            return;
        }
    }
}

/// Writes all of a response.
fn write(connection: &Connection, mut data: &[u8]) -> io::Result<()> {
    let now = Instant::now();
    let until = now + PATIENCE;
    connection.enter(Stage::Taking(now))?;
    while !data.is_empty() {
        match connection.stream.write(data, until) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => data = &data[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes what the client still sends, for a moment: a connection that is closed with data unread loses its response.
fn linger(connection: &Connection) {
    let until = Instant::now() + LINGER;
    let mut ignored = [0; 4096];
    // Whatever goes wrong now makes no difference.
    let _ = connection.stream.shutdown(Shutdown::Write);
    while matches!(connection.stream.read(&mut ignored, until), Ok(1..)) {}
}

/// Waits for another request; not if the helper is to end, or if somebody else needs the place.
fn comes(connection: &Connection, ending: &OwnedFd) -> bool {
    let until = Instant::now() + PATIENCE;
    if connection.enter(Stage::Idle(Instant::now())).is_err() {
        return false;
    }
    let stream = &connection.stream;
    while Instant::now() < until {
        if is_readable(stream) {
            return true;
        }
        if is_readable(ending) {
            return false;
        }
        wait(&[stream, ending], PATIENCE);
    }
    false
}

/// What a request asks for, or what is wrong with it.
struct Asked {
    /// The answer's status, where it is no page.
    error: Option<&'static str>,
    target: String,
    accept: Option<Vec<u8>>,
    head_only: bool,
    /// Whether the connection may stay open.
    stays: bool,
}

impl Asked {
    fn wrongly(error: &'static str) -> Self {
        Self {
            error: Some(error),
            target: String::new(),
            accept: None,
            head_only: false,
            stays: false,
        }
    }
}

/// Reads the next request; what follows it stays in `input`. `None` where the client has closed the connection.
fn read_request(stream: &Stream, input: &mut Vec<u8>, until: Instant) -> io::Result<Option<Asked>> {
    loop {
        if let Some((asked, length)) = parse(input) {
            input.drain(..length);
            return Ok(Some(asked));
        }
        if input.len() >= LONGEST_HEAD {
            return Ok(Some(Asked::wrongly("431 Request Header Fields Too Large")));
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk, until) {
            Ok(0) => return Ok(None),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The request at the beginning of `input` and its length; `None` where it is not whole yet.
fn parse(input: &[u8]) -> Option<(Asked, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => {
            let asked = Asked::wrongly("431 Request Header Fields Too Large");
            return Some((asked, input.len()));
        }
        Err(_) => return Some((Asked::wrongly("400 Bad Request"), input.len())),
    };
    let header = |name: &str| {
        let mut found = request
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        found.next().map(|header| header.value)
    };
    let connection = header("Connection").unwrap_or_default();
    let says = |word: &str| {
        let mut words = connection.split(|&byte| byte == b',');
        words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    let persistent = match request.version {
        Some(1) => !says("close"),
        _ => says("keep-alive"),
    };
    // A body is not read, so nothing that follows can be told from it.
    let has_body = header("Transfer-Encoding").is_some()
        || header("Content-Length").is_some_and(|length| length != b"0");
    let method = request.method.unwrap_or_default();
    let asked = Asked {
        error: (!matches!(method, "GET" | "HEAD")).then_some("405 Method Not Allowed"),
        target: request.path.unwrap_or_default().into(),
        accept: header("Accept").map(<[u8]>::to_vec),
        head_only: method == "HEAD",
        stays: persistent && !has_body,
    };
    Some((asked, length))
}

/// The whole response.
fn respond(asked: &Asked, segment: Segment, stays: bool) -> Vec<u8> {
    let (status, page) = match asked.error {
        Some(status) => (status, text(status)),
        None => find(&asked.target, segment, asked.accept.as_deref()),
    };
    let mut head = format!(
        "HTTP/1.1 {status}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n",
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
    head.push_str(if stays {
        "Connection: keep-alive\r\n\r\n"
    } else {
        "Connection: close\r\n\r\n"
    });
    if !asked.head_only {
        head.push_str(&page.body);
    }
    head.into_bytes()
}

/// The page of a target, which may be a whole URL.
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
