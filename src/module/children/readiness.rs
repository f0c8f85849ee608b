//! Decides when a child may take its first connection: when it has loaded what it loads ahead, and its applications
//! have answered the URLs of `WSGIWarmup`.
//!
//! Until then it stays in `child_init`, where it does not accept, provided another child serves: a server without any
//! child that accepts is worse than one that answers late. If the code cannot be loaded, the child waits until the code
//! has changed, and then ends: otherwise what it imported before the failure would be a part of the new code.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wsgi_abi::Engine;
use wsgi_core::messages::Message;
use wsgi_httpd::mpm::child_exit::{ChildInit, end_as_it_is};
use wsgi_httpd::process::is_asked_to_end;
use wsgi_telemetry::board::ChildState;

use super::slot::{self, ChildSlot};
use super::{retire, stacks};
use crate::config::inherited::Process;
use crate::engine::host::HostRequests;
use crate::engine::load::{self, NotReady, Progress};
use crate::log::{log_info, log_message};
use crate::reload::file_stamp::{Stamp, stamp};

/// A child that is not ready after this time reports it.
const LATE: Duration = Duration::from_secs(60);
/// A child that is not ready after this time takes connections, if no other child serves.
const NOBODY_SERVES: Duration = Duration::from_secs(10);
/// How often the main thread checks whether the child must end.
const LOOK: Duration = Duration::from_millis(50);
/// How often the child looks for changed code, and the first wait before it repeats a URL that was not answered.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest wait before a URL is repeated; the wait doubles with each attempt.
const LAST_AGAIN: Duration = Duration::from_secs(30);

/// The stack size of the loader thread in bytes, which is what main threads usually have.
const STACK: usize = 8 << 20;

type Loaded = Result<(), NotReady>;

/// Returns when the child may accept.
pub(crate) fn wait(process: &Arc<Process>, engine: Engine<HostRequests>, inside: &ChildInit) {
    if !process.ahead().is_empty() || !process.known.warmups.is_empty() {
        let waiting = Waiting {
            process,
            engine,
            slot: slot::get(),
            inside,
            begun: Instant::now(),
        };
        waiting.get_ready();
    }
    slot::say(ChildState::Ready);
}

/// A child that is not ready yet. Used on its main thread.
struct Waiting<'c> {
    process: &'c Arc<Process>,
    engine: Engine<HostRequests>,
    slot: Option<ChildSlot>,
    inside: &'c ChildInit,
    begun: Instant,
}

impl Waiting<'_> {
    fn get_ready(&self) {
        let seen = stamps(self.process);
        let mut loads = true;
        let mut patience = AGAIN;
        loop {
            match self.attempt(loads) {
                None | Some(Ok(())) => return,
                Some(Err(_)) if !self.another_serves() => return,
                Some(Err(NotReady::Load(groups))) => {
                    return self.wait_for_other_code(&groups, &seen);
                }
                Some(Err(NotReady::Warmup)) => {
                    loads = false;
                    let until = Instant::now() + patience;
                    patience = (patience * 2).min(LAST_AGAIN);
                    while Instant::now() < until {
                        if self.is_over() || !self.another_serves() {
                            return;
                        }
                        self.note_lateness();
                        stacks::look();
                        std::thread::sleep(LOOK);
                    }
                }
            }
        }
    }

    /// Loads on another thread. Returns `None` if that takes too long: the loader goes on, but this thread no longer
    /// waits.
    fn attempt(&self, loads: bool) -> Option<Loaded> {
        // The step of an earlier attempt says nothing about this one.
        *step() = None;
        let (tell, told) = mpsc::channel();
        let (process, engine) = (Arc::clone(self.process), self.engine);
        let name = "wsgi-loader";
        let loader = std::thread::Builder::new()
            .name(name.into())
            .stack_size(STACK);
        let started = loader.spawn(move || {
            let ahead = process.ahead();
            let scripts = ahead.into_iter().filter(|_| loads);
            let loaded = load::load(engine, scripts, &process.known.warmups, &OnTheBoard);
            // If the main thread no longer waits, it has logged that.
            let _ = tell.send(loaded);
        });
        if let Err(error) = started {
            let follows = "nothing is loaded before the first request";
            log_message(Message::NoThread, &[&name, &error, &follows]);
            return None;
        }
        self.wait_for(&told)
    }

    fn wait_for(&self, told: &Receiver<Loaded>) -> Option<Loaded> {
        loop {
            match told.recv_timeout(LOOK) {
                Ok(loaded) => return Some(loaded),
                // The loader has panicked, which is in the log.
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => stacks::look(),
            }
            if self.is_over() {
                return None;
            }
            let waited = self.begun.elapsed();
            if (waited >= NOBODY_SERVES || is_late()) && !self.another_serves() {
                let seconds = waited.as_secs();
                log_message(Message::ServesUnready, &[&seconds, &what_is_loaded()]);
                return None;
            }
            self.note_lateness();
            self.end_where_it_hangs();
        }
    }

    /// Ends this child if a load hangs and other children serve. Its successor tries again; each time the load hangs,
    /// the next child waits longer.
    fn end_where_it_hangs(&self) {
        let Some(slot) = self.slot.filter(ChildSlot::another_serves) else {
            return;
        };
        if !is_late() || !retire::note_hang(&slot) {
            return;
        }
        slot::say(ChildState::Draining);
        log_message(Message::AheadOverdue, &[&what_is_loaded()]);
        // The load hangs on another thread, which uses what an orderly end would destroy.
        end_as_it_is();
    }

    /// While other children serve: ends this child if there is newer code. Otherwise reports once, after `LATE`, that
    /// this child is not ready, so that no other child retires for the same code.
    fn note_lateness(&self) {
        let Some(slot) = self.slot.filter(ChildSlot::another_serves) else {
            return;
        };
        if slot.is_outdated() {
            self.end_for_other_code();
        }
        if self.begun.elapsed() >= LATE && slot.entry().state() == Some(ChildState::Starting) {
            slot::say(ChildState::NotReady);
            log_message(
                Message::ChildNotReady,
                &[&LATE.as_secs(), &what_is_loaded()],
            );
        }
    }

    fn end_for_other_code(&self) -> ! {
        slot::say(ChildState::Draining);
        log_info("there is other code: this child ends, for one that loads it");
        self.inside.end_child()
    }

    /// Leaves connections to other children until the code has changed, and then ends this child. If the other children
    /// could not load these groups either, returns, so that this child serves what it has.
    fn wait_for_other_code(&self, groups: &[Vec<u8>], seen: &[Stamp]) {
        let others_have = |slot: &ChildSlot| groups.iter().any(|group| slot.another_has(group));
        let Some(slot) = self.slot.filter(others_have) else {
            return;
        };
        slot::say(ChildState::NotReady);
        log_message(Message::CodeNotLoaded, &[]);
        let mut look_again = Instant::now() + AGAIN;
        while !self.is_over() && others_have(&slot) {
            stacks::look();
            std::thread::sleep(LOOK);
            if Instant::now() < look_again {
                continue;
            }
            look_again = Instant::now() + AGAIN;
            if !slot.is_current() || stamps(self.process) != seen {
                self.end_for_other_code();
            }
        }
    }

    fn another_serves(&self) -> bool {
        self.slot.is_some_and(|slot| slot.another_serves())
    }

    /// Returns whether the child must end, or its configuration is no longer in force.
    fn is_over(&self) -> bool {
        is_asked_to_end() || self.slot.is_some_and(|slot| slot.in_force.is_over())
    }
}

/// What is being loaded or requested, since when, and how long that may take.
struct Step {
    what: String,
    since: Instant,
    limit: Option<Duration>,
}

static STEP: Mutex<Option<Step>> = Mutex::new(None);

fn step() -> MutexGuard<'static, Option<Step>> {
    STEP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what the loader does for the main thread, and writes the groups that it has loaded to the board.
struct OnTheBoard;

impl Progress for OnTheBoard {
    fn step(&self, what: &str, limit: Option<Duration>) {
        *step() = Some(Step {
            what: what.to_owned(),
            since: Instant::now(),
            limit,
        });
    }

    fn loaded(&self, group: &[u8]) {
        slot::loaded(group);
    }
}

/// Returns what is being loaded, for messages.
fn what_is_loaded() -> String {
    let step = step();
    step.as_ref()
        .map(|step| step.what.clone())
        .unwrap_or_default()
}

/// Returns whether the current step takes longer than it may.
fn is_late() -> bool {
    let is_late = |step: &Step| {
        step.limit
            .is_some_and(|limit| step.since.elapsed() >= limit)
    };
    step().as_ref().is_some_and(is_late)
}

fn stamps(process: &Process) -> Vec<Stamp> {
    let scripts = process.ahead().into_iter();
    scripts
        .map(|script| stamp(Path::new(OsStr::from_bytes(&script.script))))
        .collect()
}
