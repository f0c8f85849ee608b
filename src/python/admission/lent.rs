//! What threads lend each other: a job to the thread that runs it, while its owner waits; and the response of a thread that
//! runs the job of another one, to that one, so that no client waits for somebody else's request.

use std::sync::{Arc, Mutex};

use wsgi_abi::RunOutcome;
use wsgi_core::admission::limit::Limit;
use wsgi_telemetry::PhaseCell;

use super::executor::{self, Executor};
use crate::admission::run;
use crate::admission::run::{Job, Left};
use crate::admission::share;
use crate::cpython::gil_clock;
use crate::metrics::telemetry;
use crate::request::state::lock;

/// A job whose owner waits until it was run.
pub(super) struct Lent {
    job: *const Job<'static>,
    /// When its owner began to wait, as a stamp; 0 where nothing is measured.
    since: u64,
    /// Where the phase of its request is noted.
    shown: Option<PhaseCell>,
    /// What its owner counts against.
    held: Vec<&'static Limit>,
    /// The exclusive places that its owner has.
    places: Vec<&'static dyn Executor>,
}

// SAFETY: only the thread that has taken the ticket looks at the job, while its owner waits; all that it points to is either
// not changed by anybody or may be used by any thread in turn. [S-31]
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// # Safety
    /// The caller must keep the job until the ticket that this is in has left the line, was granted or is done.
    pub(super) unsafe fn new(job: &Job<'_>) -> Self {
        Self {
            job: std::ptr::from_ref(job).cast(),
            since: telemetry::now(),
            shown: gil_clock::shown(),
            held: share::held(),
            places: executor::exclusive_places(),
        }
    }

    /// The job.
    ///
    /// # Safety
    /// Only for the thread that has the ticket: from the room until it has granted or finished it.
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

    /// The exclusive places that its owner has.
    pub(super) fn places(&self) -> &[&'static dyn Executor] {
        &self.places
    }
}

/// The response of a thread that has begun to run the jobs of others before it has sent it.
pub(super) struct Unsent(Mutex<State>);

enum State {
    Owed(run::Owed),
    Sent(RunOutcome),
    /// Its own thread has it back.
    Returned,
}

impl Unsent {
    /// Sends it in place of its thread, which is busy.
    pub(super) fn send(&self) {
        let mut state = lock(&self.0);
        if let State::Owed(_) = *state
            && let State::Owed(owed) = std::mem::replace(&mut *state, State::Returned)
        {
            *state = State::Sent(owed.send_now());
        }
    }

    /// Waits for another thread that sends it. Nobody does afterwards.
    fn end(&self) -> State {
        std::mem::replace(&mut *lock(&self.0), State::Returned)
    }
}

/// What is unsent, for its own thread. Once this is gone, also by a panic, no other thread sends it, as the host may have
/// forgotten the request by then.
pub(super) struct Kept(Arc<Unsent>);

impl Kept {
    pub(super) fn new(owed: run::Owed) -> Self {
        Self(Arc::new(Unsent(Mutex::new(State::Owed(owed)))))
    }

    /// For whoever waits for a job that the thread runs.
    pub(super) fn lend(&self) -> Arc<Unsent> {
        Arc::clone(&self.0)
    }

    /// Once the thread has left Python: what is still to be sent, or what became of that.
    pub(super) fn take_back(self) -> Result<Left, RunOutcome> {
        match self.0.end() {
            State::Owed(owed) => Ok(owed.left),
            State::Sent(outcome) => Err(outcome),
            // Only where sending has panicked.
            State::Returned => Err(RunOutcome::Failed),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.end();
    }
}
