//! Threads that wait for a GIL in place of the watchdog: one for each interpreter, started when it is first needed. The
//! time for which they wait shows how long the GIL could not be acquired.
//!
//! Before Python 3.13 a thread that waits for a GIL asks for it in its own interpreter only, so a thread that computes
//! in another interpreter under the same GIL does not release it. Hence, while one probe thread waits, the probe
//! threads of all interpreters of that GIL ask for it, too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use wsgi_core::messages::Message;
use wsgi_telemetry::clock;

use crate::application::loads::Load;
use crate::cpython::interpreter::{self, Interpreter};
use crate::cpython::object::Attached;
use crate::cpython::{thread_state, threads};
use crate::host::{self, Level, level_of};
use crate::request::deadline::Step;
use crate::request::state::RequestState;
use crate::sync::lock;
use crate::watch::{loads, stacks};

/// The most waiting tasks of an interpreter. A task that does not fit is done by a later step, or is not needed any
/// more.
const TASKS: usize = 256;
/// How long a helping thread waits before it asks for the GIL, which leaves it to others.
const PAUSE: Duration = Duration::from_millis(1);

/// A task that needs a GIL.
pub(crate) enum Task {
    /// A step of a request that takes long.
    Look(Arc<RequestState>, Step),
    /// A load that hangs: its stack is logged.
    Show(Arc<Load>),
    /// No work: only getting the GIL counts.
    Probe,
}

/// The probe of one GIL.
pub(crate) struct GilProbe {
    /// The first interpreter with this GIL that the probe was made for.
    interpreter: &'static Interpreter,
    workers: Mutex<Vec<&'static Worker>>,
    /// When a probe thread last had the GIL, as a stamp.
    had: AtomicU64,
    has_complained: AtomicBool,
}

/// The probe thread of one interpreter, and its tasks.
struct Worker {
    interpreter: &'static Interpreter,
    send: Sender<Task>,
    receive: Receiver<Task>,
    /// When the thread began to wait for the GIL, as a stamp; 0 while it does not wait.
    since: AtomicU64,
    has_thread: AtomicBool,
}

static PROBES: Mutex<Vec<&'static GilProbe>> = Mutex::new(Vec::new());

/// Returns the probe for the GIL of an interpreter.
pub(crate) fn of(interpreter: &'static Interpreter) -> &'static GilProbe {
    let mut probes = lock(&PROBES);
    let known = |probe: &&&GilProbe| share_a_gil(probe.interpreter, interpreter);
    if let Some(known) = probes.iter().find(known) {
        return known;
    }
    let probe: &'static GilProbe = Box::leak(Box::new(GilProbe {
        interpreter,
        workers: Mutex::default(),
        had: AtomicU64::new(0),
        has_complained: AtomicBool::new(false),
    }));
    probes.push(probe);
    probe
}

/// Whether two interpreters have the same GIL.
fn share_a_gil(one: &Interpreter, other: &Interpreter) -> bool {
    let has_own = |of: &Interpreter| of.identity().replica.is_some();
    std::ptr::eq(one, other) || !has_own(one) && !has_own(other)
}

/// Returns the probes of the GILs of all interpreters that have requests inside.
pub(crate) fn all_in_use() -> Vec<&'static GilProbe> {
    let mut probes: Vec<&'static GilProbe> = Vec::new();
    for interpreter in interpreter::all() {
        if interpreter.inside() != 0 {
            let probe = of(interpreter);
            if !probes.iter().any(|known| std::ptr::eq(*known, probe)) {
                probes.push(probe);
            }
        }
    }
    probes
}

impl GilProbe {
    /// Gives the probe's thread a task that needs the GIL.
    pub(crate) fn ask(&'static self, interpreter: &'static Interpreter, task: Task) {
        let is_begun = self.worker(interpreter).ask(self, task);
        // From 3.13 on, the request for the GIL reaches the thread that has it, in any interpreter.
        if is_begun && !cfg!(Py_3_13) {
            for other in interpreter::all() {
                if !std::ptr::eq(other, interpreter) && share_a_gil(other, interpreter) {
                    self.worker(other).ask(self, Task::Probe);
                }
            }
        }
    }

    /// Finds out whether the GIL can be acquired.
    pub(crate) fn probe(&'static self) {
        self.ask(self.interpreter, Task::Probe);
    }

    /// Returns since when no probe thread could get the GIL, as a stamp; `None` if none waits.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        let workers = lock(&self.workers);
        let waiting = workers.iter().filter_map(|worker| worker.waits_since());
        Some(waiting.min()?.max(self.had.load(Relaxed)))
    }

    /// Returns whether the current wait was not reported yet, and notes that it is reported now.
    pub(crate) fn is_first_complaint(&self) -> bool {
        !self.has_complained.swap(true, Relaxed)
    }

    /// Returns the name of the GIL's owner, for messages.
    pub(crate) fn name(&self) -> String {
        match self.interpreter.identity().replica {
            Some(_) => self.interpreter.describe(),
            None => String::from("process"),
        }
    }

    /// Returns the worker for an interpreter of this GIL.
    fn worker(&self, interpreter: &'static Interpreter) -> &'static Worker {
        let mut workers = lock(&self.workers);
        let known = |worker: &&&Worker| std::ptr::eq(worker.interpreter, interpreter);
        if let Some(known) = workers.iter().find(known) {
            return known;
        }
        let (send, receive) = bounded(TASKS);
        let worker: &'static Worker = Box::leak(Box::new(Worker {
            interpreter,
            send,
            receive,
            since: AtomicU64::new(0),
            has_thread: AtomicBool::new(false),
        }));
        workers.push(worker);
        worker
    }

    /// Whether a worker other than `but` waits for the GIL.
    fn is_waited_for(&self, but: &Worker) -> bool {
        let workers = lock(&self.workers);
        let mut others = workers.iter().filter(|worker| !std::ptr::eq(**worker, but));
        others.any(|worker| worker.waits_since().is_some())
    }
}

impl Worker {
    /// Gives the probe's thread a task that needs the GIL. Returns whether there is a thread for it. A probe is not
    /// added to tasks that wait already.
    fn ask(&'static self, probe: &'static GilProbe, task: Task) -> bool {
        if !self.has_thread.swap(true, Relaxed)
            && !threads::steady("wsgi-gil-probe", move || self.run(probe))
        {
            self.has_thread.store(false, Relaxed);
            let line = "mod_wsgi_rs: no thread could be started to look at requests that take too long: raise the limits \
                        of processes and memory";
            host::log(Level::Error, line);
            return false;
        }
        let is_needed = !matches!(task, Task::Probe) || self.send.is_empty();
        if is_needed {
            // The wait begins now; otherwise the helping threads would be done before this worker's thread has woken
            // up.
            let _ = self
                .since
                .compare_exchange(0, clock::now(), Relaxed, Relaxed);
            // A full queue has been waiting for long, which the watchdog notices.
            let _ = self.send.try_send(task);
        }
        true
    }

    /// Returns since when the worker waits for the GIL, as a stamp.
    fn waits_since(&self) -> Option<u64> {
        Some(self.since.load(Relaxed)).filter(|since| *since != 0)
    }

    fn run(&self, probe: &GilProbe) {
        while let Ok(task) = self.receive.recv() {
            self.work(probe, task);
            if !cfg!(Py_3_13) {
                self.help(probe);
            }
        }
    }

    /// Does a task with the GIL.
    fn work(&self, probe: &GilProbe, task: Task) {
        self.since.store(clock::now(), Relaxed);
        thread_state::attach(self.interpreter, |py| {
            probe.had.store(clock::now(), Relaxed);
            probe.has_complained.store(false, Relaxed);
            self.since.store(0, Relaxed);
            match task {
                Task::Look(request, step) => look(py, &request, step),
                Task::Show(load) => loads::show(&load, py),
                Task::Probe => {}
            }
        });
    }

    /// Asks for the GIL in this interpreter while a thread waits in another one, because the code that holds the GIL
    /// may run here. Such a wait does not count as one; otherwise the helping threads would keep each other busy.
    fn help(&self, probe: &GilProbe) {
        while probe.is_waited_for(self) && self.send.is_empty() {
            std::thread::sleep(PAUSE);
            thread_state::attach(self.interpreter, |_| probe.had.store(clock::now(), Relaxed));
        }
    }
}

/// Logs where a request is, and interrupts it.
fn look(py: &Attached<'_>, request: &RequestState, step: Step) {
    let deadline = request.deadline();
    let is_here = |inside: &(&'static Interpreter, _)| std::ptr::eq(inside.0, py.interpreter());
    let Some((_, ident)) = deadline.inside().filter(is_here) else {
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
        Step::Interrupt | Step::InterruptAgain | Step::GiveUp => deadline.interrupt(py),
    };
    // Without a GIL the request may have ended since.
    if !is_hit {
        return;
    }
    let seconds = format!("{:.1}", deadline.age(clock::now()) as f64 / 1e9);
    let level = level_of(message);
    request.log_line(level, message.line(&[&request.line(), &seconds]).as_bytes());
    let stack = stack.unwrap_or_else(|| String::from("  (no Python code)"));
    for line in stack.lines() {
        request.log_line(level, line.as_bytes());
    }
}
