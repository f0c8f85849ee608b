//! WSGI scripts as Python modules: loaded once per interpreter, and loaded again when the file has changed.
//!
//! A thread that needs a script which another thread is loading waits for it, with the GIL released and for a bounded
//! time. Only threads that need the same script in the same interpreter wait; there is no process-wide lock.

use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use md5::{Digest, Md5};
use pyo3::ffi;
use wsgi_abi::Retire;
use wsgi_core::files::{ReadProblem, read_regular};
use wsgi_core::messages::Message;
use wsgi_telemetry::{App, clock};

use crate::application::endings::Endings;
use crate::application::free_threading::{self, GilWatch};
use crate::application::gil_trial::GilTrial;
use crate::application::{loads, refusal};
use crate::cpython::gil_clock::LoadTimer;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult, Raised, Stored};
use crate::cpython::traceback::is_system_exit;
use crate::cpython::{forked, thread_state};
use crate::host::{self, Level};
use crate::metrics::application_state::ApplicationState;
use crate::process;
use crate::request::log::{log_message, log_traceback};
use crate::request::state::RequestState;
use crate::sync::{GilCell, Turns, lock};

/// Longest time between two tries to load a replica, seconds.
const MOST_PATIENT: u64 = 60;

/// One script in one interpreter.
pub(crate) struct Application {
    interpreter: &'static Interpreter,
    script: Vec<u8>,
    /// The name of the module.
    module_name: CString,
    /// The module that is served. Only used while attached to `interpreter`.
    current: GilCell<Option<Module>>,
    /// The turns of threads to load the script.
    turns: Turns,
    /// The metrics' record of the application, and whether it is loaded.
    state: ApplicationState,
    /// How many loads in a row have failed.
    failures: AtomicU32,
    /// When a load is tried again without a request, as a stamp.
    due: AtomicU64,
    /// Whether a request of the application has waited for its client before the application was done.
    waited: AtomicBool,
    /// How the application's iterables end.
    endings: Endings,
    is_new: AtomicBool,
    /// Whether a load of the application hangs.
    is_overdue: AtomicBool,
    /// The modification time of the file that could not be loaded; [`NEVER`] if there was none.
    failed: AtomicI64,
    /// Whether a successor of this process was asked for.
    has_asked: AtomicBool,
    terms: OnceLock<LoadTerms>,
}

/// The terms that the group of an application sets for its loads.
#[derive(Clone, Copy)]
pub(crate) struct LoadTerms {
    /// `WSGIStartupTimeout`.
    pub(crate) load: Option<Duration>,
    /// `WSGIQueue timeout=`: how long a request waits for the load of another thread, measured from its arrival.
    pub(crate) wait: Duration,
    pub(crate) trial: &'static GilTrial,
}

/// Returns how long a request may still wait for the load of another thread; `wait` is measured from its arrival.
pub(crate) fn left_to_wait(wait: Duration, request: &RequestState) -> Duration {
    wait.saturating_sub(request.deadline().since_arrival(clock::now()))
}

/// Stands for no modification time.
const NEVER: i64 = i64::MIN;

/// The largest size of a script, bytes.
const LONGEST_SCRIPT: u64 = 64 << 20;

// SAFETY: only threads that are attached to the interpreter use `current`, in single steps.
unsafe impl Send for Application {}
// SAFETY: as above.
unsafe impl Sync for Application {}

struct Module {
    object: Stored,
    /// Modification time in microseconds since the epoch; `None` if it is unknown.
    mtime: Option<i64>,
}

/// The conditions under which a request takes a loaded script.
pub(crate) struct Wanted<'a> {
    /// The modification time that httpd has found; `None` if it has to be looked up.
    pub(crate) mtime: Option<i64>,
    /// Whether to load a changed script again.
    pub(crate) reloading: bool,
    /// The argument of `reload_required`; `None` if the function is not called.
    pub(crate) resource: Option<&'a [u8]>,
    /// How long to wait for another thread.
    pub(crate) timeout: Duration,
}

/// Why there is no module. The log has the reason, unless the group logs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotLoaded {
    /// The script failed. A replica tries to load it again after `again` seconds.
    Failed { again: Option<u64> },
    /// Another thread did not finish in time.
    TimedOut,
    /// This module refuses such an interpreter, and the group may move to another one.
    Refused(String),
}

impl NotLoaded {
    const FAILED: Self = Self::Failed { again: None };
}

/// All applications of all interpreters.
static ALL: Mutex<Vec<&'static Application>> = Mutex::new(Vec::new());

/// Returns all applications of all interpreters.
pub(crate) fn all() -> Vec<&'static Application> {
    lock(&ALL).clone()
}

/// Returns the applications of an interpreter.
pub(crate) fn all_in(interpreter: &'static Interpreter) -> Vec<&'static Application> {
    let mut all = all();
    all.retain(|application| std::ptr::eq(application.interpreter, interpreter));
    all
}

/// Returns the application of a script in an interpreter, which may not be loaded yet. `app` is its number in the
/// segment's table, as far as the first caller knows.
pub(crate) fn of(
    interpreter: &'static Interpreter,
    script: &[u8],
    app: App,
    terms: LoadTerms,
) -> &'static Application {
    let mut all = lock(&ALL);
    let mut known = all.iter();
    let is_it = |known: &&&'static Application| {
        std::ptr::eq(known.interpreter, interpreter) && known.script == script
    };
    let application = match known.find(is_it) {
        Some(known) => known,
        None => {
            let new: &'static Application =
                Box::leak(Box::new(Application::new(interpreter, script, app)));
            all.push(new);
            new
        }
    };
    application.terms.get_or_init(|| terms);
    application
}

impl Application {
    fn new(interpreter: &'static Interpreter, script: &[u8], app: App) -> Self {
        let digest = Md5::digest(script);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            interpreter,
            script: script.to_vec(),
            module_name: CString::new(format!("_mod_wsgi_{hex}")).unwrap_or_default(),
            current: GilCell::new(None),
            turns: Turns::new(),
            state: ApplicationState::new(app),
            failures: AtomicU32::new(0),
            due: AtomicU64::new(0),
            waited: AtomicBool::new(false),
            endings: Endings::default(),
            is_new: AtomicBool::new(true),
            is_overdue: AtomicBool::new(false),
            failed: AtomicI64::new(NEVER),
            has_asked: AtomicBool::new(false),
            terms: OnceLock::new(),
        }
    }

    /// Whether no load of the application has ended so far.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new.load(Relaxed)
    }

    /// Whether a load of the application hangs: it is overdue, and has not ended.
    pub(crate) fn is_overdue(&self) -> bool {
        self.is_overdue.load(Relaxed)
    }

    pub(crate) fn set_overdue(&self, is_overdue: bool) {
        self.is_overdue.store(is_overdue, Relaxed);
    }

    /// Wakes the threads that wait for the load, so that they see that it hangs.
    pub(crate) fn wake(&self) {
        self.turns.wake();
    }

    /// Returns the interpreter.
    pub(crate) fn interpreter(&self) -> &'static Interpreter {
        self.interpreter
    }

    /// Returns the path of the script.
    pub(crate) fn path(&self) -> &[u8] {
        &self.script
    }

    /// Returns the path of the script, for messages.
    pub(crate) fn script_text(&self) -> String {
        String::from_utf8_lossy(&self.script).into_owned()
    }

    /// Returns the metrics' record of the application.
    pub(crate) fn state(&self) -> &ApplicationState {
        &self.state
    }

    /// Whether a request of the application has waited for its client before the application was done, by streaming or
    /// for a body.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited.load(Relaxed)
    }

    /// Returns how the application's iterables end.
    pub(crate) fn endings(&self) -> &Endings {
        &self.endings
    }

    /// Notes that a request of the application has waited for its client.
    pub(crate) fn note_waited(&self) {
        self.waited.store(true, Relaxed);
    }

    /// Whether another load is due at the stamp `now`.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.due.load(Relaxed)
    }

    /// Loads the application without a request, if it is not loaded. The calling thread must not be attached.
    pub(crate) fn load_ahead(&'static self) -> Result<(), NotLoaded> {
        let wanted = Wanted {
            mtime: None,
            reloading: false,
            resource: None,
            timeout: Duration::from_secs(60),
        };
        if process::is_closing() {
            return Err(NotLoaded::FAILED);
        }
        // Keeps Python from ending during the load.
        let _inside = self.interpreter.enter();
        thread_state::attach(self.interpreter, |py| {
            self.module(py, &wanted, None).map(drop)
        })
    }

    /// Returns the module, after loading it if necessary.
    pub(crate) fn module<'i>(
        &'static self,
        py: &Attached<'i>,
        wanted: &Wanted<'_>,
        request: Option<&RequestState>,
    ) -> Result<Obj<'i>, NotLoaded> {
        if let Some(module) = self.usable(py, wanted, request) {
            return Ok(module);
        }
        if wanted.reloading && self.is_other_than_failed(py, wanted) {
            self.ask_for_successor(request);
        }
        let patience = self.patience(wanted, request);
        let turn = py.detach(|| self.turns.take(patience, || self.is_overdue()));
        let Some(_turn) = turn else {
            // If the load hangs, one line in the log is enough.
            if !self.is_overdue() {
                let line = Message::LoadTimedOut.line(&[&patience.as_secs(), &self.script_text()]);
                log_message(request, Message::LoadTimedOut, &line);
            }
            return Err(NotLoaded::TimedOut);
        };
        // Another thread may have loaded the script while this one waited, from a file that is newer than `wanted`
        // knows.
        let now = Wanted {
            mtime: None,
            ..*wanted
        };
        if let Some(module) = self.usable(py, &now, request) {
            return Ok(module);
        }
        match self.load(py, request) {
            // The group has to learn of the refusal in any case.
            Err(NotLoaded::Refused(module)) => Err(NotLoaded::Refused(module)),
            // The client was already answered, because the load took too long.
            _ if request.is_some_and(RequestState::is_given_up) => Err(NotLoaded::TimedOut),
            loaded => loaded,
        }
    }

    /// Returns how long to wait for the load of another thread.
    fn patience(&self, wanted: &Wanted<'_>, request: Option<&RequestState>) -> Duration {
        let (Some(terms), Some(request)) = (self.terms.get(), request) else {
            return wanted.timeout;
        };
        wanted.timeout.min(left_to_wait(terms.wait, request))
    }

    /// Returns the loaded module, unless it has to be loaded again.
    fn usable<'i>(
        &self,
        py: &Attached<'i>,
        wanted: &Wanted<'_>,
        request: Option<&RequestState>,
    ) -> Option<Obj<'i>> {
        let (module, mtime_then) = self.current.with(|current| {
            let current = current.as_ref()?;
            Some((current.object.get(py)?, current.mtime))
        })?;
        if !wanted.reloading {
            return Some(module);
        }
        let mtime = wanted.mtime.or_else(|| self.stat(py));
        let asks = |resource| self.reload_required(py, &module, resource, request);
        let is_outdated =
            mtime.is_none() || mtime != mtime_then || wanted.resource.is_some_and(asks);
        if !is_outdated {
            return Some(module);
        }
        if !process::is_in_group() {
            return None;
        }
        // Until the successor takes the requests, which then has all modules of the new code.
        self.ask_for_successor(request);
        Some(module)
    }

    /// Whether this process of a group has failed to load the script, which has changed since: what the failed load has
    /// left behind must not become a part of the new code.
    fn is_other_than_failed(&self, py: &Attached<'_>, wanted: &Wanted<'_>) -> bool {
        let failed = self.failed.load(Relaxed);
        process::is_in_group()
            && failed != NEVER
            && wanted
                .mtime
                .or_else(|| self.stat(py))
                .is_some_and(|mtime| mtime != failed)
    }

    /// Asks, once, for a successor of this process of a group, because the script has changed or asks for it.
    fn ask_for_successor(&self, request: Option<&RequestState>) {
        if self.has_asked.swap(true, Relaxed) {
            return;
        }
        let line = format!(
            "WSGI script '{}' has changed or asks for a reload; a successor of this process takes up the new code",
            self.script_text()
        );
        match request {
            Some(request) => request.log_line(Level::Info, line.as_bytes()),
            None => host::log(Level::Info, &line),
        }
        self.state.count_reload();
        host::retire(Retire::Source);
    }

    /// Calls `reload_required()` of the script, if it has that function.
    fn reload_required<'i>(
        &self,
        py: &Attached<'i>,
        module: &Obj<'i>,
        resource: &[u8],
        request: Option<&RequestState>,
    ) -> bool {
        let name = py.state().names.reload_required.get(py);
        let function = module
            .module_dict(py)
            .and_then(|dict| dict.item_named(py, &name));
        let asked = function.and_then(|function| match function {
            Some(function) => function.call(py, [&py.fs_path(resource)?])?.is_true(),
            None => Ok(false),
        });
        forked::ends(py);
        asked.unwrap_or_else(|raised| {
            let line = format!(
                "reload_required() of WSGI script '{}' raised; no reload",
                self.script_text()
            );
            match request {
                Some(request) => request.log_line(Level::Error, line.as_bytes()),
                None => host::log(Level::Error, &line),
            }
            if let Some(exception) = py.take(raised) {
                log_traceback(py, &exception, request);
            }
            false
        })
    }

    fn is_loaded(&self) -> bool {
        self.current.with(|current| current.is_some())
    }

    fn stat(&self, py: &Attached<'_>) -> Option<i64> {
        py.detach(|| mtime(self.file()))
    }

    fn file(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.script))
    }

    fn load<'i>(
        &'static self,
        py: &Attached<'i>,
        request: Option<&RequestState>,
    ) -> Result<Obj<'i>, NotLoaded> {
        if free_threading::refuses(&self.script, request) {
            return Err(NotLoaded::FAILED);
        }
        let verb = if self.is_loaded() {
            "Reloading"
        } else {
            "Loading"
        };
        let line = format!(
            "{verb} WSGI script '{}' into {} {}",
            self.script_text(),
            self.interpreter.describe(),
            process::mode()
        );
        match request {
            Some(request) => request.log_line(Level::Info, line.as_bytes()),
            None => host::log(Level::Info, &line),
        }
        let reload = self.is_loaded();
        let loading = LoadTimer::begin();
        let watched = GilWatch::begin(py);
        py.state().settle(self.state.app());
        self.state.begin_load(reload);
        let limit = self.terms.get().and_then(|terms| terms.load);
        let limited = loads::begin(self, limit, request);
        // The modification time belongs to the very file that is read.
        let read = py.detach(|| read_regular(self.file(), LONGEST_SCRIPT));
        let (source, mtime) = match read {
            Ok((source, found)) => (Ok(source), modified(&found)),
            Err(problem) => (Err(problem), None),
        };
        let loaded = source
            .map_err(|problem| {
                if let ReadProblem::Kind(kind) = problem {
                    let line = Message::NotAFile.line(&[&self.script_text(), &kind]);
                    log_message(request, Message::NotAFile, &line);
                }
                let text = format!("{problem}: '{}'", self.script_text());
                (py.raise(ExceptionClass::Os, &text), false)
            })
            .and_then(|source| self.compile(py, &source).map_err(|raised| (raised, false)))
            .and_then(|code| {
                self.execute(py, &code, mtime)
                    .map_err(|raised| (raised, true))
            });
        let refused = loaded.is_ok() && {
            watched.end(py, &self.script);
            free_threading::refuses(&self.script, request)
        };
        drop(limited);
        self.state
            .end_load(loaded.is_ok() && !refused, loading.elapsed());
        self.is_new.store(false, Relaxed);
        match loaded {
            Ok(_) if refused => {
                self.exchange(py, None);
                Err(NotLoaded::FAILED)
            }
            Ok(module) => {
                let new = Some(Module {
                    object: Stored::new(py, module.clone()),
                    mtime,
                });
                self.exchange(py, new);
                self.failures.store(0, Relaxed);
                if let Some(trial) = self.trial() {
                    trial.loaded();
                }
                Ok(module)
            }
            Err((raised, executed)) => {
                let refusal = self.log_failure(py, raised, executed, request);
                watched.end(py, &self.script);
                // As in mod_wsgi, the previous module does not come back.
                self.exchange(py, None);
                self.failed.store(mtime.unwrap_or(NEVER), Relaxed);
                Err(self.not_loaded(refusal))
            }
        }
    }

    /// Replaces the loaded module.
    fn exchange(&self, py: &Attached<'_>, new: Option<Module>) {
        let old = self.current.with(|current| std::mem::replace(current, new));
        if let Some(old) = old {
            drop(old.object.take(py));
        }
    }

    /// Returns what the group knows about interpreters with their own GIL, if this is one of several replicas.
    fn trial(&self) -> Option<&'static GilTrial> {
        let terms = self.interpreter.identity().replica.and(self.terms.get());
        terms.map(|terms| terms.trial)
    }

    /// Returns what follows from a failed load. A replica is tried again after a while, unless its group moves to
    /// another interpreter.
    fn not_loaded(&self, refusal: Option<String>) -> NotLoaded {
        let Some(trial) = self.trial() else {
            return NotLoaded::FAILED;
        };
        match refusal {
            Some(module) if trial.may_fall_back() => return NotLoaded::Refused(module),
            Some(_) => {}
            None => trial.undecided(),
        }
        let failures = self.failures.fetch_add(1, Relaxed);
        let seconds = (1_u64 << failures.min(6)).min(MOST_PATIENT);
        self.due
            .store(clock::now() + seconds * 1_000_000_000, Relaxed);
        NotLoaded::Failed {
            again: Some(seconds),
        }
    }

    fn compile<'i>(&self, py: &Attached<'i>, source: &[u8]) -> PyResult<Obj<'i>> {
        let compile = py.import(c"builtins")?.attr(py, c"compile")?;
        let source = py.bytes(source)?;
        let path = py.fs_path(&self.script)?;
        let flags = py.int(0)?;
        // The Python function compile(), because it reads the encoding of the source and refuses NUL bytes.
        compile.call(
            py,
            [&source, &path, &py.str("exec")?, &flags, &py.bool(true)],
        )
    }

    fn execute<'i>(
        &self,
        py: &Attached<'i>,
        code: &Obj<'i>,
        mtime: Option<i64>,
    ) -> PyResult<Obj<'i>> {
        let name = py.latin1(self.module_name.as_bytes())?;
        let path = py.fs_path(&self.script)?;
        // SAFETY: attached; the arguments are alive. A module of that name is removed first, so that the script gets a
        // new one; it stays removed if the execution fails.
        unsafe {
            let modules = ffi::PyImport_GetModuleDict();
            if ffi::PyDict_DelItem(modules, name.as_ptr()) != 0 {
                ffi::PyErr_Clear();
            }
            let module = py.own(ffi::PyImport_ExecCodeModuleObject(
                name.as_ptr(),
                code.as_ptr(),
                path.as_ptr(),
                std::ptr::null_mut(),
            ));
            forked::ends(py);
            let module = module?;
            if let Some(mtime) = mtime {
                module.set_attr(c"__mtime__", &py.int(mtime)?)?;
            }
            Ok(module)
        }
    }

    /// Logs a failed load. Returns the package that refuses this kind of interpreter, if that is the reason.
    fn log_failure(
        &self,
        py: &Attached<'_>,
        raised: Raised,
        executed: bool,
        request: Option<&RequestState>,
    ) -> Option<String> {
        let exception = py.take(raised)?;
        let ahead = request.is_none();
        if executed && process::is_service() && is_system_exit(&exception) {
            let line = format!(
                "WSGI script '{}' has ended by SystemExit",
                self.script_text()
            );
            host::log(Level::Info, &line);
            return None;
        }
        let message = match (executed, is_system_exit(&exception), ahead) {
            (false, _, false) => Message::ScriptLoad,
            (false, _, true) => Message::ImportScriptLoad,
            (true, true, false) => Message::ScriptSystemExit,
            (true, true, true) => Message::ImportScriptSystemExit,
            (true, false, false) => Message::ScriptException,
            (true, false, true) => Message::ImportScriptException,
        };
        let refusal = refusal::find(py, &exception);
        let may_fall_back = self.trial().is_some_and(GilTrial::may_fall_back);
        if refusal.is_some() && may_fall_back {
            // The group moves to another interpreter and logs why; the application may well load there.
            return refusal.map(|refusal| refusal.describe());
        }
        log_message(request, message, &message.line(&[&self.script_text()]));
        if !is_system_exit(&exception) {
            log_traceback(py, &exception, request);
        }
        let refusal = refusal?;
        let described = self.interpreter.describe();
        refusal::report(&refusal, &self.script_text(), &described, request);
        Some(refusal.describe())
    }
}

/// Returns the modification time of a file, in microseconds since the epoch.
fn mtime(path: &Path) -> Option<i64> {
    modified(&std::fs::metadata(path).ok()?)
}

fn modified(found: &Metadata) -> Option<i64> {
    let modified = found.modified().ok()?;
    i64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
}
