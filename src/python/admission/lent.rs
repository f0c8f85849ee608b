//! What threads lend each other: a job to the thread that runs it, while its owner waits; and the response of a thread that
//! runs the job of another one, to that one, so that no client waits for another client's request.

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
    /// When its owner began to wait, as a stamp; 0 where nothing is measured.
    since: u64,
    /// Where the phase of its request is noted.
    shown: Option<PhaseCell>,
    /// What its owner counts against.
    held: Vec<&'static Limit>,
    /// What gave its owner its exclusive slots.
    slots: Vec<&'static dyn Slot>,
}

// SAFETY: only the thread that has taken the waiter looks at the job, while its owner waits; all that it points to is either
// not changed or may be used by any thread in turn. [S-31]
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

    /// The job.
    ///
    /// # Safety
    /// Only for the thread that has the waiter: from the semaphore until it has granted or finished it.
    pub(super) unsafe fn job(&self) -> &Job<'_> {
        // SAFETY: by contract.
        unsafe { &*self.job }
    }
}

impl Lent {
    /// How long its owner has waited, until that stamp; 0 for now.
    pub(super) fn waited(&self, until: u64) -> u64 {
        let until = if until == 0 { telemetry::now() } else { until };
        until.saturating_sub(self.since)
    }

    /// Where the phase of its request is noted.
    pub(super) fn shown(&self) -> Option<PhaseCell> {
        self.shown
    }

    /// What its owner counts against.
    pub(super) fn held(&self) -> &[&'static Limit] {
        &self.held
    }

    /// What gave its owner its exclusive slots.
    pub(super) fn slots(&self) -> &[&'static dyn Slot] {
        &self.slots
    }
}

/// What a request has left to be sent, and whose it is.
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

    /// Sends it at once, in place of the thread whose request it is and which does something else meanwhile. The calling
    /// thread must not be attached.
    fn send_now(self) -> RunOutcome {
        self.state.finish();
        if self.state.is_given_up() {
            return RunOutcome::GivenUp;
        }
        // SAFETY: in place of the thread that runs the request, which does nothing for it meanwhile. [S-31]
        let host = unsafe { self.state.host_after_finish() };
        let (application, state) = (self.application, &self.state);
        let outcome = self.done.send(host, application, state, WriteEnd::Leave);
        self.state.note_sent_elsewhere();
        outcome
    }
}

/// The response of a thread that has begun to run the jobs of others before it has sent it.
pub(super) struct Unsent(Mutex<Debt>);

enum Debt {
    Owed(Owed),
    Sent(RunOutcome),
    /// Its own thread has it back.
    Returned,
}

impl Unsent {
    /// Sends it in place of its thread, which is busy.
    pub(super) fn send(&self) {
        let mut debt = lock(&self.0);
        if let Debt::Owed(_) = *debt
            && let Debt::Owed(owed) = std::mem::replace(&mut *debt, Debt::Returned)
        {
            *debt = Debt::Sent(owed.send_now());
        }
    }

    /// Waits for another thread that sends it. No other thread sends it afterwards.
    fn end(&self) -> Debt {
        std::mem::replace(&mut *lock(&self.0), Debt::Returned)
    }
}

/// What is unsent, for its own thread. Once this is gone, also by a panic, no other thread sends it, as the host may have
/// forgotten the request by then.
pub(super) struct OwnUnsent(Arc<Unsent>);

impl OwnUnsent {
    pub(super) fn new(owed: Owed) -> Self {
        Self(Arc::new(Unsent(Mutex::new(Debt::Owed(owed)))))
    }

    /// For a thread that waits for a job which this thread runs.
    pub(super) fn lend(&self) -> Arc<Unsent> {
        Arc::clone(&self.0)
    }

    /// Once the thread has left Python: what is still to be sent, or what became of that.
    pub(super) fn take_back(self) -> Done {
        match self.0.end() {
            Debt::Owed(owed) => owed.done,
            Debt::Sent(outcome) => Done::Final(outcome),
            // Only where sending has panicked.
            Debt::Returned => Done::Final(RunOutcome::Failed),
        }
    }
}

impl Drop for OwnUnsent {
    fn drop(&mut self) {
        self.0.end();
    }
}
