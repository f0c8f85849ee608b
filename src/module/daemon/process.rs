//! The life of a process of a group, in order: identity, Python, loading, serving, draining, end.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGHUP, SIGUSR2};
use wsgi_abi::{Engine, FreeThreading, Retire};
use wsgi_core::config::ProcessGroup;
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::config::recycle::{Recycle, Used};
use wsgi_core::messages::Message;
use wsgi_httpd::forked;
use wsgi_httpd::group_process::Alone;
use wsgi_telemetry::board::{ChildState, RetireReason};

use super::control::{
    self, CONFIRMED, DRAIN, IDLE, NEWS, READY, SERVE, Signals, ask_for_successor, random, say,
};
use super::groups::Group;
use super::serve::RequestServer;
use super::start_watch::{self, StartWatch};
use super::{identity, segments};
use crate::children::{recycle, retire, slot, stacks, steady, watch};
use crate::config::inherited::Process;
use crate::config::plan;
use crate::engine::host::HostRequests;
use crate::engine::{load, start};
use crate::log::{log_info, log_message};
use crate::metrics::segment;
use crate::own_memory::own_memory;

/// How often a process that drains looks whether its requests have ended.
const LOOK: Duration = Duration::from_millis(20);
/// How often a process looks at its age, its memory and its idleness.
const LOOK_AT_TIMES: Duration = Duration::from_secs(1);
/// For how long a process that drains must have had no work but requests that were given up.
const ONLY_STUCK: Duration = Duration::from_millis(200);

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

/// Takes over the descriptors, and makes signals readable from streams. In a process without threads for requests,
/// Python handles those that end it.
fn prepare(
    group: &ProcessGroup,
    listener: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
) -> io::Result<(OwnedFd, Signals)> {
    let listener = listener.try_clone_to_owned()?;
    forked::serve(&listener);
    let control = control.try_clone_to_owned()?;
    control::keep(control);
    let signals = Signals::register(group)?;
    // Copies that an application forks restore the default actions of these signals.
    forked::watch(wsgi_telemetry::writer::detach);
    Ok((listener, signals))
}

/// Starts Python, loads, and serves until the end. Returns the exit status.
fn live(group: &Arc<Group>, slot: usize, listener: OwnedFd, signals: Signals) -> u8 {
    segment::child_begins();
    slot::enter();
    answer_wsgictl();
    Process::put_in_force(group.process.clone());
    let Some(control) = control::get() else {
        return 1;
    };
    let is_service = group.config.is_service();
    let watch_start = StartWatch::new(&group.config.name, control, &signals);
    let started = watch_start.during(|| {
        start_watch::step(
            "the start of Python",
            group.process.python.startup_timeout(),
        );
        let engine = start::start_python(&group.process, ask)?;
        if free_threading(&group.process.python) != FreeThreading::Off
            && let Some(slot) = slot::get()
        {
            plan::enter(&group.process, slot.board(), Some(start::has_gil()));
        }
        if !is_service {
            load_ahead(group, engine);
        }
        Some(engine)
    });
    let Some(engine) = started else {
        return 1;
    };
    watch::start(&group.process);
    let (status, server) = if is_service {
        (run_service(group, engine, control, signals), None)
    } else {
        run_server(group, slot, engine, listener, control, &signals)
    };
    drains();
    start::stop(control::shutdown_reason());
    if let Some(server) = server {
        server.close();
    }
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

/// Loads the applications of the group.
fn load_ahead(group: &Group, engine: Engine<HostRequests>) {
    let scripts = group.process.ahead();
    let warmups = &group.process.known.warmups;
    if load::load(engine, scripts, warmups, &start_watch::StartSteps).is_err() {
        // Requests for other applications of the group may succeed, and the log says what has failed.
        log_info(&format!(
            "process group '{}' serves what could be loaded",
            group.config.name
        ));
    }
}

/// Serves requests until the end. Returns the exit status, and what has served them.
fn run_server(
    group: &Group,
    slot: usize,
    engine: Engine<HostRequests>,
    listener: OwnedFd,
    control: &OwnedFd,
    signals: &Signals,
) -> (u8, Option<&'static RequestServer>) {
    let limits = limits(group);
    let requests = limits.requests;
    let shares_gil = plan::shares_gil(&group.process, start::has_gil());
    let server = RequestServer::new(engine, shares_gil, listener, &group.config, slot, requests);
    let started = server.and_then(|server| server.start().map(|()| server));
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            log_message(Message::GroupStart, &[&group.config.name, &error]);
            return (1, None);
        }
    };
    let duty = Duty::Requests(server, tell_of_signals(engine));
    say(READY);
    let ages = Ages::new(&group.config, limits);
    serve(ages, &duty, control, signals);
    (0, Some(server))
}

/// Returns the limits after which this process must be replaced.
fn limits(group: &Group) -> Recycle {
    let chance = (random() * 1e9) as u64;
    group.process.recycle.for_child(chance)
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
    let waits = waiting.spawn(move || {
        let ages = Ages::new(&of_thread.config, limits(&of_thread));
        serve(ages, &duty, control, &signals);
    });
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
    let are_done =
        left.all(|script| load::load(engine, [script], [], &start_watch::StartSteps).is_ok());
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

    /// Takes no more requests, as the process ends: those that have not begun go elsewhere.
    fn refuse(&self) {
        if let Self::Requests(server, _) = self {
            server.drain();
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

    /// Returns how many requests run, and how many of them were given up. The script of a service counts as one.
    fn work(&self) -> (u32, u32) {
        match self {
            Self::Requests(server, _) => (server.running(), server.stuck()),
            Self::Service(_) => (1, 0),
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

    /// See [`RequestServer::activity`].
    fn activity(&self) -> Option<u64> {
        match self {
            Self::Requests(server, _) => server.activity(),
            Self::Service(_) => None,
        }
    }
}

/// Serves until the process has drained or is asked to end.
fn serve(mut ages: Ages, duty: &Duty, control: &OwnedFd, signals: &Signals) {
    let mut only_stuck: Option<Instant> = None;
    let mut is_draining = false;
    loop {
        let pause = if is_draining { LOOK } else { LOOK_AT_TIMES };
        let pause = Timespec::try_from(pause).ok();
        let mut polled = [
            control.as_fd(),
            signals.end.as_fd(),
            signals.replace.as_fd(),
            signals.cpu_time.as_fd(),
            signals.hang_up.as_fd(),
            signals.user.as_fd(),
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
            return duty.refuse();
        }
        if must_be_replaced {
            signals.replace.clear();
            control::note_reason(signals.replaces);
            ask_for_successor(RetireReason::Api);
        }
        if has_no_time_left {
            signals.cpu_time.clear();
            ask_for_successor(RetireReason::CpuTime);
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
                Ok(0) | Err(_) => return duty.refuse(),
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
                        // The end of a service shows that its work has ended, and its successor may begin.
                        if matches!(duty, Duty::Requests(..)) {
                            say(CONFIRMED);
                        }
                    }
                    _ => {}
                }
            }
        }
        if is_draining {
            match duty.work() {
                (0, _) => return,
                (running, stuck) if running > stuck => only_stuck = None,
                (_, stuck) => {
                    let since = *only_stuck.get_or_insert_with(Instant::now);
                    if since.elapsed() >= ONLY_STUCK {
                        return log_message(Message::EndsWithStuck, &[&stuck]);
                    }
                }
            }
        } else if let Some(wish) = ages.look(duty) {
            match wish {
                Wish::Successor(reason) => ask_for_successor(reason),
                Wish::Sleep => {
                    control::note_reason("inactivity_timeout");
                    say(IDLE);
                }
            }
        }
    }
}

/// What a process asks of its supervisor because of its age, its memory or its idleness.
enum Wish {
    Successor(RetireReason),
    Sleep,
}

/// When the process must be replaced or may end, by `WSGIRecycle` and the options of its group.
struct Ages {
    began: Instant,
    /// `restart-interval=` or `age=`, and `memory=`; none once a successor was asked for.
    limits: Recycle,
    /// `inactivity-timeout=`
    inactivity: Option<Duration>,
    /// The activity that was last seen, and when it last changed.
    activity: Option<u64>,
    changed: Instant,
}

impl Ages {
    fn new(group: &ProcessGroup, limits: Recycle) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            // Requests are counted where they are served.
            limits: Recycle {
                requests: None,
                ..limits
            },
            inactivity: group.inactivity_timeout,
            activity: None,
            changed: now,
        }
    }

    fn are_limited(&self) -> bool {
        self.limits.is_set() || self.inactivity.is_some()
    }

    fn look(&mut self, duty: &Duty) -> Option<Wish> {
        let used = Used {
            requests: 0,
            memory: self.limits.memory.map_or(0, |_| own_memory()),
            age: self.began.elapsed(),
        };
        if let Some(spent) = self.limits.spent(&used) {
            // Said once; the supervisor goes on until a successor is ready.
            self.limits = Recycle::default();
            return Some(Wish::Successor(recycle::reason_of(spent)));
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
            Wish::Sleep
        })
    }
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
fn ask(why: Retire) {
    static IS_ASKED: AtomicBool = AtomicBool::new(false);
    if why == Retire::Source {
        ask_for_new_code("a script has changed or asks for it");
    } else if start_watch::is_starting() {
        if why == Retire::Startup {
            start_watch::note_hang();
        }
    } else if !IS_ASKED.swap(true, Relaxed) {
        ask_for_successor(retire::reason_of(why));
    }
}
