//! The queue of a group: how many of its requests may wait for a permit and for how long, and what each does while it
//! waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wsgi_abi::{Admission, RunOutcome};
use wsgi_core::admission::limit::Limit;
use wsgi_core::admission::semaphore::FifoSemaphore;
use wsgi_core::admission::waiter::{Waiter, Wakeup};
use wsgi_telemetry::clock;

use crate::admission::lent::Lent;
use crate::admission::share;
use crate::cpython::object::Attached;
use crate::cpython::{forked, gil_clock};
use crate::process;
use crate::request::permit::HasPermitsOf;
use crate::wsgi::output::Done;
use crate::wsgi::perform::{self, Job};

/// An entry of the queue.
pub(super) type Waiting = Waiter<Lent, Done>;

/// Runs the job of a waiter that the calling thread got from the semaphore, or from a thread that did. The owner waits
/// for the result. For `since` see [`perform::perform_lent`].
///
/// The caller finishes the waiter with the result after it has given the permit back: a client that is answered may send
/// its next request at once, and then finds the permit free.
pub(super) fn run(py: &Attached<'_>, waiter: &Waiting, since: u64) -> Done {
    let lent = waiter.take();
    // SAFETY: by the contract of the waiter, which the calling thread has. [S-31]
    let job = unsafe { lent.job() };
    if let Some(times) = job.raw.timing.times {
        times.queue.store(lent.waited(since), Relaxed);
    }
    // While the job runs, requests nested in it count as on the thread of its owner.
    let _stands_in = share::stand_in(lent.held());
    let _has_permits = HasPermitsOf::enter(lent.sources());
    let perform = || perform::perform_lent(py, job, since, lent.shown());
    let done = catch_unwind(AssertUnwindSafe(perform));
    // If the application has forked and the copy gets here, it must end: the job's owner and all waiting threads are in
    // the other process, and the copy would run their requests once more.
    forked::ends(py);
    // A panic has been logged.
    done.unwrap_or(Done::Final(RunOutcome::Failed))
}

/// How long a waiting thread first waits before it checks whether to go on waiting. The time doubles with each check.
const LOOK: Duration = Duration::from_millis(5);
/// The longest time between two such checks.
const SELDOM: Duration = Duration::from_millis(160);
/// How often a thread wakes up while it waits for the end of its own job.
const NEVER: Duration = Duration::from_secs(60);

/// The news for a request that waits in a queue.
pub(super) enum News {
    /// The request has a permit.
    Permit,
    /// Another thread has run the request.
    Done(Done),
    /// The request is not run.
    Refused(RunOutcome),
}

/// How many requests wait in all queues of this process.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// Returns the number of requests that wait until they may enter Python, or that another thread runs meanwhile.
pub fn waiting() -> u32 {
    WAITING.load(Relaxed)
}

/// A request counts as one that waits until this is dropped.
struct Counted;

impl Counted {
    fn enter() -> Self {
        WAITING.fetch_add(1, Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Relaxed);
    }
}

/// The queue of a group.
pub(crate) struct Queue {
    /// How many requests may wait, for all interpreters of the group together.
    bound: Arc<Limit>,
    timeout: Duration,
}

impl Queue {
    pub(crate) fn new(admission: &Admission) -> Self {
        Self {
            bound: Arc::new(Limit::new(admission.queue_depth)),
            timeout: Duration::from_millis(admission.queue_timeout.into()),
        }
    }

    /// Makes a semaphore with `permits` permits, whose queue counts against this one.
    pub(super) fn semaphore(&self, permits: u32) -> FifoSemaphore<Arc<Waiting>> {
        FifoSemaphore::new(permits, Arc::clone(&self.bound))
    }

    /// Waits for news of the waiter, which is in the queue of `semaphore`. Calls `look` now and then.
    pub(super) fn wait(
        &self,
        semaphore: &FifoSemaphore<Arc<Waiting>>,
        waiter: &Arc<Waiting>,
        job: &Job<'_>,
        look: impl Fn(),
    ) -> News {
        let began = Instant::now();
        let _counted = Counted::enter();
        let mut next = LOOK.min(self.timeout);
        let deadline = job.state.deadline();
        deadline.wait_in_queue(true);
        let news = loop {
            match waiter.wait(next) {
                Wakeup::Granted => break News::Permit,
                Wakeup::Done(done) => break News::Done(done),
                Wakeup::Running => {
                    deadline.wait_in_queue(false);
                    next = NEVER;
                }
                Wakeup::Waiting => {
                    // Another thread was loading the application until then; that time is not charged to the waiting
                    // requests.
                    if !job.application.is_new() {
                        deadline.load_ends();
                    }
                    let left = self.timeout.saturating_sub(began.elapsed());
                    next = (next * 2)
                        .min(SELDOM)
                        .min(left)
                        .min(deadline.until_late(clock::now()))
                        .max(Duration::from_millis(1));
                    if let Some(why) = self.why_to_leave(began, job) {
                        if semaphore.leave_queue(|other| Arc::ptr_eq(other, waiter)) {
                            break News::Refused(why);
                        }
                        // The request has a permit, and the thread that runs it has not begun.
                        deadline.wait_in_queue(false);
                    }
                    look();
                }
            }
        };
        // A refused request unwinds by itself.
        if !matches!(news, News::Refused(_)) {
            deadline.wait_in_queue(false);
        }
        if let Some(times) = job.raw.timing.times
            && !matches!(news, News::Done(_))
        {
            let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            times.queue.store(waited, Relaxed);
        }
        // The time until now was not spent waiting for the GIL.
        gil_clock::waiting(0);
        news
    }

    fn why_to_leave(&self, began: Instant, job: &Job<'_>) -> Option<RunOutcome> {
        if process::is_closing() {
            Some(RunOutcome::Draining)
        } else if job.application.is_overdue() {
            Some(RunOutcome::LoadTimedOut)
        } else if began.elapsed() >= self.timeout || job.state.deadline().is_late(clock::now()) {
            Some(RunOutcome::QueueTimedOut)
        } else if job.state.client_has_left_queue() {
            Some(RunOutcome::ClientGone)
        } else {
            None
        }
    }
}
