//! The requests of a process of a group: the threads that take them from the connections, and the end of both.
//!
//! Each thread waits for its turn ([`Turns`]), runs the request that has come, and waits again. If no thread is left that
//! would look for the next request, another one is started: so a request that waits, or is blocked by its client, holds
//! up no other one. How many requests are inside Python at a time is not decided here, but by the executor of the
//! engine, as in a child of httpd.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use wsgi_abi::{Engine, Level, RunOutcome, Times, keys};
use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;
use wsgi_httpd::forked;
use wsgi_httpd::process::user;
use wsgi_telemetry::board::RetireReason;
use wsgi_telemetry::catalogue::method;
use wsgi_telemetry::{App, Load, clock, writer};
use wsgi_wire::{
    Connection, Ended, EndedTimes, RemoteRequest, RequestBuffer, UnpackedRequest, Why, receive,
    send_elsewhere, send_go_away, send_welcome,
};

use super::control::ask_for_successor;
use super::sockets;
use super::turns::{Activity, Role, Turn, Turns};
use crate::engine::host::{HostRequest, HostRequests};
use crate::log::{log_line, log_message};
use crate::metrics::segment;

/// Most connections at a time. Each child of httpd has at most one for each of its threads.
const CONNECTIONS: usize = 4096;
/// How many requests may wait besides those that are inside Python, each in a thread.
const WAITING: u32 = 512;
/// How long the end of the process waits for answers that are on their way.
const ANSWERS: Duration = Duration::from_secs(1);
/// How long no connections are taken after one could not be taken.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a child of httpd may take to send or take something, so that one that is stopped holds no thread forever.
const PATIENCE: Duration = Duration::from_secs(600);

/// Stands for the listening socket among the numbers of the connections.
const LISTENER: u64 = u64::MAX;

/// A connection from a child of httpd.
struct Peer {
    connection: Connection,
    /// The request that runs; used by one thread at a time.
    buffer: Mutex<RequestBuffer>,
}

/// What serves the requests.
pub(super) struct RequestServer {
    engine: Engine<HostRequests>,
    turns: Turns,
    listener: OwnedFd,
    peers: Box<[ArcSwapOption<Peer>]>,
    /// How many requests may be inside Python.
    inside: u32,
    group: ProcessGroup,
    threads: AtomicU32,
    running: AtomicU32,
    /// Where children of httpd see how many requests run.
    load: Option<Load>,
    /// A connection could not be taken.
    has_no_descriptors: AtomicBool,
    is_draining: AtomicBool,
    /// The process ends: what has arrived stays unread, so that the children see that it was not begun.
    is_closed: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
    /// Requests for `inactivity-timeout=` that run, and how many have begun or ended so far.
    active: AtomicU32,
    activity: AtomicU64,
    /// After how many requests this process must be replaced.
    most_requests: Option<u64>,
    /// Number of applications in the segment.
    applications: u16,
}

impl RequestServer {
    /// Returns a server for this slot of the group that takes no requests yet. `shares_gil`: whether all of them will
    /// need the same GIL.
    pub(super) fn new(
        engine: Engine<HostRequests>,
        shares_gil: bool,
        listener: OwnedFd,
        group: &ProcessGroup,
        slot: usize,
        most_requests: Option<u64>,
    ) -> io::Result<&'static Self> {
        let server = Self {
            engine,
            turns: Turns::new(shares_gil)?,
            listener,
            peers: (0..CONNECTIONS).map(|_| ArcSwapOption::empty()).collect(),
            inside: group.threads,
            group: group.clone(),
            threads: AtomicU32::new(0),
            running: AtomicU32::new(0),
            load: segment::in_force().and_then(|in_force| in_force.segment.load_of(slot)),
            has_no_descriptors: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            active: AtomicU32::new(0),
            activity: AtomicU64::new(0),
            most_requests,
            applications: segment::current().map_or(0, |segment| {
                u16::try_from(segment.geometry().applications).unwrap_or(u16::MAX)
            }),
        };
        // The threads use it until the process ends.
        Ok(Box::leak(Box::new(server)))
    }

    /// Starts the first thread. Without it, the process could take no request.
    pub(super) fn start(&'static self) -> io::Result<()> {
        self.add_thread(Role::Idle)
    }

    /// Takes requests from now on.
    pub(super) fn begin(&self) {
        // The process before it may have been killed with requests.
        self.tell(0);
        if let Err(error) = self.turns.add(&self.listener, LISTENER) {
            log_message(Message::GroupServe, &[&error]);
        }
    }

    /// Takes no more requests: children of httpd send them elsewhere. Waits for no request that runs.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, SeqCst);
        // It fails if the process has not begun to serve.
        let _ = self.turns.remove(&self.listener);
        for peer in self.peers.iter().filter_map(ArcSwapOption::load_full) {
            // The thread of a request that runs sends this behind the end of the request.
            if let Ok(_idle) = peer.buffer.try_lock() {
                // An error means that the child has gone.
                let _ = send_go_away(&peer.connection);
            }
        }
    }

    /// Returns a number that changes when a request for `inactivity-timeout=` begins or ends; `None` while one runs.
    pub(super) fn activity(&self) -> Option<u64> {
        (self.active.load(Relaxed) == 0).then(|| self.activity.load(Relaxed))
    }

    /// Reads no further request from now on. Returns when those that were read are answered, which takes no time once
    /// Python has ended; waits no longer than [`ANSWERS`] for the rest.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
        let begun = Instant::now();
        while self.running() > self.stuck() && begun.elapsed() < ANSWERS {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns how many requests run.
    pub(super) fn running(&self) -> u32 {
        self.running.load(SeqCst)
    }

    /// Returns how many requests were given up, and may never end.
    pub(super) fn stuck(&self) -> u32 {
        self.engine.stuck()
    }

    /// Starts a thread, unless there are as many as may be.
    fn add_thread(&'static self, role: Role) -> io::Result<()> {
        let most = self.inside.saturating_add(WAITING);
        if self.threads.fetch_add(1, AcqRel) >= most {
            self.threads.fetch_sub(1, AcqRel);
            self.turns.has_no_thread(role);
            return Ok(());
        }
        let mut thread = std::thread::Builder::new().name("wsgi-request".into());
        if let Some(size) = self.group.stack_size {
            thread = thread.stack_size(size);
        }
        thread
            .spawn(move || self.work(role))
            .map(drop)
            .inspect_err(|_| {
                self.threads.fetch_sub(1, AcqRel);
                self.turns.has_no_thread(role);
            })
    }

    /// The life of a thread.
    fn work(&'static self, mut role: Role) {
        let progress = || Activity {
            begun: self.requests.load(Relaxed),
            waiting: self.engine.waiting(),
        };
        loop {
            match self.turns.next(role, progress) {
                Turn::Serve(number, needed) => {
                    if let Some(Err(error)) = needed.map(|role| self.add_thread(role)) {
                        log_message(Message::GroupServe, &[&error]);
                    }
                    match number {
                        LISTENER => self.accept(),
                        number => self.serve(number),
                    }
                }
                Turn::Spare if self.is_spare() => return,
                Turn::Spare => {}
            }
            role = Role::Idle;
        }
    }

    /// Counts a thread less, if there are more than can be inside.
    fn is_spare(&self) -> bool {
        let fewer = |threads: u32| (threads > self.inside + 1).then(|| threads - 1);
        self.threads.fetch_update(AcqRel, Acquire, fewer).is_ok()
    }

    /// Takes the connections that wait.
    fn accept(&self) {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(errno) => {
                    log_message(Message::GroupServe, &[&errno]);
                    // A successor has none of the descriptors that the application has not closed.
                    if !self.has_no_descriptors.swap(true, Relaxed) {
                        ask_for_successor(RetireReason::Descriptors);
                    }
                    std::thread::sleep(PAUSE);
                    break;
                }
            };
            if !is_of_httpd(&socket) {
                continue;
            }
            if let Err(error) = sockets::set_buffers(&self.group, &socket) {
                log_message(Message::GroupServe, &[&error]);
            }
            let Ok(connection) = Connection::new(socket, PATIENCE, forked::is_copy) else {
                continue;
            };
            if send_welcome(&connection).is_err() {
                continue;
            }
            let peer = Arc::new(Peer {
                connection,
                buffer: Mutex::default(),
            });
            let free = self.peers.iter().position(|place| {
                let none: Option<Arc<Peer>> = None;
                let before = place.compare_and_swap(&none, Some(peer.clone()));
                before.is_none()
            });
            // Without room the connection is closed, and the child asks another process.
            let Some(free) = free else { break };
            if self.turns.add(&peer.connection, free as u64).is_err() {
                self.peers[free].store(None);
            }
        }
        if !self.is_draining.load(SeqCst) {
            // It fails if the process drains meanwhile.
            let _ = self.turns.again(&self.listener, LISTENER);
        }
    }

    /// Serves what a connection brings.
    fn serve(&self, number: u64) {
        let place = usize::try_from(number)
            .ok()
            .and_then(|number| self.peers.get(number));
        let Some(place) = place else { return };
        let Some(peer) = place.load_full() else {
            return;
        };
        self.tell(self.running.fetch_add(1, SeqCst) + 1);
        if self.is_closed.load(SeqCst) {
            self.running.fetch_sub(1, SeqCst);
            return;
        }
        let is_usable = self.serve_peer(&peer);
        self.tell(self.running.fetch_sub(1, SeqCst) - 1);
        if !is_usable || self.turns.again(&peer.connection, number).is_err() {
            place.store(None);
        }
    }

    /// Tells the children of httpd how many requests run, unless a successor has the slot.
    fn tell(&self, running: u32) {
        if let Some(load) = self.load
            && !self.is_draining.load(SeqCst)
        {
            load.set(running.into());
        }
    }

    /// Runs the request that has arrived. Returns whether the connection can take another one.
    fn serve_peer(&self, peer: &Peer) -> bool {
        let mut buffer = peer.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        match receive(&peer.connection, &mut buffer) {
            Ok(true) => {}
            Ok(false) => return true,
            Err(_) => return false,
        }
        if self.is_draining.load(SeqCst) {
            return send_elsewhere(&peer.connection, Why::Draining).is_ok();
        }
        let Ok(request) = buffer.request() else {
            return false;
        };
        let times = Times::default();
        let remote = RemoteRequest::new(&peer.connection, &request, log_here);
        let mut run = request.run_request(clock::unix_microseconds(), Some(&times));
        let requests = self.requests.fetch_add(1, Relaxed) + 1;
        if Some(requests) == self.most_requests {
            ask_for_successor(RetireReason::MaxRequests);
        }
        if run.target.app >= self.applications {
            // A child of an earlier server may have more applications.
            run.target.app = App::OTHER.number();
        }
        if request.is_activity {
            self.activity.fetch_add(1, Relaxed);
            self.active.fetch_add(1, Relaxed);
        }
        let shown = RunningShown::begin(&request, App::new(run.target.app));
        let outcome = self.engine.run(run, &HostRequest::new(&remote));
        // Before the child learns of the end: no request is shown that its client has seen to end.
        drop(shown);
        if request.is_activity {
            self.activity.fetch_add(1, Relaxed);
            self.active.fetch_sub(1, Relaxed);
        }
        let elsewhere = match outcome {
            RunOutcome::QueueFull => Some(Why::Full),
            RunOutcome::Draining => Some(Why::Draining),
            _ => None,
        };
        if let Some(why) = elsewhere.filter(|_| remote.is_untouched()) {
            return send_elsewhere(&peer.connection, why).is_ok();
        }
        let value = |cell: &AtomicU64| cell.load(Relaxed);
        // When the thread left Python.
        segment::account_cpu(value(&times.stamp));
        let ended = Ended {
            outcome,
            times: EndedTimes {
                application: value(&times.application),
                gil_wait: value(&times.gil_wait),
                queue: value(&times.queue),
                body_unread: value(&times.body_unread),
            },
        };
        let is_whole = remote.end(&ended).is_ok();
        if self.is_draining.load(SeqCst) {
            // An error means that the child has gone.
            let _ = send_go_away(&peer.connection);
        }
        is_whole && outcome != RunOutcome::GivenUp
    }
}

/// A request that this process shows as running, until this is dropped.
struct RunningShown;

impl RunningShown {
    /// Begins to show the request, unless its child or this process measures nothing.
    fn begin(request: &UnpackedRequest<'_>, app: App) -> Option<Self> {
        let arena = match request.since {
            0 => None,
            _ => writer::current(),
        };
        arena.map(|arena| {
            let path = [keys::SCRIPT_NAME, keys::PATH_INFO].map(|key| request.variable(key));
            let method = method(request.variable(keys::REQUEST_METHOD));
            // A thread of this process runs one request at a time.
            let _before = arena.begin(request.since, app, method, &path.concat(), request.group());
            Self
        })
    }
}

impl Drop for RunningShown {
    fn drop(&mut self) {
        // A copy that the application has forked has no arena.
        if let Some(arena) = writer::current() {
            arena.end(None);
        }
    }
}

/// Returns whether the other side is a child of httpd, or its parent.
fn is_of_httpd(socket: &OwnedFd) -> bool {
    let Ok(peer) = socket_peercred(socket) else {
        return false;
    };
    let uid = peer.uid;
    uid.is_root() || uid.as_raw() == user() || uid == rustix::process::geteuid()
}

/// A line that the child could not take goes to the log of this process.
fn log_here(level: Level, line: &[u8]) {
    log_line(level, line);
}
