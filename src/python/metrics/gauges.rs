//! Numbers that only the interpreter itself can count: memory blocks, threads, the collector's progress. A request that
//! already holds the GIL reads them every ten seconds.

use std::sync::atomic::Ordering::Relaxed;

use metrics::gauge;
use pyo3::ffi;
use wsgi_telemetry::catalogue::{GENERATION, Id};

use crate::cpython::object::{Attached, PyResult};
use crate::cpython::{gil_clock, traceback};
use crate::host::{self, Level};
use crate::metrics::telemetry;

/// Nanoseconds between two readings.
const EVERY: u64 = 10_000_000_000;

/// Reads the numbers of the interpreter, if a reading is due.
pub(crate) fn refresh(py: &Attached<'_>) {
    let state = py.state();
    let Some(now) = gil_clock::attached_at() else {
        return;
    };
    let before = state.gauged.load(Relaxed);
    if before != 0 && now.saturating_sub(before) < EVERY {
        return;
    }
    let ours = state.gauged.compare_exchange(before, now, Relaxed, Relaxed);
    if ours.is_err() {
        return;
    }
    if let Err(raised) = look(py) {
        let line = format!(
            "the gauges of the {} could not be read",
            py.interpreter().describe()
        );
        host::log(Level::Error, &line);
        if let Some(exception) = py.take(raised) {
            for line in traceback::lines(py, &exception) {
                host::log(Level::Error, &line);
            }
        }
    }
}

fn look(py: &Attached<'_>) -> PyResult<()> {
    if telemetry::process_arena().is_none() {
        return Ok(());
    }
    let state = py.state();
    let answer = state.gauges.get(py).call(py, [])?;
    let number = |at: isize| {
        // SAFETY: `_gauges` returns a tuple; if it is too short, the exception of the lookup is passed on.
        unsafe { py.share(ffi::PyTuple_GetItem(answer.as_ptr(), at)) }?.as_i64()
    };
    let app = telemetry::label(state.home());
    let of = |id: Id| gauge!(id.name(), "app" => app.clone());
    let [youngest, middle, oldest] = [0, 1, 2].map(|at| {
        let labels = [
            ("app", app.clone()),
            ("generation", GENERATION.values[at].into()),
        ];
        gauge!(Id::GcPending.name(), &labels)
    });
    let gauges = [
        of(Id::AllocatedBlocks),
        of(Id::PythonThreads),
        youngest,
        middle,
        oldest,
    ];
    // Each interpreter adds only its difference, because several interpreters may have the same first application and so
    // share its gauges.
    for ((at, gauge), known) in (0..).zip(gauges).zip(&state.gauge_values) {
        let value = number(at)?;
        gauge.increment((value - known.swap(value, Relaxed)) as f64);
    }
    Ok(())
}
