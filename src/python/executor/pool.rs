//! Threads that do nothing but run requests, a bounded number for each interpreter: what an application keeps for each
//! thread (connections of databases, event loops) is there that many times and no more.
//!
//! The thread of the request waits. Threads begin when they are first needed and stay. One that waits for a slow client does
//! not count, and another takes its place.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicI32, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use crossbeam::channel::{Receiver, Sender, bounded};
use wsgi_abi::{Admission, RunOutcome};
use wsgi_core::admission::room::Room;
use wsgi_core::admission::ticket::Ticket;

use super::lent::Lent;
use super::line::{self, Line, Waiting};
use super::{Ended, Executor, Occupied};
use crate::call::{self, Job, Left};
use crate::host::{self, Level};
use crate::interpreter::Interpreter;
use crate::object::Attached;
use crate::{parallel, telemetry, thread_state};

/// Most jobs that a thread runs before it lets go of the GIL.
const BATCH: u32 = 16;
/// Most threads, with those that wait for slow clients. Each has a request, whose own thread waits for it.
const MOST_THREADS: u32 = 1024;

/// For one interpreter.
pub(super) struct Pool {
    interpreter: &'static Interpreter,
    room: Room<Arc<Waiting>>,
    line: &'static Line,
    /// Threads that may be there, beside those that wait for slow clients.
    size: u32,
    /// Threads that wait for slow clients.
    out: AtomicU32,
    /// Jobs that have a place. As each has one, and no thread has two, it is never full.
    send: Sender<Arc<Waiting>>,
    receive: Receiver<Arc<Waiting>>,
    threads: AtomicU32,
    /// Threads that wait for a job, less the jobs that were sent and not received.
    idle: AtomicI32,
}

impl Pool {
    pub(super) fn new(
        admission: &Admission,
        interpreter: &'static Interpreter,
        line: &'static Line,
    ) -> Self {
        let (send, receive) = bounded(MOST_THREADS as usize);
        Self {
            interpreter,
            room: Room::new(admission.pool_size),
            line,
            size: admission.pool_size.max(1),
            out: AtomicU32::new(0),
            send,
            receive,
            threads: AtomicU32::new(0),
            idle: AtomicI32::new(0),
        }
    }

    /// Has a job that has a place run.
    fn hand_over(&'static self, ticket: Arc<Waiting>) {
        let has_idle = self.idle.fetch_sub(1, AcqRel) > 0;
        let is_kept = has_idle || self.add_thread() || self.threads.load(Relaxed) != 0;
        let refused = match self.send.try_send(ticket) {
            Ok(()) if is_kept => return,
            // Every job has a place, and there are fewer of these than the channel holds.
            Err(refused) => Some(refused.into_inner()),
            Ok(()) => self.receive.try_recv().ok(),
        };
        self.idle.fetch_add(1, AcqRel);
        if let Some(refused) = refused {
            refused.finish(Left::Nothing(RunOutcome::Failed));
            self.leave();
        }
    }

    /// Whether there is one more. There is none where the threads are as many as may be: as no more jobs than those have
    /// places, one of them is about to look for a job.
    fn add_thread(&'static self) -> bool {
        let most = self.size.saturating_add(self.out.load(Acquire));
        let number = self.threads.fetch_add(1, Relaxed);
        let work = move || {
            self.idle.fetch_add(1, AcqRel);
            self.work();
        };
        let is_added = number < most.min(MOST_THREADS) && parallel::background("wsgi-pool", work);
        if !is_added {
            self.threads.fetch_sub(1, Relaxed);
        }
        if !is_added && number == 0 {
            host::log(
                Level::Error,
                "mod_wsgi_rs: no thread could be started for WSGIThreadPool; its requests are answered with 500 until \
                 one can: raise the limits of processes and memory",
            );
        }
        is_added
    }

    /// The body of a thread.
    fn work(&'static self) {
        let _inside = call::Inside::enter();
        while let Ok(first) = self.receive.recv() {
            self.run_from(first);
            self.idle.fetch_add(1, AcqRel);
        }
    }

    /// Runs a job, and then those of whoever is next in line.
    fn run_from(&'static self, first: Arc<Waiting>) {
        let _occupied = Occupied::by(self);
        let mut next = Some(first);
        while let Some(ticket) = next.take() {
            let since = telemetry::now();
            next = thread_state::attach(self.interpreter, |py| self.batch(py, ticket, since));
        }
    }

    /// Runs some jobs; the first has waited for the GIL since that stamp. Returns one that is still to be run.
    fn batch(
        &'static self,
        py: &Attached<'_>,
        first: Arc<Waiting>,
        mut since: u64,
    ) -> Option<Arc<Waiting>> {
        let mut ticket = first;
        for _ in 0..BATCH {
            let left = line::run(py, &ticket, None, since);
            since = 0;
            let next = self.room.leave();
            ticket.finish(left);
            ticket = next?;
        }
        Some(ticket)
    }

    fn leave(&'static self) {
        if let Some(next) = self.room.leave() {
            self.hand_over(next);
        }
    }
}

impl Executor for Pool {
    fn run(&'static self, job: &Job<'_>) -> Ended {
        let has_place = self.room.enter();
        let standing = if has_place { None } else { self.line.stand() };
        if !has_place && standing.is_none() {
            return Ended::Refused(RunOutcome::QueueFull);
        }
        // SAFETY: the job is kept until `wait` has returned.
        let ticket = Arc::new(Ticket::new(unsafe { Lent::new(job) }));
        if has_place || self.room.enter_or_wait(Arc::clone(&ticket)) {
            self.hand_over(Arc::clone(&ticket));
        }
        match self.line.wait(&self.room, &ticket, job, || {}) {
            Ok(Some(left)) => Ended::Left(left),
            Ok(None) => Ended::Refused(RunOutcome::Failed),
            Err(why) => Ended::Refused(why),
        }
    }

    fn load(&self) -> u32 {
        self.room.load()
    }

    fn step_out(&'static self) {
        self.out.fetch_add(1, AcqRel);
        self.leave();
    }

    fn step_in(&self) {
        // In this order, or the place might be given to a job that no thread is free for.
        self.room.return_in();
        self.out.fetch_sub(1, AcqRel);
    }
}
