//! `mod_wsgi.bridge_prometheus_client()`: keeps the metrics of applications that use `prometheus_client` in the
//! segment, like their mod_wsgi metrics. The Python half is `bridge.py`, which is only executed when an application
//! asks for it.

use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::ffi;
use wsgi_telemetry::ClientValue;

use super::metric::{arguments, items, text};
use super::module;
use super::native::{Call, Method, instantiate, new_function};
use crate::cpython::object::{ExceptionClass, Obj, PyResult};
use crate::metrics::custom;

const SOURCE: &CStr = module::source(concat!(include_str!("../python/bridge.py"), "\0"));

/// The Python function `bridge_prometheus_client`.
pub(super) struct Bridge;

impl Method for Bridge {
    type Value = ();
    const NAME: &'static CStr = c"bridge_prometheus_client";
    const DOC: &'static CStr = c"bridge_prometheus_client()\n--\n\n\
        Has prometheus_client keep its values where the server's own metrics are, so that those of all children are \
        shown as one. Does nothing where nothing is measured.";

    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        let (py, state) = (call.py, call.py.state());
        if !custom::is_recording() || state.bridged.swap(true, Relaxed) {
            return Ok(py.none());
        }
        let build = || {
            let globals = py.dict()?;
            globals.set_item(c"__name__", &py.str("mod_wsgi.bridge")?)?;
            let sample = new_function::<Sample>(py, &call.this()?)?;
            module::execute(py, SOURCE, c"<mod_wsgi.bridge>", &globals)?;
            // SAFETY: borrowed from the dictionary, which is alive.
            let bridge = unsafe {
                py.share(ffi::PyDict_GetItemString(
                    globals.as_ptr(),
                    c"bridge".as_ptr(),
                ))?
            };
            bridge.call(py, [&sample])
        };
        build().inspect_err(|_| state.bridged.store(false, Relaxed))
    }
}

/// The Python function `sample`: makes the object that holds one value of `prometheus_client`.
struct Sample;

impl Method for Sample {
    type Value = ();
    const NAME: &'static CStr = c"sample";
    const DOC: &'static CStr =
        c"sample(kind, metric, name, labels, values, help, mode)\n--\n\nWhere a value is kept.";

    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        let py = call.py;
        let [kind, metric, sample, labels, values, help, mode] = arguments(call, "sample")?;
        let string = |object: &Obj<'i>| text(py, object, "each of the arguments");
        let strings = |object: &Obj<'i>| -> PyResult<Vec<String>> {
            items(py, object)?.iter().map(string).collect()
        };
        let (labels, values) = (strings(&labels)?, strings(&values)?);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let series = custom::client_series(&ClientValue {
            kind: &string(&kind)?,
            metric: &string(&metric)?,
            sample: &string(&sample)?,
            labels: &labels,
            values: &values,
            help: &string(&help)?,
            mode: &string(&mode)?,
        });
        let series = series.map_err(|why| py.raise(ExceptionClass::Value, &why.to_string()))?;
        // SAFETY: the type was made for this value, in this interpreter.
        unsafe { instantiate(py, py.state().metrics.sample, series) }
    }
}
