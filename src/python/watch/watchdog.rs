//! The watchdog of a child: one thread that sees which requests take too long, and whether the GIL can still be had. It never
//! waits for a GIL itself; what needs one is done by an [`agent`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use wsgi_abi::Retire;
use wsgi_core::messages::Message;
use wsgi_telemetry::clock;

use crate::admission::run;
use crate::application::loads;
use crate::cpython::threads;
use crate::host;
use crate::request::deadline::Step;
use crate::request::log::level_of;
use crate::request::running;
use crate::request::state::RequestState;
use crate::watch::gil_probe::{Agent, Task};
use crate::watch::{gil_probe, stacks};

/// How long the watchdog sleeps at most, nanoseconds.
const LONGEST: u64 = 1_000_000_000;
/// When it looks again at a request whose application loads or that waits in line, nanoseconds.
const LOADING: u64 = 20_000_000;
/// How often it complains of a request that was given up, nanoseconds.
const COMPLAIN: u64 = 1_000_000_000;

/// For how long a GIL may not be had at most where a request was given up, nanoseconds.
const SHORT_PATIENCE: u64 = 5_000_000_000;

/// Its thread, once it was needed.
static WATCHDOG: OnceLock<Thread> = OnceLock::new();
static STARTED: AtomicBool = AtomicBool::new(false);
/// When it wakes up by itself, as a stamp.
static WAKES: AtomicU64 = AtomicU64::new(u64::MAX);
/// For how long a GIL may not be had, nanoseconds; 0 for ever.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// Watches over GILs, where that was asked for.
pub(crate) fn start(deadlock_timeout: Option<Duration>) {
    if let Some(timeout) = deadlock_timeout {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        PATIENCE.store(nanoseconds, Relaxed);
        ensure();
    }
}

/// A request with limits begins, the first of which is due then.
pub(crate) fn watch(due: u64) {
    if due < WAKES.load(SeqCst) || WATCHDOG.get().is_none() {
        ensure();
        if let Some(thread) = WATCHDOG.get() {
            thread.unpark();
        }
    }
}

/// Starts the thread, unless it was.
fn ensure() {
    if WATCHDOG.get().is_some() || STARTED.swap(true, Relaxed) {
        return;
    }
    if !threads::steady("wsgi-watchdog", run) {
        STARTED.store(false, Relaxed);
        let line = "mod_wsgi_rs: no thread could be started to watch over requests and the GIL: no limits of time hold in \
                    this child; raise the limits of processes and memory";
        host::log(host::Level::Error, line);
    }
}

fn run() {
    WATCHDOG.get_or_init(std::thread::current);
    loop {
        let now = clock::now();
        // Who begins meanwhile may be due before what is known by then, and wakes this thread.
        WAKES.store(u64::MAX, SeqCst);
        let mut next = now + LONGEST;
        for request in running::all() {
            next = next.min(look_after(&request, now));
        }
        for load in loads::all() {
            next = next.min(load.look(now));
        }
        next = next.min(look_at_gils(now));
        WAKES.store(next, SeqCst);
        let sleep = next.saturating_sub(clock::now());
        std::thread::park_timeout(Duration::from_nanos(sleep));
    }
}

/// Does what is due of a request. Returns when to look again.
fn look_after(request: &Arc<RequestState>, now: u64) -> u64 {
    let course = request.course();
    if !course.is_limited() {
        return u64::MAX;
    }
    if course.is_loading() {
        return now + LOADING;
    }
    if course.is_in_line() {
        return course.next_due().max(now + LOADING);
    }
    if request.is_given_up() && !run::is_closing() && course.complains(now, COMPLAIN) {
        host::retire(Retire::Stuck);
    }
    while let Some(step) = course.take_step(now) {
        match step {
            Step::TellSlow | Step::Interrupt | Step::InterruptAgain => {
                if let Some((interpreter, _)) = course.inside() {
                    let task = Task::Look(Arc::clone(request), step);
                    gil_probe::of(interpreter).ask(interpreter, task);
                }
            }
            // While another request runs on the same thread, that is the one to look at.
            Step::GiveUp if course.is_suspended() => {}
            Step::GiveUp => give_up(request, now),
        }
    }
    course.next_due()
}

/// Answers the request without its thread.
fn give_up(request: &Arc<RequestState>, now: u64) {
    let seconds = request.course().age(now) as f64 / 1e9;
    let what = request.line();
    if request.give_up() {
        request.course().lose_place();
        let line = Message::RequestGivenUp.line(&[&what, &format!("{seconds:.1}")]);
        host::log(level_of(Message::RequestGivenUp), &line);
        host::retire(Retire::Stuck);
    }
}

/// Sees whether the GILs can be had. Returns when to look again.
fn look_at_gils(now: u64) -> u64 {
    let configured = PATIENCE.load(Relaxed);
    if run::is_closing() {
        return u64::MAX;
    }
    let mut next = u64::MAX;
    for agent in gil_probe::all_in_use() {
        let patience = match configured {
            _ if has_given_up(agent) || has_hanging_load(agent) => {
                SHORT_PATIENCE.min(configured.wrapping_sub(1))
            }
            0 => continue,
            configured => configured,
        };
        next = next.min(now + (patience / 4).clamp(1_000_000, LONGEST));
        match agent.waits_since() {
            None => agent.probe(),
            Some(since) if now.saturating_sub(since) >= patience => lost(agent, now, since),
            Some(_) => {}
        }
    }
    next
}

/// Whether a request of this GIL was given up: it may be what holds the GIL.
fn has_given_up(agent: &'static Agent) -> bool {
    let mut all = running::all().into_iter();
    all.any(|request| request.is_given_up() && is_of(&request, agent))
}

/// Whether a load hangs that may be what holds the GIL.
fn has_hanging_load(agent: &'static Agent) -> bool {
    loads::any_overdue(|interpreter| std::ptr::eq(gil_probe::of(interpreter), agent))
}

fn is_of(request: &RequestState, agent: &'static Agent) -> bool {
    let interpreter = request.course().interpreter();
    interpreter.is_some_and(|interpreter| std::ptr::eq(gil_probe::of(interpreter), agent))
}

/// A GIL cannot be had: no request that needs it comes back.
fn lost(agent: &'static Agent, now: u64, since: u64) {
    if agent.is_first_complaint() {
        let seconds = now.saturating_sub(since) / 1_000_000_000;
        let line = Message::GilLost.line(&[&agent.name(), &seconds]);
        host::log(level_of(Message::GilLost), &line);
        for line in stacks::dump_without_gil().lines() {
            host::log(level_of(Message::GilLost), line);
        }
    }
    host::retire(Retire::Deadlock);
    for request in running::all() {
        if is_of(&request, agent) {
            give_up(&request, now);
        }
    }
}
