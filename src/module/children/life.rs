//! A child: opens the engine, starts Python, loads what is to be loaded ahead; at its end lets Python finish.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use wsgi_abi::{AtExit, Bytes, Engine, FreeThreading, Slice, StartConfig};
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::messages::Message;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::mpm::child_exit::{ChildInit, end_as_it_is};
use wsgi_httpd::mpm::{self};
use wsgi_telemetry::board::ChildState;

use crate::children::child_monitor;
use crate::children::readiness;
use crate::children::retire;
use crate::children::slot;
use crate::children::watch;
use crate::config::inherited::{Process, current, log_message};
use crate::engine::find::{self, Found, path_bytes};
use crate::engine::host::Exchanges;
use crate::metrics::segment;
use crate::request::environ;

/// How long the end of Python may take, seconds: less than httpd gives a child that it stops.
const EXIT_TIMEOUT: u32 = 8;

/// The engine of this process, once it has started. httpd run with `-X` may restart in the process, and Python then
/// goes on as it was started first.
static ENGINE: OnceLock<Engine<Exchanges>> = OnceLock::new();

static GIL_IS_OFF: AtomicBool = AtomicBool::new(false);

/// The engine, if Python runs.
pub(crate) fn engine() -> Option<Engine<Exchanges>> {
    ENGINE.get().copied()
}

/// Opens the engine, starts Python, loads what is to be loaded ahead. What goes wrong is in the log; the child serves
/// everything else.
pub(crate) fn start(inside: &ChildInit) {
    environ::note_pid();
    retire::child_begins();
    slot::enter();
    let Some(process) = current() else { return };
    match start_in_time(&process) {
        Some(engine) => readiness::wait(&process, engine, inside),
        None => slot::say(ChildState::Ready),
    }
    child_monitor::start(&process);
    watch::start(&process);
}

/// Starts Python, unless that has hung in another child just now: then this one serves everything else. Where it hangs, the
/// child ends.
fn start_in_time(process: &Process) -> Option<Engine<Exchanges>> {
    let Some(place) = slot::get() else {
        return start_engine(process);
    };
    let held_off = retire::hold_off(&place);
    if !held_off.is_zero() {
        let seconds = held_off.as_secs_f64().ceil();
        log_message(Message::PythonHeldOff, &[&seconds]);
        return None;
    }
    let Some(limit) = process.python.startup_timeout() else {
        return start_engine(process);
    };
    let (started, news) = mpsc::channel::<()>();
    let watch = move || {
        let is_late = |time| news.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        if !is_late(limit) {
            return;
        }
        let wait = retire::note_start_hangs(&place);
        let (limit, seconds) = (limit.as_secs_f64(), wait.as_secs_f64());
        log_message(Message::PythonOverdue, &[&limit, &seconds]);
        if is_late(wait) {
            // It ends as it was said, and not as one that an application has ended.
            place.slot().set_state(ChildState::Draining);
            // The main thread is in code that cannot be waited for.
            end_as_it_is();
        }
    };
    let thread = std::thread::Builder::new().name(String::from("wsgi-start"));
    if let Err(error) = thread.spawn(watch) {
        let line =
            format!("mod_wsgi_rs: the start of Python has no limit: no thread for it: {error}");
        log::server(Level::Error, line.as_bytes());
    }
    let engine = start_engine(process);
    drop(started);
    engine
}

/// Opens the engine and starts Python. Why it does not run is in the log.
pub(crate) fn start_engine(process: &Process) -> Option<Engine<Exchanges>> {
    if process.python.restrict_embedded {
        return None;
    }
    if rustix::process::geteuid().is_root() {
        log_message(Message::RunsAsRoot, &[]);
        return None;
    }
    let found = find::open(process)?;
    let is_asked = free_threading(&process.python) != FreeThreading::Off;
    GIL_IS_OFF.store(is_asked && found.is_free_threaded(), Relaxed);
    let engine = start_python(process, &found)?;
    Some(*ENGINE.get_or_init(|| engine))
}

/// Whether the Python of this process has a GIL, as far as that was asked for.
pub(crate) fn has_gil() -> bool {
    !GIL_IS_OFF.load(Relaxed)
}

/// In whole seconds, rounded up; 0 for never.
fn seconds(duration: Option<Duration>) -> u32 {
    let whole = duration.map_or(0, |duration| duration.as_secs_f64().ceil() as u64);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// Leaves all requests to their own threads. Does what a signal handler may.
pub(crate) fn hold() {
    if let Some(engine) = engine() {
        engine.hold();
    }
}

/// Lets Python finish.
pub(crate) fn stop() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    // In one process, which goes on, more than once.
    if STOPPED.swap(true, Relaxed) && !mpm::single_process() {
        return;
    }
    if let Some(engine) = engine() {
        engine.stop();
    }
}

/// Starts Python. Why it did not start is in the log.
fn start_python(process: &Process, found: &Found) -> Option<Engine<Exchanges>> {
    let (python, home) = (&process.python, found.home.as_ref());
    let warnings: Vec<Bytes<'_>> = python
        .warnings
        .iter()
        .map(|warning| Bytes::new(warning.as_bytes()))
        .collect();
    let (description, banner) = (mpm::description(), mpm::banner());
    let config = StartConfig {
        program_name: home.map(|home| path_bytes(&home.program_name)).into(),
        home: home
            .and_then(|home| home.home.as_deref())
            .map(path_bytes)
            .into(),
        warnings: Slice::new(&warnings),
        python_eggs: python.eggs.as_deref().map(str::as_bytes).into(),
        optimize: python.optimize.try_into().unwrap_or(0),
        hash_seed: python.hash_seed.map_or(-1, i64::from),
        write_bytecode: !python.dont_write_bytecode,
        main_group: Bytes::new(process.main_group()),
        free_threading: free_threading(python),
        at_exit: match python.destroy {
            None => AtExit::Callbacks,
            Some(false) => AtExit::Publish,
            Some(true) => AtExit::Finalize,
        },
        exit_timeout: EXIT_TIMEOUT,
        deadlock_timeout: seconds(python.deadlock_timeout()),
        reserve: process.plan.reserve(python.thread_reserve),
        single_process: mpm::single_process(),
        prometheus_client: process.prometheus_client,
        multiprocess: process.plan.multiprocess(),
        maximum_processes: process.plan.processes(),
        threads_per_process: process.plan.python_threads(),
        apache_version: mpm::VERSION,
        server_description: Bytes::new(&description),
        mpm_name: Bytes::new(mpm::name()),
        build_date: Bytes::new(mpm::build_date()),
        server_software: Bytes::new(&banner),
        segment: segment::view(),
    };
    match found.start(&config) {
        Ok(engine) => Some(engine),
        Err(why) => {
            log_message(Message::PythonStart, &[&String::from_utf8_lossy(why)]);
            None
        }
    }
}
