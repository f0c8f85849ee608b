//! What the watchdog does about a load that takes longer than its limit. Such a load probably waits for something that
//! no thread of this process provides:
//!
//! 1. threads that wait for the load give up at once, and so does every later request, until the load ends after all;
//! 2. the request whose thread loads is answered without that thread;
//! 3. the stack of the thread is logged: with the GIL, or without it if the GIL cannot be acquired;
//! 4. the host is asked to replace the child, again and again while the load goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Retire;
use wsgi_core::messages::Message;
use wsgi_telemetry::clock;

use crate::application::loads::{Load, What};
use crate::cpython::object::Attached;
use crate::host::{self, level_of};
use crate::process;
use crate::watch::gil_probe::{self, Task};
use crate::watch::stacks;

/// How long to wait for the GIL to show a stack, nanoseconds.
const WITH_GIL: u64 = 2_000_000_000;
/// How often the host is asked to replace the child, nanoseconds.
const COMPLAIN: u64 = 1_000_000_000;
/// How often to check whether the stack was logged, nanoseconds.
const SOON: u64 = 20_000_000;

/// Does the next step for a load at the stamp `now`. Returns when to look again, as a stamp. Called by the watchdog.
pub(super) fn look(load: &Arc<Load>, now: u64) -> u64 {
    if now < load.due || process::is_closing() {
        return load.due.max(now + COMPLAIN);
    }
    if !load.is_overdue() && !give_up(load) {
        return u64::MAX;
    }
    if now >= load.due.saturating_add(WITH_GIL) {
        show_without_gil(load);
    }
    // The stack comes first: a child that is replaced has none.
    if !load.is_told.load(Relaxed) {
        return now + SOON;
    }
    host::retire(Retire::Startup);
    now + COMPLAIN
}

/// Gives up on a load that hangs. Returns `false` if it has ended.
fn give_up(load: &Arc<Load>) -> bool {
    if !load.be_overdue() {
        return false;
    }
    match load.interpreter() {
        Some(interpreter) => {
            let task = Task::Show(Arc::clone(load));
            gil_probe::of(interpreter).ask(interpreter, task);
        }
        // A group's interpreters are not registered yet, so their threads cannot be looked at.
        None => tell(load, None),
    }
    if let Some(request) = &load.request
        && request.give_up()
    {
        request.deadline().lose_permit();
    }
    true
}

/// Logs the stack of the load's thread.
pub(super) fn show(load: &Load, py: &Attached<'_>) {
    if load.is_over() {
        return;
    }
    let stack = stacks::of_thread(py, load.ident);
    let none = || String::from("  (no Python code)");
    tell(load, Some(&stack.unwrap_or_else(none)));
}

/// Logs the stack of the load's thread if the GIL could not be acquired.
fn show_without_gil(load: &Load) {
    if !load.is_shown.load(Relaxed) && !load.is_over() {
        tell(load, Some(&stacks::dump_without_gil()));
    }
}

/// Logs once that the load hangs.
fn tell(load: &Load, stack: Option<&str>) {
    if load.is_shown.swap(true, Relaxed) {
        return;
    }
    let seconds = clock::now().saturating_sub(load.began) as f64 / 1e9;
    let seconds = format!("{seconds:.1}");
    let (message, line) = match &load.what {
        What::Application(application) => {
            let script = format!("WSGI script '{}'", application.script_text());
            let described = application.interpreter().describe();
            let message = Message::LoadOverdue;
            (message, message.line(&[&script, &described, &seconds]))
        }
        What::Group(name) => {
            let message = Message::InterpretersOverdue;
            let name = String::from_utf8_lossy(name);
            (message, message.line(&[&name, &seconds]))
        }
    };
    let level = level_of(message);
    host::log(level, &line);
    for line in stack.into_iter().flat_map(str::lines) {
        host::log(level, line);
    }
    load.is_told.store(true, Relaxed);
}
