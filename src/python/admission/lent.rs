//! What threads lend each other. A thread lends its job to the thread that runs it, and waits. A thread that runs the
//! job of another lends it the response of its own job, so that no client waits for another client's request.

use std::sync::{Arc, Mutex};

use wsgi_abi::{RunOutcome, WriteEnd};
use wsgi_core::admission::limit::Limit;
use wsgi_telemetry::PhaseCell;

use crate::admission::share;
use crate::application::script::Application;
use crate::cpython::gil_clock;
use crate::metrics::telemetry;
use crate::request::slot::{self, Slot};
use crate::request::state::RequestState;
use crate::sync::lock;
use crate::wsgi::output::Done;
use crate::wsgi::perform::Job;

/// A job whose owner waits until it was run.
pub(super) struct Lent {
    job: *const Job<'static>,
    /// When the owner began to wait, as a stamp; 0 if nothing is measured.
    since: u64,
    /// Where the phase of the request is noted.
    shown: Option<PhaseCell>,
    /// The limits that the owner counts against.
    held: Vec<&'static Limit>,
    /// The executors that gave the owner its exclusive slots.
    slots: Vec<&'static dyn Slot>,
}

// SAFETY: only the thread that has taken the waiter uses the job, while its owner waits; everything the job points to
// is either not changed or may be used by any thread in turn. [S-31]
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// # Safety
    /// The caller must keep the job until the waiter that this is in has left the queue, was granted or is done.
    pub(super) unsafe fn new(job: &Job<'_>) -> Self {
        Self {
            job: std::ptr::from_ref(job).cast(),
            since: telemetry::now(),
            shown: gil_clock::shown(),
            held: share::held(),
            slots: slot::exclusive(),
        }
    }

    /// Returns the job.
    ///
    /// # Safety
    /// Only for the thread that has the waiter: from the semaphore until it has granted or finished it.
    pub(super) unsafe fn job(&self) -> &Job<'_> {
        // SAFETY: by contract.
        unsafe { &*self.job }
    }
}

impl Lent {
    /// Returns how long the owner waited until the stamp `until`, nanoseconds; 0 stands for now.
    pub(super) fn waited(&self, until: u64) -> u64 {
        let until = if until == 0 { telemetry::now() } else { until };
        until.saturating_sub(self.since)
    }

    /// Returns where the phase of the request is noted.
    pub(super) fn shown(&self) -> Option<PhaseCell> {
        self.shown
    }

    /// Returns the limits that the owner counts against.
    pub(super) fn held(&self) -> &[&'static Limit] {
        &self.held
    }

    /// Returns the executors that gave the owner its exclusive slots.
    pub(super) fn slots(&self) -> &[&'static dyn Slot] {
        &self.slots
    }
}

/// The unsent rest of a response, with the request that it belongs to.
pub(super) struct Owed {
    state: Arc<RequestState>,
    application: &'static Application,
    done: Done,
}

impl Owed {
    pub(super) fn new(job: &Job<'_>, done: Done) -> Self {
        Self {
            state: Arc::clone(job.state),
            application: job.application,
            done,
        }
    }

    /// Sends the rest at once, in place of the request's own thread, which does something else. The calling thread must
    /// not be attached.
    fn send_now(self) -> RunOutcome {
        self.state.finish();
        if self.state.is_given_up() {
            return RunOutcome::GivenUp;
        }
        // SAFETY: this stands in for the thread that runs the request, which does nothing for the request while this
        // sends. [S-31]
        let host = unsafe { self.state.host_after_finish() };
        let (application, state) = (self.application, &self.state);
        let outcome = self.done.send(host, application, state, WriteEnd::Leave);
        self.state.note_sent_elsewhere();
        outcome
    }
}

/// The unsent response of a thread that has begun to run the jobs of others.
pub(super) struct Unsent(Mutex<Debt>);

enum Debt {
    Owed(Owed),
    Sent(RunOutcome),
    /// Its own thread has taken it back.
    Returned,
}

impl Unsent {
    /// Sends the response in place of its own thread, which is busy.
    pub(super) fn send(&self) {
        let mut debt = lock(&self.0);
        if let Debt::Owed(_) = *debt
            && let Debt::Owed(owed) = std::mem::replace(&mut *debt, Debt::Returned)
        {
            *debt = Debt::Sent(owed.send_now());
        }
    }

    /// Waits while another thread sends the response, and takes back the rest. No other thread sends it afterwards.
    fn end(&self) -> Debt {
        std::mem::replace(&mut *lock(&self.0), Debt::Returned)
    }
}

/// The unsent response, for its own thread. After this is dropped, also by a panic, no other thread sends it, because
/// the host may have forgotten the request by then.
pub(super) struct OwnUnsent(Arc<Unsent>);

impl OwnUnsent {
    pub(super) fn new(owed: Owed) -> Self {
        Self(Arc::new(Unsent(Mutex::new(Debt::Owed(owed)))))
    }

    /// Returns a reference for a thread that waits for a job which this thread runs.
    pub(super) fn lend(&self) -> Arc<Unsent> {
        Arc::clone(&self.0)
    }

    /// Returns what is still to be sent, or the outcome if it was sent. Called once the thread has left Python.
    pub(super) fn take_back(self) -> Done {
        match self.0.end() {
            Debt::Owed(owed) => owed.done,
            Debt::Sent(outcome) => Done::Final(outcome),
            // Only if sending has panicked.
            Debt::Returned => Done::Final(RunOutcome::Failed),
        }
    }
}

impl Drop for OwnUnsent {
    fn drop(&mut self) {
        self.0.end();
    }
}
