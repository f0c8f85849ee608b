//! The segment under load, without a server. Children with threads that come and go record requests and acknowledge
//! each in another file. About every ten milliseconds a child is killed or ends in the middle of its work, while a
//! scraper reads all the time. No counter may decrease, and no acknowledged request may be missing.
//!
//! `WSGI_TEST_LONG=1` makes it last a minute instead of four seconds. With `cargo test -p wsgi-telemetry --features
//! faults` the same tests run on a segment whose rules are broken on purpose (see `faults.rs`), and must fail.

#![allow(clippy::unwrap_used)]

mod board;
mod child;
#[cfg(feature = "faults")]
mod faults;
mod watch;

use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::catalogue::{EXIT, INTERPRETER_STATE, Id, OVERFLOW, STOP_REASON, value};
use wsgi_telemetry::{Ended, Segment, Snapshot};

use board::{APPLICATIONS, Board, CHILDREN, THREADS, create_segment};
use child::{Told, geometry};
use watch::Wrongs;

/// Number of arenas that is always enough: one for each child and each of its threads, twice, since the next child
/// begins while one ends.
const ENOUGH: usize = 1 + 2 * CHILDREN * (THREADS + 1);

/// Enough for the children, and for half of their threads.
const HALF: usize = 1 + CHILDREN + CHILDREN * THREADS / 2;

#[test]
fn counts_stay_exact_while_children_die() {
    let end = run(ENOUGH);
    assert_eq!(
        end.header
            .counter(Id::MetricsOverflows, value(OVERFLOW, "arena")),
        0
    );
}

#[test]
fn counts_stay_exact_when_threads_have_to_share() {
    let end = run(HALF);
    assert_ne!(
        end.header
            .counter(Id::MetricsOverflows, value(OVERFLOW, "arena")),
        0
    );
}

#[test]
#[ignore = "what the other tests start"]
fn a_child() {
    child::run();
}

/// A living child.
struct Living {
    process: Child,
    slot: usize,
    number: u64,
    /// Whether the child was told to end.
    told: bool,
}

/// The state of the children's parent.
struct Parent<'a> {
    segment: Segment,
    board: Board,
    folder: &'a Path,
    arenas: usize,
    wrongs: &'a Wrongs,
    children: Vec<Living>,
    started: u64,
    /// Number of children that ended while they recorded.
    interrupted: u64,
}

impl Drop for Parent<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.process.kill();
            let _ = child.process.wait();
        }
    }
}

/// Runs everything for some seconds and returns the last snapshot.
fn run(arenas: usize) -> Snapshot {
    // Two runs at once would only slow each other down.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let is_long = std::env::var_os("WSGI_TEST_LONG").is_some_and(|value| value == "1");
    let length = Duration::from_secs(if is_long { 60 } else { 4 });
    let folder = tempfile::tempdir().unwrap();
    let board = Board::create(folder.path());
    let segment = create_segment(folder.path(), geometry(arenas));
    let (wrongs, done) = (Wrongs::default(), AtomicBool::new(false));
    let mut parent = Parent {
        segment,
        board,
        folder: folder.path(),
        arenas,
        wrongs: &wrongs,
        children: Vec::new(),
        started: 0,
        interrupted: 0,
    };
    let snapshots = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch::watch(segment, board, &done, &wrongs));
        parent.reign(Instant::now() + length);
        done.store(true, Relaxed);
        watcher.join().unwrap()
    });
    let end = segment.snapshot();
    if !wrongs.are_counts_wrong() {
        parent.check_end(&end);
    }
    let acknowledged: u64 = board.acknowledged().iter().sum();
    let summary = format!(
        "{} children, {} of them interrupted; {acknowledged} requests acknowledged, {snapshots} snapshots",
        parent.started, parent.interrupted
    );
    println!("{summary}");
    let (counts, shown) = wrongs.list();
    assert!(counts.is_empty(), "{WRONG} after {summary}: {counts:#?}");
    assert!(
        shown.is_empty(),
        "what is shown is wrong after {summary}: {shown:#?}"
    );
    assert!(
        parent.interrupted >= 10 && snapshots >= 10,
        "nothing was tested: {summary}"
    );
    end
}

/// The message of a test that has found wrong counts.
const WRONG: &str = "the counts are wrong";

impl Parent<'_> {
    /// Keeps the children going until `until`, or until something is wrong, and then lets them finish.
    fn reign(&mut self, until: Instant) {
        for slot in 0..CHILDREN {
            self.start(slot);
        }
        let mut turn = 0;
        while Instant::now() < until && !self.wrongs.are_counts_wrong() {
            thread::sleep(Duration::from_millis(10));
            self.reap_those_that_ended();
            turn += 1;
            let Some(at) = self.longest_at_work() else {
                continue;
            };
            if turn % 4 == 0 {
                self.tell_to_end(at);
            } else {
                self.kill(at);
            }
        }
        self.board.stop();
        while let Some(mut child) = self.children.pop() {
            let status = child.process.wait().unwrap();
            self.wrongs
                .check(status.success(), || format!("a child ended with {status}"));
            self.reaped(&child, Some(Ended::Clean));
        }
    }

    fn start(&mut self, slot: usize) {
        self.started += 1;
        let told = Told {
            folder: self.folder.to_owned(),
            slot,
            number: self.started,
            arenas: self.arenas,
        };
        let process = told.start();
        self.segment.count(Id::ChildrenStarted, 0, 1);
        self.children.push(Living {
            process,
            slot,
            number: self.started,
            told: false,
        });
    }

    /// Returns the index of the child that has been recording longest.
    fn longest_at_work(&self) -> Option<usize> {
        let works =
            |child: &Living| !child.told && self.board.has_arrived(child.slot, child.number);
        self.children.iter().position(works)
    }

    /// Kills a child and starts its successor without waiting for the end.
    fn kill(&mut self, at: usize) {
        let mut child = self.children.remove(at);
        self.start(child.slot);
        self.before_reaping(&child);
        child.process.kill().unwrap();
        child.process.wait().unwrap();
        self.interrupted += 1;
        self.reaped(&child, Some(Ended::Killed));
    }

    /// Tells a child to end in the middle of its work, and starts its successor without waiting for the end.
    fn tell_to_end(&mut self, at: usize) {
        let child = &mut self.children[at];
        child.told = true;
        let (slot, number) = (child.slot, child.number);
        self.board.end(slot, number);
        self.interrupted += 1;
        self.start(slot);
    }

    fn reap_those_that_ended(&mut self) {
        let mut at = 0;
        while at < self.children.len() {
            let Some(status) = self.children[at].process.try_wait().unwrap() else {
                at += 1;
                continue;
            };
            let child = self.children.remove(at);
            self.wrongs.check(child.told && status.success(), || {
                format!("a child ended with {status}")
            });
            self.reaped(&child, Some(Ended::Clean));
        }
    }

    /// Does what the server does in `child_status`.
    fn reaped(&self, child: &Living, how: Option<Ended>) {
        let pid = child.process.id();
        let ended = self.segment.free_arenas_of(pid);
        // A child without an arena cannot have recorded how it ended.
        let may_be = ended == how || ended.is_none() && self.arenas < ENOUGH;
        self.wrongs.check_shown(may_be, || {
            format!("a child is said to have ended {ended:?}, not {how:?}")
        });
        let exit = if ended == Some(Ended::Clean) {
            "clean"
        } else {
            "killed"
        };
        self.segment.count(Id::ChildrenExited, value(EXIT, exit), 1);
        self.segment.reclaim(pid);
    }

    #[cfg(feature = "faults")]
    fn before_reaping(&self, child: &Living) {
        wsgi_telemetry::before_reaping(&self.segment, child.process.id());
    }

    #[cfg(not(feature = "faults"))]
    fn before_reaping(&self, _: &Living) {}

    /// Checks what holds when all children have ended.
    fn check_end(&self, end: &Snapshot) {
        let wrongs = self.wrongs;
        let most = u128::from(self.interrupted) * THREADS as u128;
        let acknowledged = self.board.acknowledged();
        for (label, acknowledged) in APPLICATIONS.into_iter().zip(acknowledged) {
            let acknowledged = u128::from(acknowledged);
            let Some(numbers) = watch::numbers(end, label) else {
                wrongs.check(false, || format!("{label} is not there"));
                continue;
            };
            let between = |counted: u128, what: &str| {
                wrongs.check((acknowledged..=acknowledged + most).contains(&counted), || {
                    format!("{acknowledged} requests of {label} were acknowledged, {counted} {what} counted, and at most {most} were cut short")
                });
            };
            between(watch::requests(numbers), "requests were");
            between(
                numbers.histogram(Id::ApplicationDuration, 0).0.iter().sum(),
                "observations were",
            );
            between(numbers.counter(Id::ResponseBody, 0) / 10, "bodies were");
            between(
                (0..4).map(|class| watch::observed(numbers, class)).sum(),
                "durations were",
            );
            let living: i64 = (0..INTERPRETER_STATE.values.len())
                .map(|state| numbers.gauge(Id::Interpreters, state))
                .sum();
            wrongs.check(living == 0, || {
                format!("{living} interpreters of {label} are left")
            });
            let starts = numbers.counter(Id::InterpreterStarts, 0);
            let stops = numbers.counter(Id::InterpreterStops, value(STOP_REASON, "child_exit"));
            wrongs.check(stops <= starts && starts <= self.started.into(), || {
                format!(
                    "{starts} interpreters of {label} started and {stops} stopped, in {} children",
                    self.started
                )
            });
        }
        let orders = watch::orders(end) as u128;
        let acknowledged: u128 = acknowledged.into_iter().map(u128::from).sum();
        wrongs.check(
            (acknowledged..=acknowledged + most).contains(&orders),
            || format!("{acknowledged} orders were acknowledged, and {orders} counted"),
        );
        wrongs.check(end.running.is_empty(), || {
            format!("still running: {:?}", end.running)
        });
        wrongs.check(end.children.is_empty(), || {
            format!("still there: {:?}", end.children)
        });
        wrongs.check(end.arenas_used == 0, || {
            format!("{} arenas are still somebody's", end.arenas_used)
        });
    }
}
