//! The trial of new code: a process that loads the code as a child would, and requests the URLs of `WSGIWarmup`, before
//! any child retires. It serves no clients, and does not count in the metrics.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wsgi_abi::{Engine, Retire};
use wsgi_httpd::forked;
use wsgi_httpd::mpm::child_exit::end_as_it_is;
use wsgi_httpd::task::Task;
use wsgi_telemetry::board::{ChildEntry, ChildState, ReloadRequest};

use super::progress::{self, Told, TrialProgress};
use crate::config::inherited::Process;
use crate::config::placement::Script;
use crate::engine::host::HostRequests;
use crate::engine::load::{self, NotReady};
use crate::engine::start;
use crate::log::{remember_errors, take_errors};
use crate::metrics::segment;

/// How long a trial may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After this time, a trial gives way to newer code.
const SLOW: Duration = Duration::from_secs(5);

/// A running trial. If it is dropped before it ends, other processes take over the GIL decisions that it was making.
pub(super) struct Trial {
    task: Task,
    told: Told,
    begun: Instant,
}

impl Trial {
    /// Begins a trial of the code that `request` is about.
    pub(super) fn begin(process: &Arc<Process>, request: &ReloadRequest) -> io::Result<Self> {
        let (told, tell) = progress::pipe()?;
        let task = Task::start(c"wsgi-trial", || run(process, request, tell))?;
        Ok(Self {
            task,
            told,
            begun: Instant::now(),
        })
    }

    /// Returns how many scripts a trial of `request` loads, and at how many places in the configuration only requests
    /// name the script or group.
    pub(super) fn extent(process: &Process, request: &ReloadRequest) -> (u32, u32) {
        let scripts = process.everything();
        let is_about = |script: &&&Script| request.is_about(&script.group);
        let meant = scripts.iter().filter(is_about).count();
        let (tried, untried) = match (&request.group, meant) {
            (Some(_), 1..) => (meant, 0),
            _ => (scripts.len(), process.known.unknown),
        };
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (number(tried), number(untried))
    }

    /// Returns whether the trial is too slow for newer code to wait for it.
    pub(super) fn is_slow(&self) -> bool {
        self.begun.elapsed() >= SLOW
    }

    /// Returns the outcome if the trial has ended or is overdue. The error says what is wrong with the code.
    pub(super) fn outcome(&mut self) -> Option<Result<(), String>> {
        // Asked before the pipe is read, so that the pipe then holds all that the process has told.
        let ended = self.task.ended();
        let progress = self.told.look();
        if ended.is_none() && self.begun.elapsed() < PATIENCE {
            return None;
        }
        let last = match progress {
            TrialProgress::Well => return Some(Ok(())),
            TrialProgress::Problem(problem) => return Some(Err(problem)),
            TrialProgress::At(step) => step.unwrap_or_else(|| String::from("the start of Python")),
        };
        Some(Err(match ended {
            None => format!("{last}: not done within {} seconds", PATIENCE.as_secs()),
            Some(Ok(status)) => {
                format!("{last}: ended the process that tried it, with status {status}")
            }
            Some(Err(how)) => format!("{last}: the process that tried it {how}"),
        }))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let pid = self.task.pid();
        if self.task.kill()
            && let Some(in_force) = segment::in_force()
        {
            in_force.segment.board().abandon_probes(pid);
        }
    }
}

/// Runs the trial in the new process. Returns its exit status, 0 if the code is good.
fn run(process: &Arc<Process>, request: &ReloadRequest, tell: OwnedFd) -> u8 {
    forked::watch(wsgi_telemetry::writer::detach);
    progress::tell_by(tell);
    remember_errors();
    let is_about = |script: &&Script| request.is_about(&script.group);
    // No script of a group is known if only requests name the group. All scripts are tried then, so that its reload has
    // effect.
    let is_known = process.everything().iter().any(is_about);
    let is_meant = |name: &[u8]| !is_known || request.is_about(name);
    let engine = start::start_python(process, retire);
    let is_well = engine.is_some_and(|engine| try_all(process, engine, is_meant));
    if is_well {
        progress::tell_well();
    } else {
        progress::tell_problem(what_went_wrong());
    }
    // Ends what the code has begun, as in a child: exit functions, threads.
    start::stop("");
    u8::from(!is_well)
}

/// Called when the engine wants this process to be replaced. The engine repeats this for a load that hangs: the second
/// call, when the log already says where the load hangs, ends the trial.
fn retire(why: Retire) {
    static HANGS: AtomicBool = AtomicBool::new(false);
    if why == Retire::Startup && HANGS.swap(true, Relaxed) {
        progress::tell_problem(what_went_wrong());
        end_as_it_is();
    }
}

/// Loads the scripts of the groups that are meant, and requests their URLs. Returns whether all of this succeeded.
/// Groups that do not load do not count if no serving child has loaded them either.
fn try_all(
    process: &Process,
    engine: Engine<HostRequests>,
    is_meant: impl Fn(&[u8]) -> bool,
) -> bool {
    let scripts = process.everything();
    let scripts = scripts.into_iter().filter(|script| is_meant(&script.group));
    let broken = match load::load(engine, scripts, [], &Steps) {
        Err(NotReady::Load(groups)) if groups.iter().any(|group| is_served(process, group)) => {
            return false;
        }
        Err(NotReady::Load(groups)) => groups,
        Ok(()) | Err(NotReady::Warmup) => Vec::new(),
    };
    // A group whose code was broken before is no reason to keep the old code of the other groups.
    remember_errors();
    let warmups = process.known.warmups.iter().filter(|warmup| {
        let group = &warmup.script.group;
        is_meant(group) && !broken.contains(group)
    });
    load::load(engine, [], warmups, &Steps).is_ok()
}

/// Reports each step. A trial has no slot on the board.
struct Steps;

impl load::Progress for Steps {
    fn step(&self, what: &str, _limit: Option<Duration>) {
        progress::tell_step(what);
    }

    fn loaded(&self, _group: &[u8]) {}
}

/// Returns whether a serving child has loaded this group. This is known only where children load everything ahead, and
/// assumed elsewhere.
fn is_served(process: &Process, group: &[u8]) -> bool {
    let Some(in_force) = segment::in_force().filter(|_| process.reload.replaces_children()) else {
        return true;
    };
    let board = in_force.segment.board();
    let Some(slot) = board.group(group) else {
        return true;
    };
    let has = |child: &ChildEntry| {
        child.generation == in_force.generation
            && child.state == ChildState::Ready
            && child.groups >> slot.number() & 1 == 1
    };
    board.children().iter().any(has)
}

/// Returns the first and the last line of the errors.
fn what_went_wrong() -> String {
    let lines = take_errors();
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) if lines.len() > 1 => format!("{first} {}", last.trim()),
        (Some(only), _) => only.clone(),
        _ => String::from("it cannot be loaded; the error log says more"),
    }
}
