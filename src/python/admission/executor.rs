//! How requests get into Python: on their own thread, on that of a request that is inside already, or on threads that do
//! nothing else. One trait, so that nothing else has to know the strategies ([E-6]).
//!
//! An executor belongs to one interpreter of an application group. The queue before it belongs to the group.

use crate::cpython::interpreter::Interpreter;
use crate::cpython::thread_state;
use crate::request::slot::{self, Slot};
use crate::wsgi::output::Done;
use crate::wsgi::perform::{self, Job};

/// One strategy for one interpreter.
pub(crate) trait Executor: Slot {
    /// Runs a request, on some thread; returns when it has been run or refused. The calling thread must not be attached.
    fn run(&'static self, job: &Job<'_>) -> Done;

    /// How many requests are inside or wait for it.
    fn load(&self) -> u32;
}

/// Runs a request inside of another one of the same interpreter, in whose slot the calling thread is: httpd makes such
/// requests while the first one sends or reads (`ErrorDocument`, `#include virtual`), also by way of other groups. `None`
/// where the thread has no such slot.
pub(super) fn run_nested<E: Executor>(
    executor: &E,
    interpreter: &'static Interpreter,
    job: &Job<'_>,
) -> Option<Done> {
    let is_here = executor.is_exclusive() && slot::has_exclusive(executor);
    is_here.then(|| thread_state::attach(interpreter, |py| perform::perform(py, job)))
}
