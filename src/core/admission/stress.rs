//! Stress tests with many threads and requests, for which models are too small, and which a race detector can watch
//! (`scripts/races`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::limit::Limit;
use super::semaphore::{EntryResult, FifoSemaphore};
use super::single_worker::{Offer, SingleWorker};
use super::waiter::{Waiter, Wakeup};

/// A job; in the engine it is on the stack of its owner.
struct Job {
    runs: AtomicU32,
}

type Waiting = Arc<Waiter<Arc<Job>, u32>>;

struct Group {
    semaphore: FifoSemaphore<Waiting>,
    worker: SingleWorker<Option<Waiting>>,
    /// Number of jobs run by their owners, by a thread that was inside, and by the worker.
    runs: [AtomicU64; 3],
    refused: AtomicU64,
}

const THREADS: u64 = 8;
const REQUESTS: u64 = 3000;

impl Group {
    fn request(&self, number: u64) {
        let job = Arc::new(Job {
            runs: AtomicU32::new(0),
        });
        let waiter = Arc::new(Waiter::new(Arc::clone(&job)));
        let is_in = self.semaphore.try_enter()
            || self.semaphore.enter_or_queue(Arc::clone(&waiter)) == EntryResult::Inside;
        match is_in
            .then_some(Wakeup::Granted)
            .or_else(|| self.wait(&waiter, number))
        {
            Some(Wakeup::Done(result)) => assert_eq!(result, 1),
            Some(_) => self.inside(&job, number),
            None => {
                self.refused.fetch_add(1, Relaxed);
                return;
            }
        }
        assert_eq!(job.runs.load(Relaxed), 1);
    }

    /// Returns `None` if the request has left the queue.
    fn wait(&self, waiter: &Waiting, number: u64) -> Option<Wakeup<u32>> {
        loop {
            // Some requests have little patience; all of them check the queue now and then.
            let patience = Duration::from_micros(if number.is_multiple_of(7) { 20 } else { 2000 });
            match waiter.wait(patience) {
                Wakeup::Running => {}
                Wakeup::Waiting => {
                    let is_mine = |other: &Waiting| Arc::ptr_eq(other, waiter);
                    if number.is_multiple_of(7) && self.semaphore.leave_queue(is_mine) {
                        return None;
                    }
                    self.admit();
                }
                news => return Some(news),
            }
        }
    }

    fn inside(&self, job: &Job, number: u64) {
        job.runs.store(job.runs.load(Relaxed) + 1, Relaxed);
        self.runs[0].fetch_add(1, Relaxed);
        // Lets other requests come now.
        std::thread::yield_now();
        match number % 5 {
            0 => {
                // Leaves while it waits for a client.
                self.leave(number);
                self.semaphore.reenter();
            }
            1 => {
                self.semaphore.follow(|| (number % 3) as u32 + 1);
                self.admit();
            }
            2 => {
                // Runs the job of another request before it leaves.
                if let Some(next) = self.semaphore.leave() {
                    self.run(&next, 1);
                } else {
                    return;
                }
            }
            _ => {}
        }
        self.leave(number);
    }

    fn run(&self, waiter: &Waiting, by: usize) {
        let job = waiter.take();
        let runs = job.runs.load(Relaxed) + 1;
        job.runs.store(runs, Relaxed);
        self.runs[by].fetch_add(1, Relaxed);
        waiter.finish(runs);
    }

    fn leave(&self, number: u64) {
        let Some(next) = self.semaphore.leave() else {
            return;
        };
        if number.is_multiple_of(2) {
            next.grant();
            return;
        }
        match self.worker.give(Some(next)) {
            Offer::Kept => {}
            Offer::NeedsThread => unreachable!("it has one"),
            Offer::Refused(next) => next.into_iter().for_each(|next| next.grant()),
        }
    }

    fn admit(&self) {
        while let Some(next) = self.semaphore.admit() {
            next.grant();
        }
    }

    fn be_worker(&self) {
        while let Some(first) = self.worker.next() {
            let mut next = Some(first);
            while let Some(waiter) = next {
                self.run(&waiter, 2);
                next = self.semaphore.leave();
            }
        }
    }
}

#[test]
fn every_request_is_run_once_or_refused() {
    let group = Group {
        semaphore: FifoSemaphore::new(1, Arc::new(Limit::new(u32::MAX))),
        worker: SingleWorker::new(),
        runs: Default::default(),
        refused: AtomicU64::new(0),
    };
    // Gives the worker a thread.
    assert_eq!(group.semaphore.load(), 0);
    assert!(matches!(group.worker.give(None), Offer::NeedsThread));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(group.worker.next().is_none());
            group.be_worker();
        });
        let requests = (0..THREADS).map(|thread| {
            let group = &group;
            scope.spawn(move || {
                (0..REQUESTS).for_each(|turn| group.request(turn * THREADS + thread))
            })
        });
        let requests: Vec<_> = requests.collect();
        let results: Vec<_> = requests.into_iter().map(|thread| thread.join()).collect();
        while let Offer::Refused(_) = group.worker.give(None) {
            std::thread::yield_now();
        }
        assert!(results.iter().all(Result::is_ok));
    });
    let runs = group.runs.each_ref().map(|runs| runs.load(Relaxed));
    let refused = group.refused.load(Relaxed);
    assert_eq!(
        runs.iter().sum::<u64>() + refused,
        THREADS * REQUESTS,
        "{runs:?} {refused}"
    );
    assert!(runs.iter().all(|runs| *runs > 0), "{runs:?}");
    assert_eq!(group.semaphore.load(), 0);
}
