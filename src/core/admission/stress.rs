//! Many threads, many requests: what models are too small for, and what a race detector can watch (`scripts/races`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::quota::Quota;
use super::room::{Entry, Room};
use super::runner::{Offer, Runner};
use super::ticket::{Ticket, Turn};

/// A job, on the stack of its owner in the real thing.
struct Job {
    runs: AtomicU32,
}

type Waiting = Arc<Ticket<Arc<Job>, (), u32>>;

struct Group {
    room: Room<Waiting>,
    runner: Runner<Option<Waiting>>,
    /// By their owners, by who was inside, and by the runner.
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
        let ticket = Arc::new(Ticket::new(Arc::clone(&job)));
        let is_in = self.room.enter() || self.room.come(Arc::clone(&ticket)) == Entry::Inside;
        match is_in
            .then_some(Turn::Granted)
            .or_else(|| self.wait(&ticket, number))
        {
            Some(Turn::Done(result)) => assert_eq!(result, 1),
            Some(_) => self.inside(&job, number),
            None => {
                self.refused.fetch_add(1, Relaxed);
                return;
            }
        }
        assert_eq!(job.runs.load(Relaxed), 1);
    }

    /// `None` where it has left the line.
    fn wait(&self, ticket: &Waiting, number: u64) -> Option<Turn<(), u32>> {
        loop {
            // Some are impatient, and all look about.
            let patience = Duration::from_micros(if number.is_multiple_of(7) { 20 } else { 2000 });
            match ticket.wait(patience) {
                Turn::Running(()) => {}
                Turn::Waiting => {
                    let is_mine = |other: &Waiting| Arc::ptr_eq(other, ticket);
                    if number.is_multiple_of(7) && self.room.leave_line(is_mine) {
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
        // So that others come meanwhile.
        std::thread::yield_now();
        match number % 5 {
            0 => {
                // A wait for a client.
                self.leave(number);
                self.room.return_in();
            }
            1 => {
                self.room.follow(|| (number % 3) as u32 + 1);
                self.admit();
            }
            2 => {
                // The jobs of others, in passing.
                if let Some(next) = self.room.leave() {
                    self.run(&next, 1);
                } else {
                    return;
                }
            }
            _ => {}
        }
        self.leave(number);
    }

    fn run(&self, ticket: &Waiting, by: usize) {
        let job = ticket.take(());
        let runs = job.runs.load(Relaxed) + 1;
        job.runs.store(runs, Relaxed);
        self.runs[by].fetch_add(1, Relaxed);
        ticket.finish(runs);
    }

    fn leave(&self, number: u64) {
        let Some(next) = self.room.leave() else {
            return;
        };
        if number.is_multiple_of(2) {
            next.grant();
            return;
        }
        match self.runner.give(Some(next)) {
            Offer::Kept => {}
            Offer::NeedsThread => unreachable!("it has one"),
            Offer::Refused(next) => next.into_iter().for_each(|next| next.grant()),
        }
    }

    fn admit(&self) {
        while let Some(next) = self.room.admit() {
            next.grant();
        }
    }

    fn be_runner(&self) {
        while let Some(first) = self.runner.next() {
            let mut next = Some(first);
            while let Some(ticket) = next {
                self.run(&ticket, 2);
                next = self.room.leave();
            }
        }
    }
}

#[test]
fn every_request_is_run_once_or_refused() {
    let group = Group {
        room: Room::new(1, Arc::new(Quota::new(u32::MAX))),
        runner: Runner::new(),
        runs: Default::default(),
        refused: AtomicU64::new(0),
    };
    // So that it has a thread.
    assert_eq!(group.room.load(), 0);
    assert!(matches!(group.runner.give(None), Offer::NeedsThread));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(group.runner.next().is_none());
            group.be_runner();
        });
        let requests = (0..THREADS).map(|thread| {
            let group = &group;
            scope.spawn(move || {
                (0..REQUESTS).for_each(|turn| group.request(turn * THREADS + thread))
            })
        });
        let requests: Vec<_> = requests.collect();
        let results: Vec<_> = requests.into_iter().map(|thread| thread.join()).collect();
        while let Offer::Refused(_) = group.runner.give(None) {
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
    assert_eq!(group.room.load(), 0);
}
