//! The life of a process of a group, in order: identity, Python, loading, serving, draining, end.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::counter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::low_level::pipe;
use wsgi_abi::{Engine, FreeThreading, Retire};
use wsgi_core::config::ProcessGroup;
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::messages::Message;
use wsgi_httpd::forked;
use wsgi_httpd::group_process::Alone;
use wsgi_telemetry::board::{ChildState, RetireReason};
use wsgi_telemetry::catalogue::Id;

use super::groups::Group;
use super::serve::RequestServer;
use super::{identity, segments};
use crate::children::{slot, stacks, steady, watch};
use crate::config::inherited::Process;
use crate::config::plan;
use crate::engine::host::HostRequests;
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
/// From the process: it has asked for something on the board of its group.
pub(super) const NEWS: u8 = b'N';
/// From the process: it has had no request for `inactivity-timeout=`.
pub(super) const IDLE: u8 = b'I';

/// How often a process that drains looks whether its requests have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How often a process looks at its age and its idleness.
const LOOK_AT_TIMES: Duration = Duration::from_secs(1);

/// The end of the connection to the supervisor, for threads that ask for a successor.
static CONTROL: OnceLock<OwnedFd> = OnceLock::new();

/// Runs the process of this slot of the group. Returns its exit status.
pub(super) fn run(
    alone: &Alone,
    group: Arc<Group>,
    slot: usize,
    supervisor: u32,
    listener: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
) -> u8 {
    let name = &group.config.name;
    alone.log_to(group.log);
    if let Some(title) = group.config.title() {
        alone.set_title(&title);
    }
    let prepared = segments::leave_others(&group).map_err(|error| error.to_string());
    let prepared = prepared.and_then(|segments| identity::take_on(alone, &group.config, segments));
    let prepared = prepared.and_then(|()| {
        if !alone.end_with_parent(supervisor) {
            return Err(String::from("its supervisor has ended"));
        }
        prepare(&group.config, listener, control).map_err(|error| error.to_string())
    });
    match prepared {
        Ok((listener, signals)) => live(&group, slot, listener, signals),
        Err(problem) => {
            log_message(Message::GroupStart, &[name, &problem]);
            1
        }
    }
}

/// Signals that this process has got; each stream is readable after one of its signals.
struct Signals {
    /// `SIGTERM`, `SIGINT`: end.
    end: SignalStream,
    /// `SIGUSR1`: a successor must take over.
    replace: SignalStream,
    /// `SIGXCPU`, for `cpu-time-limit=`: the same.
    cpu_time: SignalStream,
    /// `SIGHUP`, for subscribers in applications.
    hang_up: SignalStream,
    /// `SIGUSR2`, likewise.
    user: SignalStream,
}

/// Takes over the descriptors, and makes signals readable from streams. In a process without threads for requests,
/// Python handles those that end it.
fn prepare(
    group: &ProcessGroup,
    listener: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
) -> io::Result<(OwnedFd, Signals)> {
    let listener = listener.try_clone_to_owned()?;
    let control = control.try_clone_to_owned()?;
    let _ = CONTROL.set(control);
    let unless_service = |signals| match group.is_service() {
        true => SignalStream::of(&[]),
        false => SignalStream::of(signals),
    };
    let signals = Signals {
        end: unless_service(&[SIGTERM, SIGINT])?,
        replace: SignalStream::of(&[SIGUSR1])?,
        cpu_time: SignalStream::of(&[SIGXCPU])?,
        hang_up: unless_service(&[SIGHUP])?,
        user: unless_service(&[SIGUSR2])?,
    };
    // Copies that an application forks restore the default actions of these signals.
    forked::watch(wsgi_telemetry::writer::detach);
    Ok((listener, signals))
}

/// A stream that is readable after one of its signals.
struct SignalStream {
    read: UnixStream,
    /// Kept, as the other end of a stream without signals would else be readable.
    _written: UnixStream,
}

impl SignalStream {
    fn of(signals: &[i32]) -> io::Result<Self> {
        let (read, written) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        for &signal in signals {
            pipe::register(signal, written.try_clone()?)?;
        }
        Ok(Self {
            read,
            _written: written,
        })
    }

    /// Empties the stream, so that the next signal shows. Returns how many signals there were.
    fn clear(&self) -> usize {
        let mut read = [0; 16];
        // It was readable just now, and holds as many bytes as there were signals.
        rustix::io::read(&self.read, &mut read).unwrap_or(0)
    }
}

/// Starts Python, loads, and serves until the end. Returns the exit status.
fn live(group: &Arc<Group>, slot: usize, listener: OwnedFd, signals: Signals) -> u8 {
    segment::child_begins();
    slot::enter();
    answer_wsgictl();
    Process::put_in_force(group.process.clone());
    let Some(engine) = start::start_python(&group.process, retire) else {
        return 1;
    };
    if free_threading(&group.process.python) != FreeThreading::Off
        && let Some(slot) = slot::get()
    {
        plan::enter(&group.process, slot.board(), Some(start::has_gil()));
    }
    let Some(control) = CONTROL.get() else {
        return 1;
    };
    watch::start(&group.process);
    let status = if group.config.is_service() {
        run_service(group, engine, control, signals)
    } else {
        run_server(group, slot, engine, listener, control, &signals)
    };
    drains();
    start::stop();
    segment::child_ends();
    status
}

/// How often the process looks for `wsgictl stack`.
const LOOK_AT_BOARD: Duration = Duration::from_millis(100);

/// Answers `wsgictl stack` on a thread of its own, from now to the end of the process.
fn answer_wsgictl() {
    let name = "wsgi-monitor";
    let begun = steady::spawn(name, || -> Infallible {
        loop {
            stacks::look();
            std::thread::sleep(LOOK_AT_BOARD);
        }
    });
    if let Err(error) = begun {
        let follows = "wsgictl stack gets no answer from this process";
        log_message(Message::NoThread, &[&name, &error, &follows]);
    }
}

/// Notes that the process takes requests.
fn serves() {
    slot::say(ChildState::Ready);
    segment::child_serves();
}

/// Notes that the process takes no more requests.
fn drains() {
    slot::say(ChildState::Draining);
    segment::child_drains();
}

/// Loads the applications of the group, and serves requests until the end. Returns the exit status.
fn run_server(
    group: &Group,
    slot: usize,
    engine: Engine<HostRequests>,
    listener: OwnedFd,
    control: &OwnedFd,
    signals: &Signals,
) -> u8 {
    let scripts = group.process.ahead();
    let warmups = &group.process.known.warmups;
    if load::load(engine, scripts, warmups, &Quiet).is_err() {
        // Requests for other applications of the group may succeed, and the log says what has failed.
        log_info(&format!(
            "process group '{}' serves what could be loaded",
            group.config.name
        ));
    }
    let server = match RequestServer::new(engine, listener, &group.config, slot) {
        Ok(server) => server,
        Err(error) => {
            log_message(Message::GroupStart, &[&group.config.name, &error]);
            return 1;
        }
    };
    let duty = Duty::Requests(server, tell_of_signals(engine));
    say(READY);
    serve(&group.config, &duty, control, signals);
    0
}

/// How many signals may wait until the applications were told of those before.
const SIGNALS: usize = 64;

/// Starts a thread that tells the applications of signals. Returns where to send their numbers.
fn tell_of_signals(engine: Engine<HostRequests>) -> SyncSender<i32> {
    let (tell, told) = mpsc::sync_channel(SIGNALS);
    let name = "wsgi-signals";
    let begun = steady::spawn(name, move || {
        while let Ok(signal) = told.recv() {
            engine.signal(signal);
        }
    });
    if let Err(error) = begun {
        let follows = "applications are not told of signals";
        log_message(Message::NoThread, &[&name, &error, &follows]);
    }
    tell
}

/// Runs the scripts of a group with `threads=0`, on this thread, which is Python's main thread. Returns the exit status.
fn run_service(
    group: &Arc<Group>,
    engine: Engine<HostRequests>,
    control: &'static OwnedFd,
    signals: Signals,
) -> u8 {
    let (begin, begun) = mpsc::channel();
    let duty = Duty::Service(begin);
    let waiting = std::thread::Builder::new().name("wsgi-service".into());
    let of_thread = group.clone();
    let waits = waiting.spawn(move || serve(&of_thread.config, &duty, control, &signals));
    if let Err(error) = waits {
        log_message(Message::GroupStart, &[&group.config.name, &error]);
        return 1;
    }
    say(READY);
    // Only now the process before this one has ended its work. An error means that this one must end.
    if begun.recv().is_err() {
        return 0;
    }
    let scripts = group.process.ahead().into_iter();
    let mut left = scripts.take_while(|_| !IS_ENDING.load(Relaxed));
    let are_done = left.all(|script| load::load(engine, [script], [], &Quiet).is_ok());
    u8::from(!are_done && !IS_ENDING.load(Relaxed))
}

/// The scripts of a group with `threads=0` must end.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// What a process does while it is in service.
enum Duty {
    /// It serves requests, and passes signals to a thread that tells the applications of them.
    Requests(&'static RequestServer, SyncSender<i32>),
    /// It runs scripts once it is told to begin (`threads=0`).
    Service(Sender<()>),
}

impl Duty {
    fn begin(&self) {
        match self {
            Self::Requests(server, _) => server.begin(),
            // An error means that the process ends.
            Self::Service(begin) => drop(begin.send(())),
        }
    }

    /// Takes no more requests. A script gets `SystemExit`.
    fn drain(&self) {
        match self {
            Self::Requests(server, _) => server.drain(),
            Self::Service(_) => {
                IS_ENDING.store(true, Relaxed);
                // Python handles it in its main thread.
                let _ = kill_process(getpid(), Signal::TERM);
            }
        }
    }

    /// Returns whether nothing is left to do after [`Self::drain`].
    fn is_idle(&self) -> bool {
        match self {
            Self::Requests(server, _) => server.is_idle(),
            Self::Service(_) => false,
        }
    }

    /// Has the applications told of a signal that has come `count` times. A service gets its signals itself.
    fn pass_on(&self, signal: i32, count: usize) {
        if let Self::Requests(_, signals) = self {
            for _ in 0..count {
                // The thread ends with the process. If it is far behind, further signals are lost.
                let _ = signals.try_send(signal);
            }
        }
    }

    fn close(&self) {
        if let Self::Requests(server, _) = self {
            server.close();
        }
    }

    /// See [`RequestServer::activity`].
    fn activity(&self) -> Option<u64> {
        match self {
            Self::Requests(server, _) => server.activity(),
            Self::Service(_) => None,
        }
    }
}

/// Serves until the process has drained or is asked to end.
fn serve(group: &ProcessGroup, duty: &Duty, control: &OwnedFd, signals: &Signals) {
    let mut ages = Ages::new(group);
    let mut is_draining = false;
    loop {
        let pause = if is_draining { LOOK } else { LOOK_AT_TIMES };
        let pause = Timespec::try_from(pause).ok();
        let mut polled = [
            control.as_fd(),
            signals.end.read.as_fd(),
            signals.replace.read.as_fd(),
            signals.cpu_time.read.as_fd(),
            signals.hang_up.read.as_fd(),
            signals.user.read.as_fd(),
        ]
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        let needs_looks = is_draining || ages.are_limited();
        if poll(&mut polled, pause.as_ref().filter(|_| needs_looks)).is_err() {
            continue;
        }
        let [
            of_control,
            must_end,
            must_be_replaced,
            has_no_time_left,
            has_hung_up,
            is_users,
        ] = polled.map(|polled| !polled.revents().is_empty());
        if must_end {
            return;
        }
        for (is_there, stream, reason) in [
            (must_be_replaced, &signals.replace, RetireReason::Api),
            (has_no_time_left, &signals.cpu_time, RetireReason::CpuTime),
        ] {
            if is_there {
                stream.clear();
                ask_for_successor(reason);
            }
        }
        for (is_there, stream, signal) in [
            (has_hung_up, &signals.hang_up, SIGHUP),
            (is_users, &signals.user, SIGUSR2),
        ] {
            if is_there {
                duty.pass_on(signal, stream.clear());
            }
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
                    SERVE => {
                        duty.begin();
                        serves();
                    }
                    DRAIN => {
                        duty.drain();
                        drains();
                        is_draining = true;
                        say(CONFIRMED);
                    }
                    _ => {}
                }
            }
        }
        if is_draining && duty.is_idle() {
            duty.close();
            return;
        }
        match ages.look(duty).filter(|_| !is_draining) {
            Some(REPLACE) => ask_for_successor(RetireReason::Age),
            Some(word) => say(word),
            None => {}
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
    /// The activity that was last seen, and when it last changed.
    activity: Option<u64>,
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
            activity: None,
            changed: now,
        }
    }

    fn are_limited(&self) -> bool {
        self.interval.is_some() || self.inactivity.is_some()
    }

    /// Returns what to say to the supervisor.
    fn look(&mut self, duty: &Duty) -> Option<u8> {
        if self
            .interval
            .is_some_and(|interval| self.began.elapsed() >= interval)
        {
            // Said once; the supervisor goes on until a successor is ready.
            self.interval = None;
            return Some(REPLACE);
        }
        let activity = duty.activity();
        if activity.is_none() || activity != self.activity {
            self.activity = activity;
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

/// Asks the supervisor for a successor of this process, and counts why.
pub(super) fn ask_for_successor(reason: RetireReason) {
    counter!(Id::ChildrenRecycles.name(), "reason" => reason.label()).increment(1);
    if let Some(slot) = slot::get() {
        let me = slot.in_force.me();
        // Only shows the reason: the supervisor decides.
        slot.board().mark(me.pid, me.ticks, reason);
    }
    say(REPLACE);
}

/// Asks for successors of all processes of the group, as there is new code. Their supervisor counts them.
fn ask_for_new_code(why: &str) {
    match slot::get() {
        Some(slot) => {
            // If the code of this process is older than what was asked for, it is being replaced already.
            if slot.is_current() {
                let board = slot.board();
                // If there is no room, others have asked.
                let _ticket = board.request_reload(None, RetireReason::SourceChanged, why);
                say(NEWS);
            }
        }
        None => ask_for_successor(RetireReason::SourceChanged),
    }
}

/// Called when the engine wants this process to be replaced, and again while it does.
fn retire(why: Retire) {
    static IS_ASKED: AtomicBool = AtomicBool::new(false);
    if why == Retire::Source {
        ask_for_new_code("a script has changed or asks for it");
    } else if IS_ASKED.swap(true, Relaxed) {
        say(REPLACE);
    } else {
        ask_for_successor(match why {
            Retire::Stuck => RetireReason::RequestTimeout,
            Retire::Deadlock => RetireReason::Deadlock,
            Retire::Startup => RetireReason::StartupTimeout,
            Retire::Source => RetireReason::SourceChanged,
        });
    }
}

/// The progress of the load, which only the log tells.
struct Quiet;

impl load::Progress for Quiet {
    fn step(&self, _what: &str, _limit: Option<Duration>) {}

    fn loaded(&self, group: &[u8]) {
        slot::loaded(group);
    }
}
