//! The way of a request from a child of httpd to a process of a group.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use wsgi_abi::{Nesting, RequestHost, RunOutcome, Slice, Times};
use wsgi_core::admission::limit::{Limit, Permit};
use wsgi_core::config::{ProcessGroup, ScriptOwner};
use wsgi_core::messages::Message;
use wsgi_httpd::forked;
use wsgi_telemetry::Load;
use wsgi_wire::{
    Connection, Ended, EndedTimes, Exchanged, Greeting, OutgoingRequest, Why, WireError, exchange,
    wait_for_welcome,
};

use super::groups::{self, Group};
use super::request_line::method_and_path;
use super::shares::Shares;
use super::{accounts, sockets};
use crate::log::log_message;

/// A process group, as a child of httpd sees it.
pub(crate) struct GroupClient {
    pub(crate) config: ProcessGroup,
    owner: Option<Owner>,
    shares: Shares,
    /// The number of the first request, and how many there were. No other child of httpd gives the same numbers.
    first_id: u64,
    count: AtomicU32,
    slots: Vec<SlotClient>,
}

/// The owner that a script must have, by number; `None` for a name that the system does not know.
enum Owner {
    User(Option<u32>),
    Group(Option<u32>),
}

/// A slot of the group.
struct SlotClient {
    address: SocketAddrUnix,
    /// Connections without a request.
    idle: ArrayQueue<Connection>,
    /// Requests of this child that the slot has.
    outstanding: AtomicU32,
    /// How many requests of all children its process says to have.
    load: Option<Load>,
}

/// How many connections without a request a child keeps for each slot.
const IDLE: usize = 64;
/// How long a process may take to read a part of a request. It only matters for a process that is stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// The groups of this child by name; they stay the same until it ends.
static CLIENTS: OnceLock<HashMap<Vec<u8>, GroupClient>> = OnceLock::new();

/// Prepares the groups of the configuration in force. For a child, at its start.
pub(crate) fn child_begins() {
    CLIENTS.get_or_init(|| {
        groups::current()
            .iter()
            .map(|group| {
                let name = group.config.name.clone().into_bytes();
                (name, GroupClient::new(group))
            })
            .collect()
    });
}

/// Returns the group of this name. Each request looks for its group, since variables may be a part of the name.
pub(crate) fn find(name: &[u8]) -> Option<&'static GroupClient> {
    CLIENTS.get()?.get(name)
}

/// A request of this thread that a process of a group has. While httpd reads or writes for it, httpd may make another
/// request on the same thread.
struct OuterRequest {
    id: u64,
    slot: *const SlotClient,
    /// The limit that the thread counts against.
    share: Option<Arc<Limit>>,
}

thread_local! {
    /// The requests of this thread that processes have, the outermost first.
    static OUTER: RefCell<Vec<OuterRequest>> = const { RefCell::new(Vec::new()) };
}

/// A request counts as an outer one until this is dropped.
struct IsOuter;

impl OuterRequest {
    fn enter(self) -> IsOuter {
        OUTER.with_borrow_mut(|all| all.push(self));
        IsOuter
    }
}

impl Drop for IsOuter {
    fn drop(&mut self) {
        OUTER.with_borrow_mut(|all| all.pop());
    }
}

/// Counts the calling thread against the share, unless a request of the thread counts already. Returns `None` if the
/// share is used up.
fn hold(share: Option<&Arc<Limit>>) -> Option<Permit<'_>> {
    let Some(share) = share else {
        return Some(Permit::already());
    };
    let is_its = |outer: &OuterRequest| {
        let held = outer.share.as_ref();
        held.is_some_and(|held| Arc::ptr_eq(held, share))
    };
    match OUTER.with_borrow(|all| all.iter().any(is_its)) {
        true => Some(Permit::already()),
        false => share.take(),
    }
}

/// Why there is no connection to a slot.
enum NotConnected {
    /// Its processes have failed to start, and the next attempt is not soon.
    Down,
    /// This may change soon.
    Failed(String),
}

/// What became of a request.
pub(crate) enum Answered {
    /// A process has run it.
    By(RunOutcome),
    /// No process takes requests: 503.
    Nobody,
    /// All processes have as many requests as they may have: 503.
    Full,
    /// The process that had the request has ended: 500.
    Lost,
    /// The process that had the request has said nothing for too long: 504.
    Silent,
    /// The request is longer than the wire allows: 500.
    TooLong,
}

impl GroupClient {
    fn new(group: &Group) -> Self {
        let segment = group.segment.get().map(|own| own.segment);
        let slots = group
            .slots
            .iter()
            .enumerate()
            .filter_map(|(number, address)| {
                Some(SlotClient {
                    load: segment.and_then(|segment| segment.load_of(number)),
                    address: SocketAddrUnix::new(&address.path).ok()?,
                    idle: ArrayQueue::new(IDLE),
                    outstanding: AtomicU32::new(0),
                })
            });
        Self {
            config: group.config.clone(),
            owner: group.config.script_owner.as_ref().map(Owner::of),
            shares: Shares::new(group.process.clone()),
            first_id: u64::from(std::process::id()) << 32,
            count: AtomicU32::new(0),
            slots: slots.collect(),
        }
    }

    /// Returns why the group may not run a script, if it has `script-user=` or `script-group=`: both the script and its
    /// folder must be the owner's, and nobody else may write to them.
    pub(crate) fn refusal_of(&self, script: &[u8]) -> Option<String> {
        let owner = self.owner.as_ref()?;
        let script = Path::new(OsStr::from_bytes(script));
        [Some(script), script.parent()]
            .into_iter()
            .flatten()
            .find_map(|path| owner.refusal_of(path))
    }

    /// Has a process run the request, and makes the calls of `host` that it asks for.
    pub(crate) fn run(
        &self,
        request: &OutgoingRequest<'_>,
        host: &dyn RequestHost,
        times: Option<&Times>,
    ) -> Answered {
        let share = self.shares.of(request.run.target.group.get_or_empty());
        let Some(_held) = hold(share.as_ref()) else {
            return Answered::Full;
        };
        let until = Instant::now() + self.config.connect_timeout();
        let mut full = 0;
        let mut problem = String::new();
        let mut last = None;
        let (within, slot_of_outer) = self.outer();
        let nesting = Nesting {
            id: self.first_id + u64::from(self.count.fetch_add(1, Relaxed)),
            within: Slice::new(&within),
        };
        let request = OutgoingRequest {
            nesting,
            ..*request
        };
        let mut down: Vec<usize> = Vec::new();
        for attempt in 0.. {
            if attempt > 0 && !pause(attempt, until) {
                break;
            }
            // The process of an outer request knows that its thread waits for this one. Another process might let no
            // further request in, as one of its own waits for the process of the outer request.
            let chosen = match slot_of_outer {
                Some(slot) => Some(slot).filter(|slot| !down.contains(slot)),
                None => self.choose(last, &down),
            };
            let Some(chosen) = chosen else { break };
            last = Some(chosen);
            let slot = &self.slots[chosen];
            let connection = match slot.connection(&self.config, until) {
                Ok(connection) => connection,
                Err(NotConnected::Failed(why)) => {
                    problem = why;
                    continue;
                }
                Err(NotConnected::Down) => {
                    problem = String::from("its processes have failed to start");
                    down.push(chosen);
                    continue;
                }
            };
            slot.outstanding.fetch_add(1, Relaxed);
            let outer = OuterRequest {
                id: nesting.id,
                slot,
                share: share.clone(),
            };
            let is_outer = outer.enter();
            let exchanged = exchange(&connection, &request, host, self.config.socket_timeout);
            drop(is_outer);
            slot.outstanding.fetch_sub(1, Relaxed);
            match exchanged {
                Ok(Exchanged::Ended { ended, is_reusable }) => {
                    if is_reusable {
                        // A connection more than are kept is closed.
                        let _ = slot.idle.push(connection);
                    }
                    note_times(times, &ended);
                    return Answered::By(ended.outcome);
                }
                Ok(Exchanged::TooLong) => return Answered::TooLong,
                Ok(Exchanged::Elsewhere(Why::Full)) => {
                    let _ = slot.idle.push(connection);
                    full += 1;
                    // A request waits in the queue of a process, not here.
                    if full >= self.slots.len() || slot_of_outer.is_some() {
                        return Answered::Full;
                    }
                }
                // The process ends, or has ended: the connections that are kept are to the same one.
                Ok(Exchanged::Elsewhere(Why::Draining)) => slot.forget_idle(),
                Err(lost) if !lost.was_begun => slot.forget_idle(),
                Err(lost) => {
                    let (message, answered) = match lost.error {
                        WireError::TimedOut => (Message::GroupSilent, Answered::Silent),
                        _ => (Message::GroupLost, Answered::Lost),
                    };
                    let (method, path) = method_and_path(request.run);
                    let what = [method, path].map(String::from_utf8_lossy).join(" ");
                    let line = message.line(&[&self.config.name, &what, &lost.error]);
                    host.log(message.level(), line.as_bytes());
                    return answered;
                }
            }
        }
        if full > 0 {
            return Answered::Full;
        }
        if problem.is_empty() {
            problem = String::from("its processes take no requests");
        }
        log_message(Message::GroupUnreachable, &[&self.config.name, &problem]);
        Answered::Nobody
    }

    /// Returns the numbers of the requests of this thread that the group has, the innermost first, and the slot that has
    /// them: that of the outermost one.
    fn outer(&self) -> (Vec<u64>, Option<usize>) {
        let mut slot_of_all = None;
        let numbers = OUTER.with_borrow(|all| {
            let its = all.iter().rev().filter(|outer| {
                let mut slots = self.slots.iter();
                let slot = slots.position(|slot| std::ptr::eq(slot, outer.slot));
                slot_of_all = slot_of_all.or(slot);
                slot.is_some()
            });
            its.map(|outer| outer.id).collect()
        });
        (numbers, slot_of_all)
    }

    /// Chooses the less busy one of two slots at random, but none that is down, and not the one that was just tried
    /// unless it is the only one.
    fn choose(&self, last: Option<usize>, down: &[usize]) -> Option<usize> {
        let count = self.slots.len();
        if count <= 1 {
            return (0..count).find(|slot| !down.contains(slot));
        }
        let pick = |but: Option<usize>| {
            let first = random() as usize % count;
            let mut all = (0..count).map(|step| (first + step) % count);
            all.find(|slot| ![last, but].contains(&Some(*slot)) && !down.contains(slot))
        };
        let load = |slot: usize| self.slots[slot].load();
        let one = pick(None);
        match (one, pick(one)) {
            (Some(one), Some(other)) if load(other) < load(one) => Some(other),
            (Some(one), _) => Some(one),
            (None, _) => last.filter(|slot| !down.contains(slot)),
        }
    }
}

impl Owner {
    fn of(written: &ScriptOwner) -> Self {
        match written {
            ScriptOwner::User(name) => {
                let found = accounts::user("script-user", name);
                Self::User(found.ok().map(|found| found.uid.as_raw()))
            }
            ScriptOwner::Group(name) => {
                let found = accounts::group("script-group", name);
                Self::Group(found.ok().map(|gid| gid.as_raw()))
            }
        }
    }

    fn refusal_of(&self, path: &Path) -> Option<String> {
        let found = match path.metadata() {
            Ok(found) => found,
            Err(error) => return Some(format!("{}: {error}", path.display())),
        };
        let (is_owners, writers, what) = match self {
            Self::User(owner) => (*owner == Some(found.uid()), 0o022, "user"),
            Self::Group(owner) => (*owner == Some(found.gid()), 0o002, "group"),
        };
        if !is_owners {
            return Some(format!("{} does not belong to the {what}", path.display()));
        }
        (found.mode() & writers != 0).then(|| format!("others may write to {}", path.display()))
    }
}

impl SlotClient {
    /// Returns how many requests the slot has: as its process says, but no fewer than this child has sent there.
    fn load(&self) -> u64 {
        let all = self.load.map_or(0, |load| load.get());
        all.max(self.outstanding.load(Relaxed).into())
    }

    /// Returns a connection to the slot: one that was kept, or a new one.
    fn connection(&self, group: &ProcessGroup, until: Instant) -> Result<Connection, NotConnected> {
        if let Some(kept) = self.idle.pop() {
            return Ok(kept);
        }
        let failed = |what: &str, errno: Errno| NotConnected::Failed(format!("{what}: {errno}"));
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed("socket", errno))?;
        sockets::set_buffers(group, &socket)
            .map_err(|error| NotConnected::Failed(format!("socket: {error}")))?;
        // If the queue of the socket is full, the call waits for the time that is left.
        let left = until.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Send, Some(left))
            .map_err(|errno| failed("socket", errno))?;
        let nobody = || NotConnected::Failed(String::from("no process takes connections"));
        let broken = |error: WireError| NotConnected::Failed(error.to_string());
        match connect(&socket, &self.address) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(nobody()),
            Err(errno) => return Err(failed("connect", errno)),
        }
        let connection = Connection::new(socket, PATIENCE, forked::is_copy).map_err(broken)?;
        let left = until.saturating_duration_since(Instant::now());
        match wait_for_welcome(&connection, left).map_err(broken)? {
            Greeting::Welcome => Ok(connection),
            Greeting::Refused => Err(NotConnected::Down),
            Greeting::Nothing => Err(nobody()),
        }
    }

    /// Closes the connections that are kept.
    fn forget_idle(&self) {
        while self.idle.pop().is_some() {}
    }
}

/// Waits a little before another attempt. Returns whether there may be one.
fn pause(attempt: u32, until: Instant) -> bool {
    const LONGEST: Duration = Duration::from_millis(50);
    let pause = Duration::from_millis(attempt.saturating_sub(2).into()).min(LONGEST);
    if Instant::now() + pause >= until {
        return false;
    }
    std::thread::sleep(pause);
    true
}

/// Passes on what the process has measured.
fn note_times(times: Option<&Times>, ended: &Ended) {
    let Some(times) = times else { return };
    let EndedTimes {
        application,
        gil_wait,
        queue,
        body_unread,
    } = ended.times;
    for (cell, value) in [
        (&times.application, application),
        (&times.gil_wait, gil_wait),
        (&times.queue, queue),
        (&times.body_unread, body_unread),
    ] {
        cell.store(value, Relaxed);
    }
}

/// Returns a number that is random enough to spread requests (xorshift). Threads may get the same one.
fn random() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let mut state = STATE.load(Relaxed);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.store(state, Relaxed);
    state
}
