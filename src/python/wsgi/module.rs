//! The `mod_wsgi` module itself: a built-in module with multi-phase initialization, so that `import mod_wsgi` gives
//! each interpreter its own (PEP 489), and the state that the engine keeps for that interpreter.

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64};

use pyo3::ffi;
use rustc_hash::FxHashMap;
use wsgi_abi::keys::KEYS;
use wsgi_telemetry::App;

use super::metric;
use super::native::guard;
use super::{errors, input, start_response};
use crate::cpython::interpreter::{self, Interpreter};
use crate::cpython::module_state::{FileTypes, MetricTypes, Names, State};
use crate::cpython::object::{Attached, Immortal, Obj, PyResult, done};
use crate::sync::GilCell;

/// The module's name.
pub(crate) const MODULE_NAME: &CStr = c"mod_wsgi";

const BOOTSTRAP: &CStr = source(concat!(include_str!("../python/bootstrap.py"), "\0"));
const METRICS: &CStr = source(concat!(include_str!("../python/metrics.py"), "\0"));

/// Returns the text of a Python file, as a C string.
pub(super) const fn source(text: &str) -> &CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a file holds a NUL"),
    }
}

/// `PyInit_mod_wsgi`, for `PyImport_AppendInittab`.
///
/// # Safety
/// Only for CPython to call.
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
        // The module's own memory holds the interpreter's record, which is never freed: interpreters are never ended.
        m_size: size_of::<&'static Interpreter>() as ffi::Py_ssize_t,
        m_methods: metric::FUNCTIONS.0.as_ptr().cast_mut(),
        m_slots: SLOTS.0.get().cast(),
        m_traverse: None,
        m_clear: None,
        m_free: None,
    }));

unsafe extern "C" fn exec(module: *mut ffi::PyObject) -> c_int {
    // SAFETY: called by CPython once for each module that an interpreter makes, on a thread that is attached to it; the
    // module's memory has the size that the definition gives.
    unsafe {
        let interpreter = interpreter::here();
        guard(interpreter, -1, |py| {
            interpreter.keep_state(py, new_state(py, module)?);
            ffi::PyModule_GetState(module)
                .cast::<&'static Interpreter>()
                .write(interpreter);
            Ok(0)
        })
    }
}

/// # Safety
/// `module` must be the module under construction.
unsafe fn new_state<'i>(py: &Attached<'i>, module: *mut ffi::PyObject) -> PyResult<State<'i>> {
    // SAFETY: by contract; the dictionary is borrowed from the module.
    let dict = unsafe { py.share(ffi::PyModule_GetDict(module)) }?;
    execute(py, BOOTSTRAP, c"<mod_wsgi>", &dict)?;
    execute(py, METRICS, c"<mod_wsgi>", &dict)?;
    let named = |name: &CStr| -> PyResult<Immortal<'i>> {
        // SAFETY: a borrowed item of a live dictionary; it cannot be null without an exception, because the names are
        // there.
        let item = unsafe { py.share(ffi::PyDict_GetItemString(dict.as_ptr(), name.as_ptr())) };
        item.map(Immortal::new)
    };
    let interned = |name: &CStr| -> PyResult<Immortal<'i>> {
        // SAFETY: attached.
        unsafe { py.own(ffi::PyUnicode_InternFromString(name.as_ptr())) }.map(Immortal::new)
    };
    let add = |name: &CStr, class: Obj<'i>| -> PyResult<Immortal<'i>> {
        // SAFETY: attached and alive; the dictionary takes its own reference.
        done(unsafe { ffi::PyDict_SetItemString(dict.as_ptr(), name.as_ptr(), class.as_ptr()) })?;
        Ok(Immortal::new(class))
    };
    let mut keys = Vec::with_capacity(KEYS.len());
    for key in KEYS {
        keys.push(Immortal::new(py.interned_latin1(key.as_bytes())?));
    }
    Ok(State {
        input_type: add(c"Input", input::new_input_type(py, module)?)?,
        adapter_type: add(c"Adapter", start_response::new_adapter_type(py, module)?)?,
        log_type: add(c"Log", errors::new_log_type(py, module)?)?,
        file_wrapper: named(c"FileWrapper")?,
        files: FileTypes::new(py, &named(c"FileWrapper")?.get(py))?,
        request_timeout: named(c"RequestTimeout")?,
        event_callbacks: named(c"event_callbacks")?,
        new_stream: named(c"_stream")?,
        format: named(c"_format")?,
        publish: named(c"_publish")?,
        signal: named(c"_signal")?,
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
            write: interned(c"write")?,
            close: interned(c"close")?,
            application: interned(c"application")?,
            reload_required: interned(c"reload_required")?,
            input: interned(c"wsgi.input")?,
            errors: interned(c"wsgi.errors")?,
            url_scheme: interned(c"wsgi.url_scheme")?,
            https: interned(c"https")?,
            thread_id: interned(c"mod_wsgi.thread_id")?,
            request_start: interned(c"mod_wsgi.request_start")?,
            queue_start: interned(c"mod_wsgi.queue_start")?,
            daemon_start: interned(c"mod_wsgi.daemon_start")?,
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
