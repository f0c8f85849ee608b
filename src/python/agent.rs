//! Threads that wait for a GIL in place of the watchdog: one for each GIL, begun when it is first needed. That it waits tells
//! how long the GIL could not be had.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, bounded};
use wsgi_core::outcome::Message;
use wsgi_telemetry::clock;

use crate::course::Step;
use crate::errors::level_of;
use crate::host::{self, Level};
use crate::interpreter::{self, Interpreter};
use crate::object::Attached;
use crate::request::{RequestState, lock};
use crate::{parallel, stacks, thread_state};

/// Most tasks that wait. What does not fit is done by a later step, or not needed any more.
const TASKS: usize = 256;

/// What needs a GIL.
pub(crate) enum Task {
    /// A step of a request that takes long.
    Look(Arc<RequestState>, Step),
    /// Nothing: that it is done is what counts.
    Probe,
}

/// One for each GIL.
pub(crate) struct Agent {
    /// An interpreter that has the GIL; the first one.
    interpreter: &'static Interpreter,
    send: Sender<(&'static Interpreter, Task)>,
    receive: Receiver<(&'static Interpreter, Task)>,
    /// When it began to wait for the GIL, as a stamp; 0 while it does not.
    since: AtomicU64,
    has_complained: AtomicBool,
    has_thread: AtomicBool,
}

static AGENTS: Mutex<Vec<&'static Agent>> = Mutex::new(Vec::new());

/// The agent for the GIL of an interpreter.
pub(crate) fn of(interpreter: &'static Interpreter) -> &'static Agent {
    let has_own = |of: &Interpreter| of.identity().replica.is_some();
    let mut agents = lock(&AGENTS);
    let is_it = |agent: &&&Agent| {
        std::ptr::eq(agent.interpreter, interpreter)
            || !has_own(agent.interpreter) && !has_own(interpreter)
    };
    if let Some(known) = agents.iter().find(is_it) {
        return known;
    }
    let (send, receive) = bounded(TASKS);
    let agent: &'static Agent = Box::leak(Box::new(Agent {
        interpreter,
        send,
        receive,
        since: AtomicU64::new(0),
        has_complained: AtomicBool::new(false),
        has_thread: AtomicBool::new(false),
    }));
    agents.push(agent);
    agent
}

/// Those of the interpreters that have requests inside.
pub(crate) fn all_in_use() -> Vec<&'static Agent> {
    let mut agents: Vec<&'static Agent> = Vec::new();
    for interpreter in interpreter::all() {
        if interpreter.inside() != 0 {
            let agent = of(interpreter);
            if !agents.iter().any(|known| std::ptr::eq(*known, agent)) {
                agents.push(agent);
            }
        }
    }
    agents
}

impl Agent {
    /// Has something done with the GIL, sometime.
    pub(crate) fn ask(&'static self, interpreter: &'static Interpreter, task: Task) {
        if !self.has_thread.swap(true, Relaxed)
            && !parallel::background("wsgi-agent", move || self.run())
        {
            self.has_thread.store(false, Relaxed);
            let line = "mod_wsgi_rs: no thread could be started to look at requests that take too long: raise the limits \
                        of processes and memory";
            host::log(Level::Error, line);
            return;
        }
        // One that is full has been waiting for long, which is seen.
        let _ = self.send.try_send((interpreter, task));
    }

    /// Finds out whether the GIL can be had.
    pub(crate) fn probe(&'static self) {
        self.ask(self.interpreter, Task::Probe);
    }

    /// Since when it waits for the GIL, as a stamp.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        Some(self.since.load(Relaxed)).filter(|since| *since != 0)
    }

    /// Whether nobody has complained of this wait.
    pub(crate) fn is_first_complaint(&self) -> bool {
        !self.has_complained.swap(true, Relaxed)
    }

    /// Whose GIL it is, for messages.
    pub(crate) fn name(&self) -> String {
        match self.interpreter.identity().replica {
            Some(_) => self.interpreter.describe(),
            None => String::from("process"),
        }
    }

    fn run(&self) {
        while let Ok((interpreter, task)) = self.receive.recv() {
            self.since.store(clock::now(), Relaxed);
            thread_state::attach(interpreter, |py| {
                self.since.store(0, Relaxed);
                self.has_complained.store(false, Relaxed);
                if let Task::Look(request, step) = task {
                    look(py, interpreter, &request, step);
                }
            });
        }
    }
}

/// Logs where a request is, and interrupts it.
fn look(py: &Attached<'_>, interpreter: &'static Interpreter, request: &RequestState, step: Step) {
    let course = request.course();
    let is_here = |inside: &(&'static Interpreter, _)| std::ptr::eq(inside.0, interpreter);
    let Some((_, ident)) = course.inside().filter(is_here) else {
        return;
    };
    let message = match step {
        Step::TellSlow => Message::RequestSlow,
        Step::Interrupt => Message::RequestTooLong,
        Step::InterruptAgain | Step::GiveUp => Message::RequestStillThere,
    };
    let stack = stacks::of_thread(py, ident);
    let is_hit = match step {
        Step::TellSlow => true,
        Step::Interrupt | Step::InterruptAgain | Step::GiveUp => {
            let class = interpreter.module(py).request_timeout.as_ptr();
            course.interrupt(py, interpreter, class)
        }
    };
    // It may have ended meanwhile where there is no GIL.
    if !is_hit {
        return;
    }
    let seconds = format!("{:.1}", course.age(clock::now()) as f64 / 1e9);
    let level = level_of(message);
    request.log_line(level, message.line(&[&request.line(), &seconds]).as_bytes());
    let stack = stack.unwrap_or_else(|| String::from("  (no Python code)"));
    for line in stack.lines() {
        request.log_line(level, line.as_bytes());
    }
}
