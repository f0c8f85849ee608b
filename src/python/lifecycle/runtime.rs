//! Starts Python in this process: once, in the child, as its unprivileged user. `stop.rs` ends it.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::ffi;
use wsgi_abi::{AtExit, FreeThreading, SegmentView};
use wsgi_core::messages::Message;
use wsgi_core::python_home::check_stdlib;

use crate::VERSION;
use crate::application::{free_threading, sources};
use crate::cpython::interpreter::{self, Identity, Interpreter};
use crate::cpython::object::Attached;
use crate::cpython::status::{check, running_version};
use crate::cpython::{forked as forked_copy, thread_state};
use crate::host;
use crate::lifecycle::{forked, stop};
use crate::metrics::telemetry;
use crate::process as this_process;
use crate::request::flusher;
use crate::request::log::log_raised;
use crate::watch::watchdog;
use crate::wsgi::module;
use crate::wsgi::setup::{self, Process};

/// How Python is started.
pub struct Config {
    /// The path of the Python executable, which decides the prefix and the virtual environment. `None` stands for the
    /// Python that the engine was built with.
    pub program_name: Option<Vec<u8>>,
    /// `PyConfig.home`.
    pub home: Option<Vec<u8>>,
    /// The `-W` options.
    pub warnings: Vec<Vec<u8>>,
    /// `PyConfig.optimization_level`, if above 0.
    pub optimize: i32,
    /// The fixed hash seed, if there is one.
    pub hash_seed: Option<u32>,
    /// Whether to write `.pyc` files.
    pub write_bytecode: bool,
    /// See [`wsgi_abi::StartConfig::free_threading`].
    pub free_threading: FreeThreading,
    /// See [`wsgi_abi::StartConfig::at_exit`].
    pub at_exit: AtExit,
    /// See [`wsgi_abi::StartConfig::exit_timeout`].
    pub exit_timeout: Duration,
    /// See [`wsgi_abi::StartConfig::deadlock_timeout`].
    pub deadlock_timeout: Option<Duration>,
    /// What all interpreters have in common.
    pub process: Process,
    /// The metrics segment.
    pub segment: SegmentView,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            program_name: None,
            home: None,
            warnings: Vec::new(),
            optimize: 0,
            hash_seed: None,
            write_bytecode: false,
            free_threading: FreeThreading::Off,
            at_exit: AtExit::Callbacks,
            exit_timeout: Duration::from_secs(20),
            deadlock_timeout: None,
            process: Process::default(),
            segment: SegmentView::NONE,
        }
    }
}

/// The Python executable that the engine was built with.
const DEFAULT_PYTHON: Option<&str> = option_env!("WSGI_ENGINE_PYTHON");

/// Starts Python. The error says why Python does not run, in words for the log. If Python was started before in this
/// process (httpd run with `-X` restarts in the process), it continues unchanged.
pub fn start(config: Config) -> Result<(), String> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    stop::configure(stop::ExitPlan {
        at_exit: config.at_exit,
        timeout: config.exit_timeout,
        single_process: config.process.single_process,
    });
    if STARTED.load(Ordering::Acquire) {
        this_process::open();
        flusher::release();
        return Ok(());
    }
    check_version()?;
    // SAFETY: may be called at any time.
    if unsafe { ffi::Py_IsInitialized() } != 0 {
        return Err(String::from(
            "an earlier start in this process has begun Python and could not set it up, and Python does not begin twice; stop \
             httpd and start it again once what the log says of that start is mended",
        ));
    }
    telemetry::start(&config.segment)?;
    forked_copy::set_end(forked::end);
    this_process::thread_id();
    // SAFETY: Python is not running yet, and the name and function live as long as the process.
    if unsafe { ffi::PyImport_AppendInittab(module::MODULE_NAME.as_ptr(), Some(module::init)) } != 0
    {
        return Err(String::from("out of memory"));
    }
    sources::begin();
    free_threading::configure(config.free_threading);
    initialize(&config).map_err(|why| explain(&config, why))?;
    setup::set_process(config.process);
    let options = host::group_options(b"");
    // SAFETY: attached since the initialization; the main interpreter is never ended while others use it.
    let main = unsafe { interpreter::begin(Identity::MAIN) };
    let set_up = with_main(main, |py| {
        setup::interpreter(py, &options).map_err(|raised| {
            let line = Message::SetUpException.line(&[&main.describe()]);
            log_raised(py, raised, None, Message::SetUpException, &line);
            String::from("the main interpreter could not be set up; the traceback is in the log")
        })
    });
    // SAFETY: attached since the initialization; the thread detaches here. [S-20]
    let state = unsafe { ffi::PyEval_SaveThread() };
    set_up?;
    thread_state::adopt(main, state);
    #[cfg(not(Py_3_12))]
    thread_state::keep_one(main);
    STARTED.store(true, Ordering::Release);
    watchdog::start(config.deadlock_timeout);
    Ok(())
}

/// Explains why Python could not start. CPython's own message is for people who build it; the usual cause is a standard
/// library that cannot be read.
fn explain(config: &Config, why: String) -> String {
    let program = config.program_name.as_deref().map(OsStr::from_bytes);
    let program = program.or(DEFAULT_PYTHON.map(OsStr::new)).map(Path::new);
    let prefix = program.and_then(Path::parent).and_then(Path::parent);
    match prefix.map(|prefix| check_stdlib(prefix, VERSION)) {
        Some(Err(problem)) => format!("{problem} (CPython: {why})"),
        _ => why,
    }
}

/// Runs `work` on the thread that has started Python, which is attached.
fn with_main<R>(main: &'static Interpreter, work: impl for<'i> FnOnce(&Attached<'i>) -> R) -> R {
    // SAFETY: only called by `start`, between the initialization and the detaching; `'i` is fresh.
    work(&unsafe { Attached::assume(main) })
}

/// Whether the loaded library is a free-threaded build.
fn is_free_threaded_build() -> bool {
    // SAFETY: may be called before the initialization; a static C string.
    let running = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
    running.to_string_lossy().contains("free-threading build")
}

/// Checks that the loaded library is of the minor version that the engine was compiled for.
fn check_version() -> Result<(), String> {
    let number = running_version();
    let mut minor = number.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    if is_free_threaded_build() {
        minor += "t";
    }
    if minor == VERSION {
        Ok(())
    } else {
        Err(format!(
            "the engine is for Python {VERSION}, but the Python library that was loaded is {number}"
        ))
    }
}

fn initialize(config: &Config) -> Result<(), String> {
    // SAFETY: a PyConfig is initialized before its fields are read, cleared at the end on every path, and the setters
    // copy the strings. No other thread uses Python yet.
    unsafe {
        let mut py_config = std::mem::zeroed::<ffi::PyConfig>();
        ffi::PyConfig_InitPythonConfig(&mut py_config);
        let result = fill(&mut py_config, config)
            .and_then(|()| check(ffi::Py_InitializeFromConfig(&py_config)));
        ffi::PyConfig_Clear(&mut py_config);
        result
    }
}

/// # Safety
/// `py_config` must be initialized.
unsafe fn fill(py_config: &mut ffi::PyConfig, config: &Config) -> Result<(), String> {
    #[cfg(Py_GIL_DISABLED)]
    if config.free_threading == FreeThreading::Off {
        py_config.enable_gil = 1;
    }
    py_config.install_signal_handlers = 0;
    py_config.parse_argv = 0;
    py_config.write_bytecode = config.write_bytecode.into();
    if config.optimize > 0 {
        py_config.optimization_level = config.optimize;
    }
    if let Some(seed) = config.hash_seed {
        py_config.use_hash_seed = 1;
        py_config.hash_seed = seed.into();
    }
    let default = DEFAULT_PYTHON.map(|path| path.as_bytes().to_vec());
    let program = config.program_name.clone().or(default);
    // SAFETY: initialized by contract; the setters copy their arguments.
    unsafe {
        let this: *mut ffi::PyConfig = py_config;
        if let Some(program) = program {
            set_string(this, &raw mut (*this).program_name, &program)?;
            set_string(this, &raw mut (*this).executable, &program)?;
        }
        if let Some(home) = &config.home {
            set_string(this, &raw mut (*this).home, home)?;
        }
        for warning in &config.warnings {
            let option = c_string(warning)?;
            let wide = ffi::Py_DecodeLocale(option.as_ptr(), std::ptr::null_mut());
            if wide.is_null() {
                return Err(format!(
                    "WSGIPythonWarnings: '{}' does not decode",
                    String::from_utf8_lossy(warning)
                ));
            }
            let status = ffi::PyWideStringList_Append(&raw mut (*this).warnoptions, wide);
            ffi::PyMem_RawFree(wide.cast());
            check(status)?;
        }
    }
    Ok(())
}

/// # Safety
/// `config` must be initialized, and `field` one of its strings.
unsafe fn set_string(
    config: *mut ffi::PyConfig,
    field: *mut *mut libc::wchar_t,
    value: &[u8],
) -> Result<(), String> {
    let value = c_string(value)?;
    // SAFETY: by contract.
    check(unsafe { ffi::PyConfig_SetBytesString(config, field, value.as_ptr()) })
}

fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes)
        .map_err(|_| format!("'{}' holds a NUL byte", String::from_utf8_lossy(bytes)))
}
