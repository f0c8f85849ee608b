//! Prepares an interpreter for applications: the `mod_wsgi` and `apache` modules, the standard streams, the module
//! search path, and the entries that every environ shares. The steps themselves are in Python (`python/bootstrap.py`).

use std::sync::OnceLock;

use wsgi_abi::GroupOptions;
use wsgi_core::messages::Message;
use wsgi_telemetry::{Fact, Segment};

use crate::application::free_threading;
use crate::cpython::interpreter::{Identity, Interpreter, Replica};
use crate::cpython::object::{Attached, Immortal, Obj, PyResult};
#[cfg(Py_3_14)]
use crate::cpython::threads;
use crate::cpython::{status, sub_interpreter};
use crate::host::{self, level_of};
use crate::metrics::telemetry::{self, Stream};
use crate::request::log::log_raised;
use crate::watch::stacks;
use crate::wsgi::{collector, errors, gil_notice, module, private_environ};

/// What all interpreters of the process have in common, as Rust values.
#[derive(Debug, Default)]
pub struct Process {
    /// `PYTHON_EGG_CACHE`.
    pub python_eggs: Option<Vec<u8>>,
    /// See [`wsgi_abi::StartConfig::process_group`].
    pub process_group: Vec<u8>,
    /// See [`wsgi_abi::StartConfig::main_group`].
    pub main_group: Vec<u8>,
    /// See [`wsgi_abi::StartConfig::prometheus_client`].
    pub prometheus_client: bool,
    /// See [`wsgi_abi::StartConfig::single_process`].
    pub single_process: bool,
    /// See [`wsgi_abi::StartConfig::service`].
    pub service: bool,
    /// `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// `mod_wsgi.maximum_processes`.
    pub maximum_processes: u32,
    /// `apache.threads_per_process`.
    pub threads_per_process: u32,
    /// `apache.version`.
    pub apache_version: [u32; 3],
    /// `apache.description`.
    pub server_description: Vec<u8>,
    /// `apache.mpm_name`.
    pub mpm_name: Vec<u8>,
    /// `apache.build_date`.
    pub build_date: Vec<u8>,
    /// `SERVER_SOFTWARE`.
    pub server_software: Vec<u8>,
}

/// `mod_wsgi.version`: the release of mod_wsgi that this module is compatible with; applications test for it.
pub(crate) const MOD_WSGI_VERSION: [u32; 3] = [6, 1, 1];

static PROCESS: OnceLock<Process> = OnceLock::new();

/// Sets what all interpreters have in common. Called before the first one is set up.
pub(crate) fn set_process(process: Process) {
    crate::process::set_group(&process.process_group, process.service);
    let _ = PROCESS.set(process);
    private_environ::remember_environ();
}

/// Sets up the interpreter that the thread is attached to, and registers it.
pub(crate) fn interpreter(py: &Attached<'_>, group: &GroupOptions) -> PyResult<()> {
    prepare(py, group)?;
    py.interpreter().register();
    Ok(())
}

/// Makes a sub-interpreter and sets it up. A replica has its own GIL; any other shares the GIL of the main interpreter.
/// The calling thread must not be attached. Returns `None` on failure, with the reason in the log.
pub(crate) fn make(
    main: &'static Interpreter,
    identity: Identity,
    options: &GroupOptions,
) -> Option<&'static Interpreter> {
    let described = identity.describe();
    let made = on_lasting_thread(main, identity, options).unwrap_or_else(|| {
        // From 3.14 on the thread must live as long as the interpreter. [S-32]
        Err(String::from("there is no thread for it"))
    });
    made.unwrap_or_else(|why| {
        let line = Message::InterpreterSetUp.line(&[&described]);
        let line = format!("{line}: {why}");
        host::log(level_of(Message::InterpreterSetUp), &line);
        None
    })
}

/// The interpreter, or `None` if an exception was logged. The error says why it could not be made.
type Made = Result<Option<&'static Interpreter>, String>;

#[cfg(Py_3_14)]
fn on_lasting_thread(
    main: &'static Interpreter,
    identity: Identity,
    options: &GroupOptions,
) -> Option<Made> {
    let options = *options;
    threads::on_one_that_stays("wsgi-interpreter", move || {
        make_here(main, identity, &options)
    })
}

#[cfg(not(Py_3_14))]
fn on_lasting_thread(
    main: &'static Interpreter,
    identity: Identity,
    options: &GroupOptions,
) -> Option<Made> {
    Some(make_here(main, identity, options))
}

fn make_here(main: &'static Interpreter, identity: Identity, options: &GroupOptions) -> Made {
    let described = identity.describe();
    sub_interpreter::make(main, identity, |py| match interpreter(py, options) {
        Ok(()) => Some(py.interpreter()),
        Err(raised) => {
            let line = Message::InterpreterSetUp.line(&[&described]);
            log_raised(py, raised, None, Message::InterpreterSetUp, &line);
            None
        }
    })
}

fn prepare(py: &Attached<'_>, group: &GroupOptions) -> PyResult<()> {
    let identity = py.interpreter().identity();
    let process = PROCESS.get_or_init(Process::default);
    if group.private_environ && *identity != Identity::MAIN {
        private_environ::keep_environ(py)?;
    }
    let module = py.import(module::MODULE_NAME)?;
    let state = py.state();

    let version = py.tuple([
        py.int(MOD_WSGI_VERSION[0].into())?,
        py.int(MOD_WSGI_VERSION[1].into())?,
        py.int(MOD_WSGI_VERSION[2].into())?,
    ])?;
    let [major, minor, patch] = process.apache_version;
    let apache_version = py.tuple([
        py.int(major.into())?,
        py.int(minor.into())?,
        py.int(patch.into())?,
    ])?;
    module.set_attr(c"version", &version)?;
    module.set_attr(c"process_group", &py.latin1(&process.process_group)?)?;
    let name = match identity.group.is_empty() {
        true => &process.main_group,
        false => &identity.group,
    };
    module.set_attr(c"application_group", &py.latin1(name)?)?;
    module.set_attr(
        c"maximum_processes",
        &py.int(process.maximum_processes.into())?,
    )?;
    module.set_attr(c"threads_per_process", &py.int(group.threads.into())?)?;

    let options = options(py, process, group, &apache_version)?;
    let stdout = errors::new_std_log(py, Stream::Stdout)?;
    let stderr = errors::new_std_log(py, Stream::Stderr)?;
    let log = errors::new_log_function(py, &module)?;
    gil_notice::watch(py, &module)?;
    stacks::begin(py, *identity == Identity::MAIN);
    module.call_method(py, c"_set_up", [&options, &stdout, &stderr, &log])?;
    if process.service {
        // Before that, a signal ends the process at once.
        module.call_method(py, c"_end_on_signals", [])?;
    }

    if let Some(segment) = telemetry::segment() {
        let callback = collector::new_collector_callback(py, &module)?;
        module.call_method(py, c"_watch_collector", [&callback])?;
        facts(py, segment)?;
    }

    let environ = base_environ(
        py,
        process,
        group.threads > 1,
        identity.replica,
        &version,
        &apache_version,
    )?;
    state.base_environ.get_or_init(|| Immortal::new(environ));
    Ok(())
}

/// Sets the facts about this Python for the metrics. They are the same in every interpreter of every child.
fn facts(py: &Attached<'_>, segment: Segment) -> PyResult<()> {
    let implementation = py.import(c"sys")?.attr(py, c"implementation")?;
    let name = implementation.attr(py, c"name")?.to_text();
    segment.set_fact(Fact::Implementation, &name);
    segment.set_fact(Fact::Python, &status::running_version());
    segment.set_fact(Fact::Gil, free_threading::in_words(py)?);
    Ok(())
}

fn options<'i>(
    py: &Attached<'i>,
    process: &Process,
    group: &GroupOptions,
    apache_version: &Obj<'i>,
) -> PyResult<Obj<'i>> {
    let options = py.dict()?;
    let layers = group.python_path.get_or_empty().iter().map(|layer| {
        let dirs = layer.get_or_empty().iter();
        let dirs = dirs.map(|dir| py.fs_path(dir.get_or_empty()));
        py.list(dirs.collect::<PyResult<Vec<_>>>()?)
    });
    let layers = layers.collect::<PyResult<Vec<_>>>()?;
    options.set_item(c"python_path", &py.list(layers)?)?;
    options.set_item(c"switch_interval", &py.float(group.switch_interval)?)?;
    options.set_item(c"restrict_stdin", &py.bool(group.restrict_stdin))?;
    options.set_item(c"restrict_stdout", &py.bool(group.restrict_stdout))?;
    options.set_item(c"restrict_signal", &py.bool(group.restrict_signal))?;
    options.set_item(c"single_process", &py.bool(process.single_process))?;
    let gets_signals = !(process.process_group.is_empty() || process.service);
    options.set_item(c"gets_signals", &py.bool(gets_signals))?;
    let bridged = process.prometheus_client && telemetry::segment().is_some();
    options.set_item(c"prometheus_client", &py.bool(bridged))?;
    let eggs = match &process.python_eggs {
        Some(dir) => py.fs_path(dir)?,
        None => py.none(),
    };
    options.set_item(c"python_eggs", &eggs)?;
    let apache = py.dict()?;
    apache.set_item(c"version", apache_version)?;
    apache.set_item(c"description", &py.latin1(&process.server_description)?)?;
    apache.set_item(c"mpm_name", &py.latin1(&process.mpm_name)?)?;
    apache.set_item(c"build_date", &py.latin1(&process.build_date)?)?;
    apache.set_item(
        c"maximum_processes",
        &py.int(process.maximum_processes.into())?,
    )?;
    apache.set_item(
        c"threads_per_process",
        &py.int(process.threads_per_process.into())?,
    )?;
    options.set_item(c"apache", &apache)?;
    Ok(options)
}

/// Makes the dict of the environ entries that do not depend on the request.
fn base_environ<'i>(
    py: &Attached<'i>,
    process: &Process,
    multithread: bool,
    replica: Option<Replica>,
    version: &Obj<'i>,
    apache_version: &Obj<'i>,
) -> PyResult<Obj<'i>> {
    let environ = py.dict()?;
    environ.set_item(c"wsgi.version", &py.tuple([py.int(1)?, py.int(0)?])?)?;
    environ.set_item(c"wsgi.multithread", &py.bool(multithread))?;
    // To an application, another replica is what another process is.
    let has_peers = process.multiprocess || replica.is_some_and(|replica| replica.of > 1);
    environ.set_item(c"wsgi.multiprocess", &py.bool(has_peers))?;
    if let Some(replica) = replica {
        environ.set_item(c"mod_wsgi.replica", &py.int(replica.index.into())?)?;
    }
    environ.set_item(c"wsgi.run_once", &py.bool(false))?;
    environ.set_item(c"wsgi.input_terminated", &py.bool(true))?;
    environ.set_item(c"wsgi.file_wrapper", &py.state().file_wrapper.get(py))?;
    environ.set_item(c"wsgi.url_scheme", &py.str("http")?)?;
    environ.set_item(c"apache.version", apache_version)?;
    environ.set_item(c"mod_wsgi.version", version)?;
    environ.set_item(c"mod_wsgi.queue_start", &py.float(0.0)?)?;
    environ.set_item(c"mod_wsgi.daemon_start", &py.float(0.0)?)?;
    environ.set_item(c"SERVER_SOFTWARE", &py.latin1(&process.server_software)?)?;
    Ok(environ)
}
