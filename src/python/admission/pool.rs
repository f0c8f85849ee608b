//! The executor `pool`: threads that do nothing but run requests, a bounded number for each interpreter. What an
//! application keeps for each thread (database connections, event loops) exists at most that many times.
//!
//! The request's own thread waits. Pool threads start when they are first needed, and stay. A pool thread that waits
//! for a slow client does not count, and another takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crossbeam::channel::{Receiver, Sender, bounded};
use wsgi_abi::{Admission, RunOutcome};
use wsgi_core::admission::semaphore::{EntryResult, FifoSemaphore};
use wsgi_core::admission::waiter::Waiter;

use crate::admission::executor::{self, Executor};
use crate::admission::lent::Lent;
use crate::admission::queue::{self, News, Queue, Waiting};
use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::Attached;
use crate::cpython::{thread_state, threads};
use crate::host::{self, Level};
use crate::metrics::telemetry;
use crate::process;
use crate::request::permit::{HasPermit, PermitSource};
use crate::wsgi::output::Done;
use crate::wsgi::perform::Job;

/// The most jobs that a thread runs before it releases the GIL.
const BATCH: u32 = 16;
/// The most threads, with those that wait for slow clients. Each has a request, whose own thread waits for it.
const MOST_THREADS: u32 = 1024;

/// The executor `pool` of one interpreter.
pub(super) struct Pool {
    interpreter: &'static Interpreter,
    semaphore: FifoSemaphore<Arc<Waiting>>,
    queue: &'static Queue,
    /// Jobs that have a permit. The channel is never full: each job has a permit, and no thread has two.
    send: Sender<Arc<Waiting>>,
    receive: Receiver<Arc<Waiting>>,
    threads: AtomicU32,
    /// Jobs that need a thread: handed over and not done, including those that have no permit at the moment. Counted down
    /// before a permit is given back, and up after one is taken, so that there are never more than permits and such jobs.
    jobs: AtomicU32,
    /// See [`PermitSource::is_exclusive`].
    is_exclusive: bool,
}

impl Pool {
    pub(super) fn new(
        admission: &Admission,
        interpreter: &'static Interpreter,
        queue: &'static Queue,
    ) -> Self {
        let (send, receive) = bounded(MOST_THREADS as usize);
        Self {
            interpreter,
            semaphore: queue.semaphore(admission.pool_size.min(MOST_THREADS)),
            queue,
            send,
            receive,
            threads: AtomicU32::new(0),
            jobs: AtomicU32::new(0),
            is_exclusive: admission.pool_size == 1,
        }
    }

    /// Makes a pool thread run a job that has a permit.
    fn hand_over(&'static self, waiter: Arc<Waiting>) {
        self.need_thread();
        if let Err(refused) = self.send.try_send(waiter) {
            // Every job has a permit, and there are fewer permits than the channel holds.
            self.refuse(&refused.into_inner());
        }
        // A thread that could not start a pool thread always gets here afterwards, so no job stays behind that another
        // thread has sent.
        while self.threads.load(SeqCst) == 0
            && let Ok(refused) = self.receive.try_recv()
        {
            self.refuse(&refused);
        }
    }

    fn refuse(&'static self, waiter: &Waiting) {
        waiter.finish(Done::Final(RunOutcome::Failed));
        self.jobs.fetch_sub(1, SeqCst);
        self.leave();
    }

    /// Counts one more job, and starts threads until there are enough, if possible.
    fn need_thread(&'static self) {
        let needed = self.jobs.fetch_add(1, SeqCst) + 1;
        let mut threads = self.threads.load(SeqCst);
        while threads < needed.min(MOST_THREADS) {
            let counted = self
                .threads
                .compare_exchange(threads, threads + 1, SeqCst, SeqCst);
            match counted {
                Err(now) => threads = now,
                Ok(_) if threads::steady("wsgi-pool", || self.work()) => threads += 1,
                Ok(_) => return self.has_no_thread(),
            }
        }
    }

    /// Handles a thread that was counted and could not be started.
    fn has_no_thread(&self) {
        if self.threads.fetch_sub(1, SeqCst) == 1 {
            host::log(
                Level::Error,
                "mod_wsgi_rs: no thread could be started for WSGIThreadPool; its requests are answered with 500 until \
                 one can: raise the limits of processes and memory",
            );
        }
    }

    /// The body of a pool thread.
    fn work(&'static self) {
        let _inside = process::Inside::enter();
        while let Ok(first) = self.receive.recv() {
            self.run_from(first);
        }
    }

    /// Runs a job, and then those that are next in the queue.
    fn run_from(&'static self, first: Arc<Waiting>) {
        let _has_permit = HasPermit::of(self);
        let mut next = Some(first);
        while let Some(waiter) = next.take() {
            let since = telemetry::now();
            next = thread_state::attach(self.interpreter, |py| self.batch(py, waiter, since));
        }
    }

    /// Runs up to [`BATCH`] jobs; the first has waited for the GIL since the stamp `since`. Returns a job that is still
    /// to be run.
    fn batch(
        &'static self,
        py: &Attached<'_>,
        first: Arc<Waiting>,
        mut since: u64,
    ) -> Option<Arc<Waiting>> {
        let mut waiter = first;
        for _ in 0..BATCH {
            let done = queue::run(py, &waiter, since);
            since = 0;
            self.jobs.fetch_sub(1, SeqCst);
            let next = self.semaphore.leave();
            if next.is_some() {
                // Another job may have counted on this thread.
                self.need_thread();
            }
            // Answered after the permit was given back, because the client may send its next request at once.
            waiter.finish(done);
            waiter = next?;
        }
        Some(waiter)
    }

    fn leave(&'static self) {
        if let Some(next) = self.semaphore.leave() {
            self.hand_over(next);
        }
    }
}

impl Executor for Pool {
    fn run(&'static self, job: &Job<'_>) -> Done {
        if let Some(done) = executor::run_nested(self, self.interpreter, job) {
            return done;
        }
        // SAFETY: the job is kept until `wait` has returned, or the waiter was not taken.
        let waiter = Arc::new(Waiter::new(unsafe { Lent::new(job) }));
        let entry = match self.semaphore.try_enter() {
            true => EntryResult::Inside,
            false => self.semaphore.enter_or_queue(Arc::clone(&waiter)),
        };
        match entry {
            EntryResult::Inside => self.hand_over(Arc::clone(&waiter)),
            EntryResult::Queued => {}
            EntryResult::Full => return Done::Final(RunOutcome::QueueFull),
        }
        match self.queue.wait(&self.semaphore, &waiter, job, || {}) {
            News::Done(done) => done,
            News::Permit => Done::Final(RunOutcome::Failed),
            News::Refused(why) => Done::Final(why),
        }
    }

    fn load(&self) -> u32 {
        self.semaphore.load()
    }
}

impl PermitSource for Pool {
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
