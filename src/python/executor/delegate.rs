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
use crate::thread_state;

/// Most jobs of others that a thread runs before it lets go of the GIL.
const BATCH: u32 = 16;

/// For one interpreter.
pub(super) struct Delegate {
    room: Room<Arc<Waiting>>,
    pace: Pace,
    line: &'static Line,
    /// Of so many that had waited one is measured.
    turn: AtomicU32,
}

/// Of so many that had to wait, one has its time on the processor measured, which is a system call.
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
        if self.room.waiting() != 0
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
        if let Some(limit) = self.pace.waits(clock::now()) {
            self.room.set_limit(limit);
        }
        self.admit();
    }

    /// Runs the job on the calling thread, which has a place, and short ones of others.
    fn inside(&'static self, job: &Job<'_>, waited: bool) -> Ended {
        let mut place = Place {
            executor: self,
            _occupied: Occupied::by(self),
            is_taken: true,
        };
        let since = if waited { clock::now() } else { 0 };
        let (left, unsent) = thread_state::attach(job.application.interpreter(), |py| {
            let meter = waited.then(|| Meter::begin(self, since)).flatten();
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
        for _ in 0..BATCH {
            if self.room.waiting() == 0 || !self.pace.is_short() {
                break;
            }
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
            let unsent = unsent.get_or_insert_with(|| {
                let left = left.take().unwrap_or(Left::Nothing(RunOutcome::Failed));
                Arc::new(Unsent::new(Owed::new(own, left)))
            });
            let lent = next.take(Some(Arc::clone(unsent)));
            // SAFETY: as above; its owner waits for the result.
            let job = unsafe { lent.job() };
            let done = catch_unwind(AssertUnwindSafe(|| call::perform_lent(py, job, 0)));
            next.finish(done.unwrap_or(Left::Nothing(RunOutcome::Failed)));
        }
        (left, unsent)
    }
}

impl Executor for Delegate {
    fn run(&'static self, job: &Job<'_>) -> Ended {
        if self.room.enter() {
            return self.inside(job, false);
        }
        let Some(_standing) = self.line.stand() else {
            return Ended::Refused(RunOutcome::QueueFull);
        };
        // SAFETY: the job is kept until `wait` has returned.
        let ticket = Arc::new(Ticket::new(unsafe { Lent::new(job) }));
        if self.room.enter_or_wait(Arc::clone(&ticket)) {
            return self.inside(job, false);
        }
        match self.line.wait(&self.room, &ticket, job, || self.look()) {
            Ok(None) => self.inside(job, true),
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

/// The time of one who had waited, from when it has the GIL.
struct Meter {
    pace: &'static Pace,
    wall: u64,
    cpu: u64,
}

impl Meter {
    /// The calling thread has the GIL now, for which it has waited since then. `None` where it is not to be measured
    /// further.
    fn begin(executor: &'static Delegate, since: u64) -> Option<Self> {
        let wall = clock::now();
        executor.pace.entered(wall.saturating_sub(since));
        let turn = executor.turn.fetch_add(1, Relaxed);
        turn.is_multiple_of(SAMPLE).then(|| Self {
            pace: &executor.pace,
            wall,
            cpu: cpu_time(),
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let wall = clock::now().saturating_sub(self.wall);
        self.pace.visited(wall, cpu_time().saturating_sub(self.cpu));
    }
}

/// Time of the calling thread on a processor, nanoseconds.
fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanoseconds = time.tv_sec as u64 * 1_000_000_000;
    nanoseconds + time.tv_nsec as u64
}
