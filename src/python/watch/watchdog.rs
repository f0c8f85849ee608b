//! The watchdog of a child: one thread that notices requests that take too long, and GILs that cannot be acquired. It
//! never waits for a GIL itself; a [`GilProbe`] does work that needs one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wsgi_abi::Retire;
use wsgi_core::messages::Message;
use wsgi_telemetry::clock;

use crate::application::loads as application_loads;
use crate::cpython::threads;
use crate::host::{self, level_of};
use crate::process;
use crate::request::deadline::Step;
use crate::request::state::RequestState;
use crate::request::{alarm, running};
use crate::watch::gil_probe::{self, GilProbe, Task};
use crate::watch::{loads, stacks};

/// How long the watchdog sleeps at most, nanoseconds.
const LONGEST: u64 = 1_000_000_000;
/// How soon it looks again at a request whose application loads or that waits in a queue, nanoseconds.
const LOADING: u64 = 20_000_000;
/// How often it asks for the child to be replaced while a request that was given up still runs, nanoseconds.
const COMPLAIN: u64 = 1_000_000_000;

/// For how long at most a GIL may be out of reach if a request was given up, nanoseconds.
const SHORT_PATIENCE: u64 = 5_000_000_000;

static STARTED: AtomicBool = AtomicBool::new(false);
/// For how long a GIL may be out of reach, nanoseconds; 0 for any time.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// Prepares the watchdog; starts it at once if it watches over GILs.
pub(crate) fn start(deadlock_timeout: Option<Duration>) {
    alarm::set_start(ensure);
    if let Some(timeout) = deadlock_timeout {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        PATIENCE.store(nanoseconds, Relaxed);
        ensure();
    }
}

/// Starts the thread, unless it was started.
fn ensure() {
    if alarm::has_thread() || STARTED.swap(true, Relaxed) {
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
    alarm::adopt_thread();
    loop {
        let now = clock::now();
        alarm::begin_look();
        let mut next = now + LONGEST;
        for request in running::all() {
            next = next.min(look_after(&request, now));
        }
        for load in application_loads::all() {
            next = next.min(loads::look(&load, now));
        }
        next = next.min(look_at_gils(now));
        alarm::sleep_until(next);
    }
}

/// Does the due steps for a request. Returns when to look again, as a stamp.
fn look_after(request: &Arc<RequestState>, now: u64) -> u64 {
    let deadline = request.deadline();
    if !deadline.is_limited() {
        return u64::MAX;
    }
    if deadline.is_loading() {
        return now + LOADING;
    }
    if deadline.is_queued() {
        return deadline.next_due().max(now + LOADING);
    }
    if request.is_given_up() && !process::is_closing() && deadline.claim_reminder(now, COMPLAIN) {
        host::retire(Retire::Stuck);
    }
    while let Some(step) = deadline.take_step(now) {
        match step {
            Step::TellSlow | Step::Interrupt | Step::InterruptAgain => {
                if let Some((interpreter, _)) = deadline.inside() {
                    let task = Task::Look(Arc::clone(request), step);
                    gil_probe::of(interpreter).ask(interpreter, task);
                }
            }
            // While another request runs on the same thread, the watchdog acts on that one.
            Step::GiveUp if deadline.is_suspended() => {}
            Step::GiveUp => give_up(request, now),
        }
    }
    deadline.next_due()
}

/// Answers the request without its thread.
fn give_up(request: &Arc<RequestState>, now: u64) {
    let seconds = request.deadline().age(now) as f64 / 1e9;
    let what = request.line();
    if request.give_up() {
        request.deadline().lose_permit();
        let line = Message::RequestGivenUp.line(&[&what, &format!("{seconds:.1}")]);
        host::log(level_of(Message::RequestGivenUp), &line);
        host::retire(Retire::Stuck);
    }
}

/// Checks whether the GILs can be acquired. Returns when to look again, as a stamp.
fn look_at_gils(now: u64) -> u64 {
    let configured = PATIENCE.load(Relaxed);
    if process::is_closing() {
        return u64::MAX;
    }
    let mut next = u64::MAX;
    for probe in gil_probe::all_in_use() {
        let patience = match configured {
            _ if has_given_up(probe) || has_hanging_load(probe) => {
                SHORT_PATIENCE.min(configured.wrapping_sub(1))
            }
            0 => continue,
            configured => configured,
        };
        next = next.min(now + (patience / 4).clamp(1_000_000, LONGEST));
        match probe.waits_since() {
            None => probe.probe(),
            Some(since) if now.saturating_sub(since) >= patience => lost(probe, now, since),
            Some(_) => {}
        }
    }
    next
}

/// Whether a request of this GIL was given up: it may hold the GIL.
fn has_given_up(probe: &'static GilProbe) -> bool {
    let mut all = running::all().into_iter();
    all.any(|request| request.is_given_up() && is_of(&request, probe))
}

/// Whether a load of this GIL hangs: it may hold the GIL.
fn has_hanging_load(probe: &'static GilProbe) -> bool {
    application_loads::any_overdue(|interpreter| std::ptr::eq(gil_probe::of(interpreter), probe))
}

fn is_of(request: &RequestState, probe: &'static GilProbe) -> bool {
    let interpreter = request.deadline().interpreter();
    interpreter.is_some_and(|interpreter| std::ptr::eq(gil_probe::of(interpreter), probe))
}

/// Handles a GIL that cannot be acquired: no request that needs it returns.
fn lost(probe: &'static GilProbe, now: u64, since: u64) {
    if probe.is_first_complaint() {
        let seconds = now.saturating_sub(since) / 1_000_000_000;
        let line = Message::GilLost.line(&[&probe.name(), &seconds]);
        host::log(level_of(Message::GilLost), &line);
        for line in stacks::dump_without_gil().lines() {
            host::log(level_of(Message::GilLost), line);
        }
    }
    host::retire(Retire::Deadlock);
    for request in running::all() {
        if is_of(&request, probe) {
            give_up(&request, now);
        }
    }
}
