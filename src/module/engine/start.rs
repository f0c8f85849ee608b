//! Starts Python in this process, and ends its work.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use wsgi_abi::{AtExit, Bytes, Engine, FreeThreading, Retire, Slice, StartConfig};
use wsgi_core::config::interpreter_options::free_threading;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm;

use super::find::{self, Found, path_bytes};
use super::host::{self, HostRequests};
use crate::config::inherited::Process;
use crate::log::log_message;
use crate::metrics::segment;

/// The engine of this process, once it has started. httpd run with `-X` may restart within the process; then Python
/// goes on with its first settings.
static ENGINE: OnceLock<Engine<HostRequests>> = OnceLock::new();

static GIL_IS_OFF: AtomicBool = AtomicBool::new(false);

/// Returns the engine, if Python runs.
pub(crate) fn engine() -> Option<Engine<HostRequests>> {
    ENGINE.get().copied()
}

/// Opens the engine and starts Python. If Python does not run, the log says why. `on_retire` is called when the engine
/// wants this process to be replaced.
pub(crate) fn start_python(
    process: &Process,
    on_retire: fn(Retire),
) -> Option<Engine<HostRequests>> {
    host::on_retire(on_retire);
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
    let engine = start_found(process, &found)?;
    Some(*ENGINE.get_or_init(|| engine))
}

/// Returns whether Python has a GIL in this process: `false` if free threading is configured and the engine supports
/// it.
pub(crate) fn has_gil() -> bool {
    !GIL_IS_OFF.load(Relaxed)
}

/// Leaves all requests to their own threads. Does only what a signal handler may.
pub(crate) fn hold() {
    if let Some(engine) = engine() {
        engine.hold();
    }
}

/// Ends the work of Python. Subscribers of `process_stopping` are told the `reason`.
pub(crate) fn stop(reason: &str) {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    // With `-X` the process goes on after a restart, so this may run again.
    if STOPPED.swap(true, Relaxed) && !mpm::single_process() {
        return;
    }
    if let Some(engine) = engine() {
        engine.stop(reason);
    }
}

/// Starts Python. If it does not start, the log says why.
fn start_found(process: &Process, found: &Found) -> Option<Engine<HostRequests>> {
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
        process_group: Bytes::new(process.process_group.as_bytes()),
        main_group: Bytes::new(process.main_group()),
        free_threading: free_threading(python),
        at_exit: match python.destroy {
            None => AtExit::Callbacks,
            Some(false) => AtExit::Publish,
            Some(true) => AtExit::Finalize,
        },
        exit_timeout: seconds(Some(process.exit_timeout)),
        deadlock_timeout: seconds(python.deadlock_timeout()),
        single_process: mpm::single_process(),
        service: process.plan.is_service(),
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

/// Returns whole seconds, rounded up; 0 for no limit.
fn seconds(duration: Option<Duration>) -> u32 {
    let whole = duration.map_or(0, |duration| duration.as_secs_f64().ceil() as u64);
    u32::try_from(whole).unwrap_or(u32::MAX)
}
