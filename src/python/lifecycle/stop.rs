//! The end of Python's work in this process. Its steps, each within what is left of the configured time:
//!
//! 1. no request is let in any more;
//! 2. requests that are inside get part of the time to leave, unless they were given up;
//! 3. in each interpreter, the main one last: the event `process_stopping` and the shutdown callbacks,
//! 4. the tasks of thread pools, and threads that are not daemons,
//! 5. `atexit`,
//! 6. a flush of the standard streams;
//! 7. if configured and safe, Python is finalized; otherwise it is left as it is, because other threads may be inside,
//!    and CPython would end them in a way that Rust frames do not survive [E-13].
//!
//! Each step may wait without end, for code of an application, or for a GIL that is never released. So each interpreter
//! but the main one ends on a separate thread, and if one takes more than its share of the time, the next one begins.
//! When the time is over, a watchdog logs which steps are not done, and ends the process.

use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::ffi;
use wsgi_abi::AtExit;
use wsgi_core::messages::Message;

use crate::application::{loads, script};
use crate::cpython::interpreter::{self, Interpreter};
use crate::cpython::object::{Attached, Immortal, Obj, PyResult};
use crate::cpython::traceback::is_system_exit;
use crate::cpython::{forked, thread_state, threads};
use crate::host::{self, Level, level_of};
use crate::process;
use crate::request::log::{log_raised, log_traceback};
use crate::request::running;
use crate::sync::lock;

/// How the process ends.
#[derive(Clone, Copy)]
pub(crate) struct ExitPlan {
    pub(crate) at_exit: AtExit,
    /// How long the end may take.
    pub(crate) timeout: Duration,
    /// Whether httpd runs with `-X`, so that the process may continue.
    pub(crate) single_process: bool,
}

static PLAN: Mutex<ExitPlan> = Mutex::new(ExitPlan {
    at_exit: AtExit::Callbacks,
    timeout: Duration::from_secs(20),
    single_process: false,
});

/// Sets how the process ends. Called when Python starts.
pub(crate) fn configure(plan: ExitPlan) {
    *lock(&PLAN) = plan;
}

/// Returns how long the end of Python's work may take.
pub(crate) fn patience() -> Duration {
    lock(&PLAN).timeout
}

/// Ends Python's work in this process. `reason` is what subscribers of `process_stopping` are told.
///
/// A signal may end a prefork child in the middle of a request, on the thread that is inside Python. Then nothing can
/// be done for Python.
pub fn stop(reason: &str) {
    process::close();
    if process::is_inside() {
        return;
    }
    let plan = *lock(&PLAN);
    let all = interpreter::all();
    let ending = Arc::new(Ending::begin(plan, reason));
    let applications = || script::all().into_iter();
    applications().for_each(|application| application.state().drain());
    ending.wait_for_requests(&all);
    if let Some((&main, others)) = all.split_last() {
        let late: Vec<_> = others
            .iter()
            .enumerate()
            // The interpreters after this one need some time, too.
            .filter_map(|(at, other)| ending.end_aside(other, parts(all.len() - at + 1)))
            .collect();
        ending.end_interpreter(main, 2);
        for ended in late {
            let _ = ended.recv();
        }
    }
    applications().for_each(|application| application.state().end());
    if plan.at_exit == AtExit::Finalize {
        ending.finalize(&all);
    }
    // Requests that were given up have what is left of the time.
    ending.progress().ended = true;
    ending.watched.ended.notify_all();
}

fn parts(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The end in progress. A watchdog ends the process if it takes too long.
struct Ending {
    plan: ExitPlan,
    reason: String,
    until: Instant,
    watched: Arc<Watched>,
    /// The names of threads that did not end in time, in all interpreters.
    left_behind: Mutex<Vec<String>>,
}

/// The state that the watchdog sees.
struct Watched {
    progress: Mutex<Progress>,
    ended: Condvar,
}

#[derive(Clone)]
struct Progress {
    ended: bool,
    /// The current step of each interpreter that has begun to end and is not done.
    places: Vec<Standing>,
}

#[derive(Clone)]
struct Standing {
    step: ExitStep,
    /// The interpreter, if the step is about one.
    interpreter: Option<String>,
    /// The names of the threads that the step waits for, as far as known.
    threads: Vec<String>,
}

impl Standing {
    fn describe(&self) -> String {
        let mut text = match &self.interpreter {
            Some(interpreter) => format!("{interpreter}: {}", self.step.describe()),
            None => String::from(self.step.describe()),
        };
        if !self.threads.is_empty() {
            text += &format!(" (threads: {})", self.threads.join(", "));
        }
        text
    }
}

impl Progress {
    fn place(&mut self, interpreter: &Interpreter) -> &mut Standing {
        let name = Some(interpreter.describe());
        let found = self
            .places
            .iter()
            .position(|place| place.interpreter == name);
        let at = found.unwrap_or_else(|| {
            self.places.push(Standing {
                step: ExitStep::Attach,
                interpreter: name,
                threads: Vec::new(),
            });
            self.places.len() - 1
        });
        &mut self.places[at]
    }
}

/// A step that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStep {
    Requests,
    Attach,
    Callbacks,
    Threads,
    Atexit,
    Flush,
    Finalize,
}

impl ExitStep {
    fn describe(self) -> &'static str {
        match self {
            ExitStep::Requests => "requests or loads are still inside",
            ExitStep::Attach => "its GIL cannot be had",
            ExitStep::Callbacks => "its shutdown callbacks are not done",
            ExitStep::Threads => "its threads have not ended",
            ExitStep::Atexit => "its exit functions (atexit) are not done",
            ExitStep::Flush => "its standard streams are not flushed",
            ExitStep::Finalize => "it is not finalized",
        }
    }
}

impl Ending {
    fn begin(plan: ExitPlan, reason: &str) -> Self {
        let watched = Arc::new(Watched {
            progress: Mutex::new(Progress {
                ended: false,
                places: vec![Standing {
                    step: ExitStep::Requests,
                    interpreter: None,
                    threads: Vec::new(),
                }],
            }),
            ended: Condvar::new(),
        });
        let ending = Ending {
            plan,
            reason: reason.into(),
            until: Instant::now() + plan.timeout,
            watched,
            left_behind: Mutex::new(Vec::new()),
        };
        let (watched, until) = (Arc::clone(&ending.watched), ending.until);
        let armed = threads::background("wsgi-watchdog", move || {
            if let Some(overdue) = watched.wait(until) {
                report(&overdue, plan.timeout);
                end_process();
            }
        });
        // This one logs nothing, because the thread that holds the process up may hold the lock of the log.
        let watched = Arc::clone(&ending.watched);
        let armed = armed
            & threads::background("wsgi-watchdog", move || {
                if watched.wait(until + REPORTING).is_some() {
                    end_process();
                }
            });
        if !armed {
            let line = "there is no thread that could watch over the end of this child";
            host::log(Level::Warning, line);
        }
        ending
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.watched.progress)
    }

    fn enter(&self, step: ExitStep, interpreter: &Interpreter) {
        self.progress().place(interpreter).step = step;
    }

    /// Ends an interpreter on another thread, and waits for one of `parts` parts of the remaining time. If the
    /// interpreter has not ended by then, returns the receiver that its end will be sent to.
    fn end_aside(
        self: &Arc<Self>,
        interpreter: &'static Interpreter,
        parts: u32,
    ) -> Option<mpsc::Receiver<()>> {
        let (tell, ended) = mpsc::channel();
        let ending = Arc::clone(self);
        let begun = threads::background("wsgi-end", move || {
            ending.end_interpreter(interpreter, parts);
            let _ = tell.send(());
        });
        if !begun {
            self.end_interpreter(interpreter, parts);
            return None;
        }
        match ended.recv_timeout(self.left() / parts) {
            Err(mpsc::RecvTimeoutError::Timeout) => Some(ended),
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Takes the steps in an interpreter.
    fn end_interpreter(&self, interpreter: &'static Interpreter, parts: u32) {
        self.enter(ExitStep::Attach, interpreter);
        thread_state::attach(interpreter, |py| {
            let ending = InInterpreter { py, ending: self };
            ending.publish();
            if self.plan.at_exit != AtExit::Publish {
                ending.end_threads(parts);
                ending.run_exit_functions();
                ending.flush();
            }
        });
        let name = Some(interpreter.describe());
        let mut progress = self.progress();
        progress.places.retain(|place| place.interpreter != name);
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Waits at most half of the time for requests and loads that are inside, except for those that were given up.
    fn wait_for_requests(&self, all: &[&Interpreter]) {
        let until = Instant::now() + self.plan.timeout / 2;
        while inside(all) > running::stuck() + loads::overdue_without_request()
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.progress().places.clear();
        let inside = inside(all);
        if inside > 0 {
            let line = format!("Python ends while {inside} requests or loads are inside");
            host::log(Level::Info, &line);
        }
    }

    fn finalize(&self, all: &[&'static Interpreter]) {
        let Some(main) = all.last() else { return };
        if let Err(why) = self.may_finalize(all) {
            let line = Message::NotFinalized.line(&[&why]);
            host::log(level_of(Message::NotFinalized), &line);
            return;
        }
        self.enter(ExitStep::Finalize, main);
        // SAFETY: the interpreter exists; it gets a new state, because the one that this thread has must not be used
        // afterwards. No thread is inside, and pyo3's wrappers park those that come later. [S-20]
        let status = unsafe {
            ffi::PyEval_RestoreThread(ffi::PyThreadState_New(main.as_ptr()));
            ffi::Py_FinalizeEx()
        };
        if status != 0 {
            host::log(
                Level::Warning,
                "Python could not write all when it was finalized",
            );
        }
    }

    fn may_finalize(&self, all: &[&Interpreter]) -> Result<(), String> {
        let inside = inside(all);
        let threads = lock(&self.left_behind);
        if self.plan.single_process {
            Err(String::from(
                "httpd runs as a single process, and may go on",
            ))
        } else if inside > 0 {
            Err(format!("{inside} requests or loads are inside"))
        } else if all.len() > 1 {
            // CPython 3.12 and before then ends the process, and so do later versions if another thread has a state in
            // a sub-interpreter.
            Err(String::from("there are sub-interpreters"))
        } else if threads.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "there are threads that have not ended: {}",
                threads.join(", ")
            ))
        }
    }
}

impl Watched {
    /// Waits for the end. Returns the progress if Python has not ended at `until`.
    fn wait(&self, until: Instant) -> Option<Progress> {
        let mut progress = lock(&self.progress);
        while !progress.ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Some(progress.clone());
            };
            let waited = self.ended.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

/// How long the watchdog may take for its report.
const REPORTING: Duration = Duration::from_secs(2);

fn report(overdue: &Progress, timeout: Duration) {
    let places: Vec<String> = overdue.places.iter().map(Standing::describe).collect();
    let place = places.join("; ");
    let line = Message::ExitOverdue.line(&[&seconds(timeout), &place]);
    host::log(level_of(Message::ExitOverdue), &line);
}

fn end_process() -> ! {
    // SAFETY: ends the process at once; none of its code runs any more.
    unsafe { libc::_exit(0) }
}

fn inside(all: &[&Interpreter]) -> u32 {
    all.iter().map(|interpreter| interpreter.inside()).sum()
}

/// Returns the seconds of a duration for messages, rounded to a tenth.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// The steps in one interpreter.
struct InInterpreter<'a, 'i> {
    py: &'a Attached<'i>,
    ending: &'a Ending,
}

impl<'i> InInterpreter<'_, 'i> {
    fn interpreter(&self) -> &'static Interpreter {
        self.py.interpreter()
    }

    fn publish(&self) {
        self.ending.enter(ExitStep::Callbacks, self.interpreter());
        let (py, publish) = (self.py, self.py.state().publish);
        let failures = self
            .payload()
            .and_then(|payload| publish.get(py).call(py, [&py.str(EVENT)?, &payload]));
        forked::ends(py);
        self.log(
            failures,
            &of_subscriber(Message::SubscriberException),
            &of_subscriber(Message::SubscriberSystemExit),
        );
    }

    fn payload(&self) -> PyResult<Obj<'i>> {
        let payload = self.py.dict()?;
        payload.set_item(c"shutdown_reason", &self.py.str(&self.ending.reason)?)?;
        Ok(payload)
    }

    /// Waits for threads for one of `parts` parts of the remaining time.
    fn end_threads(&self, parts: u32) {
        let py = self.py;
        self.ending.enter(ExitStep::Threads, self.interpreter());
        let before = self.thread_names();
        self.ending.progress().place(self.interpreter()).threads = before;
        let patience = self.ending.left() / parts;
        let failures = py
            .float(patience.as_secs_f64())
            .and_then(|patience| py.state().end_threads.get(py).call(py, [&patience]));
        forked::ends(py);
        self.log_exit_functions(failures);
        let threads = self.thread_names();
        if !threads.is_empty() {
            let line = Message::ThreadsHoldUp.line(&[
                &self.interpreter().describe(),
                &seconds(patience),
                &threads.join(", "),
            ]);
            host::log(level_of(Message::ThreadsHoldUp), &line);
        }
        lock(&self.ending.left_behind).extend_from_slice(&threads);
        self.ending.progress().place(self.interpreter()).threads = threads;
    }

    fn run_exit_functions(&self) {
        self.ending.enter(ExitStep::Atexit, self.interpreter());
        let failures = self.call(self.py.state().run_exit_functions);
        self.log_exit_functions(failures);
    }

    fn flush(&self) {
        self.ending.enter(ExitStep::Flush, self.interpreter());
        if let Err(raised) = self.call(self.py.state().flush) {
            self.py.clear(raised);
        }
    }

    fn call(&self, function: Immortal<'i>) -> PyResult<Obj<'i>> {
        let result = function.get(self.py).call(self.py, []);
        forked::ends(self.py);
        result
    }

    fn thread_names(&self) -> Vec<String> {
        let names = self.call(self.py.state().thread_names);
        let names = names.and_then(|names| items(self.py, &names));
        match names {
            Ok(names) => names.iter().map(Obj::to_text).collect(),
            Err(raised) => {
                self.py.clear(raised);
                Vec::new()
            }
        }
    }

    fn log_exit_functions(&self, failures: PyResult<Obj<'i>>) {
        self.log(
            failures,
            &of_exit_function(Message::AtexitException),
            &of_exit_function(Message::AtexitSystemExit),
        );
    }

    /// Logs the exceptions in a list, or why there is no list. `exit` is the message for a `SystemExit`, `message` for
    /// any other.
    fn log(&self, failures: PyResult<Obj<'i>>, message: &Line, exit: &Line) {
        let py = self.py;
        let failures = failures.and_then(|failures| items(py, &failures));
        let failures = match failures {
            Ok(failures) => failures,
            Err(raised) => {
                let message = Message::StoppingEvent;
                let line = message.line(&[&self.interpreter().describe()]);
                log_raised(py, raised, None, message, &line);
                return;
            }
        };
        for failure in failures {
            let is_exit = is_system_exit(&failure);
            let (message, line) = if is_exit { exit } else { message };
            host::log(level_of(*message), line);
            if !is_exit {
                log_traceback(py, &failure, None);
            }
        }
    }
}

/// A message, and its line.
type Line = (Message, String);

fn of_subscriber(message: Message) -> Line {
    (message, message.line(&[&EVENT]))
}

fn of_exit_function(message: Message) -> Line {
    (message, message.line(&[]))
}

const EVENT: &str = "process_stopping";

/// Returns the items of a list that no other code has.
fn items<'i>(py: &Attached<'i>, list: &Obj<'i>) -> PyResult<Vec<Obj<'i>>> {
    let at = 0..list.len()?;
    // SAFETY: attached; the index is in range, and the item is shared before anything else happens.
    let item = |at: usize| unsafe { py.share(ffi::PyList_GetItem(list.as_ptr(), at as isize)) };
    at.map(item).collect()
}
