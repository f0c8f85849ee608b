//! The life of an application in one interpreter, for the metrics: starting, ready or failed, draining, gone.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use metrics::{SharedString, counter, gauge, histogram};
use wsgi_telemetry::catalogue::{INTERPRETER_STATE, Id, RESULT, value};
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
    /// The application's value of the label `app`.
    label: SharedString,
    state: AtomicU8,
}

impl ApplicationState {
    pub(crate) fn new(app: App) -> Self {
        Self {
            app,
            label: telemetry::label(app),
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
        if reload {
            self.count_reload();
        }
        if before == ABSENT {
            counter!(Id::InterpreterStarts.name(), "app" => self.label.clone()).increment(1);
            if let Some(arena) = telemetry::process_arena() {
                arena.gauges(self.app).interpreter_started(clock::unix());
            }
        }
    }

    /// Counts a reload because the script has changed or asks for it.
    pub(crate) fn count_reload(&self) {
        let app = self.label.clone();
        counter!(Id::ApplicationReloads.name(), "app" => app, "trigger" => "script_changed")
            .increment(1);
    }

    /// Notes the end of a load, whether it succeeded, and how long it took.
    pub(crate) fn end_load(&self, loaded: bool, nanoseconds: u64) {
        // If the group left this interpreter during the load, the state stays `ABSENT`.
        if self.state.load(Relaxed) != ABSENT {
            self.enter(if loaded { READY } else { FAILED });
        }
        let result = RESULT.values[usize::from(!loaded)];
        let seconds = nanoseconds as f64 / 1e9;
        histogram!(Id::ApplicationLoad.name(), "app" => self.label.clone()).record(seconds);
        counter!(Id::ApplicationLoads.name(), "app" => self.label.clone(), "result" => result)
            .increment(1);
    }

    /// Notes that the process is about to end.
    pub(crate) fn drain(&self) {
        if self.state.load(Relaxed) != ABSENT {
            self.enter(DRAINING);
        }
    }

    /// Notes that the process ends.
    pub(crate) fn end(&self) {
        self.stop("child_exit");
    }

    /// Notes that the group has left the interpreter, because the application cannot be loaded there.
    pub(crate) fn leave(&self) {
        self.stop("error");
    }

    /// Notes that the interpreter does not hold the application any more. `reason` is a value of
    /// [`STOP_REASON`](wsgi_telemetry::catalogue::STOP_REASON).
    fn stop(&self, reason: &'static str) {
        if self.enter(ABSENT) != ABSENT {
            counter!(Id::InterpreterStops.name(), "app" => self.label.clone(), "reason" => reason)
                .increment(1);
        }
    }

    /// Sets the state. Returns the previous one.
    fn enter(&self, state: u8) -> u8 {
        let before = self.state.swap(state, Relaxed);
        for (state, by) in [(before, -1.0), (state, 1.0)] {
            if let Some(&state) = INTERPRETER_STATE.values.get(usize::from(state)) {
                let labels = [("app", self.label.clone()), ("state", state.into())];
                gauge!(Id::Interpreters.name(), &labels).increment(by);
            }
        }
        before
    }
}
