//! The executor `direct`: each request runs on its own thread, any number at once.

use crate::admission::executor::Executor;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::thread_state;
use crate::request::permit::PermitSource;
use crate::wsgi::output::Done;
use crate::wsgi::perform::{self, Job};

/// The executor `direct` of one interpreter.
pub(super) struct Direct(&'static Interpreter);

impl Direct {
    pub(super) fn new(interpreter: &'static Interpreter) -> Self {
        Self(interpreter)
    }
}

impl PermitSource for Direct {
    fn step_out(&'static self) {}

    fn step_in(&self) {}
}

impl Executor for Direct {
    fn run(&'static self, job: &Job<'_>) -> Done {
        thread_state::attach(self.0, |py| perform::perform(py, job))
    }

    fn load(&self) -> u32 {
        self.0.inside()
    }
}
