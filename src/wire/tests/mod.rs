//! Both sides over real sockets: a child with a client that the test plays, and a process whose engine the test plays.

mod bodies;
mod copies;
mod descriptors;
mod ends;
mod heads;
mod hostile;
mod log_lines;
mod lost;
mod memory;
mod requests;
mod responses;
mod reused;
mod splits;
mod waits;
mod welcomes;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags,
    SocketType, sendmsg, shutdown, socketpair,
};
use wsgi_abi::{
    BodyPlan, Bytes, EnvEntry, Environ, Fault, Header, HostResult, Level, Limits, Nesting,
    Presence, RequestHost, ResponseHead, RunOutcome, RunRequest, Slice, Target, Timing, WriteEnd,
};

use crate::frame::{FrameHeader, HEADER, Kind, append};
use crate::pack::Packer;
use crate::{
    BodyStart, Connection, Ended, EndedTimes, Exchanged, Lost, OutgoingRequest, RemoteRequest,
    RequestBuffer, WireError, exchange, receive,
};

/// Longer than any step of a test takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("two sockets")
}

fn connection(socket: OwnedFd) -> Connection {
    Connection::new(socket, PATIENCE, || false).expect("a socket")
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
    /// What the first `write` waits for.
    gate: Option<mpsc::Receiver<()>>,
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
        if let Some(gate) = &self.gate {
            // An error means that the gate has been opened before.
            let _ = gate.recv();
        }
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

/// Returns the request as a child sends it.
fn outgoing<'a>(run: &'a RunRequest<'a>, body: BodyStart<'a>) -> OutgoingRequest<'a> {
    OutgoingRequest {
        run,
        level: Level::Info,
        is_activity: true,
        since: 7,
        body,
        nesting: Nesting::default(),
    }
}

/// Sends a simple request, and makes the calls of the process.
fn ask(connection: &Connection, client: &Client) -> Result<Exchanged, Lost> {
    ask_with(connection, client, &simple(&[]))
}

fn ask_with(
    connection: &Connection,
    client: &Client,
    run: &RunRequest<'_>,
) -> Result<Exchanged, Lost> {
    let request = outgoing(run, BodyStart::default());
    exchange(connection, &request, client, Some(PATIENCE))
}

/// Sends a request to a process that does `work` with it. Returns what the child saw of it.
fn run(
    client: &Client,
    body: BodyStart<'_>,
    work: impl FnOnce(&RemoteRequest<'_>) -> RunOutcome + Send,
) -> Result<Exchanged, Lost> {
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    std::thread::scope(|scope| {
        scope.spawn(move || serve_one(&theirs, work));
        let run = simple(&[]);
        let exchanged = exchange(&ours, &outgoing(&run, body), client, Some(PATIENCE));
        drop(ours);
        exchanged
    })
}

/// Does the same for a request without a body.
fn run_simple(
    client: &Client,
    work: impl FnOnce(&RemoteRequest<'_>) -> RunOutcome + Send,
) -> Result<Exchanged, Lost> {
    run(client, BodyStart::default(), work)
}

/// The process's side of one request.
fn serve_one(connection: &Connection, work: impl FnOnce(&RemoteRequest<'_>) -> RunOutcome) {
    let mut buffer = RequestBuffer::default();
    wait_for(connection, &mut buffer).expect("a request");
    let request = buffer.request().expect("a well-formed request");
    let remote = RemoteRequest::new(connection, &request, fallback);
    let outcome = work(&remote);
    // The child may have closed the connection.
    let _ = remote.end(&ended(outcome));
}

/// Plays a child that sends a simple request through `ours`, for a process that does `work` with it.
fn begin<R>(ours: &OwnedFd, process: &Connection, work: impl FnOnce(RemoteRequest<'_>) -> R) -> R {
    rustix::io::write(ours, &simple_request()).expect("room");
    let mut buffer = RequestBuffer::default();
    wait_for(process, &mut buffer).expect("a request");
    let request = buffer.request().expect("a well-formed request");
    work(RemoteRequest::new(process, &request, fallback))
}

/// Returns the frame of a simple request.
fn simple_request() -> Vec<u8> {
    let mut frame = Vec::new();
    let run = simple(&[]);
    let request = outgoing(&run, BodyStart::default());
    crate::request::pack_request(&mut frame, &request).expect("it is short");
    frame
}

thread_local! {
    /// The lines that this thread has logged in the process itself.
    static FALLEN: RefCell<Vec<(Level, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// The process's own log.
fn fallback(level: Level, line: &[u8]) {
    FALLEN.with_borrow_mut(|fallen| fallen.push((level, line.to_vec())));
}

/// Takes the lines that this thread has logged in the process itself.
fn fallen() -> Vec<(Level, Vec<u8>)> {
    FALLEN.take()
}

fn ended(outcome: RunOutcome) -> Ended {
    Ended {
        outcome,
        times: EndedTimes::default(),
    }
}

fn frame(kind: Kind, detail: u8, pack: impl FnOnce(&mut Packer<'_>)) -> Vec<u8> {
    let mut frame = Vec::new();
    append(&mut frame, kind, detail, pack).expect("a legal length");
    frame
}

fn empty(kind: Kind) -> Vec<u8> {
    frame(kind, 0, |_| {})
}

fn good_head() -> Vec<u8> {
    head_frame(&head(&[]))
}

fn head_frame(head: &ResponseHead<'_>) -> Vec<u8> {
    frame(Kind::Head, 0, |to| crate::response::pack_head(to, head))
}

/// Returns the head of a response of this status and length.
fn head_with_length(status: u16, content_length: i64) -> Vec<u8> {
    head_frame(&ResponseHead {
        status,
        status_line: Bytes::new(format!("{status} Any").as_bytes()),
        content_length,
        ..head(&[])
    })
}

fn head_of(status: u16, line: &str, name: &str, value: &str) -> Vec<u8> {
    let headers = [header(name, value)];
    head_frame(&ResponseHead {
        status,
        status_line: Bytes::new(line.as_bytes()),
        ..head(&headers)
    })
}

fn chunk(body: &[u8], end: WriteEnd) -> Vec<u8> {
    frame(Kind::Chunk, end as u8, |to| to.0.extend_from_slice(body))
}

fn end_of(outcome: RunOutcome) -> Vec<u8> {
    frame(Kind::End, 0, |to| {
        crate::response::pack_end(to, &ended(outcome))
    })
}

fn file_frame(offset: u64, length: u64) -> Vec<u8> {
    frame(Kind::File, 0, |to| {
        to.u64(offset);
        to.u64(length);
    })
}

/// Sends `bytes` to a child that waits for its response, with descriptors beside the first of them. Returns what the
/// child makes of them.
fn answer(
    client: &Client,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<Exchanged, Lost> {
    answer_to(&simple(&[]), client, bytes, descriptors)
}

fn answer_to(
    run: &RunRequest<'_>,
    client: &Client,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<Exchanged, Lost> {
    let (ours, theirs) = pair();
    let ours = connection(ours);
    std::thread::scope(|scope| {
        let theirs = &theirs;
        scope.spawn(move || {
            wait_readable(theirs.as_fd());
            send(theirs, bytes, descriptors);
            // An error means that the child has closed the connection.
            let _ = shutdown(theirs, Shutdown::Write);
        });
        let exchanged = ask_with(&ours, client, run);
        drop(ours);
        exchanged
    })
}

/// Sends bytes, with descriptors beside the first of them, as far as the other side takes them.
fn send(socket: &OwnedFd, mut bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    while !bytes.is_empty() {
        let parts = [std::io::IoSlice::new(bytes)];
        match sendmsg(socket, &parts, &mut beside, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(_) => return,
        }
        beside.clear();
    }
}

/// Returns the whole frames in `bytes`, and what is left.
fn frames_of(mut bytes: &[u8]) -> (Vec<(Kind, Vec<u8>)>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let header = FrameHeader::parse(*header).expect("a frame");
        let Some((body, rest)) = rest.split_at_checked(header.length) else {
            break;
        };
        frames.push((header.kind, body.to_vec()));
        bytes = rest;
    }
    (frames, bytes)
}

/// Reads all that comes until the other side has ended the connection.
fn read_to_end(socket: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that was reset has ended, too.
    let _ = File::from(socket).read_to_end(&mut bytes);
    bytes
}

/// Waits until something can be read.
fn wait_readable(socket: BorrowedFd<'_>) {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut polled, None).expect("a socket");
}

/// Waits until a request has arrived.
fn wait_for(connection: &Connection, buffer: &mut RequestBuffer) -> Result<(), WireError> {
    while !receive(connection, buffer)? {
        wait_readable(connection.as_fd());
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
