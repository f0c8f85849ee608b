//! The `mod_wsgi` module itself: a built-in module with multi-phase initialization, so that `import mod_wsgi` gives
//! each interpreter its own (PEP 489), and the state that the engine keeps for that interpreter.

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering::Relaxed};

use pyo3::ffi;
use rustc_hash::FxHashMap;
use wsgi_abi::keys::KEYS;
use wsgi_telemetry::App;

use super::metric::{self, MetricTypes};
use super::native::guard;
use super::{errors, input, start_response};
use crate::cell::GilCell;
use crate::cpython::object::{Attached, Kept, Obj, PyResult, done};
use crate::wsgi::file_wrapper::FileTypes;

/// Its name.
pub(crate) const MODULE_NAME: &CStr = c"mod_wsgi";

const BOOTSTRAP: &CStr = source(concat!(include_str!("../python/bootstrap.py"), "\0"));
const METRICS: &CStr = source(concat!(include_str!("../python/metrics.py"), "\0"));

/// The text of a file in Python.
pub(super) const fn source(text: &str) -> &CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a file holds a NUL"),
    }
}

/// What the engine keeps for one interpreter. Only looked at by threads that are attached to it.
pub(crate) struct State {
    pub(crate) input_type: Kept,
    pub(crate) adapter_type: Kept,
    pub(crate) log_type: Kept,
    /// Class `FileWrapper`.
    pub(crate) file_wrapper: Kept,
    /// What files a `FileWrapper` may hold that httpd can send itself.
    pub(crate) files: FileTypes,
    /// Class `RequestTimeout`.
    pub(crate) request_timeout: Kept,
    /// List `event_callbacks`.
    pub(crate) event_callbacks: Kept,
    /// Function `_stream`.
    pub(crate) new_stream: Kept,
    /// Function `_format`.
    pub(crate) format: Kept,
    /// Function `_publish`.
    pub(crate) publish: Kept,
    /// Function `_thread_names`.
    pub(crate) thread_names: Kept,
    /// Function `_end_threads`.
    pub(crate) end_threads: Kept,
    /// Function `_run_exit_functions`.
    pub(crate) run_exit_functions: Kept,
    /// Function `_flush`.
    pub(crate) flush: Kept,
    /// Function `_end_copy`.
    pub(crate) end_copy: Kept,
    /// Function `_gauges`.
    pub(crate) gauges: Kept,
    /// Function `_refusal`.
    pub(crate) refusal: Kept,
    /// Types of the applications' own metrics.
    pub(super) metrics: MetricTypes,
    /// Class `Timer`.
    pub(super) timer: Kept,
    /// Whether `bridge_prometheus_client` was called.
    pub(super) bridged: AtomicBool,
    /// When [`Self::gauges`] was last asked, as a stamp.
    pub(crate) gauged: AtomicU64,
    /// What it said.
    pub(crate) gauge_values: [AtomicI64; 5],
    /// `str` of each known environ key, interned.
    pub(crate) keys: Vec<Kept>,
    /// `str` of the environ key of each further header, interned, by the name of the header; bounded.
    pub(crate) more_keys: GilCell<FxHashMap<Vec<u8>, Kept>>,
    /// Last value of each known key that seldom changes.
    pub(crate) steady: GilCell<Vec<Option<SteadyValue>>>,
    /// The entries that every environ shares; set with the attributes of the module.
    pub(crate) base_environ: OnceLock<Kept>,
    /// Interned names and constants used in every request.
    pub(crate) names: Names,
    /// Number of the interpreter's first application.
    home: AtomicU16,
    /// Streams for `wsgi.errors` that wait for a request.
    pub(crate) spare_errors: GilCell<Vec<(Kept, Kept)>>,
}

impl State {
    /// The interpreter's first application: what belongs to no request counts for it.
    pub(crate) fn home(&self) -> App {
        App::new(self.home.load(Relaxed))
    }

    /// Makes this the first application, unless there was one before.
    pub(crate) fn settle(&self, app: App) {
        let (other, app) = (App::OTHER.number(), app.number());
        let _settled_before = self.home.compare_exchange(other, app, Relaxed, Relaxed);
    }
}

/// The bytes that a value was made of, and the `str`.
pub(crate) type SteadyValue = (Vec<u8>, Kept);

/// Interned strings.
pub(crate) struct Names {
    pub(crate) start_response: Kept,
    pub(crate) close: Kept,
    pub(crate) input: Kept,
    pub(crate) errors: Kept,
    pub(crate) url_scheme: Kept,
    pub(crate) https: Kept,
    pub(crate) thread_id: Kept,
    pub(crate) request_start: Kept,
    pub(crate) application_start: Kept,
}

/// `PyInit_mod_wsgi`, for `PyImport_AppendInittab`.
///
/// # Safety
/// To be called by CPython.
pub(crate) unsafe extern "C" fn init() -> *mut ffi::PyObject {
    // SAFETY: the definition is static, and CPython allows one definition for all interpreters (PEP 489).
    unsafe { ffi::PyModuleDef_Init(DEFINITION.get()) }
}

struct Static<T>(std::cell::UnsafeCell<T>);
// SAFETY: CPython writes to the definition under its own locks only.
unsafe impl<T> Sync for Static<T> {}
impl<T> Static<T> {
    fn get(&self) -> *mut T {
        self.0.get()
    }
}

#[cfg(Py_3_13)]
const SLOT_COUNT: usize = 4;
#[cfg(all(Py_3_12, not(Py_3_13)))]
const SLOT_COUNT: usize = 3;
#[cfg(not(Py_3_12))]
const SLOT_COUNT: usize = 2;

static SLOTS: Static<[ffi::PyModuleDef_Slot; SLOT_COUNT]> = Static(std::cell::UnsafeCell::new([
    ffi::PyModuleDef_Slot {
        slot: ffi::Py_mod_exec,
        value: exec as *mut c_void,
    },
    #[cfg(Py_3_12)]
    ffi::PyModuleDef_Slot {
        slot: ffi::Py_mod_multiple_interpreters,
        value: ffi::Py_MOD_PER_INTERPRETER_GIL_SUPPORTED,
    },
    #[cfg(Py_3_13)]
    ffi::PyModuleDef_Slot {
        slot: ffi::Py_mod_gil,
        value: if cfg!(Py_GIL_DISABLED) {
            ffi::Py_MOD_GIL_NOT_USED
        } else {
            ffi::Py_MOD_GIL_USED
        },
    },
    ffi::PyModuleDef_Slot {
        slot: 0,
        value: std::ptr::null_mut(),
    },
]));

static DEFINITION: Static<ffi::PyModuleDef> =
    Static(std::cell::UnsafeCell::new(ffi::PyModuleDef {
        m_base: ffi::PyModuleDef_HEAD_INIT,
        m_name: MODULE_NAME.as_ptr(),
        m_doc: c"What mod_wsgi_rs offers to WSGI applications.".as_ptr(),
        // The module's own memory holds a pointer to the `State`, which is never freed: interpreters are never ended.
        m_size: size_of::<*mut State>() as ffi::Py_ssize_t,
        m_methods: metric::FUNCTIONS.0.as_ptr().cast_mut(),
        m_slots: SLOTS.0.get().cast(),
        m_traverse: None,
        m_clear: None,
        m_free: None,
    }));

unsafe extern "C" fn exec(module: *mut ffi::PyObject) -> c_int {
    // SAFETY: called by CPython once for each interpreter that imports the module.
    unsafe {
        guard(-1, |py| {
            let state = Box::new(new_state(py, module)?);
            ffi::PyModule_GetState(module)
                .cast::<*mut State>()
                .write(Box::into_raw(state));
            Ok(0)
        })
    }
}

/// The state of the module in the interpreter that the thread is attached to.
pub(crate) fn state_of(module: &Obj<'_>) -> *mut State {
    // SAFETY: only called with the module made above, whose `exec` has succeeded.
    unsafe {
        ffi::PyModule_GetState(module.as_ptr())
            .cast::<*mut State>()
            .read()
    }
}

/// The state of the module that a type belongs to, whatever the application has put in its place since.
///
/// # Safety
/// `class` must be one of the types made for the module, in the interpreter that the thread is attached to.
pub(crate) unsafe fn state_of_class(class: *mut ffi::PyTypeObject) -> *mut State {
    // SAFETY: by contract; an instance can only exist once `exec` has succeeded.
    unsafe {
        ffi::PyType_GetModuleState(class)
            .cast::<*mut State>()
            .read()
    }
}

/// # Safety
/// `module` must be the module under construction.
unsafe fn new_state(py: &Attached<'_>, module: *mut ffi::PyObject) -> PyResult<State> {
    // SAFETY: by contract; the dictionary is borrowed from the module.
    let dict = unsafe { py.share(ffi::PyModule_GetDict(module)) }?;
    execute(py, BOOTSTRAP, c"<mod_wsgi>", &dict)?;
    execute(py, METRICS, c"<mod_wsgi>", &dict)?;
    let named = |name: &CStr| -> PyResult<Kept> {
        // SAFETY: a borrowed item of a live dictionary; null without an exception cannot be, the names are there.
        let item = unsafe { py.share(ffi::PyDict_GetItemString(dict.as_ptr(), name.as_ptr())) };
        item.map(Kept::new)
    };
    let interned = |name: &CStr| -> PyResult<Kept> {
        // SAFETY: attached.
        unsafe { py.own(ffi::PyUnicode_InternFromString(name.as_ptr())) }.map(Kept::new)
    };
    let add = |name: &CStr, class: Obj<'_>| -> PyResult<Kept> {
        // SAFETY: attached and alive; the dictionary takes its own reference.
        done(unsafe { ffi::PyDict_SetItemString(dict.as_ptr(), name.as_ptr(), class.as_ptr()) })?;
        Ok(Kept::new(class))
    };
    let mut keys = Vec::with_capacity(KEYS.len());
    for key in KEYS {
        keys.push(Kept::new(interned_latin1(py, key.as_bytes())?));
    }
    Ok(State {
        input_type: add(c"Input", input::new_input_type(py, module)?)?,
        adapter_type: add(c"Adapter", start_response::new_adapter_type(py, module)?)?,
        log_type: add(c"Log", errors::new_log_type(py, module)?)?,
        file_wrapper: named(c"FileWrapper")?,
        // SAFETY: attached, and kept in this interpreter by the line above.
        files: FileTypes::new(py, &unsafe { named(c"FileWrapper")?.get(py) })?,
        request_timeout: named(c"RequestTimeout")?,
        event_callbacks: named(c"event_callbacks")?,
        new_stream: named(c"_stream")?,
        format: named(c"_format")?,
        publish: named(c"_publish")?,
        thread_names: named(c"_thread_names")?,
        end_threads: named(c"_end_threads")?,
        run_exit_functions: named(c"_run_exit_functions")?,
        flush: named(c"_flush")?,
        end_copy: named(c"_end_copy")?,
        gauges: named(c"_gauges")?,
        refusal: named(c"_refusal")?,
        metrics: MetricTypes::new(py, module)?,
        timer: named(c"Timer")?,
        bridged: AtomicBool::new(false),
        gauged: AtomicU64::new(0),
        gauge_values: Default::default(),
        keys,
        more_keys: GilCell::new(FxHashMap::default()),
        steady: GilCell::new((0..KEYS.len()).map(|_| None).collect()),
        base_environ: OnceLock::new(),
        names: Names {
            start_response: interned(c"start_response")?,
            close: interned(c"close")?,
            input: interned(c"wsgi.input")?,
            errors: interned(c"wsgi.errors")?,
            url_scheme: interned(c"wsgi.url_scheme")?,
            https: interned(c"https")?,
            thread_id: interned(c"mod_wsgi.thread_id")?,
            request_start: interned(c"mod_wsgi.request_start")?,
            application_start: interned(c"mod_wsgi.application_start")?,
        },
        home: AtomicU16::new(App::OTHER.number()),
        spare_errors: GilCell::new(Vec::new()),
    })
}

/// Executes Python source with a dictionary as its globals.
pub(super) fn execute<'i>(
    py: &Attached<'i>,
    source: &CStr,
    file: &CStr,
    globals: &Obj<'i>,
) -> PyResult<()> {
    // SAFETY: attached; the texts are only read during the call, and the built-ins are borrowed from the frame or the
    // interpreter.
    unsafe {
        globals.set_item(c"__builtins__", &py.share(ffi::PyEval_GetBuiltins())?)?;
        let code = py.own(ffi::Py_CompileString(
            source.as_ptr(),
            file.as_ptr(),
            ffi::Py_file_input,
        ))?;
        let (code, globals) = (code.as_ptr(), globals.as_ptr());
        py.own(ffi::PyEval_EvalCode(code, globals, globals))?;
    }
    Ok(())
}

/// An interned `str` of latin-1 bytes.
pub(crate) fn interned_latin1<'i>(py: &Attached<'i>, bytes: &[u8]) -> PyResult<Obj<'i>> {
    let mut text = py.latin1(bytes)?.into_ptr();
    // SAFETY: the reference is exchanged for one of the interned string.
    unsafe {
        ffi::PyUnicode_InternInPlace(&mut text);
        py.own(text)
    }
}
