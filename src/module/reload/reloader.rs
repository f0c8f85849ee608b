//! The reloader: a process beside the children that replaces them when there is new code. It has no Python and one
//! thread.
//!
//! 1. A roll is requested by a child that has seen a source file change, by `wsgictl reload`, or by the reloader
//!    itself, which watches the file of `WSGIReload touch`. The reloader raises the revision.
//! 2. A trial ([`Trial`]) loads the new code. If that fails, the roll stops, and the old code stays in use.
//! 3. The reloader tells one child after the other to retire ([`Rolling`]), until no child has older code.
//!
//! If more new code appears during a roll, that code is tried before the next child retires. The parent restarts a
//! reloader that has died; the new one continues from the state on the board.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wsgi_core::child::rolling::{self, Child, ChildStage, Failure, Rolling, Step};
use wsgi_core::messages::Message;
use wsgi_httpd::helper::{Helper, ParentThread};
use wsgi_httpd::mpm::{self, LeaveBy, scoreboard};
use wsgi_telemetry::board::{
    Board, ChildEntry, ChildState, ReloadRequest, RetireReason, Roll, RollPhase,
};
use wsgi_telemetry::clock;

use super::touch::{self, Touch};
use super::trial::Trial;
use crate::config::inherited::{self, Process};
use crate::config::single_process;
use crate::log::{log_info, log_message};
use crate::metrics::segment::{self, InForce};

static HELPER: Helper = Helper::new(c"wsgi-reloader", run, died);

/// How often the reloader checks for work.
const LOOK: Duration = Duration::from_millis(50);

/// What the parent knows about the reloader.
struct Parent {
    /// Whether a reloader is wanted.
    is_wanted: bool,
    /// When the configuration came into force, as Unix time in nanoseconds.
    configured: u64,
}

static PARENT: Mutex<Parent> = Mutex::new(Parent {
    is_wanted: false,
    configured: 0,
});

fn parent() -> std::sync::MutexGuard<'static, Parent> {
    PARENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes whether the configuration that has come into force needs a reloader.
pub(crate) fn prepare(thread: &ParentThread) {
    HELPER.prepare(thread);
    let serves = inherited::current().is_some_and(|process| !process.python.restrict_embedded);
    let is_wanted = serves && segment::in_force().is_some() && !mpm::single_process();
    if serves && mpm::single_process() {
        log_info("children are not replaced where httpd runs as one process (-X)");
    }
    *parent() = Parent {
        is_wanted,
        configured: clock::unix(),
    };
}

/// Starts the reloader, if it is wanted. Called when a child was started, as the server then runs.
pub(crate) fn server_runs(thread: &ParentThread) {
    // The helper gets a copy of the lock, which must be free when the helper is forked.
    if !parent().is_wanted || HELPER.is_running() {
        return;
    }
    if let Err(why) = LeaveBy::of_mpm() {
        parent().is_wanted = false;
        log_message(Message::ChildrenNotReplaced, &[&why]);
        return;
    }
    if let Err(error) = HELPER.start(thread, Vec::new(), &[]) {
        log_message(Message::HelperStart, &[&"wsgi-reloader", &error]);
    }
}

/// Replaces a reloader that died too soon. Called about every ten seconds.
pub(crate) fn revive(thread: &ParentThread) {
    if HELPER.was_started() {
        server_runs(thread);
    }
}

/// Replaces a reloader that has died, unless it died too soon.
fn died(thread: &ParentThread, pid: u32, how: &str) {
    log_message(Message::ReloaderDied, &[&pid, &how]);
    if HELPER.has_lived() {
        server_runs(thread);
    }
}

/// The body of the helper: works until `ending` is readable.
fn run(ending: OwnedFd, _: Vec<OwnedFd>) {
    let (Some(process), Some(in_force)) = (inherited::current(), segment::in_force()) else {
        return;
    };
    let mut reloader = Reloader::new(process, in_force);
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK.subsec_nanos().into(),
    };
    loop {
        let mut polled = [PollFd::from_borrowed_fd(ending.as_fd(), PollFlags::IN)];
        if matches!(poll(&mut polled, Some(&pause)), Ok(1..)) {
            return;
        }
        reloader.look_around();
    }
}

struct Reloader {
    process: Arc<Process>,
    board: Board,
    generation: u64,
    began: Instant,
    touch: Option<Touch>,
    /// The request that is tried next.
    wanted: Option<ReloadRequest>,
    work: Work,
    /// The roll, as written on the board.
    roll: Roll,
    reason: RetireReason,
    /// The number of children that an earlier reloader has replaced in the same roll.
    done_before: u32,
}

enum Work {
    Nothing,
    Trial(Trial),
    Rolling(Rolling<(u32, u64)>),
}

impl Reloader {
    fn new(process: Arc<Process>, in_force: InForce) -> Self {
        let board = in_force.segment.board();
        let roll = board.roll();
        touch::warn(&process.reload);
        let mut reloader = Self {
            touch: Touch::new(&process.reload, parent().configured.max(roll.began)),
            process,
            board,
            generation: in_force.generation,
            began: Instant::now(),
            wanted: None,
            work: Work::Nothing,
            roll,
            reason: RetireReason::Api,
            done_before: 0,
        };
        reloader.take_over();
        reloader
    }

    /// Continues what an earlier reloader has begun.
    fn take_over(&mut self) {
        let children = self.children();
        match self.roll.phase {
            // All children belong to the new configuration, and have the current code.
            phase if phase.is_going_on() && !children.iter().any(|child| self.is_old(child)) => {
                self.end(RollPhase::Done, String::new());
            }
            RollPhase::Trial => {
                self.wanted = Some(ReloadRequest {
                    group: None,
                    reason: RetireReason::Api,
                    what: self.roll.cause.clone(),
                });
            }
            RollPhase::Rolling => {
                let mut reasons = children.iter().filter_map(|child| child.retire);
                self.reason = reasons.next_back().unwrap_or(RetireReason::Api);
                self.done_before = self.roll.done;
                self.work = Work::Rolling(Rolling::default());
            }
            RollPhase::Idle | RollPhase::Done | RollPhase::Stopped => {}
        }
    }

    fn look_around(&mut self) {
        self.board.beat(clock::now());
        if let Some(request) = self.touch.as_mut().and_then(Touch::look) {
            self.want(request);
        }
        for request in self.board.take_requests() {
            self.want(request);
        }
        let is_free = match &self.work {
            Work::Trial(trial) => trial.is_slow(),
            Work::Nothing | Work::Rolling(_) => true,
        };
        if is_free && let Some(request) = self.wanted.take() {
            self.try_out(request);
        }
        match &mut self.work {
            Work::Nothing => {}
            Work::Trial(trial) => match trial.outcome() {
                None => {}
                Some(Ok(())) => self.begin_rolling(),
                Some(Err(problem)) => self.refuse(&problem),
            },
            Work::Rolling(_) => self.roll_on(),
        }
    }

    /// Merges the request with one that still waits.
    fn want(&mut self, request: ReloadRequest) {
        self.wanted = Some(match self.wanted.take() {
            Some(before) if before.group == request.group => before,
            Some(before) => ReloadRequest {
                group: None,
                ..before
            },
            None => request,
        });
    }

    /// Returns whether no child has an application: all of them run in process groups.
    fn has_no_application(&self) -> bool {
        !single_process::is_on()
            && self.process.everything().is_empty()
            && self.process.known.unknown == 0
            && segment::current().is_some_and(|segment| !segment.snapshot().has_application())
    }

    fn try_out(&mut self, request: ReloadRequest) {
        if self.has_no_application() {
            self.board.settle_requests();
            return log_info("there is new code, but no child has loaded an application");
        }
        let revision = self.board.raise_revision();
        self.reason = request.reason;
        self.done_before = 0;
        let (tried, untried) = Trial::extent(&self.process, &request);
        self.roll = Roll {
            phase: RollPhase::Trial,
            tried,
            untried,
            revision,
            done: 0,
            of: 0,
            began: clock::unix(),
            ended: 0,
            cause: cause(&request),
            problem: String::new(),
        };
        log_info(&format!(
            "there is new code, revision {revision}, which is tried before children are replaced: {}",
            self.roll.cause
        ));
        self.board.set_roll(&self.roll);
        match Trial::begin(&self.process, &request) {
            Ok(trial) => self.work = Work::Trial(trial),
            Err(error) => self.refuse(&format!("there is no process to try it: {error}")),
        }
    }

    /// Stops the roll; the old code stays in use.
    fn refuse(&mut self, problem: &str) {
        log_message(Message::CodeRefused, &[&self.roll.revision, &problem]);
        self.end(RollPhase::Stopped, problem.into());
    }

    fn end(&mut self, phase: RollPhase, problem: String) {
        self.work = Work::Nothing;
        self.roll.phase = phase;
        self.roll.ended = clock::unix();
        self.roll.problem = problem;
        self.board.set_roll(&self.roll);
    }

    fn begin_rolling(&mut self) {
        let is_meant =
            |child: &ChildEntry| self.is_old(child) && child.state != ChildState::Draining;
        let old = self.children().into_iter().filter(is_meant);
        self.roll.of = u32::try_from(old.count()).unwrap_or(u32::MAX);
        self.roll.phase = RollPhase::Rolling;
        self.board.set_roll(&self.roll);
        log_info(&format!(
            "the new code, revision {}, {}, and replaces {}",
            self.roll.revision,
            how_tried(&self.roll),
            of_children(self.roll.of)
        ));
        self.work = Work::Rolling(Rolling::default());
    }

    fn roll_on(&mut self) {
        let children = self.children();
        let children: Vec<_> = children.iter().map(|child| self.seen(child)).collect();
        let Work::Rolling(rolling) = &mut self.work else {
            return;
        };
        let step = rolling.step(&children, scoreboard::has_room(), self.began.elapsed());
        let done = u32::try_from(rolling.done()).unwrap_or(u32::MAX);
        let done = done.saturating_add(self.done_before);
        if done != self.roll.done {
            self.roll.done = done;
            self.roll.of = self.roll.of.max(done);
            self.board.set_roll(&self.roll);
        }
        match step {
            Step::Wait => {}
            Step::Retire((pid, ticks)) => {
                // It fails if the child has ended, which the next step sees.
                let _told = self.board.mark(pid, ticks, self.reason);
            }
            Step::Failed(failure) => {
                self.board.unmark_all(self.generation);
                self.refuse(&why(failure));
            }
            Step::Done => {
                let took = clock::unix().saturating_sub(self.roll.began) / 1_000_000;
                log_info(&format!(
                    "all children have the code of revision {}, which has replaced {} in {}.{:03} seconds",
                    self.roll.revision,
                    of_children(self.roll.done),
                    took / 1000,
                    took % 1000
                ));
                self.end(RollPhase::Done, String::new());
            }
        }
    }

    /// Returns the children of this configuration.
    fn children(&self) -> Vec<ChildEntry> {
        let children = self.board.children().into_iter();
        children
            .filter(|child| child.generation == self.generation)
            .collect()
    }

    fn is_old(&self, child: &ChildEntry) -> bool {
        child.revision < self.roll.revision
    }

    fn seen(&self, child: &ChildEntry) -> Child<(u32, u64)> {
        Child {
            id: (child.pid, child.ticks),
            is_old: self.is_old(child),
            is_marked: child.retire.is_some(),
            stage: match child.state {
                ChildState::Starting => ChildStage::Starting,
                ChildState::Ready => ChildStage::Ready,
                ChildState::NotReady => ChildStage::NotReady,
                ChildState::Draining => ChildStage::Draining,
            },
        }
    }
}

/// Returns why a roll stops, and what to do.
fn why(failure: Failure<(u32, u64)>) -> String {
    let seconds = rolling::LOAD.as_secs();
    match failure {
        Failure::NotReady((pid, _)) => {
            format!("child {pid} did not get ready; the error log says why")
        }
        Failure::Late((pid, _)) => {
            format!("child {pid} was not ready after {seconds} seconds")
        }
        Failure::Lost(count) => format!(
            "{count} children in a row ended before they were ready; the error log says how"
        ),
        Failure::NotStarted => {
            format!("the server has not started a child within {seconds} seconds")
        }
        Failure::NoRoom => format!(
            "there was no room for another child within {seconds} seconds, as children that still answer requests have \
             all places; raise ServerLimit and MaxRequestWorkers"
        ),
    }
}

/// Returns the cause of the roll, worded to follow "because".
fn cause(request: &ReloadRequest) -> String {
    let what = &request.what;
    match request.reason {
        RetireReason::SourceChanged => format!("{what} has changed"),
        RetireReason::Touched => format!("{what} was touched"),
        _ if what.is_empty() => String::from(request.reason.text()),
        _ => what.clone(),
    }
}

/// Returns what the trial has found about the new code.
fn how_tried(roll: &Roll) -> String {
    match (roll.tried, roll.untried) {
        (0, _) => String::from("was not tried, as only requests name its scripts or groups"),
        (_, 0) => String::from("is well"),
        (tried, untried) => format!(
            "is well as far as it was tried ({tried} scripts; at {untried} places of the configuration only requests name \
             the script or the group)"
        ),
    }
}

fn of_children(count: u32) -> String {
    match count {
        1 => String::from("1 child"),
        count => format!("{count} children"),
    }
}
