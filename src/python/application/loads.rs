//! What is being loaded: applications, and interpreters that are set up. Each load has a limit (`WSGIStartupTimeout`), which
//! the watchdog sees to (`watch::loads`).

use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wsgi_telemetry::clock;

use crate::application::script::Application;
use crate::cpython::interpreter::Interpreter;
use crate::request::state::RequestState;
use crate::request::{alarm, running};
use crate::sync::{Turn, Turns, lock};

/// What is loaded.
pub(crate) enum What {
    Application(&'static Application),
    /// The interpreters of the group of this name.
    Group(Vec<u8>),
}

/// One load.
pub(crate) struct Load {
    pub(crate) what: What,
    /// A stamp.
    pub(crate) began: u64,
    /// A stamp; never is `u64::MAX`.
    pub(crate) due: u64,
    /// The thread that loads, as CPython knows it.
    pub(crate) ident: c_ulong,
    /// The request that it loads for.
    pub(crate) request: Option<Arc<RequestState>>,
    is_overdue: AtomicBool,
    /// A thread has begun to log the stack.
    pub(crate) is_shown: AtomicBool,
    /// The stack is in the log.
    pub(crate) is_told: AtomicBool,
    is_over: AtomicBool,
}

static LOADS: Mutex<Vec<Arc<Load>>> = Mutex::new(Vec::new());

/// How many groups are not set up in time.
static GROUPS_OVERDUE: AtomicUsize = AtomicUsize::new(0);

/// To set up the interpreters of a group.
static GROUPS: Turns = Turns::new();

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

/// The turn of the calling thread to set up the interpreters of a group; `None` where it cannot be had in time.
pub(crate) fn turn_for_group(patience: Duration) -> Option<Turn<'static>> {
    GROUPS.take(patience, is_group_overdue)
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
    let hang = |load: &&Arc<Load>| load.is_overdue() && load.request.is_none();
    let found = lock(&LOADS).iter().filter(hang).count();
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// Whether one hangs in an interpreter for which `is_it`.
pub(crate) fn any_overdue(is_it: impl Fn(&'static Interpreter) -> bool) -> bool {
    let overdue = all().into_iter();
    let mut overdue = overdue.filter(|load| load.is_overdue());
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
            alarm::set(due);
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
        // Under the lock, as in `be_overdue`.
        if load.is_overdue() {
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
    pub(crate) fn is_overdue(&self) -> bool {
        self.is_overdue.load(Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// It takes longer than it may: threads that wait for it give up. `false` where it has ended meanwhile.
    pub(crate) fn be_overdue(&self) -> bool {
        let loads = lock(&LOADS);
        if self.is_over() {
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
            What::Group(_) => GROUPS.wake(),
        }
        true
    }

    /// The interpreter that it loads into.
    pub(crate) fn interpreter(&self) -> Option<&'static Interpreter> {
        match &self.what {
            What::Application(application) => Some(application.interpreter()),
            What::Group(_) => None,
        }
    }
}
