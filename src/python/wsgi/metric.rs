//! The applications' own metrics as Python sees them: native types, so that counting is cheap, and the functions with
//! which the Python half of the module (`metrics.py`) makes them.

use pyo3::ffi;
use wsgi_telemetry::{Aggregate, CustomKind, Description, HistogramSeries, Refused, Series};

use super::native::{Call, Method, Methods, Slots, function, instantiate, method, new_type};
use crate::cpython::module_state::MetricTypes;
use crate::cpython::object::{Attached, ExceptionClass, Immortal, Obj, PyResult, Raised};
use crate::metrics::custom;
use crate::metrics::custom::Family;

impl<'i> MetricTypes<'i> {
    pub(super) fn new(py: &Attached<'i>, module: *mut ffi::PyObject) -> PyResult<Self> {
        let mut family = Slots::<Family>::new();
        family.add(ffi::Py_tp_methods, FAMILY.as_slot());
        let mut counter = Slots::<Series>::new();
        counter.add(ffi::Py_tp_methods, COUNTER.as_slot());
        let mut gauge = Slots::<Series>::new();
        gauge.add(ffi::Py_tp_methods, GAUGE.as_slot());
        let mut sample = Slots::<Series>::new();
        sample.add(ffi::Py_tp_methods, SAMPLE.as_slot());
        let mut histogram = Slots::<Option<HistogramSeries>>::new();
        histogram.add(ffi::Py_tp_methods, HISTOGRAM.as_slot());
        // SAFETY: the tables are statics, and their methods are of the values that the slots are for.
        unsafe {
            Ok(Self {
                family: Immortal::new(new_type(py, module, c"mod_wsgi.Family", family)?),
                counter: Immortal::new(new_type(py, module, c"mod_wsgi.Counter", counter)?),
                gauge: Immortal::new(new_type(py, module, c"mod_wsgi.Gauge", gauge)?),
                histogram: Immortal::new(new_type(py, module, c"mod_wsgi.Histogram", histogram)?),
                sample: Immortal::new(new_type(py, module, c"mod_wsgi.Sample", sample)?),
            })
        }
    }
}

static FAMILY: Methods<2> = Methods([method::<Child>(), ffi::PyMethodDef::zeroed()]);
static COUNTER: Methods<2> = Methods([method::<CounterInc>(), ffi::PyMethodDef::zeroed()]);
static GAUGE: Methods<4> = Methods([
    method::<Inc>(),
    method::<Dec>(),
    method::<Set>(),
    ffi::PyMethodDef::zeroed(),
]);
static HISTOGRAM: Methods<3> = Methods([
    method::<Observe>(),
    method::<Time>(),
    ffi::PyMethodDef::zeroed(),
]);
static SAMPLE: Methods<4> = Methods([
    method::<Inc>(),
    method::<Set>(),
    method::<Get>(),
    ffi::PyMethodDef::zeroed(),
]);

/// The functions that `metrics.py` calls, and `slot_id`.
pub(super) static FUNCTIONS: Methods<4> = Methods([
    function::<NewFamily>(),
    function::<SlotId>(),
    function::<super::bridge::Bridge>(),
    ffi::PyMethodDef::zeroed(),
]);

struct CounterInc;
impl Method for CounterInc {
    type Value = Series;
    const NAME: &'static std::ffi::CStr = c"inc";
    const DOC: &'static std::ffi::CStr = c"inc(amount=1, /)\n--\n\nCounts.";
    fn call<'i>(call: &Call<'_, 'i, Series>) -> PyResult<Obj<'i>> {
        let amount = amount(call, "inc")?;
        if !(amount.is_finite() && amount >= 0.0) {
            let text = format!("a counter only grows, and not by {amount}");
            return Err(call.py.raise(ExceptionClass::Value, &text));
        }
        custom::add(*call.value, amount);
        Ok(call.py.none())
    }
}

struct Inc;
impl Method for Inc {
    type Value = Series;
    const NAME: &'static std::ffi::CStr = c"inc";
    const DOC: &'static std::ffi::CStr = c"inc(amount=1, /)\n--\n\nAdds.";
    fn call<'i>(call: &Call<'_, 'i, Series>) -> PyResult<Obj<'i>> {
        custom::add(*call.value, amount(call, "inc")?);
        Ok(call.py.none())
    }
}

struct Dec;
impl Method for Dec {
    type Value = Series;
    const NAME: &'static std::ffi::CStr = c"dec";
    const DOC: &'static std::ffi::CStr = c"dec(amount=1, /)\n--\n\nSubtracts.";
    fn call<'i>(call: &Call<'_, 'i, Series>) -> PyResult<Obj<'i>> {
        custom::add(*call.value, -amount(call, "dec")?);
        Ok(call.py.none())
    }
}

struct Set;
impl Method for Set {
    type Value = Series;
    const NAME: &'static std::ffi::CStr = c"set";
    const DOC: &'static std::ffi::CStr = c"set(value, /)\n--\n\nSets it, for this child.";
    fn call<'i>(call: &Call<'_, 'i, Series>) -> PyResult<Obj<'i>> {
        let value = number(call.py, &call.only_arg("set")?)?;
        custom::set(*call.value, value);
        Ok(call.py.none())
    }
}

struct Get;
impl Method for Get {
    type Value = Series;
    const NAME: &'static std::ffi::CStr = c"get";
    const DOC: &'static std::ffi::CStr = c"get()\n--\n\nWhat all children have counted.";
    fn call<'i>(call: &Call<'_, 'i, Series>) -> PyResult<Obj<'i>> {
        call.py.float(custom::total(*call.value))
    }
}

struct Observe;
impl Method for Observe {
    type Value = Option<HistogramSeries>;
    const NAME: &'static std::ffi::CStr = c"observe";
    const DOC: &'static std::ffi::CStr = c"observe(value, /)\n--\n\nAdds an observation.";
    fn call<'i>(call: &Call<'_, 'i, Self::Value>) -> PyResult<Obj<'i>> {
        let value = number(call.py, &call.only_arg("observe")?)?;
        if value.is_nan() {
            return Err(call
                .py
                .raise(ExceptionClass::Value, "an observation is a number, not nan"));
        }
        if let Some(histogram) = call.value {
            custom::observe(histogram, value);
        }
        Ok(call.py.none())
    }
}

struct Time;
impl Method for Time {
    type Value = Option<HistogramSeries>;
    const NAME: &'static std::ffi::CStr = c"time";
    const DOC: &'static std::ffi::CStr =
        c"time()\n--\n\nFor `with`, or as a decorator: observes how many seconds that takes.";
    fn call<'i>(call: &Call<'_, 'i, Self::Value>) -> PyResult<Obj<'i>> {
        let this = call.this()?;
        let timer = call.py.state().timer.get(call.py);
        timer.call(call.py, [&this])
    }
}

struct Child;
impl Method for Child {
    type Value = Family;
    const NAME: &'static std::ffi::CStr = c"child";
    const DOC: &'static std::ffi::CStr = c"child(*values)\n--\n\nThe metric of these label values.";
    fn call<'i>(call: &Call<'_, 'i, Family>) -> PyResult<Obj<'i>> {
        let py = call.py;
        let values = (0..call.count()).filter_map(|at| call.arg(at));
        let values = values.map(|value| text(py, &value, "a label value"));
        let values = values.collect::<PyResult<Vec<_>>>()?;
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let types = &py.state().metrics;
        let refused = |why: Refused| py.raise(ExceptionClass::Value, &why.to_string());
        let class = match call.value.description().kind {
            CustomKind::Histogram(_) => {
                let series = call.value.histogram(&values).map_err(refused)?;
                // SAFETY: the type was made for this value, in this interpreter.
                return unsafe { instantiate(py, types.histogram, series) };
            }
            CustomKind::Gauge(_) => types.gauge,
            CustomKind::Counter | CustomKind::Summary => types.counter,
        };
        let series = call.value.series(&values).map_err(refused)?;
        // SAFETY: both types were made for this value, in this interpreter.
        unsafe { instantiate(py, class, series) }
    }
}

struct NewFamily;
impl Method for NewFamily {
    type Value = ();
    const NAME: &'static std::ffi::CStr = c"_family";
    const DOC: &'static std::ffi::CStr =
        c"_family(kind, name, help, labels, buckets)\n--\n\nRegisters a metric.";
    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        let py = call.py;
        let [kind, name, help, labels, buckets] = arguments(call, "_family")?;
        let kind = match text(py, &kind, "the kind")?.as_str() {
            "counter" => CustomKind::Counter,
            "gauge sum" => CustomKind::Gauge(Aggregate::Sum),
            "gauge min" => CustomKind::Gauge(Aggregate::Min),
            "gauge max" => CustomKind::Gauge(Aggregate::Max),
            _ => {
                let bounds = items(py, &buckets)?.into_iter();
                let bounds = bounds.map(|bound| number(py, &bound));
                CustomKind::Histogram(bounds.collect::<PyResult<_>>()?)
            }
        };
        let labels = items(py, &labels)?.into_iter();
        let labels = labels.map(|label| text(py, &label, "the name of a label"));
        let description = Description {
            name: text(py, &name, "the name")?,
            kind,
            labels: labels.collect::<PyResult<_>>()?,
            help: text(py, &help, "the help")?,
        };
        let family = Family::new(description)
            .map_err(|why| py.raise(ExceptionClass::Value, &why.to_string()))?;
        // SAFETY: the type was made for this value, in this interpreter.
        unsafe { instantiate(py, py.state().metrics.family, family) }
    }
}

struct SlotId;
impl Method for SlotId {
    type Value = ();
    const NAME: &'static std::ffi::CStr = c"slot_id";
    const DOC: &'static std::ffi::CStr = c"slot_id()\n--\n\n\
        A number that no other child has, out of few: a successor has that of a child that has ended. Where there is \
        none, as in a process that the application has forked, minus the number of the process.";
    fn call<'i>(call: &Call<'_, 'i, ()>) -> PyResult<Obj<'i>> {
        let process = || -i64::from(std::process::id());
        call.py.int(custom::slot().map_or_else(process, i64::from))
    }
}

/// Returns the argument of a method that adds; 1 without an argument.
fn amount<T>(call: &Call<'_, '_, T>, method: &str) -> PyResult<f64> {
    match call.arg(0) {
        None => Ok(1.0),
        Some(amount) if call.count() == 1 => number(call.py, &amount),
        Some(_) => {
            let text = format!(
                "{method}() takes at most 1 argument ({} given)",
                call.count()
            );
            Err(call.py.raise(ExceptionClass::Type, &text))
        }
    }
}

/// Returns the arguments of a function that only this module calls.
pub(super) fn arguments<'i, const N: usize>(
    call: &Call<'_, 'i, ()>,
    function: &str,
) -> PyResult<[Obj<'i>; N]> {
    let all: Vec<Obj<'i>> = (0..call.count()).filter_map(|at| call.arg(at)).collect();
    all.try_into().map_err(|_| {
        let text = format!("{function}() takes exactly {N} arguments");
        call.py.raise(ExceptionClass::Type, &text)
    })
}

fn number<'i>(_py: &Attached<'i>, object: &Obj<'i>) -> PyResult<f64> {
    // SAFETY: attached and alive.
    let value = unsafe { ffi::PyFloat_AsDouble(object.as_ptr()) };
    // SAFETY: attached.
    if value == -1.0 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        Err(Raised)
    } else {
        Ok(value)
    }
}

pub(super) fn text(py: &Attached<'_>, object: &Obj<'_>, what: &str) -> PyResult<String> {
    if object.is_str() {
        Ok(object.to_text())
    } else {
        let text = format!("{what} must be str, not {}", object.type_name());
        Err(py.raise(ExceptionClass::Type, &text))
    }
}

/// Returns the items of a sequence.
pub(super) fn items<'i>(py: &Attached<'i>, sequence: &Obj<'i>) -> PyResult<Vec<Obj<'i>>> {
    // SAFETY: attached and alive; no other code can change the copy, and the items are borrowed from it.
    unsafe {
        let tuple = py.own(ffi::PySequence_Tuple(sequence.as_ptr()))?;
        let items = (0..tuple.len()?).map(|at| {
            let at = ffi::Py_ssize_t::try_from(at).unwrap_or(ffi::Py_ssize_t::MAX);
            py.share(ffi::PyTuple_GetItem(tuple.as_ptr(), at))
        });
        items.collect()
    }
}
