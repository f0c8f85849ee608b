//! The watch over the start of a process of a group: the process ends if a step of the start hangs, if it is asked to end,
//! and if its supervisor has ended.
//!
//! The start runs on the main thread, and may be in code that cannot be waited for. So the watch, a thread that never
//! waits for Python, ends the process as it is.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wsgi_core::messages::Message;
use wsgi_httpd::group_process::leave;

use super::control::{EVICT, STEP, Signals, say};
use crate::children::slot;
use crate::engine::{load, start};
use crate::log::log_message;
use crate::metrics::segment;

/// How often the watch looks at the step.
const LOOK: Duration = Duration::from_millis(100);
/// How long the engine may take to log the stack of a load that hangs.
const STACK: Duration = Duration::from_secs(4);
/// Name of the thread.
const THREAD: &str = "wsgi-start";

/// A step of the start.
struct StartStep {
    what: String,
    since: Instant,
    limit: Option<Duration>,
}

static STEP_NOW: Mutex<Option<StartStep>> = Mutex::new(None);
static IS_STARTING: AtomicBool = AtomicBool::new(false);
/// The engine has found that a load hangs, and has logged where.
static HANGS: AtomicBool = AtomicBool::new(false);

fn step_now() -> MutexGuard<'static, Option<StartStep>> {
    STEP_NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a step of the start, which may take at most `limit`.
pub(super) fn step(what: &str, limit: Option<Duration>) {
    HANGS.store(false, Relaxed);
    *step_now() = Some(StartStep {
        what: what.into(),
        since: Instant::now(),
        limit,
    });
    say(STEP);
}

/// Begins a step for each script and each URL that is loaded.
pub(super) struct StartSteps;

impl load::Progress for StartSteps {
    fn step(&self, what: &str, limit: Option<Duration>) {
        if is_starting() {
            step(what, limit);
        }
    }

    fn loaded(&self, group: &[u8]) {
        slot::loaded(group);
    }
}

/// Returns whether this process starts.
pub(super) fn is_starting() -> bool {
    IS_STARTING.load(Relaxed)
}

/// Notes that the load of this step hangs, and that the log shows where.
pub(super) fn note_hang() {
    HANGS.store(true, Relaxed);
}

/// What the watch needs.
pub(super) struct StartWatch<'s> {
    group: &'s str,
    control: &'s OwnedFd,
    signals: &'s Signals,
}

impl<'s> StartWatch<'s> {
    pub(super) fn new(group: &'s str, control: &'s OwnedFd, signals: &'s Signals) -> Self {
        Self {
            group,
            control,
            signals,
        }
    }

    /// Runs `start` on this thread while another one watches.
    pub(super) fn during<R>(&self, start: impl FnOnce() -> R) -> R {
        let pair = UnixStream::pair();
        IS_STARTING.store(true, Relaxed);
        let result = thread::scope(|scope| {
            let watched = pair.and_then(|(over, is_over)| {
                let thread = thread::Builder::new().name(THREAD.into());
                thread.spawn_scoped(scope, move || self.watch(&is_over))?;
                Ok(over)
            });
            if let Err(error) = &watched {
                let follows = "the start of this process has no time limit of its own";
                log_message(Message::NoThread, &[&THREAD, &error, &follows]);
            }
            // The watch sees that the other end is closed.
            start()
        });
        IS_STARTING.store(false, Relaxed);
        result
    }

    fn watch(&self, is_over: &UnixStream) {
        let pause = Timespec::try_from(LOOK).ok();
        loop {
            let mut polled = [
                is_over.as_fd(),
                self.control.as_fd(),
                self.signals.end.as_fd(),
                self.signals.replace.as_fd(),
            ]
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
            if poll(&mut polled, pause.as_ref()).is_err() {
                continue;
            }
            let [is_over, has_no_supervisor, must_end, must_be_replaced] =
                polled.map(|polled| !polled.revents().is_empty());
            if is_over {
                return;
            }
            // The supervisor says nothing to a process that starts.
            if has_no_supervisor || must_end {
                segment::child_drains();
                leave(0);
            }
            if must_be_replaced {
                self.signals.replace.clear();
                say(EVICT);
            }
            if let Some((what, limit)) = hanging() {
                let seconds = limit.as_secs_f64();
                log_message(Message::GroupStartHangs, &[&self.group, &what, &seconds]);
                leave(1);
            }
        }
    }
}

/// Returns the step that takes too long, and its limit.
fn hanging() -> Option<(String, Duration)> {
    let step = step_now();
    let step = step.as_ref()?;
    let limit = step.limit?;
    let has_stack = HANGS.load(Relaxed) || start::engine().is_none();
    let patience = if has_stack { limit } else { limit + STACK };
    (step.since.elapsed() >= patience).then(|| (step.what.clone(), limit))
}
