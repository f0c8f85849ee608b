//! The life of a process of a group, in order: identity, Python, loading, serving, draining, end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXCPU};
use signal_hook::low_level::pipe;
use wsgi_abi::Retire;
use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;
use wsgi_httpd::forked;
use wsgi_httpd::group_process::Alone;

use super::groups::Group;
use super::identity;
use super::serve::RequestServer;
use crate::config::inherited::Process;
use crate::engine::{load, start};
use crate::log::{log_info, log_message};
use crate::metrics::segment;

/// What a process and its supervisor say to each other, one byte each. To the process: take requests.
pub(super) const SERVE: u8 = b'S';
/// To the process: take no more requests, and end when those that run have ended.
pub(super) const DRAIN: u8 = b'D';
/// From the process: its applications are loaded.
pub(super) const READY: u8 = b'R';
/// From the process: it takes no more requests.
pub(super) const CONFIRMED: u8 = b'C';
/// From the process: it should be replaced.
pub(super) const REPLACE: u8 = b'W';
/// From the process: it has had no request for `inactivity-timeout=`.
pub(super) const IDLE: u8 = b'I';

/// How often a process that drains looks whether its requests have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How often a process looks at its age and its idleness.
const LOOK_AT_TIMES: Duration = Duration::from_secs(1);

/// The end of the connection to the supervisor, for threads that ask for a successor.
static CONTROL: OnceLock<OwnedFd> = OnceLock::new();

/// Runs the process. Returns its exit status.
pub(super) fn run(
    alone: &Alone,
    group: Arc<Group>,
    supervisor: u32,
    listener: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
) -> u8 {
    let name = &group.config.name;
    if let Some(title) = group.config.title() {
        alone.set_title(&title);
    }
    let prepared = identity::take_on(alone, &group.config).and_then(|()| {
        if !alone.end_with_parent(supervisor) {
            return Err(String::from("its supervisor has ended"));
        }
        prepare(listener, control).map_err(|error| error.to_string())
    });
    match prepared {
        Ok((listener, signals)) => live(&group, listener, &signals),
        Err(problem) => {
            log_message(Message::GroupStart, &[name, &problem]);
            1
        }
    }
}

/// Signals that this process has got; each stream is readable after one of its signals.
struct Signals {
    /// `SIGTERM`, `SIGINT`: end.
    end: UnixStream,
    /// `SIGUSR1`, and `SIGXCPU` for `cpu-time-limit=`: a successor must take over.
    replace: UnixStream,
}

/// Takes over the descriptors, and makes signals readable from streams.
fn prepare(listener: BorrowedFd<'_>, control: BorrowedFd<'_>) -> io::Result<(OwnedFd, Signals)> {
    let listener = listener.try_clone_to_owned()?;
    let control = control.try_clone_to_owned()?;
    let _ = CONTROL.set(control);
    let signals = Signals {
        end: stream_of(&[SIGTERM, SIGINT])?,
        replace: stream_of(&[SIGUSR1, SIGXCPU])?,
    };
    // Copies that an application forks restore the default actions of these signals.
    forked::watch(wsgi_telemetry::writer::detach);
    Ok((listener, signals))
}

/// Returns a stream that is readable after one of these signals.
fn stream_of(signals: &[i32]) -> io::Result<UnixStream> {
    let (read, written) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for &signal in signals {
        pipe::register(signal, written.try_clone()?)?;
    }
    Ok(read)
}

/// Starts Python, loads, and serves until the end. Returns the exit status.
fn live(group: &Arc<Group>, listener: OwnedFd, signals: &Signals) -> u8 {
    // The processes of groups have no part of the segment of httpd's children.
    segment::set_in_force(None);
    Process::put_in_force(group.process.clone());
    let Some(engine) = start::start_python(&group.process, retire) else {
        return 1;
    };
    let scripts = group.process.ahead();
    let warmups = &group.process.known.warmups;
    if load::load(engine, scripts, warmups, &Quiet).is_err() {
        // Requests for other applications of the group may succeed, and the log says what has failed.
        log_info(&format!(
            "process group '{}' serves what could be loaded",
            group.config.name
        ));
    }
    let Some(control) = CONTROL.get() else {
        return 1;
    };
    let server = match RequestServer::new(engine, listener, &group.config) {
        Ok(server) => server,
        Err(error) => {
            log_message(Message::GroupStart, &[&group.config.name, &error]);
            return 1;
        }
    };
    say(READY);
    serve(&group.config, server, control, signals);
    start::stop();
    0
}

/// Serves until the process has drained or is asked to end.
fn serve(
    group: &ProcessGroup,
    server: &'static RequestServer,
    control: &OwnedFd,
    signals: &Signals,
) {
    let mut ages = Ages::new(group);
    let mut is_draining = false;
    loop {
        let pause = if is_draining { LOOK } else { LOOK_AT_TIMES };
        let pause = Timespec::try_from(pause).ok();
        let mut polled = [
            control.as_fd(),
            signals.end.as_fd(),
            signals.replace.as_fd(),
        ]
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        let needs_looks = is_draining || ages.are_limited();
        if poll(&mut polled, pause.as_ref().filter(|_| needs_looks)).is_err() {
            continue;
        }
        let [of_control, must_end, must_be_replaced] =
            polled.map(|polled| !polled.revents().is_empty());
        if must_end {
            return;
        }
        if must_be_replaced {
            let mut read = [0; 16];
            // The stream is emptied, so that the next signal shows.
            let _ = rustix::io::read(&signals.replace, &mut read);
            say(REPLACE);
        }
        if of_control {
            let mut words = [0; 16];
            let count = match rustix::io::read(control, &mut words) {
                // The supervisor has ended.
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            for &word in &words[..count] {
                match word {
                    SERVE => server.begin(),
                    DRAIN => {
                        server.drain();
                        is_draining = true;
                        say(CONFIRMED);
                    }
                    _ => {}
                }
            }
        }
        if is_draining && server.is_idle() {
            server.close();
            return;
        }
        if let Some(word) = ages.look(server).filter(|_| !is_draining) {
            say(word);
        }
    }
}

/// When the process must be replaced or may end, by the options of its group.
struct Ages {
    began: Instant,
    /// `restart-interval=`, with a random part, so that processes that started together do not all end together.
    interval: Option<Duration>,
    /// `inactivity-timeout=`
    inactivity: Option<Duration>,
    /// The number of requests that was last seen, and when it last changed.
    requests: u64,
    changed: Instant,
}

impl Ages {
    fn new(group: &ProcessGroup) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            interval: group
                .restart_interval
                .map(|interval| interval.mul_f64(varied())),
            inactivity: group.inactivity_timeout,
            requests: 0,
            changed: now,
        }
    }

    fn are_limited(&self) -> bool {
        self.interval.is_some() || self.inactivity.is_some()
    }

    /// Returns what to say to the supervisor.
    fn look(&mut self, server: &RequestServer) -> Option<u8> {
        if self
            .interval
            .is_some_and(|interval| self.began.elapsed() >= interval)
        {
            // Said once; the supervisor goes on until a successor is ready.
            self.interval = None;
            return Some(REPLACE);
        }
        let requests = server.requests();
        if requests != self.requests || !server.is_idle() {
            self.requests = requests;
            self.changed = Instant::now();
        }
        let is_idle = self
            .inactivity
            .is_some_and(|limit| self.changed.elapsed() >= limit);
        is_idle.then(|| {
            self.changed = Instant::now();
            IDLE
        })
    }
}

/// Returns a random factor between nine and eleven tenths.
pub(super) fn varied() -> f64 {
    0.9 + 0.2 * random()
}

/// Returns a random number from 0 to 1.
pub(super) fn random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as f64 / u64::MAX as f64
}

/// Says a word to the supervisor.
pub(super) fn say(word: u8) {
    if let Some(control) = CONTROL.get() {
        // If the supervisor has ended, this process ends as well.
        let _ = rustix::io::write(control, &[word]);
    }
}

/// Called when the engine wants this process to be replaced.
fn retire(_: Retire) {
    say(REPLACE);
}

/// The progress of the load, which only the log tells.
struct Quiet;

impl load::Progress for Quiet {
    fn step(&self, _what: &str, _limit: Option<Duration>) {}

    fn loaded(&self, _group: &[u8]) {}
}
