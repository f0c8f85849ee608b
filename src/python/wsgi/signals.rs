//! The event `process_signal`: signals that a process of a group has got, for the applications in it.

use wsgi_core::messages::Message;

use crate::cpython::object::{Attached, PyResult};
use crate::cpython::{forked, interpreter, thread_state};
use crate::process;
use crate::request::log::log_raised;
use crate::wsgi::events::log_failures;

/// Name of the event.
const EVENT: &str = "process_signal";

/// Tells the subscribers in all interpreters of a signal that this process has got. Waits for each GIL, so it must not
/// be called by a thread that others depend on.
pub fn signal(number: i32) {
    for interpreter in interpreter::all() {
        if process::is_closing() {
            return;
        }
        // Keeps Python from ending during the calls.
        let _inside = interpreter.enter();
        thread_state::attach(interpreter, |py| {
            if let Err(raised) = publish(py, number) {
                let line = Message::SignalEvent.line(&[&interpreter.describe()]);
                log_raised(py, raised, None, Message::SignalEvent, &line);
            }
        });
    }
}

fn publish(py: &Attached<'_>, number: i32) -> PyResult<()> {
    let number = py.int(number.into())?;
    let failures = py.state().signal.get(py).call(py, [&number]);
    forked::ends(py);
    log_failures(py, EVENT, &failures?, None)
}
