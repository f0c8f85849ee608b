//! Both sides over real sockets: a child with a client that the test plays, and a process whose engine the test plays.

mod bodies;
mod hostile;
mod lost;
mod requests;
mod responses;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use wsgi_abi::{
    BodyPlan, Bytes, EnvEntry, Environ, Fault, Header, HostResult, Level, Limits, Presence,
    RequestHost, ResponseHead, RunOutcome, RunRequest, Slice, Target, Timing, WriteEnd,
};

use crate::{
    Connection, Ended, EndedTimes, Exchanged, Lost, PackedBody, PackedRequest, RemoteRequest,
    RequestBuffer, WireError, exchange, receive,
};

/// Longer than any step of a test takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("two sockets")
}

fn connection(socket: OwnedFd) -> Connection {
    Connection::new(socket, PATIENCE).expect("a socket")
}

/// A part of the body, or why it cannot be read.
type Piece = Result<Vec<u8>, (Fault, &'static str)>;

/// The client of a request, and httpd: supplies the body in pieces, and records the calls.
#[derive(Default)]
struct Client {
    body: RefCell<VecDeque<Piece>>,
    /// The results of `write`, `flush` and `send_file`, in order; `done` where there is none.
    results: RefCell<VecDeque<HostResult>>,
    presence: Option<Presence>,
    calls: RefCell<Vec<Call>>,
}

/// A call that reached the child.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Log(Level, String),
    Read(usize),
    Head {
        status: u16,
        line: String,
        headers: Vec<(String, String)>,
        length: i64,
    },
    Write(Vec<u8>, WriteEnd),
    Flush,
    File(Vec<u8>),
    Cut,
    GiveUp,
}

impl Client {
    fn with_body(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let body = pieces.into_iter().map(Ok).collect();
        Self {
            body: RefCell::new(body),
            ..Self::default()
        }
    }

    fn with_results(results: impl IntoIterator<Item = HostResult>) -> Self {
        Self {
            results: RefCell::new(results.into_iter().collect()),
            ..Self::default()
        }
    }

    fn note(&self, call: Call) {
        self.calls.borrow_mut().push(call);
    }

    fn result(&self) -> HostResult {
        let next = self.results.borrow_mut().pop_front();
        next.unwrap_or(HostResult::done(0))
    }

    /// Returns all that was written, without the borders of the calls.
    fn written(&self) -> Vec<u8> {
        let calls = self.calls.borrow();
        let written = calls.iter().filter_map(|call| match call {
            Call::Write(bytes, _) | Call::File(bytes) => Some(&bytes[..]),
            _ => None,
        });
        written.collect::<Vec<_>>().concat()
    }
}

impl RequestHost for Client {
    fn log(&self, level: Level, line: &[u8]) {
        self.note(Call::Log(level, text(line)));
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        self.log(level, line);
    }

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        self.note(Call::Read(into.len()));
        let mut body = self.body.borrow_mut();
        match body.pop_front() {
            None => HostResult::done(0),
            Some(Err((fault, why))) => HostResult::failed(fault, why),
            Some(Ok(mut piece)) => {
                let count = piece.len().min(into.len());
                into[..count].copy_from_slice(&piece[..count]);
                let rest = piece.split_off(count);
                if !rest.is_empty() {
                    body.push_front(Ok(rest));
                }
                HostResult::done(count)
            }
        }
    }

    fn read_at_hand(&self, _into: &mut [u8]) -> HostResult {
        HostResult::later()
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let headers = head.headers.get_or_empty().iter();
        self.note(Call::Head {
            status: head.status,
            line: text(head.status_line.get_or_empty()),
            headers: headers
                .map(|header| {
                    let (name, value) = (header.name, header.value);
                    (text(name.get_or_empty()), text(value.get_or_empty()))
                })
                .collect(),
            length: head.content_length,
        });
        HostResult::done(0)
    }

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let parts: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.get_or_empty()).collect();
        self.note(Call::Write(parts.concat(), end));
        self.result()
    }

    fn flush(&self) -> HostResult {
        self.note(Call::Flush);
        self.result()
    }

    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        let mut content = vec![0; usize::try_from(length).expect("a small file")];
        let read = File::from(file).read_exact_at(&mut content, offset);
        read.expect("the part is there");
        self.note(Call::File(content));
        self.result()
    }

    fn cut_response(&self) {
        self.note(Call::Cut);
    }

    fn client_presence(&self) -> Presence {
        self.presence.unwrap_or(Presence::Here)
    }

    fn give_up(&self) {
        self.note(Call::GiveUp);
    }

    fn ssl_variable(&self, _name: &[u8]) -> Option<&[u8]> {
        None
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a request without an environ.
fn simple<'a>(entries: &'a [EnvEntry<'a>]) -> RunRequest<'a> {
    RunRequest::new(
        Target::new(b"/srv/app.wsgi"),
        Environ::new(entries),
        BodyPlan {
            is_there: true,
            ahead: 0,
        },
        Limits::default(),
        Timing::default(),
    )
}

/// Sends a request to a process that does `work` with it. Returns what the child saw of it.
fn run(
    client: &Client,
    body: PackedBody<'_>,
    work: impl FnOnce(&RemoteRequest<'_>) -> RunOutcome + Send,
) -> Result<Exchanged, Lost> {
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    std::thread::scope(|scope| {
        scope.spawn(move || serve_one(&theirs, work));
        let run = simple(&[]);
        let packed = PackedRequest {
            run: &run,
            level: Level::Info,
            body,
        };
        let exchanged = exchange(&ours, &packed, client, PATIENCE);
        drop(ours);
        exchanged
    })
}

/// The process's side of one request.
fn serve_one(connection: &Connection, work: impl FnOnce(&RemoteRequest<'_>) -> RunOutcome) {
    let mut buffer = RequestBuffer::default();
    wait_for(connection, &mut buffer).expect("a request");
    let request = buffer.request().expect("a well-formed request");
    let remote = RemoteRequest::new(connection, &request, PATIENCE);
    let outcome = work(&remote);
    let times = EndedTimes::default();
    // The child may have closed the connection.
    let _ = remote.end(&Ended { outcome, times });
}

/// Waits until a request has arrived.
fn wait_for(connection: &Connection, buffer: &mut RequestBuffer) -> Result<(), WireError> {
    while !receive(connection, buffer)? {
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            connection.as_fd(),
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut polled, None)?;
    }
    Ok(())
}

/// Returns a head with these headers and no length.
fn head<'a>(headers: &'a [Header<'a>]) -> ResponseHead<'a> {
    ResponseHead {
        status: 200,
        status_line: Bytes::new(b"200 OK"),
        headers: Slice::new(headers),
        content_length: -1,
    }
}

fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
    Header {
        name: Bytes::new(name.as_bytes()),
        value: Bytes::new(value.as_bytes()),
    }
}

const ENDED: Exchanged = Exchanged::Ended {
    ended: Ended {
        outcome: RunOutcome::Responded,
        times: EndedTimes {
            application: 0,
            gil_wait: 0,
            queue: 0,
            body_unread: 0,
        },
    },
    is_reusable: true,
};
