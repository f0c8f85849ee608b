//! Measures CPython's garbage collector for the metrics, by a function in `gc.callbacks` of each interpreter.

use std::cell::Cell;
use std::ffi::CStr;

use pyo3::ffi;
use wsgi_telemetry::catalogue::{GENERATION, Id};

use crate::cpython::gil_clock;
use crate::cpython::object::{Attached, Obj, PyResult};
use crate::metrics::telemetry;
use crate::wsgi::native::{Call, Method, new_function};

thread_local! {
    /// When the collection that the thread is in began, as a stamp; 0 outside. Collections do not nest.
    static SINCE: Cell<u64> = const { Cell::new(0) };
}

/// The Python function `_collector`.
struct Collector;

impl Method for Collector {
    type Value = ();
    const NAME: &'static CStr = c"_collector";
    const DOC: &'static CStr = c"For gc.callbacks.";

    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        if let (Some(phase), Some(info)) = (call.arg(0), call.arg(1))
            && phase.is_str()
        {
            observe(call.py, &phase, &info);
        }
        Ok(call.py.none())
    }
}

/// Makes the function, of the module `mod_wsgi` of this interpreter.
pub(crate) fn new_collector_callback<'i>(py: &Attached<'i>, module: &Obj<'i>) -> PyResult<Obj<'i>> {
    new_function::<Collector>(py, module)
}

/// Counts a collection at its end. `phase` is a `str`.
fn observe<'i>(py: &Attached<'i>, phase: &Obj<'i>, info: &Obj<'i>) {
    let now = telemetry::now();
    let (phase, start) = (phase.as_ptr(), c"start".as_ptr());
    // SAFETY: attached, and a live `str`.
    if unsafe { ffi::PyUnicode_CompareWithASCIIString(phase, start) } == 0 {
        SINCE.set(now);
        return;
    }
    let since = SINCE.replace(0);
    if since == 0 {
        return;
    }
    let number = |name: &CStr| -> u64 {
        let value = info.item(py, name).map(|value| value.as_i64());
        match value {
            Some(Ok(value)) => u64::try_from(value).unwrap_or(0),
            Some(Err(raised)) => {
                py.clear(raised);
                0
            }
            None => 0,
        }
    };
    let oldest = GENERATION.values.len() - 1;
    let generation = usize::try_from(number(c"generation")).map_or(oldest, |at| at.min(oldest));
    let (collected, uncollectable) = (number(c"collected"), number(c"uncollectable"));
    // The collection ran on the thread, and so at the cost, of the request whose allocations triggered it.
    let app = gil_clock::current_app().unwrap_or(py.state().home());
    // So the cells are written directly: the macros of `metrics` take a lock of the process and look labels up.
    telemetry::count(app, |block| {
        block.observe(Id::GcPause, generation, now.saturating_sub(since));
        block.add(Id::GcCollected, generation, collected);
        block.add(Id::GcUncollectable, generation, uncollectable);
    });
}
