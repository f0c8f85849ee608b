//! The line of a group: how many of its requests may wait for a place inside and for how long, and what each does while it
//! waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use wsgi_abi::{Admission, RunOutcome};
use wsgi_core::admission::limit::Limit;
use wsgi_core::admission::semaphore::FifoSemaphore;
use wsgi_core::admission::waiter::{Waiter, Wakeup};

use super::lent::{Lent, Unsent};
use crate::admission::run;
use crate::admission::run::{Job, Left};
use crate::admission::share;
use crate::cpython::gil_clock;
use crate::cpython::object::Attached;
use crate::lifecycle::forked;
use wsgi_telemetry::clock;

/// What stands in line.
pub(super) type Waiting = Waiter<Lent, Option<Arc<Unsent>>, Left>;

/// Runs the job of a ticket that the calling thread got from the room, or from a thread that did; its owner waits for the
/// result. `by` and `since` as for [`Waiter::take`] and [`run::perform_lent`].
///
/// The caller finishes the ticket with what is returned, once it has given the place back: who is answered may come again at
/// once, and finds it free.
pub(super) fn run(
    py: &Attached<'_>,
    ticket: &Waiting,
    by: Option<Arc<Unsent>>,
    since: u64,
) -> Left {
    let lent = ticket.take(by);
    // SAFETY: as the caller says. [S-31]
    let job = unsafe { lent.job() };
    if let Some(times) = job.raw.times {
        times.queue.store(lent.waited(since), Relaxed);
    }
    // For as long as the job runs, what is nested in it counts as on the thread of its owner.
    let _stands_in = share::stand_in(lent.held());
    let _in_places = super::executor::in_places_of(lent.places());
    let perform = || run::perform_lent(py, job, since, lent.shown());
    let done = catch_unwind(AssertUnwindSafe(perform));
    // Where the application has forked this process and it comes back: the owner of the job and all threads that
    // wait are in the other process; this one would run their requests once more.
    forked::ends(py);
    // A panic is in the log.
    done.unwrap_or(Left::Nothing(RunOutcome::Failed))
}

/// How often one who waits looks about: soon at first, and then less often.
const LOOK: Duration = Duration::from_millis(5);
const SELDOM: Duration = Duration::from_millis(160);
/// How often whoever waits for the end of its job looks at nothing.
const NEVER: Duration = Duration::from_secs(60);

/// The line of a group.
pub(crate) struct Line {
    /// How many may wait, for whichever of its interpreters.
    bound: Arc<Limit>,
    timeout: Duration,
}

impl Line {
    pub(crate) fn new(admission: &Admission) -> Self {
        Self {
            bound: Arc::new(Limit::new(admission.queue_depth)),
            timeout: Duration::from_millis(admission.queue_timeout.into()),
        }
    }

    /// A room with `places` places, whose line counts against this one.
    pub(super) fn room(&self, places: u32) -> FifoSemaphore<Arc<Waiting>> {
        FifoSemaphore::new(places, Arc::clone(&self.bound))
    }

    /// Waits for news of the ticket, which stands in the line of `room`: a place, or a result; the error is why the request
    /// is refused. `look` is called every now and then.
    pub(super) fn wait(
        &self,
        room: &FifoSemaphore<Arc<Waiting>>,
        ticket: &Arc<Waiting>,
        job: &Job<'_>,
        look: impl Fn(),
    ) -> Result<Option<Left>, RunOutcome> {
        let began = Instant::now();
        let mut next = LOOK.min(self.timeout);
        let course = job.state.course();
        course.wait_in_line(true);
        let news = loop {
            match ticket.wait(next) {
                Wakeup::Granted => break Ok(None),
                Wakeup::Done(left) => break Ok(Some(left)),
                Wakeup::Running(by) => {
                    course.wait_in_line(false);
                    if let Some(by) = by {
                        by.send();
                    }
                    next = NEVER;
                }
                Wakeup::Waiting => {
                    // Others load it until then, for which nobody is to blame who waits.
                    if !job.application.is_new() {
                        course.load_ends();
                    }
                    let left = self.timeout.saturating_sub(began.elapsed());
                    next = (next * 2)
                        .min(SELDOM)
                        .min(left)
                        .min(course.until_late(clock::now()))
                        .max(Duration::from_millis(1));
                    if let Some(why) = self.why_to_leave(began, job) {
                        if room.leave_queue(|other| Arc::ptr_eq(other, ticket)) {
                            break Err(why);
                        }
                        // It has a place, and whoever is to run it has not begun.
                        course.wait_in_line(false);
                    }
                    look();
                }
            }
        };
        // Who is refused goes home by itself, too.
        if news.is_ok() {
            course.wait_in_line(false);
        }
        if let Some(times) = job.raw.times
            && !matches!(news, Ok(Some(_)))
        {
            let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            times.queue.store(waited, Relaxed);
        }
        // What was waited for until now was not the GIL.
        gil_clock::waiting(0);
        news
    }

    fn why_to_leave(&self, began: Instant, job: &Job<'_>) -> Option<RunOutcome> {
        if run::is_closing() {
            Some(RunOutcome::Draining)
        } else if job.application.is_overdue() {
            Some(RunOutcome::LoadTimedOut)
        } else if began.elapsed() >= self.timeout || job.state.course().is_late(clock::now()) {
            Some(RunOutcome::QueueTimedOut)
        } else if job.state.client_has_left_line() {
            Some(RunOutcome::ClientGone)
        } else {
            None
        }
    }
}
