//! How requests get into Python: on their own thread, on the thread of a request that is inside already, or on threads
//! that do nothing else. One trait, so that no other code has to know the strategies ([E-6]).
//!
//! An executor belongs to one interpreter of an application group. The queue before it belongs to the group.

use crate::cpython::interpreter::Interpreter;
use crate::cpython::thread_state;
use crate::request::permit::{self, PermitSource};
use crate::wsgi::output::Done;
use crate::wsgi::perform::{self, Job};

/// One strategy for one interpreter.
pub(crate) trait Executor: PermitSource {
    /// Runs a request, on some thread. Returns when it has been run or refused. The calling thread must not be
    /// attached.
    fn run(&'static self, job: &Job<'_>) -> Done;

    /// Returns how many requests are inside or wait to be.
    fn load(&self) -> u32;
}

/// Runs a request within another one of the same interpreter, whose permit the calling thread has. httpd makes such
/// requests while the outer one sends or reads (`ErrorDocument`, `#include virtual`), also by way of other groups.
/// Returns `None` if the thread has no exclusive permit of this executor.
pub(super) fn run_nested<E: Executor>(
    executor: &E,
    interpreter: &'static Interpreter,
    job: &Job<'_>,
) -> Option<Done> {
    let is_here = executor.is_exclusive() && permit::has_exclusive(executor);
    is_here.then(|| thread_state::attach(interpreter, |py| perform::perform(py, job)))
}
