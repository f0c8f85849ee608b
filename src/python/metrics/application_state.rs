//! The life of an application in one interpreter, for the metrics: starting, ready or failed, draining, gone.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use wsgi_telemetry::catalogue::{INTERPRETER_STATE, Id, RESULT, STOP_REASON, TRIGGER, value};
use wsgi_telemetry::{App, clock};

use crate::metrics::telemetry;

/// The interpreter does not hold the application yet, or no longer holds it.
const ABSENT: u8 = u8::MAX;
const STARTING: u8 = value(INTERPRETER_STATE, "starting") as u8;
const READY: u8 = value(INTERPRETER_STATE, "ready") as u8;
const DRAINING: u8 = value(INTERPRETER_STATE, "draining") as u8;
const FAILED: u8 = value(INTERPRETER_STATE, "failed") as u8;

/// The state of an application in one interpreter.
pub(crate) struct ApplicationState {
    app: App,
    state: AtomicU8,
}

impl ApplicationState {
    pub(crate) fn new(app: App) -> Self {
        Self {
            app,
            state: AtomicU8::new(ABSENT),
        }
    }

    /// Returns the application's number in the segment's table.
    pub(crate) fn app(&self) -> App {
        self.app
    }

    /// Whether the application is loaded.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.load(Relaxed) == READY
    }

    /// Notes that the script is about to be loaded, or loaded again if `reload`.
    pub(crate) fn begin_load(&self, reload: bool) {
        let before = self.enter(STARTING);
        telemetry::count(self.app, |block| {
            if before == ABSENT {
                block.add(Id::InterpreterStarts, 0, 1);
            }
            if reload {
                let trigger = value(TRIGGER, "script_changed");
                block.add(Id::ApplicationReloads, trigger, 1);
            }
        });
        if before == ABSENT
            && let Some(arena) = telemetry::process_arena()
        {
            arena.gauges(self.app).interpreter_started(clock::unix());
        }
    }

    /// Notes the end of a load, whether it succeeded, and how long it took.
    pub(crate) fn end_load(&self, loaded: bool, nanoseconds: u64) {
        // If the group left this interpreter during the load, the state stays `ABSENT`.
        if self.state.load(Relaxed) != ABSENT {
            self.enter(if loaded { READY } else { FAILED });
        }
        let result = if loaded {
            value(RESULT, "ok")
        } else {
            value(RESULT, "error")
        };
        telemetry::count(self.app, |block| {
            block.observe(Id::ApplicationLoad, 0, nanoseconds);
            block.add(Id::ApplicationLoads, result, 1);
        });
    }

    /// Notes that the process is about to end.
    pub(crate) fn drain(&self) {
        if self.state.load(Relaxed) != ABSENT {
            self.enter(DRAINING);
        }
    }

    /// Notes that the process ends.
    pub(crate) fn end(&self) {
        self.stop(value(STOP_REASON, "child_exit"));
    }

    /// Notes that the group has left the interpreter, because the application cannot be loaded there.
    pub(crate) fn leave(&self) {
        self.stop(value(STOP_REASON, "error"));
    }

    fn stop(&self, reason: usize) {
        if self.enter(ABSENT) != ABSENT {
            telemetry::count(self.app, |block| block.add(Id::InterpreterStops, reason, 1));
        }
    }

    /// Sets the state. Returns the previous one.
    fn enter(&self, state: u8) -> u8 {
        let before = self.state.swap(state, Relaxed);
        if let Some(arena) = telemetry::process_arena() {
            let block = arena.gauges(self.app);
            if before != ABSENT {
                block.change(Id::Interpreters, before.into(), -1);
            }
            if state != ABSENT {
                block.change(Id::Interpreters, state.into(), 1);
            }
        }
        before
    }
}
