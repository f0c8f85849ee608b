//! Models: loom runs a few steps of the real code in every order that threads and the memory model allow.
//!
//! `scripts/models`, or `RUSTFLAGS="--cfg loom" cargo test -p wsgi-core --release --lib models`
//!
//! loom's clock stands still: [`Waiter::wait`] waits until the state changes, so a thread whose wait times out is
//! modelled as one that calls [`Waiter::look`]. A lost wake-up makes a model that never ends, which loom reports.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use ::loom::model::Builder;
use ::loom::sync::Arc;
use ::loom::sync::atomic::{AtomicBool, AtomicU32};
use ::loom::thread;

use super::limit::Limit;
use super::semaphore::{EntryResult, FifoSemaphore};
use super::single_worker::{Offer, SingleWorker};
use super::waiter::{Waiter, Wakeup};

/// Runs `model` in every order of its steps. In models with too many steps for all orders, `preemptions` bounds how
/// often a thread may be stopped at a place at which it need not wait.
fn try_all(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

/// Runs each of `steps` in a thread and returns their results. Spawned threads take all steps of a model: loom does not
/// consider that its first thread could read a value later.
fn together<T: 'static, const N: usize>(steps: [Box<dyn FnOnce() -> T + Send>; N]) -> [T; N] {
    steps
        .map(thread::spawn)
        .map(|thread| thread.join().unwrap())
}

/// Something that one thread uses at a time, and passes on with all its writes: a count that is not incremented in one
/// step, so that it loses increments if two threads use it at once.
struct Alone(AtomicU32);

impl Alone {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn use_it(&self) {
        self.0.store(self.uses() + 1, Relaxed);
    }

    fn uses(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// A job on the stack of its owner.
struct Job {
    number: u32,
    runs: Alone,
    /// Its owner has returned.
    is_gone: AtomicBool,
}

impl Job {
    fn new(number: u32) -> Arc<Self> {
        Arc::new(Self {
            number,
            runs: Alone::new(),
            is_gone: AtomicBool::new(false),
        })
    }

    fn run(&self) -> u32 {
        assert!(!self.is_gone.load(Relaxed), "its owner has gone");
        self.runs.use_it();
        self.number
    }

    /// The owner returns, and knows how often the job was run.
    fn end(&self, runs: u32) {
        assert_eq!(self.runs.uses(), runs);
        self.is_gone.store(true, Relaxed);
    }
}

type Waiting = Arc<Waiter<Arc<Job>, u32>>;

/// Longer than any model waits.
const LONG: Duration = Duration::MAX;

fn waiter(job: &Arc<Job>) -> Waiting {
    Arc::new(Waiter::new(Arc::clone(job)))
}

fn take_out(semaphore: &FifoSemaphore<Waiting>, waiter: &Waiting) -> bool {
    semaphore.leave_queue(|other| Arc::ptr_eq(other, waiter))
}

/// Returns a semaphore whose queue has no bound.
fn open<T>(limit: u32) -> FifoSemaphore<T> {
    FifoSemaphore::new(limit, std::sync::Arc::new(Limit::new(u32::MAX)))
}

/// A group with one interpreter.
struct Group {
    semaphore: FifoSemaphore<Waiting>,
    /// Used by the thread that is inside, if the limit is one.
    inside: Alone,
    worker: SingleWorker<Option<Waiting>>,
    is_closing: AtomicBool,
}

impl Group {
    fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            semaphore: open(limit),
            inside: Alone::new(),
            worker: SingleWorker::new(),
            is_closing: AtomicBool::new(false),
        })
    }

    /// Returns a group like [`Group::new`], with one permit held.
    fn with_one_inside(limit: u32) -> Arc<Self> {
        let group = Self::new(limit);
        assert!(group.semaphore.try_enter());
        group
    }

    /// Runs a request, which waits for a permit or for a result if no permit is free. Returns the result of its job.
    fn request(&self, number: u32, pass_on: impl Fn(&Self, Waiting)) -> u32 {
        let job = Job::new(number);
        let waiting = waiter(&job);
        let is_in = self.semaphore.try_enter()
            || self.semaphore.enter_or_queue(Arc::clone(&waiting)) == EntryResult::Inside;
        let result = if is_in { None } else { wait(&waiting) };
        let result = result.unwrap_or_else(|| {
            self.inside.use_it();
            let result = job.run();
            self.leave(pass_on);
            result
        });
        job.end(1);
        result
    }

    fn leave(&self, pass_on: impl Fn(&Self, Waiting)) {
        if let Some(next) = self.semaphore.leave() {
            pass_on(self, next);
        }
    }

    /// Runs jobs while the queue holds one.
    fn run_from(&self, first: Waiting) {
        let mut next = Some(first);
        while let Some(waiter) = next {
            self.inside.use_it();
            run(&waiter);
            next = self.semaphore.leave();
        }
    }

    /// Asserts that no request is left, and that `requests` were inside, one at a time.
    fn assert_served(&self, requests: u32) {
        assert_eq!((self.semaphore.load(), self.inside.uses()), (0, requests));
    }
}

/// Makes the worker of the group run the job.
fn to_worker(group: &Arc<Group>, waiter: Waiting) {
    match group.worker.give(Some(waiter)) {
        Offer::Kept => {}
        Offer::NeedsThread => {
            let group = Arc::clone(group);
            thread::spawn(move || {
                while let Some(waiter) = group.worker.next() {
                    group.run_from(waiter);
                }
            });
        }
        Offer::Refused(waiter) => waiter.unwrap().grant(),
    }
}

fn grant(_: &Group, waiter: Waiting) {
    waiter.grant();
}

/// Runs the job of a waiter that the caller got from the semaphore.
fn run(waiter: &Waiting) {
    let result = waiter.take().run();
    waiter.finish(result);
}

/// Waits for a result, which it returns, or for a permit (`None`).
fn wait(waiter: &Waiting) -> Option<u32> {
    loop {
        match waiter.wait(LONG) {
            Wakeup::Done(result) => return Some(result),
            Wakeup::Granted => return None,
            Wakeup::Waiting | Wakeup::Running => {}
        }
    }
}

#[test]
fn each_has_the_only_place_in_its_turn() {
    try_all(Some(3), || {
        let group = Group::new(1);
        let request = |number| -> Box<dyn FnOnce() -> u32 + Send> {
            let group = Arc::clone(&group);
            Box::new(move || group.request(number, grant))
        };
        assert_eq!(together([1, 2].map(request)), [1, 2]);
        group.assert_served(2);
    });
}

#[test]
fn three_have_the_only_place_in_their_turn() {
    try_all(Some(2), || {
        let group = Group::new(1);
        let request = |number| -> Box<dyn FnOnce() -> u32 + Send> {
            let group = Arc::clone(&group);
            Box::new(move || group.request(number, grant))
        };
        assert_eq!(together([1, 2, 3].map(request)), [1, 2, 3]);
        group.assert_served(3);
    });
}

#[test]
fn no_more_than_the_limit_are_inside() {
    try_all(Some(2), || {
        let (group, inside) = (Group::new(2), Arc::new(AtomicU32::new(0)));
        let request = |number| -> Box<dyn FnOnce() -> u32 + Send> {
            let (group, inside) = (Arc::clone(&group), Arc::clone(&inside));
            Box::new(move || {
                let waiting = waiter(&Job::new(number));
                if !group.semaphore.try_enter()
                    && group.semaphore.enter_or_queue(Arc::clone(&waiting)) == EntryResult::Queued
                {
                    assert_eq!(wait(&waiting), None);
                }
                assert!(inside.fetch_add(1, AcqRel) < 2);
                inside.fetch_sub(1, AcqRel);
                group.leave(grant);
                number
            })
        };
        together([1, 2, 3].map(request));
        group.assert_served(0);
    });
}

#[test]
fn first_come_first_served() {
    try_all(None, || {
        let semaphore = Arc::new(open(1));
        assert!(
            semaphore.try_enter()
                && semaphore.enter_or_queue(1) == EntryResult::Queued
                && semaphore.enter_or_queue(2) == EntryResult::Queued
        );
        let (leaving, coming) = (Arc::clone(&semaphore), Arc::clone(&semaphore));
        let [served, overtook] = together::<Vec<u32>, 2>([
            Box::new(move || (0..2).filter_map(|_| leaving.leave()).collect()),
            Box::new(move || {
                assert!(!coming.try_enter(), "two were there before");
                let has_permit = coming.enter_or_queue(3) == EntryResult::Inside;
                has_permit.then_some(3).into_iter().collect()
            }),
        ]);
        assert_eq!(served, [1, 2]);
        assert!(overtook.is_empty());
        assert_eq!(semaphore.leave(), Some(3));
        assert_eq!(semaphore.leave(), None);
        assert_eq!(semaphore.load(), 0);
    });
}

#[test]
fn two_threads_that_leave_serve_two() {
    try_all(None, || {
        let semaphore = Arc::new(open(2));
        assert!(semaphore.try_enter() && semaphore.try_enter());
        assert!(
            semaphore.enter_or_queue(1) == EntryResult::Queued
                && semaphore.enter_or_queue(2) == EntryResult::Queued
        );
        let leave = |_| -> Box<dyn FnOnce() -> Option<u32> + Send> {
            let semaphore = Arc::clone(&semaphore);
            Box::new(move || semaphore.leave())
        };
        let mut served = together([(); 2].map(leave));
        served.sort_unstable();
        assert_eq!(served, [Some(1), Some(2)]);
        assert_eq!((semaphore.inside(), semaphore.waiting()), (2, 0));
    });
}

#[test]
fn a_waiter_that_leaves_the_queue_has_no_permit() {
    try_all(None, || {
        let group = Group::with_one_inside(1);
        let waiting = waiter(&Job::new(1));
        assert!(group.semaphore.enter_or_queue(Arc::clone(&waiting)) == EntryResult::Queued);
        let (leaving, tired) = (Arc::clone(&group), Arc::clone(&group));
        let [served, has_left] = together::<bool, 2>([
            Box::new(move || leaving.semaphore.leave().map(|next| next.grant()).is_some()),
            Box::new(move || {
                let has_left = take_out(&tired.semaphore, &waiting);
                if !has_left {
                    assert_eq!(wait(&waiting), None, "it has a permit");
                    tired.leave(grant);
                }
                has_left
            }),
        ]);
        assert!(served != has_left);
        group.assert_served(0);
    });
}

/// Asserts that no waiter is queued while a permit is free.
fn assert_used(semaphore: &FifoSemaphore<u32>) {
    let (inside, waiting) = (semaphore.inside(), semaphore.waiting());
    assert!(
        waiting == 0 || inside >= semaphore.limit(),
        "{inside} inside, {waiting} queued"
    );
}

#[test]
fn a_higher_limit_meets_a_thread_that_comes() {
    try_all(None, || {
        let semaphore = Arc::new(open(1));
        assert!(semaphore.try_enter());
        let (raising, coming) = (Arc::clone(&semaphore), Arc::clone(&semaphore));
        let [_, _] = together::<(), 2>([
            Box::new(move || {
                raising.set_limit(2);
                let _ = raising.admit();
            }),
            Box::new(move || {
                let _ = coming.try_enter() || coming.enter_or_queue(1) == EntryResult::Inside;
            }),
        ]);
        assert_eq!((semaphore.inside(), semaphore.waiting()), (2, 0));
    });
}

#[test]
fn no_thread_overtakes_the_queue_when_the_limit_is_raised() {
    try_all(None, || {
        let semaphore = Arc::new(open(1));
        assert!(semaphore.try_enter() && semaphore.enter_or_queue(1) == EntryResult::Queued);
        let (raising, coming) = (Arc::clone(&semaphore), Arc::clone(&semaphore));
        let [served, overtook] = together::<bool, 2>([
            Box::new(move || {
                raising.set_limit(2);
                raising.admit() == Some(1)
            }),
            Box::new(move || coming.try_enter()),
        ]);
        assert!(served && !overtook);
    });
}

#[test]
fn a_higher_limit_meets_a_thread_that_leaves() {
    try_all(None, || {
        let semaphore = Arc::new(open(2));
        assert!(
            semaphore.try_enter()
                && semaphore.try_enter()
                && semaphore.enter_or_queue(1) == EntryResult::Queued
        );
        semaphore.set_limit(1);
        let (raising, leaving) = (Arc::clone(&semaphore), Arc::clone(&semaphore));
        let served = together::<Option<u32>, 2>([
            Box::new(move || {
                raising.set_limit(2);
                raising.admit()
            }),
            Box::new(move || leaving.leave()),
        ]);
        assert_used(&semaphore);
        assert_eq!(served.iter().flatten().count(), 1, "{served:?}");
    });
}

#[test]
fn a_lower_limit_meets_threads_that_leave() {
    try_all(None, || {
        let semaphore = Arc::new(open(2));
        assert!(
            semaphore.try_enter()
                && semaphore.try_enter()
                && semaphore.enter_or_queue(1) == EntryResult::Queued
        );
        let (lowering, one, other) = (
            Arc::clone(&semaphore),
            Arc::clone(&semaphore),
            Arc::clone(&semaphore),
        );
        let served = together::<Option<u32>, 3>([
            Box::new(move || {
                lowering.set_limit(1);
                None
            }),
            Box::new(move || one.leave()),
            Box::new(move || other.leave()),
        ]);
        assert_eq!(served.iter().flatten().count(), 1, "{served:?}");
        assert_eq!((semaphore.inside(), semaphore.waiting()), (1, 0));
    });
}

#[test]
fn the_last_of_two_limits_holds() {
    try_all(None, || {
        let (semaphore, decided) = (Arc::new(open::<u32>(1)), Arc::new(AtomicU32::new(1)));
        let decide = |limit: u32| -> Box<dyn FnOnce() + Send> {
            let (semaphore, decided) = (Arc::clone(&semaphore), Arc::clone(&decided));
            Box::new(move || {
                decided.swap(limit, AcqRel);
                semaphore.follow(|| decided.load(Acquire));
            })
        };
        together([decide(3), decide(5)]);
        assert_eq!(semaphore.limit(), decided.load(Relaxed));
    });
}

#[test]
fn a_place_given_back_for_a_while_serves_another() {
    try_all(Some(3), || {
        let group = Group::with_one_inside(1);
        let outside = Arc::clone(&group);
        let request = Arc::clone(&group);
        together::<u32, 2>([
            Box::new(move || {
                outside.leave(grant);
                // Here, the request would do something that takes long.
                outside.semaphore.reenter();
                outside.leave(grant);
                0
            }),
            Box::new(move || {
                let waiting = waiter(&Job::new(1));
                if !request.semaphore.try_enter()
                    && request.semaphore.enter_or_queue(Arc::clone(&waiting)) == EntryResult::Queued
                {
                    assert_eq!(wait(&waiting), None);
                }
                request.leave(grant);
                1
            }),
        ]);
        group.assert_served(0);
    });
}

#[test]
fn a_job_that_is_run_for_its_owner_is_run_once() {
    try_all(Some(3), || {
        let group = Group::with_one_inside(1);
        let job = Job::new(7);
        let waiting = waiter(&job);
        assert!(group.semaphore.enter_or_queue(Arc::clone(&waiting)) == EntryResult::Queued);
        let (holder, owner) = (Arc::clone(&group), Arc::clone(&group));
        let runs = together::<u32, 2>([
            Box::new(move || {
                let mut runs = 0;
                while let Some(next) = holder.semaphore.leave() {
                    run(&next);
                    runs += 1;
                }
                runs
            }),
            Box::new(move || {
                // The wait of the owner may time out at any moment.
                let result = match take_out(&owner.semaphore, &waiting) {
                    true => None,
                    false => Some(wait(&waiting).unwrap()),
                };
                assert_eq!(waiting.look(), Wakeup::Waiting, "and there is no more news");
                assert!(result.is_none_or(|result| result == 7));
                let runs = result.is_some().into();
                job.end(runs);
                runs
            }),
        ]);
        assert_eq!(runs[0], runs[1]);
        group.assert_served(0);
    });
}

#[test]
fn a_thread_runs_the_jobs_of_waiters() {
    try_all(Some(2), || {
        let group = Group::new(1);
        let request = |number| -> Box<dyn FnOnce() -> u32 + Send> {
            let group = Arc::clone(&group);
            let pass_on = |group: &Group, next| group.run_from(next);
            Box::new(move || group.request(number, pass_on))
        };
        assert_eq!(together([1, 2, 3].map(request)), [1, 2, 3]);
        group.assert_served(3);
    });
}

#[test]
fn a_worker_loses_no_job() {
    try_all(Some(2), || {
        let worker = Arc::new(SingleWorker::<Option<u32>>::new());
        let sum = Arc::new(AtomicU32::new(0));
        let give = |job| -> Box<dyn FnOnce() -> u32 + Send> {
            let (worker, sum) = (Arc::clone(&worker), Arc::clone(&sum));
            Box::new(move || match worker.give(Some(job)) {
                Offer::Kept => job,
                Offer::NeedsThread => {
                    thread::spawn(move || {
                        while let Some(job) = worker.next() {
                            sum.fetch_add(job, Relaxed);
                        }
                        sum.fetch_add(100, Release);
                    });
                    job
                }
                Offer::Refused(_) => 0,
            })
        };
        let given: u32 = together([give(1), give(2)]).iter().sum();
        assert!(given > 0, "one of them is the first");
        while let Offer::Refused(_) = worker.give(None) {
            thread::yield_now();
        }
        while sum.load(Acquire) < 100 {
            thread::yield_now();
        }
        assert_eq!(sum.load(Acquire), 100 + given);
    });
}

#[test]
fn a_worker_without_a_thread_gives_the_job_back() {
    try_all(None, || {
        let worker = Arc::new(SingleWorker::new());
        let give = |job: u32| -> Box<dyn FnOnce() -> u32 + Send> {
            let worker = Arc::clone(&worker);
            Box::new(move || match worker.give(job) {
                Offer::Kept => unreachable!("there is no thread"),
                Offer::NeedsThread => worker.take_back().unwrap(),
                Offer::Refused(job) => job,
            })
        };
        assert_eq!(together([give(1), give(2)]), [1, 2]);
        assert_eq!(worker.give(3), Offer::NeedsThread);
    });
}

#[test]
fn a_single_worker_runs_the_jobs_of_waiters() {
    try_all(Some(2), || {
        let group = Group::new(1);
        let request = |number| -> Box<dyn FnOnce() -> u32 + Send> {
            let group = Arc::clone(&group);
            Box::new(move || {
                let all = Arc::clone(&group);
                group.request(number, move |_, next| to_worker(&all, next))
            })
        };
        assert_eq!(together([1, 2].map(request)), [1, 2]);
        // Ends the worker, of which a model has one. If its thread was never started, there is nothing to end.
        while let Offer::Refused(_) = group.worker.give(None) {
            thread::yield_now();
        }
        group.assert_served(2);
    });
}

#[test]
fn no_waiter_stays_queued_when_the_child_ends() {
    try_all(Some(3), || {
        let group = Group::with_one_inside(1);
        let waiting = waiter(&Job::new(1));
        assert!(group.semaphore.enter_or_queue(Arc::clone(&waiting)) == EntryResult::Queued);
        let (closing, leaving, looking) =
            (Arc::clone(&group), Arc::clone(&group), Arc::clone(&group));
        together::<(), 3>([
            Box::new(move || closing.is_closing.store(true, Release)),
            Box::new(move || leaving.leave(grant)),
            Box::new(move || {
                loop {
                    match waiting.look() {
                        Wakeup::Granted => return looking.leave(grant),
                        Wakeup::Waiting => {}
                        other => panic!("no thread runs it: {other:?}"),
                    }
                    if looking.is_closing.load(Acquire) && take_out(&looking.semaphore, &waiting) {
                        return;
                    }
                    thread::yield_now();
                }
            }),
        ]);
        group.assert_served(0);
    });
}

#[test]
fn a_quota_is_never_exceeded_and_comes_back() {
    try_all(Some(2), || {
        let (limit, alone) = (Arc::new(Limit::new(1)), Arc::new(Alone::new()));
        let take = |_| -> Box<dyn FnOnce() -> bool + Send> {
            let (limit, alone) = (Arc::clone(&limit), Arc::clone(&alone));
            Box::new(move || match limit.take() {
                Some(held) => {
                    alone.use_it();
                    drop(held);
                    true
                }
                None => false,
            })
        };
        let taken = together([(); 3].map(take));
        assert!(taken.contains(&true));
        assert!(limit.take().is_some());
    });
}

#[test]
fn a_waiter_with_a_permit_is_not_counted_as_queued() {
    try_all(None, || {
        let bound = std::sync::Arc::new(Limit::new(1));
        let semaphore = Arc::new(FifoSemaphore::new(1, std::sync::Arc::clone(&bound)));
        assert!(semaphore.try_enter() && semaphore.enter_or_queue(1) == EntryResult::Queued);
        let (leaving, coming) = (Arc::clone(&semaphore), Arc::clone(&semaphore));
        let has_left = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&has_left);
        let [served, entry] = together::<Result<Option<u32>, EntryResult>, 2>([
            Box::new(move || {
                let next = leaving.leave();
                has_left.store(true, Release);
                Ok(next)
            }),
            Box::new(move || {
                let was_left = seen.load(Acquire);
                let entry = coming.enter_or_queue(2);
                assert!(!was_left || entry == EntryResult::Queued, "{entry:?}");
                Err(entry)
            }),
        ]);
        assert_eq!(served, Ok(Some(1)));
        let waits = u32::from(entry == Err(EntryResult::Queued));
        assert!(waits == 1 || entry == Err(EntryResult::Full), "{entry:?}");
        assert_eq!((semaphore.waiting(), bound.held()), (waits, waits));
    });
}

#[test]
fn the_bound_of_a_queue_is_kept() {
    try_all(Some(3), || {
        let bound = std::sync::Arc::new(Limit::new(1));
        let semaphores =
            [(); 2].map(|()| Arc::new(FifoSemaphore::new(1, std::sync::Arc::clone(&bound))));
        assert!(semaphores[0].try_enter() && semaphores[1].try_enter());
        let come = |at: usize| -> Box<dyn FnOnce() -> bool + Send> {
            let semaphore = Arc::clone(&semaphores[at]);
            Box::new(move || match semaphore.enter_or_queue(7) {
                EntryResult::Inside => semaphore.leave().is_none(),
                EntryResult::Queued => {
                    semaphore.leave_queue(|_| true) || semaphore.leave().is_none()
                }
                EntryResult::Full => false,
            })
        };
        let leaving = Arc::clone(&semaphores[0]);
        let [first, second, _] = together([
            come(0),
            come(1),
            Box::new(move || leaving.leave().is_none()),
        ]);
        assert!(first || second, "the queue had space for one");
        assert_eq!(
            (semaphores[0].load(), semaphores[1].load(), bound.held()),
            (0, 1, 0)
        );
    });
}
