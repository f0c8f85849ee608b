//! The executor `delegate`: a limited number of httpd threads is inside at once, and a request that finds no free permit
//! waits in the queue. Running a short request is cheaper than waking its thread, so one worker thread runs short requests
//! one after the other while any request waits. A request that may itself wait for something runs on its own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wsgi_abi::{Admission, RunOutcome};
use wsgi_core::admission::concurrency::ConcurrencyController;
use wsgi_core::admission::semaphore::{EntryResult, FifoSemaphore};
use wsgi_core::admission::single_worker::{Offer, SingleWorker};
use wsgi_core::admission::waiter::Waiter;
use wsgi_telemetry::board::GroupSlot;
use wsgi_telemetry::clock;

use crate::admission::executor::{self, Executor};
use crate::admission::lent::Lent;
use crate::admission::queue::{self, News, Queue, Waiting};
use crate::cpython::object::Attached;
use crate::cpython::{thread_state, threads};
use crate::metrics::telemetry;
use crate::process;
use crate::request::permit::{HasPermit, PermitSource};
use crate::request::running;
use crate::wsgi::output::Done;
use crate::wsgi::perform::{self, Job};

/// The most jobs that the worker runs before it releases the GIL.
const BATCH: u32 = 16;

/// The executor `delegate` of one interpreter.
pub(super) struct Delegate {
    semaphore: FifoSemaphore<Arc<Waiting>>,
    controller: ConcurrencyController,
    queue: &'static Queue,
    /// The group's entry on the board, where the next child finds the limit that this child arrived at.
    group: Option<GroupSlot>,
    /// The thread that runs short jobs while any request waits. It starts when it is first needed, and stays.
    worker: SingleWorker<Arc<Waiting>>,
    /// Counts the visits, of which one in [`SAMPLE`] is measured.
    turn: AtomicU32,
    /// See [`PermitSource::is_exclusive`].
    is_exclusive: bool,
}

/// Of this many requests that are not alone inside, one has its CPU time measured, which takes a system call.
const SAMPLE: u32 = 4;
/// Every request is measured while requests take longer than this on average, nanoseconds, or while nothing is known
/// yet.
const CHEAP_BESIDE: u64 = 500_000;

impl Delegate {
    pub(super) fn new(admission: &Admission, group: &[u8], queue: &'static Queue) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = u32::try_from(cores).unwrap_or(1);
        let known = telemetry::segment().and_then(|segment| segment.board().known_group(group));
        let seed = known.map_or(0, |known| known.concurrency());
        let controller = ConcurrencyController::new(admission.least, admission.most, cores, seed);
        Self {
            semaphore: queue.semaphore(controller.limit()),
            controller,
            queue,
            group: known,
            worker: SingleWorker::new(),
            turn: AtomicU32::new(0),
            is_exclusive: admission.most == 1,
        }
    }

    /// Gives the permit of the calling thread back.
    fn leave(&'static self) {
        if self.semaphore.load() > 1 {
            self.decide();
        }
        if let Some(next) = self.semaphore.leave() {
            self.pass_on(next);
        }
    }

    /// Makes the worker or the owner run a job that has a permit now.
    fn pass_on(&'static self, next: Arc<Waiting>) {
        // SAFETY: this thread got the waiter from the semaphore.
        let is_delegable = || unsafe { next.job().job() }.is_delegable();
        if self.controller.is_short() && is_delegable() {
            self.give_to_worker(next);
        } else {
            next.grant();
        }
    }

    /// Makes the worker run the job, or its owner if the worker is busy.
    fn give_to_worker(&'static self, waiter: Arc<Waiting>) {
        let refused = match self.worker.give(waiter) {
            Offer::Kept => None,
            Offer::NeedsThread => {
                let work = move || {
                    let _inside = process::Inside::enter();
                    loop {
                        self.run_from(self.worker.next());
                    }
                };
                // Without a worker, the owner runs its job, which only costs time.
                let has_thread = threads::steady("wsgi-worker", work);
                (!has_thread).then(|| self.worker.take_back()).flatten()
            }
            Offer::Refused(waiter) => Some(waiter),
        };
        if let Some(waiter) = refused {
            waiter.grant();
        }
    }

    fn admit(&self) {
        while let Some(next) = self.semaphore.admit() {
            next.grant();
        }
    }

    /// Checks whether those inside wait for something, so that more may be inside. Called by threads that wait in the
    /// queue or found it full.
    fn look(&self) {
        let busy = || running::cpu_time_inside(self);
        if self.controller.waits(clock::now(), busy).is_some() {
            self.change();
        }
    }

    /// Runs the job on the calling thread, which has a permit.
    fn inside(&'static self, job: &Job<'_>) -> Done {
        let permit = Permit::of(self);
        let meter = Meter::begin(self);
        let done = thread_state::attach(job.application.interpreter(), |py| {
            let _meter = meter.map(Meter::attached);
            perform::perform(py, job)
        });
        drop(permit);
        done
    }

    /// Runs the job of another thread.
    fn run_lent(&'static self, py: &Attached<'_>, waiter: &Waiting, since: u64) -> Done {
        let meter = Meter::of_another(self);
        let done = queue::run(py, waiter, since);
        drop(meter);
        self.decide();
        done
    }

    /// Runs jobs while any request waits, beginning with `first`, which has a permit. The body of the worker.
    fn run_from(&'static self, first: Arc<Waiting>) {
        let _has_permit = HasPermit::of(self);
        let mut next = Some(first);
        while let Some(waiter) = next.take() {
            let since = telemetry::now();
            // SAFETY: this thread has the waiter, from one that got it from the semaphore.
            let interpreter = unsafe { waiter.job().job() }.application.interpreter();
            next = thread_state::attach(interpreter, |py| self.batch(py, waiter, since));
        }
    }

    /// Runs up to [`BATCH`] jobs. Returns a job that is still to be run.
    fn batch(
        &'static self,
        py: &Attached<'_>,
        first: Arc<Waiting>,
        since: u64,
    ) -> Option<Arc<Waiting>> {
        let mut waiter = first;
        for turn in 0..BATCH {
            let done = self.run_lent(py, &waiter, if turn == 0 { since } else { 0 });
            let next = self.semaphore.leave();
            waiter.finish(done);
            let next = next?;
            // SAFETY: this thread got the waiter from the semaphore.
            if !self.controller.is_short() || !unsafe { next.job().job() }.is_delegable() {
                next.grant();
                return None;
            }
            waiter = next;
        }
        Some(waiter)
    }

    /// Updates the limit after a request is done.
    fn decide(&self) {
        if self.controller.leaves(clock::now()).is_some() {
            self.change();
        }
    }

    /// Applies the limit that was decided last.
    fn change(&self) {
        self.semaphore.follow(|| self.controller.limit());
        self.admit();
        if let Some(group) = &self.group
            && !process::is_copy()
        {
            group.set_concurrency(self.controller.limit());
        }
    }
}

impl Executor for Delegate {
    fn run(&'static self, job: &Job<'_>) -> Done {
        if let Some(done) = executor::run_nested(self, job.application.interpreter(), job) {
            return done;
        }
        if self.semaphore.try_enter() {
            return self.inside(job);
        }
        // SAFETY: the job is kept until `wait` has returned, or the waiter was not taken.
        let waiter = Arc::new(Waiter::new(unsafe { Lent::new(job) }));
        match self.semaphore.enter_or_queue(Arc::clone(&waiter)) {
            EntryResult::Inside => return self.inside(job),
            EntryResult::Queued => {}
            EntryResult::Full => {
                // With a short queue, perhaps no waiting thread notices that those inside wait for something.
                self.look();
                return Done::Final(RunOutcome::QueueFull);
            }
        }
        match self
            .queue
            .wait(&self.semaphore, &waiter, job, || self.look())
        {
            News::Permit => self.inside(job),
            News::Done(done) => done,
            News::Refused(why) => Done::Final(why),
        }
    }

    fn load(&self) -> u32 {
        self.semaphore.load()
    }
}

impl PermitSource for Delegate {
    fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    fn step_out(&'static self) {
        self.leave();
    }

    fn step_in(&self) {
        self.semaphore.reenter();
    }
}

/// The right to be inside. Dropping it gives it back.
struct Permit {
    executor: &'static Delegate,
    _has_permit: HasPermit,
}

impl Permit {
    /// Makes the permit of the calling thread, which has a permit.
    fn of(executor: &'static Delegate) -> Self {
        Self {
            executor,
            _has_permit: HasPermit::of(executor),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // In a forked copy of this process no thread waits, and a lock may never be released.
        if !process::is_copy() {
            self.executor.leave();
        }
    }
}

/// Measures a visit by wall clock and CPU time, from when the thread has the GIL. Only some visits are measured.
struct Meter {
    executor: &'static Delegate,
    /// Whether others were inside.
    others: bool,
    wall: u64,
    usage: Option<Usage>,
}

impl Meter {
    /// Begins a measurement of the calling thread, which has a permit. Returns `None` if no thread waits and no other is
    /// inside.
    fn begin(executor: &'static Delegate) -> Option<Self> {
        let others = executor.semaphore.inside() > 1;
        (others || executor.semaphore.waiting() != 0).then(|| Self {
            executor,
            others,
            wall: clock::now(),
            usage: None,
        })
    }

    /// Notes that the thread has the GIL.
    fn attached(mut self) -> Self {
        let now = clock::now();
        let waited = now.saturating_sub(self.wall);
        self.executor.controller.entered(waited, self.others);
        self.wall = now;
        self.usage = self.executor.is_sampled().then(Usage::now);
        self
    }

    /// Begins a measurement of a job that the calling thread runs for another thread.
    fn of_another(executor: &'static Delegate) -> Option<Self> {
        executor.is_sampled().then(|| Self {
            executor,
            others: false,
            wall: clock::now(),
            usage: Some(Usage::now()),
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(before) = &self.usage {
            let wall = clock::now().saturating_sub(self.wall);
            let now = Usage::now();
            let cpu = now.cpu.saturating_sub(before.cpu);
            self.executor
                .controller
                .visited(wall, cpu, now.waits != before.waits);
        }
    }
}

/// The resources that the calling thread has used so far.
struct Usage {
    /// CPU time, nanoseconds.
    cpu: u64,
    /// How often the thread gave up the CPU to wait for something.
    waits: i64,
}

impl Usage {
    fn now() -> Self {
        // SAFETY: a plain structure, which the call fills; it does not fail for the calling thread.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage
        };
        let nanoseconds =
            |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec) as u64 * 1000;
        Self {
            cpu: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
            waits: usage.ru_nvcsw,
        }
    }
}

impl Delegate {
    fn is_sampled(&self) -> bool {
        !(1..CHEAP_BESIDE).contains(&self.controller.mean())
            || self.turn.fetch_add(1, Relaxed).is_multiple_of(SAMPLE)
    }
}

#[cfg(test)]
mod tests {
    use wsgi_abi::Strategy;

    use super::*;
    use crate::request::permit;

    fn delegate() -> &'static Delegate {
        let admission = Admission {
            strategy: Strategy::Delegate,
            least: 1,
            most: 1,
            ..Admission::OPEN
        };
        let queue = Box::leak(Box::new(Queue::new(&admission)));
        Box::leak(Box::new(Delegate::new(&admission, b"", queue)))
    }

    #[test]
    fn a_permit_is_free_while_its_thread_waits_for_something_else() {
        let delegate = delegate();
        assert!(delegate.semaphore.try_enter());
        let permit = Permit::of(delegate);
        permit::outside(|| assert_eq!(delegate.load(), 0));
        assert_eq!(delegate.load(), 1);
        drop(permit);
        assert_eq!(delegate.load(), 0);
    }
}
