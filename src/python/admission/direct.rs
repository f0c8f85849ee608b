//! The thread of the request runs it, and all may at once.

use super::executor::{Ended, Executor};
use crate::admission::run;
use crate::admission::run::Job;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::thread_state;

/// For one interpreter.
pub(super) struct Direct(&'static Interpreter);

impl Direct {
    pub(super) fn new(interpreter: &'static Interpreter) -> Self {
        Self(interpreter)
    }
}

impl Executor for Direct {
    fn run(&'static self, job: &Job<'_>) -> Ended {
        Ended::Left(thread_state::attach(self.0, |py| run::perform(py, job)))
    }

    fn load(&self) -> u32 {
        self.0.inside()
    }

    fn step_out(&'static self) {}

    fn step_in(&self) {}
}
