//! A child: opens the engine, starts Python, loads what is to be loaded ahead; at its end lets Python finish.

use std::sync::OnceLock;

use wsgi_abi::{Bytes, EngineTable, StartConfig};
use wsgi_core::outcome::Message;
use wsgi_core::python_home::PythonHome;
use wsgi_httpd::mpm;

use crate::engine::{self, path_bytes};
use crate::process::{Process, current, log_message};
use crate::{environ, host};

/// The engine of this process, once it has started. httpd run with `-X` may restart in the process, and Python then
/// goes on as it was started first.
static ENGINE: OnceLock<&'static EngineTable> = OnceLock::new();

/// The engine, if Python runs.
pub(crate) fn engine() -> Option<&'static EngineTable> {
    ENGINE.get().copied()
}

/// Opens the engine, starts Python, loads what is to be loaded ahead. What goes wrong is in the log; the child serves
/// everything else.
pub(crate) fn start() {
    environ::note_pid();
    let Some(process) = current() else { return };
    if process.python.restrict_embedded {
        return;
    }
    if rustix::process::geteuid().is_root() {
        log_message(Message::RunsAsRoot, &[]);
        return;
    }
    let table = match engine() {
        Some(table) => table,
        None => {
            let Some(found) = engine::open(&process) else {
                return;
            };
            if !start_python(&process, found.table, found.home.as_ref()) {
                return;
            }
            ENGINE.get_or_init(|| found.table)
        }
    };
    for import in &process.preloads {
        let (group, script) = (
            import.application_group.as_bytes(),
            import.script.as_bytes(),
        );
        // SAFETY: Python runs; the bytes outlive the call. What went wrong is in the log, and the first request
        // tries again.
        let _loaded = unsafe { (table.load)(Bytes::new(group), Bytes::new(script)) };
    }
}

/// Lets Python finish.
pub(crate) fn stop() {
    if let Some(table) = engine() {
        // SAFETY: Python runs.
        unsafe { (table.stop)() };
    }
}

/// Starts Python. Why it did not start is in the log.
fn start_python(process: &Process, table: &'static EngineTable, home: Option<&PythonHome>) -> bool {
    let python = &process.python;
    let warnings: Vec<Bytes> = python
        .warnings
        .iter()
        .map(|warning| Bytes::new(warning.as_bytes()))
        .collect();
    let (description, banner) = (mpm::description(), mpm::banner());
    let absent_or = |bytes: Option<&[u8]>| bytes.map_or(Bytes::ABSENT, Bytes::new);
    let config = StartConfig {
        program_name: absent_or(home.map(|home| path_bytes(&home.program_name))),
        home: absent_or(home.and_then(|home| home.home.as_deref()).map(path_bytes)),
        warnings: warnings.as_ptr(),
        warnings_len: warnings.len(),
        python_eggs: absent_or(python.eggs.as_deref().map(str::as_bytes)),
        optimize: python.optimize.try_into().unwrap_or(0),
        hash_seed: python.hash_seed.map_or(-1, i64::from),
        write_bytecode: !python.dont_write_bytecode,
        single_process: mpm::single_process(),
        multithread: process.plan.multithread(),
        multiprocess: process.plan.multiprocess(),
        maximum_processes: process.plan.processes(),
        threads_per_process: process.plan.python_threads(),
        apache_version: mpm::VERSION,
        server_description: Bytes::new(&description),
        mpm_name: Bytes::new(mpm::name()),
        build_date: Bytes::new(mpm::build_date()),
        server_software: Bytes::new(&banner),
    };
    let mut problem = Bytes::ABSENT;
    // SAFETY: the table is of this release; the configuration outlives the call, the host table lives for ever.
    unsafe {
        if (table.start)(&host::TABLE, &config, &mut problem) {
            return true;
        }
        let text = String::from_utf8_lossy(problem.get_or_empty()).into_owned();
        log_message(Message::PythonStart, &[&text]);
    }
    false
}
