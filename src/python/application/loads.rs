//! What is being loaded: applications, and interpreters that are set up. Each load has a limit (`WSGIStartupTimeout`), which
//! the watchdog sees to, as a load that hangs waits for something that no thread of this process brings:
//!
//! 1. threads that wait for the load give up at once, and so does every later request, until the load ends after all;
//! 2. the request whose thread loads is answered without that thread;
//! 3. the stack of the thread is logged: with the GIL, or without it where it is not to be had;
//! 4. the host is asked to replace the child, again and again while the load goes on.

use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wsgi_abi::Retire;
use wsgi_core::messages::Message;
use wsgi_telemetry::clock;

use crate::admission::{group, run};
use crate::application::script::Application;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::Attached;
use crate::host;
use crate::request::log::level_of;
use crate::request::running;
use crate::request::state::{RequestState, lock};
use crate::watch::gil_probe;
use crate::watch::gil_probe::Task;
use crate::watch::{stacks, watchdog};

/// How long the GIL is waited for to show a stack, nanoseconds.
const WITH_GIL: u64 = 2_000_000_000;
/// How often the host is asked to replace the child, nanoseconds.
const COMPLAIN: u64 = 1_000_000_000;
/// How often it is seen whether the stack was logged, nanoseconds.
const SOON: u64 = 20_000_000;

/// What is loaded.
enum What {
    Application(&'static Application),
    /// The interpreters of the group of this name.
    Group(Vec<u8>),
}

/// One load.
pub(crate) struct Load {
    what: What,
    /// A stamp.
    began: u64,
    /// A stamp; never is `u64::MAX`.
    due: u64,
    /// The thread that loads, as CPython knows it.
    ident: c_ulong,
    /// The request that it loads for.
    request: Option<Arc<RequestState>>,
    is_overdue: AtomicBool,
    /// A thread has taken it on to log the stack, and has done so.
    is_shown: AtomicBool,
    is_told: AtomicBool,
    is_over: AtomicBool,
}

static LOADS: Mutex<Vec<Arc<Load>>> = Mutex::new(Vec::new());

/// How many groups are not set up in time.
static GROUPS_OVERDUE: AtomicUsize = AtomicUsize::new(0);

/// A load, until it is dropped.
pub(crate) struct Loading(Arc<Load>);

/// The calling thread begins to load an application.
pub(crate) fn begin(
    application: &'static Application,
    limit: Option<Duration>,
    request: Option<&RequestState>,
) -> Loading {
    Loading::new(What::Application(application), limit, request)
}

/// The calling thread begins to set up the interpreters of a group.
pub(crate) fn begin_group(
    group: &[u8],
    limit: Option<Duration>,
    request: Option<&RequestState>,
) -> Loading {
    Loading::new(What::Group(group.to_vec()), limit, request)
}

/// Whether the set-up of some interpreters hangs. As they are set up one group after the other, no other group can be.
pub(crate) fn is_group_overdue() -> bool {
    GROUPS_OVERDUE.load(Relaxed) != 0
}

/// All that go on.
pub(crate) fn all() -> Vec<Arc<Load>> {
    lock(&LOADS).clone()
}

/// How many of those that hang have no request that was given up for it.
pub(crate) fn overdue_without_request() -> u32 {
    let hang = |load: &&Arc<Load>| load.is_overdue.load(Relaxed) && load.request.is_none();
    let found = lock(&LOADS).iter().filter(hang).count();
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// Whether one hangs in an interpreter for which `is_it`.
pub(crate) fn any_overdue(is_it: impl Fn(&'static Interpreter) -> bool) -> bool {
    let overdue = all().into_iter();
    let mut overdue = overdue.filter(|load| load.is_overdue.load(Relaxed));
    overdue.any(|load| load.interpreter().is_some_and(&is_it))
}

impl Loading {
    fn new(what: What, limit: Option<Duration>, request: Option<&RequestState>) -> Self {
        let began = clock::now();
        let limit = limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        let due = limit.map_or(u64::MAX, |limit| began.saturating_add(limit));
        let load = Arc::new(Load {
            what,
            began,
            due,
            // SAFETY: always possible.
            ident: unsafe { libc::pthread_self() },
            request: request.and_then(running::find),
            is_overdue: AtomicBool::new(false),
            is_shown: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        lock(&LOADS).push(Arc::clone(&load));
        if due != u64::MAX {
            watchdog::watch(due);
        }
        Self(load)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let load = &self.0;
        let mut loads = lock(&LOADS);
        loads.retain(|other| !Arc::ptr_eq(other, load));
        load.is_over.store(true, Relaxed);
        // Under the lock, as the watchdog does when it finds one overdue.
        if load.is_overdue.load(Relaxed) {
            match &load.what {
                What::Application(application) => application.set_overdue(false),
                What::Group(_) => {
                    GROUPS_OVERDUE.fetch_sub(1, Relaxed);
                }
            }
        }
    }
}

impl Load {
    /// Does what is due, at `now`. Returns when to look again. By the watchdog.
    pub(crate) fn look(self: &Arc<Self>, now: u64) -> u64 {
        if now < self.due || run::is_closing() {
            return self.due.max(now + COMPLAIN);
        }
        if !self.is_overdue.load(Relaxed) && !self.be_overdue() {
            return u64::MAX;
        }
        if now >= self.due.saturating_add(WITH_GIL) {
            self.show_without_gil();
        }
        // First the stack: a child that is replaced has none.
        if !self.is_told.load(Relaxed) {
            return now + SOON;
        }
        host::retire(Retire::Startup);
        now + COMPLAIN
    }

    /// It hangs, as far as anybody can tell; not where it has ended meanwhile.
    fn be_overdue(self: &Arc<Self>) -> bool {
        let loads = lock(&LOADS);
        if self.is_over.load(Relaxed) {
            return false;
        }
        self.is_overdue.store(true, Relaxed);
        match &self.what {
            What::Application(application) => application.set_overdue(true),
            What::Group(_) => {
                GROUPS_OVERDUE.fetch_add(1, Relaxed);
            }
        }
        drop(loads);
        match &self.what {
            What::Application(application) => application.wake(),
            What::Group(_) => group::wake(),
        }
        match self.interpreter() {
            Some(interpreter) => {
                let task = Task::Show(Arc::clone(self));
                gil_probe::of(interpreter).ask(interpreter, task);
            }
            // It is not known yet, so its threads cannot be looked at.
            None => self.tell(None),
        }
        if let Some(request) = &self.request
            && request.give_up()
        {
            request.course().lose_place();
        }
        true
    }

    /// The interpreter that it loads into.
    fn interpreter(&self) -> Option<&'static Interpreter> {
        match &self.what {
            What::Application(application) => Some(application.interpreter()),
            What::Group(_) => None,
        }
    }

    /// Logs where its thread is.
    pub(crate) fn show(&self, py: &Attached<'_>) {
        if self.is_over.load(Relaxed) {
            return;
        }
        let stack = stacks::of_thread(py, self.ident);
        let none = || String::from("  (no Python code)");
        self.tell(Some(&stack.unwrap_or_else(none)));
    }

    /// The same where the GIL could not be had.
    fn show_without_gil(&self) {
        if !self.is_shown.load(Relaxed) && !self.is_over.load(Relaxed) {
            self.tell(Some(&stacks::dump_without_gil()));
        }
    }

    /// Logs that it hangs, once.
    fn tell(&self, stack: Option<&str>) {
        if self.is_shown.swap(true, Relaxed) {
            return;
        }
        let seconds = clock::now().saturating_sub(self.began) as f64 / 1e9;
        let seconds = format!("{seconds:.1}");
        let (message, line) = match &self.what {
            What::Application(application) => {
                let script = format!("WSGI script '{}'", application.script_text());
                let described = application.interpreter().describe();
                let message = Message::LoadOverdue;
                (message, message.line(&[&script, &described, &seconds]))
            }
            What::Group(name) => {
                let message = Message::InterpretersOverdue;
                let name = String::from_utf8_lossy(name);
                (message, message.line(&[&name, &seconds]))
            }
        };
        let level = level_of(message);
        host::log(level, &line);
        for line in stack.into_iter().flat_map(str::lines) {
            host::log(level, line);
        }
        self.is_told.store(true, Relaxed);
    }
}
