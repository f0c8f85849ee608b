//! The life of a child, in order: what happens inside `child_init`, and at its end.

use std::sync::mpsc::{self, RecvTimeoutError};

use wsgi_abi::Engine;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm;
use wsgi_httpd::mpm::child_exit::{ChildInit, end_as_it_is};
use wsgi_telemetry::board::ChildState;

use super::{child_monitor, deaths, readiness, retire, slot, threads, watch};
use crate::config::inherited::{self, Process};
use crate::engine::host::HostRequests;
use crate::engine::start;
use crate::log::log_message;
use crate::metrics::segment;

/// Runs `child_init`. Returns when the child may accept connections. Failures are in the log; the child then serves
/// whatever needs no Python.
pub(crate) fn begin(inside: &ChildInit) {
    segment::child_begins();
    if mpm::single_process() {
        // Some versions of httpd report the only process as a child that was started.
        deaths::child_started(std::process::id());
    }
    retire::child_begins();
    slot::enter();
    if let Some(process) = inherited::current() {
        threads::child_begins(&process);
        match start_in_time(&process) {
            Some(engine) => readiness::wait(&process, engine, inside),
            None => slot::say(ChildState::Ready),
        }
        child_monitor::start(&process);
        watch::start(&process);
    }
    segment::child_serves();
}

/// Starts Python. If another child's start has just hung, skips Python: this child then serves everything else. If the
/// start hangs here, ends the child.
fn start_in_time(process: &Process) -> Option<Engine<HostRequests>> {
    let start = || start::start_python(process, retire::ask);
    let Some(slot) = slot::get() else {
        return start();
    };
    let held_off = retire::hold_off(&slot);
    if !held_off.is_zero() {
        let seconds = held_off.as_secs_f64().ceil();
        log_message(Message::PythonHeldOff, &[&seconds]);
        return None;
    }
    let Some(limit) = process.python.startup_timeout() else {
        return start();
    };
    let (started, news) = mpsc::channel::<()>();
    let watch = move || {
        let is_late = |time| news.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        if !is_late(limit) {
            return;
        }
        let wait = retire::note_start_hangs(&slot);
        let (limit, seconds) = (limit.as_secs_f64(), wait.as_secs_f64());
        log_message(Message::PythonOverdue, &[&limit, &seconds]);
        if is_late(wait) {
            // The child announces its end, so that the end is not reported as caused by an application.
            slot.entry().set_state(ChildState::Draining);
            // The main thread runs code that cannot be waited for.
            end_as_it_is();
        }
    };
    let name = "wsgi-start";
    let thread = std::thread::Builder::new().name(name.into());
    if let Err(error) = thread.spawn(watch) {
        let follows = "the start of Python has no time limit";
        log_message(Message::NoThread, &[&name, &error, &follows]);
    }
    let engine = start();
    drop(started);
    engine
}

/// Called before httpd destroys connections and requests: from now on only the threads of httpd use a request. Does
/// only what a signal handler may.
pub(crate) fn hold() {
    start::hold();
}

/// Ends the work of Python, within a bounded time. Called at the end of this child.
pub(crate) fn end() {
    slot::say(ChildState::Draining);
    segment::child_drains();
    start::stop("");
    segment::child_ends();
}
