//! A limited number of httpd threads are inside at once; a request that finds no slot waits in the queue. Running a short
//! request is cheaper than waking its thread up, so a thread that has a slot runs tiny requests of waiting threads before it
//! gives the GIL back, and one thread that does nothing else runs short requests while any thread waits. A request that waits
//! for something itself runs on its own thread.

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
use crate::admission::lent::{Lent, Owed, OwnUnsent, Unsent};
use crate::admission::queue::{self, News, Queue, Waiting};
use crate::cpython::object::Attached;
use crate::cpython::{thread_state, threads};
use crate::metrics::telemetry;
use crate::process;
use crate::request::running;
use crate::request::slot::{InSlot, Slot};
use crate::wsgi::output::Done;
use crate::wsgi::perform::{self, Job};

/// How long a thread begins new jobs of others before it returns to its own client, nanoseconds.
const IN_PASSING: u64 = 200_000;
/// Most jobs that the worker runs before it lets go of the GIL.
const BATCH: u32 = 16;

/// For one interpreter.
pub(super) struct Delegate {
    semaphore: FifoSemaphore<Arc<Waiting>>,
    controller: ConcurrencyController,
    queue: &'static Queue,
    /// Where the next child finds what was good in this one.
    group: Option<GroupSlot>,
    /// The thread that runs short jobs while any thread waits. It begins when it is first needed, and stays.
    worker: SingleWorker<Arc<Waiting>>,
    /// Of some visits, one is measured.
    turn: AtomicU32,
    /// See [`Slot::is_exclusive`].
    is_exclusive: bool,
}

/// Of this many requests that are not alone, one has its time on the processor measured, which is a system call.
const SAMPLE: u32 = 4;
/// Every request is measured where they take longer than this on average, nanoseconds, or where nothing is known yet.
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

    /// Gives the slot of the calling thread back.
    fn leave(&'static self) {
        if self.semaphore.load() > 1 {
            self.decide();
        }
        if let Some(next) = self.semaphore.leave() {
            self.pass_on(next);
        }
    }

    /// Has a job that has a slot now run, by the worker or by its owner.
    fn pass_on(&'static self, next: Arc<Waiting>) {
        // SAFETY: this thread got the waiter from the semaphore.
        let is_delegable = || unsafe { next.job().job() }.is_delegable();
        if self.controller.is_short() && is_delegable() {
            self.give_to_worker(next);
        } else {
            next.grant();
        }
    }

    /// Has the worker run it, unless that is busy.
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
                // Where there can be none, nothing is lost but time.
                let has_thread = threads::steady("wsgi-runner", work);
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

    /// Called by threads that wait in the queue, and by those that found the queue full.
    fn look(&self) {
        let busy = || running::cpu_time_inside(self);
        if self.controller.waits(clock::now(), busy).is_some() {
            self.change();
        }
    }

    /// Runs the job on the calling thread, which has a slot, and short jobs of others.
    fn inside(&'static self, job: &Job<'_>) -> Done {
        let mut permit = Permit::of(self);
        let meter = Meter::begin(self);
        let (done, unsent) = thread_state::attach(job.application.interpreter(), |py| {
            let meter = meter.map(Meter::attached);
            let done = perform::perform(py, job);
            drop(meter);
            self.run_others(py, &mut permit, job, done)
        });
        drop(permit);
        match (done, unsent) {
            (Some(done), _) => done,
            (None, Some(unsent)) => unsent.take_back(),
            (None, None) => Done::Final(RunOutcome::Failed),
        }
    }

    /// Runs tiny jobs of waiting threads, in the slot of the calling thread. Returns what became of its own job, or where
    /// that is kept meanwhile.
    fn run_others(
        &'static self,
        py: &Attached<'_>,
        permit: &mut Permit,
        own: &Job<'_>,
        done: Done,
    ) -> (Option<Done>, Option<OwnUnsent>) {
        let mut own_done = Some(done);
        let mut unsent: Option<OwnUnsent> = None;
        let mut until = 0;
        // A process that the application has forked comes by here, too: the others are not in it.
        if !own_done.as_ref().is_some_and(Done::is_collected) || process::is_copy() {
            return (own_done, None);
        }
        // The job that was run last. Its client may be back as soon as it is answered, so the answer waits until the slot is
        // free or another job has it: else the client would find the queue full, and no request inside.
        let mut last: Option<(Arc<Waiting>, Done)> = None;
        let mut is_last = false;
        while !is_last
            && permit.is_taken
            && self.semaphore.waiting() != 0
            && self.controller.is_tiny()
        {
            let next = self.semaphore.leave();
            if let Some((waiter, done)) = last.take() {
                waiter.finish(done);
            }
            let Some(next) = next else {
                permit.is_gone();
                break;
            };
            // SAFETY: this thread got the waiter from the semaphore.
            if !unsafe { next.job().job() }.is_delegable() {
                permit.is_gone();
                next.grant();
                break;
            }
            let now = clock::now();
            if until == 0 {
                until = now + IN_PASSING;
            }
            if now + self.controller.mean() >= until {
                is_last = true;
                // The thread that gets the slot wakes up meanwhile, where two may be inside at the same time.
                if !self.is_exclusive {
                    permit.is_gone();
                    if let Some(successor) = self.semaphore.leave() {
                        self.pass_on(successor);
                    }
                }
            }
            // Should the job take longer than that, its owner sends what this thread owes to its own client.
            let unsent = unsent.get_or_insert_with(|| {
                let done = own_done.take().unwrap_or(Done::Final(RunOutcome::Failed));
                OwnUnsent::new(Owed::new(own, done))
            });
            let done = self.run_lent(py, &next, Some(unsent.lend()), 0);
            last = Some((next, done));
        }
        if let Some((waiter, done)) = last {
            if permit.is_taken {
                permit.is_gone();
                self.leave();
            }
            waiter.finish(done);
        }
        (own_done, unsent)
    }

    /// Runs the job of another thread.
    fn run_lent(
        &'static self,
        py: &Attached<'_>,
        waiter: &Waiting,
        unsent: Option<Arc<Unsent>>,
        since: u64,
    ) -> Done {
        let meter = Meter::of_another(self);
        let done = queue::run(py, waiter, unsent, since);
        drop(meter);
        self.decide();
        done
    }

    /// Runs jobs while any thread waits, beginning with one that has a slot. The body of the worker.
    fn run_from(&'static self, first: Arc<Waiting>) {
        let _in_slot = InSlot::of(self);
        let mut next = Some(first);
        while let Some(waiter) = next.take() {
            let since = telemetry::now();
            // SAFETY: this thread has the waiter, from one that got it from the semaphore.
            let interpreter = unsafe { waiter.job().job() }.application.interpreter();
            next = thread_state::attach(interpreter, |py| self.batch(py, waiter, since));
        }
    }

    /// Returns a job that is still to be run.
    fn batch(
        &'static self,
        py: &Attached<'_>,
        first: Arc<Waiting>,
        since: u64,
    ) -> Option<Arc<Waiting>> {
        let mut waiter = first;
        for turn in 0..BATCH {
            let done = self.run_lent(py, &waiter, None, if turn == 0 { since } else { 0 });
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

    /// A request is done: perhaps another number may be inside now.
    fn decide(&self) {
        if self.controller.leaves(clock::now()).is_some() {
            self.change();
        }
    }

    /// Applies the number that was decided last.
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
                // Where the queue is short, no other thread may see that those inside wait for something.
                self.look();
                return Done::Final(RunOutcome::QueueFull);
            }
        }
        match self
            .queue
            .wait(&self.semaphore, &waiter, job, || self.look())
        {
            News::Slot => self.inside(job),
            News::Done(done) => done,
            News::Refused(why) => Done::Final(why),
        }
    }

    fn load(&self) -> u32 {
        self.semaphore.load()
    }
}

impl Slot for Delegate {
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

/// The right to be inside, given back by drop.
struct Permit {
    executor: &'static Delegate,
    in_slot: InSlot,
    /// Whether it is still this thread's.
    is_taken: bool,
}

impl Permit {
    /// The calling thread is inside.
    fn of(executor: &'static Delegate) -> Self {
        Self {
            executor,
            in_slot: InSlot::of(executor),
            is_taken: true,
        }
    }

    /// It was given back, or another thread has it now. What the thread still runs has none that it could give back.
    fn is_gone(&mut self) {
        self.is_taken = false;
        self.in_slot.end();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // In a process that the application has forked no thread waits, and a lock may never come free.
        if self.is_taken && !process::is_copy() {
            self.executor.leave();
        }
    }
}

/// The time of a visit, on the clock and on a processor, from when the thread has the GIL; only of some.
struct Meter {
    executor: &'static Delegate,
    /// Whether others were inside.
    others: bool,
    wall: u64,
    usage: Option<Usage>,
}

impl Meter {
    /// The calling thread has a slot. Where no thread waits and no other is inside, nothing is measured.
    fn begin(executor: &'static Delegate) -> Option<Self> {
        let others = executor.semaphore.inside() > 1;
        (others || executor.semaphore.waiting() != 0).then(|| Self {
            executor,
            others,
            wall: clock::now(),
            usage: None,
        })
    }

    /// It has the GIL.
    fn attached(mut self) -> Self {
        let now = clock::now();
        let waited = now.saturating_sub(self.wall);
        self.executor.controller.entered(waited, self.others);
        self.wall = now;
        self.usage = self.executor.is_sampled().then(Usage::now);
        self
    }

    /// It runs the job of another thread.
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

/// What the calling thread has used so far.
struct Usage {
    /// Time on a processor, nanoseconds.
    cpu: u64,
    /// How often it has waited for something.
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
    use crate::request::slot;

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
    fn a_slot_is_free_while_its_thread_waits_for_something_else() {
        let delegate = delegate();
        assert!(delegate.semaphore.try_enter());
        let permit = Permit::of(delegate);
        slot::outside(|| assert_eq!(delegate.load(), 0));
        assert_eq!(delegate.load(), 1);
        drop(permit);
        assert_eq!(delegate.load(), 0);
    }

    #[test]
    fn a_thread_that_has_handed_its_slot_on_has_none_to_give_back() {
        let delegate = delegate();
        assert!(delegate.semaphore.try_enter());
        let mut permit = Permit::of(delegate);
        permit.is_gone();
        // Another thread has it by now.
        slot::outside(|| assert_eq!(delegate.load(), 1));
        drop(permit);
        assert_eq!(delegate.load(), 1);
        assert!(slot::current().is_none());
    }
}
