//! The job that a thread lends to the thread that runs it, and waits.

use wsgi_core::admission::limit::Limit;
use wsgi_telemetry::PhaseCell;

use crate::admission::share;
use crate::cpython::gil_clock;
use crate::metrics::telemetry;
use crate::request::permit::{self, PermitSource};
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
    /// The executors that gave the owner its exclusive permits.
    sources: Vec<&'static dyn PermitSource>,
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
            sources: permit::exclusive(),
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

    /// Returns the executors that gave the owner its exclusive permits.
    pub(super) fn sources(&self) -> &[&'static dyn PermitSource] {
        &self.sources
    }
}
