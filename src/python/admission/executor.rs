//! How requests get into Python: on their own thread, on that of a request that is inside already, or on threads that do
//! nothing else. One trait, so that nobody else has to know ([E-6]).
//!
//! An executor belongs to one interpreter of an application group. The line before it belongs to the group.

use std::cell::{Cell, RefCell};

use wsgi_abi::{Admission, RunOutcome, Strategy};

use crate::admission::run;
use crate::admission::run::{Job, Left};
use crate::cpython::interpreter::Interpreter;
use crate::cpython::thread_state;

use super::queue::Line;
use super::{delegate, direct, pool};

/// What became of a request.
pub(crate) enum Ended {
    /// It was run.
    Left(Left),
    /// It was run, and another thread has sent what it left.
    Sent(RunOutcome),
    /// It was not run.
    Refused(RunOutcome),
}

/// One strategy for one interpreter.
pub(crate) trait Executor: Send + Sync {
    /// Runs a request, on whatever thread; returns when it has been run or refused. The calling thread must not be
    /// attached.
    fn run(&'static self, job: &Job<'_>) -> Ended;

    /// How many requests are inside or wait for it.
    fn load(&self) -> u32;

    /// Whether a request that is inside keeps its place while it waits for something that needs no GIL: one at a time is
    /// inside, and an application that is told so must not be called again in the middle of a request.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// A request that is inside waits for something that needs no GIL: its place is free meanwhile.
    fn step_out(&'static self);

    /// It goes on.
    fn step_in(&self);
}

/// The executor of an interpreter, as configured.
pub(crate) fn new(
    admission: &Admission,
    group: &[u8],
    interpreter: &'static Interpreter,
    line: &'static Line,
) -> &'static dyn Executor {
    match admission.strategy {
        Strategy::Direct => Box::leak(Box::new(direct::Direct::new(interpreter))),
        Strategy::Delegate => Box::leak(Box::new(delegate::Delegate::new(admission, group, line))),
        Strategy::Pool => Box::leak(Box::new(pool::Pool::new(admission, interpreter, line))),
    }
}

thread_local! {
    /// The executor whose place the calling thread has.
    static PLACE: Cell<Option<&'static dyn Executor>> = const { Cell::new(None) };
    /// The exclusive executors whose places the calling thread has, the outermost first.
    static EXCLUSIVE: RefCell<Vec<&'static dyn Executor>> = const { RefCell::new(Vec::new()) };
}

/// A place inside, as the calling thread knows of it. While a request is inside a call of the host, httpd may run another
/// one on the same thread.
pub(super) struct Occupied {
    before: Option<&'static dyn Executor>,
    /// Whether it is noted in [`EXCLUSIVE`].
    is_noted: Cell<bool>,
}

impl Occupied {
    pub(super) fn by(executor: &'static dyn Executor) -> Self {
        let is_noted = executor.is_exclusive();
        if is_noted {
            EXCLUSIVE.with_borrow_mut(|places| places.push(executor));
        }
        Self {
            before: PLACE.replace(Some(executor)),
            is_noted: Cell::new(is_noted),
        }
    }

    /// The thread goes on without it.
    pub(super) fn end(&self) {
        PLACE.set(None);
        self.forget();
    }

    /// Places are given back in the reverse order.
    fn forget(&self) {
        if self.is_noted.replace(false) {
            EXCLUSIVE.with_borrow_mut(|places| places.pop());
        }
    }
}

/// The exclusive places that the calling thread has.
pub(super) fn exclusive_places() -> Vec<&'static dyn Executor> {
    EXCLUSIVE.with_borrow(Vec::clone)
}

/// The calling thread runs a job for one that has these places and waits; ended by drop.
pub(super) struct InPlacesOf(usize);

pub(super) fn in_places_of(owner: &[&'static dyn Executor]) -> InPlacesOf {
    if !owner.is_empty() {
        EXCLUSIVE.with_borrow_mut(|places| places.extend(owner));
    }
    InPlacesOf(owner.len())
}

impl Drop for InPlacesOf {
    fn drop(&mut self) {
        if self.0 != 0 {
            EXCLUSIVE
                .with_borrow_mut(|places| places.truncate(places.len().saturating_sub(self.0)));
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        PLACE.set(self.before);
        self.forget();
    }
}

/// The executor whose place the calling thread has.
pub(crate) fn current() -> Option<&'static dyn Executor> {
    PLACE.get()
}

/// Whether the calling thread has a place that nobody else may have while it waits.
pub(crate) fn keeps_place() -> bool {
    current().is_some_and(|executor| executor.is_exclusive())
}

/// Runs a request inside of another one of the same interpreter, in whose place the calling thread is: httpd makes such
/// requests while the first one sends or reads (`ErrorDocument`, `#include virtual`), also by way of other groups. `None`
/// where the thread has no such place.
pub(super) fn run_nested(
    executor: &dyn Executor,
    interpreter: &'static Interpreter,
    job: &Job<'_>,
) -> Option<Ended> {
    let is_here = executor.is_exclusive()
        && EXCLUSIVE.with_borrow(|places| {
            let mut places = places.iter();
            places.any(|place| std::ptr::addr_eq(*place, executor))
        });
    is_here.then(|| {
        Ended::Left(thread_state::attach(interpreter, |py| {
            run::perform(py, job)
        }))
    })
}

/// Does something that needs no GIL and may take long, for the request that the calling thread runs. Others have its
/// place meanwhile. The thread must not be attached.
pub(crate) fn outside<R>(work: impl FnOnce() -> R) -> R {
    /// Also where the work panics.
    struct Out(&'static dyn Executor);
    impl Drop for Out {
        fn drop(&mut self) {
            self.0.step_in();
            PLACE.set(Some(self.0));
        }
    }
    let _out = PLACE.take().map(|executor| {
        executor.step_out();
        Out(executor)
    });
    work()
}
