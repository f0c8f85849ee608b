//! The loads in progress: of applications, and of interpreters that are set up. Each load has a limit
//! (`WSGIStartupTimeout`), which the watchdog enforces (`watch::loads`).

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

/// The object of a load.
pub(crate) enum What {
    Application(&'static Application),
    /// The interpreters of the group of this name.
    Group(Vec<u8>),
}

/// One load.
pub(crate) struct Load {
    pub(crate) what: What,
    /// When the load began, as a stamp.
    pub(crate) began: u64,
    /// When the load is overdue, as a stamp; `u64::MAX` stands for never.
    pub(crate) due: u64,
    /// The thread that loads, as CPython knows it.
    pub(crate) ident: c_ulong,
    /// The request for which the thread loads.
    pub(crate) request: Option<Arc<RequestState>>,
    is_overdue: AtomicBool,
    /// Whether a thread has begun to log the stack.
    pub(crate) is_shown: AtomicBool,
    /// Whether the stack has been logged.
    pub(crate) is_told: AtomicBool,
    is_over: AtomicBool,
}

static LOADS: Mutex<Vec<Arc<Load>>> = Mutex::new(Vec::new());

/// How many groups are overdue in their set-up.
static GROUPS_OVERDUE: AtomicUsize = AtomicUsize::new(0);

/// The turns of threads to set up the interpreters of a group.
static GROUPS: Turns = Turns::new();

/// Stands for a load, until it is dropped.
pub(crate) struct Loading(Arc<Load>);

/// Begins the load of an application, on the calling thread.
pub(crate) fn begin(
    application: &'static Application,
    limit: Option<Duration>,
    request: Option<&RequestState>,
) -> Loading {
    Loading::new(What::Application(application), limit, request)
}

/// Begins the set-up of a group's interpreters, on the calling thread.
pub(crate) fn begin_group(
    group: &[u8],
    limit: Option<Duration>,
    request: Option<&RequestState>,
) -> Loading {
    Loading::new(What::Group(group.to_vec()), limit, request)
}

/// Waits for the turn of the calling thread to set up the interpreters of a group. Returns `None` if it does not come
/// in time.
pub(crate) fn turn_for_group(patience: Duration) -> Option<Turn<'static>> {
    GROUPS.take(patience, is_group_overdue)
}

/// Whether the set-up of some interpreters hangs. Groups are set up one after the other, so then no other group can be.
pub(crate) fn is_group_overdue() -> bool {
    GROUPS_OVERDUE.load(Relaxed) != 0
}

/// Returns all loads in progress.
pub(crate) fn all() -> Vec<Arc<Load>> {
    lock(&LOADS).clone()
}

/// Returns how many overdue loads are not for a request. Those for a request count with the requests that were given
/// up.
pub(crate) fn overdue_without_request() -> u32 {
    let hang = |load: &&Arc<Load>| load.is_overdue() && load.request.is_none();
    let found = lock(&LOADS).iter().filter(hang).count();
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// Whether a load hangs in an interpreter for which `is_it` holds.
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
            // SAFETY: may be called at any time.
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
        // Still under the lock, as in `be_overdue`.
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

    /// Marks the load as overdue, so that threads that wait for it give up. Returns `false` if it has ended.
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

    /// Returns the interpreter of an application that is loaded.
    pub(crate) fn interpreter(&self) -> Option<&'static Interpreter> {
        match &self.what {
            What::Application(application) => Some(application.interpreter()),
            What::Group(_) => None,
        }
    }
}
