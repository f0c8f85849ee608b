//! The engine's state for one interpreter, beside the module `mod_wsgi` that this interpreter has imported: types,
//! functions and strings that requests need. `wsgi` makes all of it.

use std::ffi::CStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering::Relaxed};

use rustc_hash::FxHashMap;
use wsgi_telemetry::App;

use crate::cpython::object::{Immortal, Stored};
use crate::sync::GilCell;

/// The engine's state for one interpreter. Only used by threads that are attached to it.
pub(crate) struct State<'i> {
    /// Type `Input`.
    pub(crate) input_type: Immortal<'i>,
    /// Type `Adapter`.
    pub(crate) adapter_type: Immortal<'i>,
    /// Type `Log`.
    pub(crate) log_type: Immortal<'i>,
    /// Class `FileWrapper`.
    pub(crate) file_wrapper: Immortal<'i>,
    /// The types of files that httpd can send itself out of a `FileWrapper`.
    pub(crate) files: FileTypes<'i>,
    /// Class `RequestTimeout`.
    pub(crate) request_timeout: Immortal<'i>,
    /// List `event_callbacks`.
    pub(crate) event_callbacks: Immortal<'i>,
    /// Function `_stream`.
    pub(crate) new_stream: Immortal<'i>,
    /// Function `_format`.
    pub(crate) format: Immortal<'i>,
    /// Function `_publish`.
    pub(crate) publish: Immortal<'i>,
    /// Function `_signal`.
    pub(crate) signal: Immortal<'i>,
    /// Function `_thread_names`.
    pub(crate) thread_names: Immortal<'i>,
    /// Function `_end_threads`.
    pub(crate) end_threads: Immortal<'i>,
    /// Function `_run_exit_functions`.
    pub(crate) run_exit_functions: Immortal<'i>,
    /// Function `_flush`.
    pub(crate) flush: Immortal<'i>,
    /// Function `_end_copy`.
    pub(crate) end_copy: Immortal<'i>,
    /// Function `_gauges`.
    pub(crate) gauges: Immortal<'i>,
    /// Function `_refusal`.
    pub(crate) refusal: Immortal<'i>,
    /// Types of the applications' own metrics.
    pub(crate) metrics: MetricTypes<'i>,
    /// Class `Timer`.
    pub(crate) timer: Immortal<'i>,
    /// Whether `bridge_prometheus_client` was called.
    pub(crate) bridged: AtomicBool,
    /// When [`Self::gauges`] was last called, as a stamp.
    pub(crate) gauged: AtomicU64,
    /// The values that [`Self::gauges`] returned.
    pub(crate) gauge_values: [AtomicI64; 5],
    /// The interned `str` of each known environ key.
    pub(crate) keys: Vec<Immortal<'i>>,
    /// The interned `str` of the environ key of each further header, by the name of the header; bounded.
    pub(crate) more_keys: GilCell<FxHashMap<Vec<u8>, Immortal<'i>>>,
    /// The last value of each known key that seldom changes.
    pub(crate) steady: GilCell<Vec<Option<SteadyValue>>>,
    /// The entries that every environ shares; set with the attributes of the module.
    pub(crate) base_environ: OnceLock<Immortal<'i>>,
    /// Interned names and constants used in every request.
    pub(crate) names: Names<'i>,
    /// The number of the interpreter's first application.
    pub(crate) home: AtomicU16,
    /// Spare streams for `wsgi.errors`.
    pub(crate) spare_errors: GilCell<Vec<(Stored, Stored)>>,
}

impl State<'_> {
    /// Returns the interpreter's first application, for which everything counts that belongs to no request.
    pub(crate) fn home(&self) -> App {
        App::new(self.home.load(Relaxed))
    }

    /// Makes this the first application, unless there is one already.
    pub(crate) fn settle(&self, app: App) {
        let (other, app) = (App::OTHER.number(), app.number());
        let _settled_before = self.home.compare_exchange(other, app, Relaxed, Relaxed);
    }
}

/// The bytes that a value was made from, and the `str`.
pub(crate) type SteadyValue = (Vec<u8>, Stored);

/// Interned strings.
pub(crate) struct Names<'i> {
    pub(crate) start_response: Immortal<'i>,
    pub(crate) write: Immortal<'i>,
    pub(crate) close: Immortal<'i>,
    pub(crate) application: Immortal<'i>,
    pub(crate) reload_required: Immortal<'i>,
    pub(crate) input: Immortal<'i>,
    pub(crate) errors: Immortal<'i>,
    pub(crate) url_scheme: Immortal<'i>,
    pub(crate) https: Immortal<'i>,
    pub(crate) thread_id: Immortal<'i>,
    pub(crate) request_start: Immortal<'i>,
    pub(crate) queue_start: Immortal<'i>,
    pub(crate) daemon_start: Immortal<'i>,
    pub(crate) application_start: Immortal<'i>,
}

/// The types of the applications' own metrics.
pub(crate) struct MetricTypes<'i> {
    pub(crate) family: Immortal<'i>,
    pub(crate) counter: Immortal<'i>,
    pub(crate) gauge: Immortal<'i>,
    pub(crate) histogram: Immortal<'i>,
    pub(crate) sample: Immortal<'i>,
}

/// The attributes of `FileWrapper` that iteration uses.
pub(crate) const ITERATION: [&CStr; 4] =
    [c"__iter__", c"__next__", c"filelike", c"__getattribute__"];

/// The types of one interpreter, as they were before any application ran.
pub(crate) struct FileTypes<'i> {
    pub(crate) wrapper: Immortal<'i>,
    /// The attributes of `FileWrapper` in the order of [`ITERATION`].
    pub(crate) iteration: [Immortal<'i>; ITERATION.len()],
    /// `FileIO`
    pub(crate) raw: FileClass<'i>,
    /// `FileIO.fileno`
    pub(crate) fileno: Immortal<'i>,
    /// `FileIO.readable`
    pub(crate) readable: Immortal<'i>,
    /// `BufferedReader` and `BufferedRandom`, each with its `raw` and its `flush`.
    pub(crate) buffered: [(FileClass<'i>, Immortal<'i>, Immortal<'i>); 2],
}

/// A type of files, with those of its functions that take a file.
pub(crate) struct FileClass<'i> {
    pub(crate) class: Immortal<'i>,
    pub(crate) read: Immortal<'i>,
    pub(crate) tell: Immortal<'i>,
}
