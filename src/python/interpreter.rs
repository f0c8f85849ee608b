//! The interpreters of this process: the main one, and one sub-interpreter for each other application group.
//!
//! An interpreter is made when its group is first used and never ended. The set is read without a lock; making a
//! new one takes a lock that is only waited for with the GIL released.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use pyo3::ffi;
use wsgi_core::outcome::Message;
use wsgi_telemetry::App;

use crate::host;
use crate::object::{Attached, PyResult};
use crate::request::lock;
use crate::script::Application;
use crate::types::State;
use crate::{errors, setup, thread_state, visit};

/// How many interpreters a process may hold. Names can come from the `Host` header, and an interpreter is never
/// ended, so without a bound clients could fill the memory.
const MAX_INTERPRETERS: usize = 256;

/// One interpreter.
pub(crate) struct Interpreter {
    name: Vec<u8>,
    number: u32,
    state: *mut ffi::PyInterpreterState,
    /// State of the `mod_wsgi` module in this interpreter.
    module: *mut State,
    /// The applications loaded into it, by script path.
    applications: ArcSwap<HashMap<Vec<u8>, &'static Application>>,
    /// Held to add an application; short.
    adding: Mutex<()>,
}

// SAFETY: the interpreter is never ended; `module` is only looked at by a thread that is attached to it.
unsafe impl Send for Interpreter {}
// SAFETY: as above.
unsafe impl Sync for Interpreter {}

struct Registry {
    all: ArcSwap<HashMap<Vec<u8>, &'static Interpreter>>,
    /// Held while an interpreter is made; how many could not be set up, which are there nevertheless.
    making: Mutex<usize>,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();
static NUMBERS: AtomicU32 = AtomicU32::new(0);

fn registry() -> &'static Registry {
    REGISTRY.get_or_init(|| Registry {
        all: ArcSwap::from_pointee(HashMap::new()),
        making: Mutex::new(0),
    })
}

impl Interpreter {
    /// Name of the application group; empty for the main interpreter.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// For messages: "main interpreter" or "sub-interpreter 'x'".
    pub(crate) fn describe(&self) -> String {
        describe(&self.name)
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
        let home = &self.module(py).home;
        if home.get() == App::OTHER {
            home.set(app);
        }
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
        let mut more = HashMap::clone(&known);
        more.insert(script.to_vec(), application);
        self.applications.store(Arc::new(more));
        application
    }
}

/// For messages.
pub(crate) fn describe(name: &[u8]) -> String {
    if name.is_empty() {
        String::from("main interpreter")
    } else {
        format!("sub-interpreter '{}'", String::from_utf8_lossy(name))
    }
}

/// The interpreter of a group, made if this is its first use. The calling thread must not be attached. Why it could
/// not be made is in the log.
pub(crate) fn of_group(name: &[u8]) -> Option<&'static Interpreter> {
    let registry = registry();
    if let Some(found) = registry.all.load().get(name) {
        return Some(found);
    }
    let mut failed = lock(&registry.making);
    let known = registry.all.load_full();
    if let Some(found) = known.get(name) {
        return Some(found);
    }
    if known.len() + *failed >= MAX_INTERPRETERS {
        let line =
            Message::TooManyInterpreters.line(&[&MAX_INTERPRETERS, &String::from_utf8_lossy(name)]);
        host::log(errors::level_of(Message::TooManyInterpreters), &line);
        return None;
    }
    let main = known.get(&b""[..])?;
    let made = make(main, name);
    *failed += usize::from(made.is_none());
    made
}

/// Every interpreter there is, the main one last.
pub(crate) fn all() -> Vec<&'static Interpreter> {
    let mut all: Vec<_> = registry().all.load().values().copied().collect();
    all.sort_by_key(|interpreter| std::cmp::Reverse(interpreter.number));
    all
}

/// Registers the interpreter that the calling thread is attached to as the group `name`, after setting it up.
pub(crate) fn register(py: &Attached<'_>, name: &[u8]) -> PyResult<&'static Interpreter> {
    let module = setup::interpreter(py, name)?;
    let interpreter: &'static Interpreter = Box::leak(Box::new(Interpreter {
        name: name.to_vec(),
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        // SAFETY: attached, so there is a current state, of this interpreter.
        state: unsafe { ffi::PyThreadState_GetInterpreter(ffi::PyThreadState_Get()) },
        module,
        applications: ArcSwap::from_pointee(HashMap::new()),
        adding: Mutex::new(()),
    }));
    let registry = registry();
    let mut more = HashMap::clone(&registry.all.load_full());
    more.insert(name.to_vec(), interpreter);
    registry.all.store(Arc::new(more));
    Ok(interpreter)
}

/// Makes a sub-interpreter that shares the GIL of the main one.
fn make(main: &'static Interpreter, name: &[u8]) -> Option<&'static Interpreter> {
    thread_state::attach(main, |_| {
        let _making = visit::Loading::begin();
        // SAFETY: attached to the main interpreter. Py_NewInterpreter makes the state of the new interpreter the
        // current one, under the same GIL; afterwards the state of the main one is put back, so that the caller's
        // attachment ends as it began. [S-22]
        unsafe {
            let back = ffi::PyThreadState_Get();
            let state = ffi::Py_NewInterpreter();
            if state.is_null() {
                let line = Message::InterpreterSetUp.line(&[&describe(name)]);
                host::log(errors::level_of(Message::InterpreterSetUp), &line);
                return None;
            }
            let made = in_new_interpreter(name);
            ffi::PyEval_SaveThread();
            // A thread keeps one state on 3.10 and 3.11, and this one goes back to the main interpreter now; the new
            // state stays as the one that an interpreter must have.
            #[cfg(Py_3_12)]
            if let Some(interpreter) = made {
                thread_state::adopt(interpreter, state);
            }
            ffi::PyEval_RestoreThread(back);
            made
        }
    })
}

/// # Safety
/// The calling thread must be attached to the new interpreter.
unsafe fn in_new_interpreter(name: &[u8]) -> Option<&'static Interpreter> {
    fn with<R>(work: impl for<'i> FnOnce(&Attached<'i>) -> R) -> R {
        // SAFETY: only called below, under the contract of the outer function; `'i` is fresh.
        work(&unsafe { Attached::assume() })
    }
    with(|py| match register(py, name) {
        Ok(interpreter) => Some(interpreter),
        Err(raised) => {
            let line = Message::InterpreterSetUp.line(&[&describe(name)]);
            errors::log_raised(py, raised, None, Message::InterpreterSetUp, &line, None);
            None
        }
    })
}
