//! The Python stacks of the threads of this process, for people: of one thread, of all threads, and of all threads
//! whose GIL cannot be acquired.
//!
//! ```text
//! dump ─► a helper for each GIL ─► attached::threads     threads that wait for the GIL, or are in C code
//!     └─► if that is late       ─► snapshot::threads     a copy of the process, in which everything stands still
//! ```
//!
//! The thread that asks never waits for a GIL itself. A helper that gets no GIL stays until it does; each GIL has at
//! most one helper.

use std::ffi::c_ulong;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use crate::application::free_threading;
use crate::cpython::interpreter::{self, Interpreter};
use crate::cpython::object::Attached;
use crate::cpython::{thread_state, threads};
use crate::request::running;
use crate::sync::lock;
use crate::watch::thread_list::{Threads, printable};
use crate::watch::{attached, snapshot};

/// The most bytes of a dump.
const MOST_OF_DUMP: usize = 256 << 10;
/// How long a dump without GILs may take, for all interpreters together.
const WITHOUT_GIL: Duration = Duration::from_secs(3);

/// Returns the Python stack of a thread of the interpreter that `py` is attached to, the most recent call last; `None`
/// if there is no such thread, or it runs no Python code.
pub(crate) fn of_thread(py: &Attached<'_>, ident: c_ulong) -> Option<String> {
    let thread = attached::thread(py, ident)?;
    let text = thread.stack();
    (!text.is_empty()).then_some(text)
}

/// Prepares dumps, for each interpreter while it is set up. A failure only means that there will be no dumps without
/// the GIL.
pub(crate) fn begin(py: &Attached<'_>, is_main: bool) {
    if let Err(raised) = snapshot::begin(py, is_main) {
        py.clear(raised);
    }
}

/// Returns the stacks of all threads of all interpreters. If a GIL cannot be acquired within `patience`, the text says
/// so, and shows its threads without the GIL.
pub fn dump(patience: Duration) -> String {
    let until = Instant::now() + patience;
    let asked: Vec<_> = domains()
        .into_iter()
        .map(|domain| Asked::ask(&domain))
        .collect();
    let mut text = String::new();
    let mut without = Limit::new();
    for asked in asked {
        asked.show(&mut text, until, patience, &mut without);
    }
    finish(text)
}

/// Returns the stacks of all threads without any GIL, for when one cannot be acquired.
pub(crate) fn dump_without_gil() -> String {
    let mut text = String::new();
    let mut without = Limit::new();
    for interpreter in domains().into_iter().flatten() {
        heading(&mut text, interpreter);
        without.show(&mut text, interpreter, "");
    }
    finish(text)
}

/// Returns the interpreters, grouped by GIL, the main one first. Without a GIL each is a group of its own.
fn domains() -> Vec<Vec<&'static Interpreter>> {
    let mut all = interpreter::all();
    all.reverse();
    let (own, shared): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|one| one.identity().replica.is_some() || free_threading::may_be_off());
    let own = own.into_iter().map(|interpreter| vec![interpreter]);
    let shared = (!shared.is_empty()).then_some(shared);
    shared.into_iter().chain(own).collect()
}

/// The interpreters of one GIL, and the answers of the helper that was asked for their threads.
struct Asked {
    domain: Vec<&'static Interpreter>,
    answers: Result<Receiver<Threads>, String>,
}

impl Asked {
    fn ask(domain: &[&'static Interpreter]) -> Self {
        Self {
            domain: domain.to_vec(),
            answers: Helper::send(domain),
        }
    }

    fn show(self, text: &mut String, until: Instant, patience: Duration, without: &mut Limit) {
        let mut answers = self.answers;
        for interpreter in self.domain {
            heading(text, interpreter);
            let answer = answers.as_ref().map_err(String::clone);
            let answer = answer.and_then(|answers| {
                let left = until.saturating_duration_since(Instant::now());
                let late = || format!("{} within {:.1} s.", not_had(), patience.as_secs_f64());
                answers.recv_timeout(left).map_err(|_| late())
            });
            match answer {
                Ok(threads) => show(text, &threads),
                Err(why) => {
                    without.show(text, interpreter, &why);
                    // Whatever the helper answers later is about other interpreters.
                    answers = Err(String::from("Nor could this one be looked at in time."));
                }
            }
        }
    }
}

/// A thread that attaches to the interpreters of one GIL. It may have to wait without end, so there is at most one for
/// each GIL.
struct Helper(u32);

static HELPERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Helper {
    fn send(domain: &[&'static Interpreter]) -> Result<Receiver<Threads>, String> {
        let before = || {
            format!(
                "{} when it was asked for last, and is still waited for.",
                not_had()
            )
        };
        let first = domain.first().map_or(0, |first| first.number());
        let helper = Helper::new(first).ok_or_else(before)?;
        let (tell, answers) = mpsc::channel();
        let domain = domain.to_vec();
        if threads::background("wsgi-stacks", move || helper.run(&domain, &tell)) {
            Ok(answers)
        } else {
            Err(String::from(
                "There is no thread that could ask for its GIL.",
            ))
        }
    }

    fn new(domain: u32) -> Option<Self> {
        let mut helpers = lock(&HELPERS);
        let is_free = !helpers.contains(&domain);
        is_free.then(|| {
            helpers.push(domain);
            Helper(domain)
        })
    }

    fn run(&self, domain: &[&'static Interpreter], tell: &Sender<Threads>) {
        for interpreter in domain {
            let threads = thread_state::attach(interpreter, attached::threads);
            if tell.send(threads).is_err() {
                return;
            }
        }
    }
}

/// Returns the beginning of a sentence about an interpreter that could not be looked at.
fn not_had() -> &'static str {
    match free_threading::may_be_off() {
        true => "Its threads could not all be stopped",
        false => "Its GIL could not be acquired",
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        lock(&HELPERS).retain(|&domain| domain != self.0);
    }
}

/// The time that all snapshots together may take.
struct Limit(Option<Instant>);

impl Limit {
    /// Makes a limit that begins with the first snapshot.
    fn new() -> Self {
        Self(None)
    }

    /// Writes the threads of an interpreter, after the text `why`.
    fn show(&mut self, text: &mut String, interpreter: &'static Interpreter, why: &str) {
        let until = *self.0.get_or_insert_with(|| Instant::now() + WITHOUT_GIL);
        let why = match why {
            "" => String::new(),
            why => format!("{why} "),
        };
        match snapshot::threads(interpreter, until) {
            Ok(threads) => {
                let _ = writeln!(text, "{why}These stacks were taken without the GIL:\n");
                show(text, &threads);
            }
            Err(problem) => {
                let _ = writeln!(text, "{why}There are no stacks: {problem}.\n");
            }
        }
    }
}

fn heading(text: &mut String, interpreter: &Interpreter) {
    let name = interpreter.describe();
    let _ = writeln!(text, "== {} ==\n", printable(&name, usize::MAX));
}

/// Writes threads that serve requests first, because the end may be cut off. Threads that do nothing are only counted.
fn show(text: &mut String, threads: &Threads) {
    let described = threads
        .all
        .iter()
        .map(|thread| (thread, running::describe(thread.ident)));
    let (busy, others): (Vec<_>, Vec<_>) = described.partition(|(_, request)| request.is_some());
    let (active, idle): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|(thread, _)| !thread.frames.is_empty());
    for (thread, request) in busy.iter().chain(&active) {
        let _ = match request {
            Some(request) => writeln!(text, "{}: {request}", thread.name()),
            None => writeln!(text, "{}", thread.name()),
        };
        match thread.stack() {
            stack if stack.is_empty() => text.push_str("  (no Python code)\n\n"),
            stack => {
                text.push_str(&stack);
                text.push('\n');
            }
        }
    }
    let _ = match idle.len() {
        0 => Ok(()),
        1 => writeln!(text, "1 thread runs no Python code.\n"),
        count => writeln!(text, "{count} threads run no Python code.\n"),
    };
    if threads.is_cut {
        text.push_str("There are more threads, older than these.\n\n");
    }
}

fn finish(mut text: String) -> String {
    if text.is_empty() {
        return String::from("Python has not been started.\n");
    }
    if text.len() > MOST_OF_DUMP {
        let end = text.floor_char_boundary(MOST_OF_DUMP);
        text.truncate(end);
        text.push_str("\n... the rest is left out\n");
    }
    text
}
