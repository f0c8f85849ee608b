//! The interpreters of this process: the main one, those of application groups under its GIL, and replicas with GILs of
//! their own. An interpreter is never ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use pyo3::ffi;
use rustc_hash::FxHashMap;
use wsgi_abi::GroupOptions;
use wsgi_core::messages::Message;
use wsgi_telemetry::App;

use crate::application::script::Application;
use crate::cpython::object::{Attached, PyResult};
#[cfg(Py_3_14)]
use crate::cpython::threads;
use crate::cpython::{gil_clock, thread_state};
use crate::host;
use crate::request::log;
use crate::request::state::lock;
use crate::wsgi::module::State;
use crate::wsgi::setup;

/// How many interpreters a process may hold. Names can come from the `Host` header, and an interpreter is never
/// ended, so without a bound clients could fill the memory.
pub(crate) const MAX_INTERPRETERS: usize = 256;

/// One interpreter.
pub(crate) struct Interpreter {
    identity: Identity,
    number: u32,
    state: *mut ffi::PyInterpreterState,
    /// State of the `mod_wsgi` module in this interpreter.
    module: *mut State,
    /// The applications loaded into it, by script path.
    applications: ArcSwap<FxHashMap<Vec<u8>, &'static Application>>,
    /// Held to add an application; short.
    adding: Mutex<()>,
    /// How many requests are in it.
    inside: AtomicU32,
}

/// What an interpreter is to its application group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name of the group that it was made for; empty for the main interpreter.
    pub(crate) group: Vec<u8>,
    /// Which of the group's replicas it is, if these have GILs of their own.
    pub(crate) replica: Option<Replica>,
}

/// One of several interpreters that hold the same applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// From 0.
    pub(crate) index: u32,
    /// How many there are.
    pub(crate) of: u32,
}

impl Identity {
    /// The main interpreter.
    pub(crate) const MAIN: Identity = Identity {
        group: Vec::new(),
        replica: None,
    };

    /// For messages: "main interpreter", "sub-interpreter 'x'", or "interpreter 1 of 2 of application group 'x'".
    pub(crate) fn describe(&self) -> String {
        let group = String::from_utf8_lossy(&self.group);
        match self.replica {
            Some(Replica { index, of }) => {
                format!(
                    "interpreter {} of {of} of application group '{group}'",
                    index + 1
                )
            }
            None if group.is_empty() => String::from("main interpreter"),
            None => format!("sub-interpreter '{group}'"),
        }
    }
}

// SAFETY: the interpreter is never ended; `module` is only looked at by a thread that is attached to it.
unsafe impl Send for Interpreter {}
// SAFETY: as above.
unsafe impl Sync for Interpreter {}

/// All of them, in the order in which they were made.
static ALL: OnceLock<ArcSwap<Vec<&'static Interpreter>>> = OnceLock::new();
static NUMBERS: AtomicU32 = AtomicU32::new(0);

fn every() -> &'static ArcSwap<Vec<&'static Interpreter>> {
    ALL.get_or_init(ArcSwap::default)
}

impl Interpreter {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For messages, as [`Identity::describe`].
    pub(crate) fn describe(&self) -> String {
        self.identity.describe()
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyInterpreterState {
        self.state
    }

    /// State of the `mod_wsgi` module.
    pub(crate) fn module<'a>(&'a self, _py: &'a Attached<'_>) -> &'a State {
        // SAFETY: set when the interpreter was made, and as long-lived as it is. Whoever holds an attachment that
        // `thread_state::attach` made from this interpreter is its only user at the time.
        unsafe { &*self.module }
    }

    /// Gives what belongs to no request of this interpreter to `app`, unless another one was there before.
    pub(crate) fn adopt(&self, py: &Attached<'_>, app: App) {
        self.module(py).settle(app);
    }

    /// The applications there are.
    pub(crate) fn applications(&self) -> Vec<&'static Application> {
        self.applications.load().values().copied().collect()
    }

    /// The application of a script, which may not be loaded yet.
    /// `app` is its number in the segment's table, as far as the first one who asks knows.
    pub(crate) fn application(&'static self, script: &[u8], app: App) -> &'static Application {
        if let Some(found) = self.applications.load().get(script) {
            return found;
        }
        let _adding = lock(&self.adding);
        let known = self.applications.load_full();
        if let Some(found) = known.get(script) {
            return found;
        }
        let application: &'static Application =
            Box::leak(Box::new(Application::new(self, script, app)));
        let mut more = FxHashMap::clone(&known);
        more.insert(script.to_vec(), application);
        self.applications.store(Arc::new(more));
        application
    }

    /// How many requests are in it.
    pub(crate) fn inside(&self) -> u32 {
        self.inside.load(Ordering::Relaxed)
    }

    /// A request goes into it, until the result is dropped.
    pub(crate) fn enter(&self) -> Inside<'_> {
        self.inside.fetch_add(1, Ordering::Relaxed);
        Inside(self)
    }
}

/// A request that is in an interpreter.
pub(crate) struct Inside<'a>(&'a Interpreter);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Release);
    }
}

/// The main interpreter, once Python has been started.
pub(crate) fn main() -> Option<&'static Interpreter> {
    every().load().first().copied()
}

/// Every interpreter there is, the main one last.
pub(crate) fn all() -> Vec<&'static Interpreter> {
    every().load().iter().rev().copied().collect()
}

/// Sets up the interpreter that the calling thread is attached to, and makes it known.
pub(crate) fn register(
    py: &Attached<'_>,
    identity: Identity,
    options: &GroupOptions,
) -> PyResult<&'static Interpreter> {
    let module = setup::interpreter(py, &identity, options)?;
    let interpreter: &'static Interpreter = Box::leak(Box::new(Interpreter {
        identity,
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        // SAFETY: attached, so there is a current state, of this interpreter.
        state: unsafe { ffi::PyThreadState_GetInterpreter(ffi::PyThreadState_Get()) },
        module,
        applications: ArcSwap::default(),
        adding: Mutex::new(()),
        inside: AtomicU32::new(0),
    }));
    every().rcu(|known| {
        let mut more = Vec::clone(known);
        more.push(interpreter);
        more
    });
    Ok(interpreter)
}

/// Makes a sub-interpreter: a replica with its own GIL, else one that shares the GIL of the main one. The calling thread
/// must not be attached. Why it could not be made is in the log.
///
/// The thread that makes it must live as long as it, which from 3.14 on it does: whoever shows the stacks of all threads
/// (`faulthandler`) has the C library look at the thread of each state, and the first one stays. [S-32]
#[cfg(Py_3_14)]
pub(crate) fn make(
    main: &'static Interpreter,
    identity: Identity,
    options: &GroupOptions,
) -> Option<&'static Interpreter> {
    let (described, options) = (identity.describe(), *options);
    let made = threads::on_one_that_stays("wsgi-interpreter", move || {
        make_here(main, identity, &options)
    });
    made.unwrap_or_else(|| {
        let line = Message::InterpreterSetUp.line(&[&described]);
        let line = format!("{line}: there is no thread for it");
        host::log(log::level_of(Message::InterpreterSetUp), &line);
        None
    })
}

#[cfg(not(Py_3_14))]
pub(crate) use make_here as make;

/// As [`make`], on this thread.
pub(crate) fn make_here(
    main: &'static Interpreter,
    identity: Identity,
    options: &GroupOptions,
) -> Option<&'static Interpreter> {
    thread_state::attach(main, |_| {
        let _making = gil_clock::Loading::begin();
        // SAFETY: attached to the main interpreter. The state of the new interpreter is the current one afterwards,
        // whether or not under a GIL of its own; then the state of the main one is put back, so that the caller's
        // attachment ends as it began. [S-22]
        unsafe {
            let back = ffi::PyThreadState_Get();
            let state = match identity.replica {
                Some(_) => new_with_own_gil(),
                None => Ok(ffi::Py_NewInterpreter()),
            };
            let state = state.and_then(|state| match state.is_null() {
                true => Err(String::from("Python did not say why")),
                false => Ok(state),
            });
            if let Err(why) = state {
                let line = Message::InterpreterSetUp.line(&[&identity.describe()]);
                let line = format!("{line}: {why}");
                host::log(log::level_of(Message::InterpreterSetUp), &line);
                return None;
            }
            let made = in_new_interpreter(identity, options);
            // Its first state stays as nobody's: an interpreter must never be without one. [S-27]
            ffi::PyEval_SaveThread();
            ffi::PyEval_RestoreThread(back);
            made
        }
    })
}

/// # Safety
/// The calling thread must be attached to the main interpreter. On success it is attached to the new one instead.
#[cfg(Py_3_12)]
unsafe fn new_with_own_gil() -> Result<*mut ffi::PyThreadState, String> {
    let config = ffi::PyInterpreterConfig {
        use_main_obmalloc: 0,
        // CPython ends a process that was forked from an interpreter that is not the main one.
        allow_fork: 0,
        allow_exec: 0,
        allow_threads: 1,
        // They die with the process, as no interpreter is ever ended.
        allow_daemon_threads: 1,
        check_multi_interp_extensions: 1,
        gil: ffi::PyInterpreterConfig_OWN_GIL,
    };
    let mut state = std::ptr::null_mut();
    // SAFETY: attached by contract; both live during the call.
    let status = unsafe { ffi::Py_NewInterpreterFromConfig(&mut state, &config) };
    crate::lifecycle::runtime::check(status)?;
    Ok(state)
}

#[cfg(not(Py_3_12))]
unsafe fn new_with_own_gil() -> Result<*mut ffi::PyThreadState, String> {
    Err(String::from("this Python has one GIL for all interpreters"))
}

/// # Safety
/// The calling thread must be attached to the new interpreter.
unsafe fn in_new_interpreter(
    identity: Identity,
    options: &GroupOptions,
) -> Option<&'static Interpreter> {
    fn with<R>(work: impl for<'i> FnOnce(&Attached<'i>) -> R) -> R {
        // SAFETY: only called below, under the contract of the outer function; `'i` is fresh.
        work(&unsafe { Attached::assume() })
    }
    let described = identity.describe();
    with(|py| match register(py, identity, options) {
        Ok(interpreter) => Some(interpreter),
        Err(raised) => {
            let line = Message::InterpreterSetUp.line(&[&described]);
            log::log_raised(py, raised, None, Message::InterpreterSetUp, &line, None);
            None
        }
    })
}
