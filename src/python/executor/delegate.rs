//! At most so many are inside; who finds no room waits in line, and whoever is inside runs short requests of those who wait
//! before it gives the GIL back, as running one is cheaper than waking its thread up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use wsgi_abi::{Admission, RunOutcome};
use wsgi_core::admission::pace::Pace;
use wsgi_core::admission::room::Room;
use wsgi_core::admission::ticket::Ticket;
use wsgi_telemetry::clock;

use super::lent::{Lent, Unsent};
use super::line::{Line, Waiting};
use super::{Ended, Executor, Occupied};
use crate::call::{self, Job, Left, Owed};
use crate::object::Attached;
use crate::{running, thread_state};

/// How long a thread begins new jobs of others before it lets go of the GIL, nanoseconds: its own client may have something
/// new for it.
const BATCH: u64 = 10_000_000;
const TINY_BATCH: u64 = 2_000_000;

/// For one interpreter.
pub(super) struct Delegate {
    room: Room<Arc<Waiting>>,
    pace: Pace,
    line: &'static Line,
    /// Of some visits, one is measured.
    turn: AtomicU32,
}

/// Of so many that are not alone, one has its time on the processor measured, which is a system call.
const SAMPLE: u32 = 4;

impl Delegate {
    pub(super) fn new(admission: &Admission, line: &'static Line) -> Self {
        let pace = Pace::new(admission.least, admission.most, admission.least);
        Self {
            room: Room::new(pace.limit()),
            pace,
            line,
            turn: AtomicU32::new(0),
        }
    }

    /// Gives the place of the calling thread back.
    fn leave(&self) {
        if self.room.load() > 1
            && let Some(limit) = self.pace.leaves(clock::now())
        {
            self.room.set_limit(limit);
            self.admit();
        }
        if let Some(next) = self.room.leave() {
            next.grant();
        }
    }

    fn admit(&self) {
        while let Some(next) = self.room.admit() {
            next.grant();
        }
    }

    /// Called by those who wait.
    fn look(&self) {
        let busy = || running::cpu_time_inside(self);
        if let Some(limit) = self.pace.waits(clock::now(), busy) {
            self.room.set_limit(limit);
        }
        self.admit();
    }

    /// Runs the job on the calling thread, which has a place, and short ones of others.
    fn inside(&'static self, job: &Job<'_>) -> Ended {
        let mut place = Place {
            executor: self,
            _occupied: Occupied::by(self),
            is_taken: true,
        };
        let meter = Meter::begin(self);
        let (left, unsent) = thread_state::attach(job.application.interpreter(), |py| {
            let meter = meter.map(Meter::attached);
            let left = call::perform(py, job);
            drop(meter);
            self.run_others(py, &mut place, job, left)
        });
        drop(place);
        match (left, unsent) {
            (Some(left), _) => Ended::Left(left),
            (None, Some(unsent)) => match unsent.take_back() {
                Ok(left) => Ended::Left(left),
                Err(outcome) => Ended::Sent(outcome),
            },
            (None, None) => Ended::Refused(RunOutcome::Failed),
        }
    }

    /// Runs short jobs of those who wait, in the place of the calling thread. Returns what the thread has left of its own,
    /// or where it is kept meanwhile.
    fn run_others(
        &'static self,
        py: &Attached<'_>,
        place: &mut Place,
        own: &Job<'_>,
        left: Left,
    ) -> (Option<Left>, Option<Arc<Unsent>>) {
        let mut left = Some(left);
        let mut unsent: Option<Arc<Unsent>> = None;
        let mut until = 0;
        while place.is_taken && self.room.waiting() != 0 && self.pace.is_short() {
            let Some(next) = self.room.leave() else {
                place.is_taken = false;
                break;
            };
            // SAFETY: this thread got the ticket from the room.
            if !unsafe { next.job().job() }.is_delegable() {
                place.is_taken = false;
                next.grant();
                break;
            }
            let is_first = unsent.is_none();
            let now = clock::now();
            if is_first {
                let is_tiny = !self.pace.is_not_tiny();
                until = now + if is_tiny { TINY_BATCH } else { BATCH };
            }
            if now + self.pace.mean() >= until {
                // The last one: whoever has the place then wakes up meanwhile.
                place.is_taken = false;
                if let Some(successor) = self.room.leave() {
                    successor.grant();
                }
            }
            let unsent = unsent.get_or_insert_with(|| {
                let left = left.take().unwrap_or(Left::Nothing(RunOutcome::Failed));
                Arc::new(Unsent::new(Owed::new(own, left)))
            });
            // The first one sends the response of this thread meanwhile.
            let wakes = is_first && self.pace.is_not_tiny();
            let lent = next.take(Some(Arc::clone(unsent)), wakes);
            // SAFETY: as above; its owner waits for the result.
            let job = unsafe { lent.job() };
            let meter = Meter::of_another(self);
            let done = catch_unwind(AssertUnwindSafe(|| call::perform_lent(py, job, 0)));
            drop(meter);
            next.finish(done.unwrap_or(Left::Nothing(RunOutcome::Failed)));
            self.decide();
        }
        (left, unsent)
    }

    /// Between two jobs.
    fn decide(&self) {
        if let Some(limit) = self.pace.leaves(clock::now()) {
            self.room.set_limit(limit);
            self.admit();
        }
    }
}

impl Executor for Delegate {
    fn run(&'static self, job: &Job<'_>) -> Ended {
        if self.room.enter() {
            return self.inside(job);
        }
        let Some(_standing) = self.line.stand() else {
            return Ended::Refused(RunOutcome::QueueFull);
        };
        // SAFETY: the job is kept until `wait` has returned.
        let ticket = Arc::new(Ticket::new(unsafe { Lent::new(job) }));
        if self.room.enter_or_wait(Arc::clone(&ticket)) {
            return self.inside(job);
        }
        match self.line.wait(&self.room, &ticket, job, || self.look()) {
            Ok(None) => self.inside(job),
            Ok(Some(left)) => Ended::Left(left),
            Err(why) => Ended::Refused(why),
        }
    }

    fn load(&self) -> u32 {
        self.room.load()
    }

    fn step_out(&'static self) {
        self.leave();
    }

    fn step_in(&self) {
        self.room.return_in();
    }
}

/// A place inside, given back by drop.
struct Place {
    executor: &'static Delegate,
    _occupied: Occupied,
    /// Whether it is still this thread's.
    is_taken: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_taken {
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
    cpu: u64,
}

impl Meter {
    /// The calling thread has a place. Where nobody waits and nobody else is inside, nothing is measured.
    fn begin(executor: &'static Delegate) -> Option<Self> {
        let others = executor.room.inside() > 1;
        (others || executor.room.waiting() != 0).then(|| Self {
            executor,
            others,
            wall: clock::now(),
            cpu: 0,
        })
    }

    /// It has the GIL.
    fn attached(mut self) -> Self {
        let now = clock::now();
        let waited = now.saturating_sub(self.wall);
        self.executor.pace.entered(waited, self.others);
        self.wall = now;
        self.cpu = self.executor.is_sampled().then(cpu_time).unwrap_or(0);
        self
    }

    /// It runs the job of another thread.
    fn of_another(executor: &'static Delegate) -> Option<Self> {
        executor.is_sampled().then(|| Self {
            executor,
            others: false,
            wall: clock::now(),
            cpu: cpu_time(),
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.cpu != 0 {
            let wall = clock::now().saturating_sub(self.wall);
            let cpu = cpu_time().saturating_sub(self.cpu);
            self.executor.pace.visited(wall, cpu);
        }
    }
}

impl Delegate {
    fn is_sampled(&self) -> bool {
        self.turn.fetch_add(1, Relaxed).is_multiple_of(SAMPLE)
    }
}

/// Time of the calling thread on a processor, nanoseconds.
fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000;
    nanoseconds + time.tv_nsec as u64
}
