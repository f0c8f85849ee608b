//! Whether Python runs without its GIL: on free-threaded builds, if `WSGIFreeThreading` asks for it, until an extension
//! module that does not declare support for that switches the GIL on, for the whole process.
//!
//! CPython reports the switch by a warning that names the module; a wrapper of `warnings.showwarning` passes it on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use wsgi_abi::FreeThreading;
use wsgi_core::messages::Message;
use wsgi_telemetry::Fact;

use crate::cpython::object::{Attached, PyResult};
use crate::host::{self, level_of};
use crate::metrics::telemetry;
use crate::request::log::log_message;
use crate::request::state::RequestState;
use crate::sync::lock;

/// The configured [`FreeThreading`], as its number.
static ASKED: AtomicU8 = AtomicU8::new(FreeThreading::Off as u8);

/// The module that has switched the GIL on.
static SWITCHED_ON: OnceLock<String> = OnceLock::new();

/// The scripts that have imported such a module, each with the module.
static CULPRITS: Mutex<Option<HashMap<Vec<u8>, String>>> = Mutex::new(None);

/// Stores the configured value, when Python starts.
pub(crate) fn configure(asked: FreeThreading) {
    ASKED.store(asked as u8, Relaxed);
    let is_demanded = matches!(asked, FreeThreading::On | FreeThreading::Require);
    if is_demanded && !cfg!(Py_GIL_DISABLED) {
        let line = Message::BuildHasGil.line(&[]);
        host::log(level_of(Message::BuildHasGil), &line);
    }
}

fn is_asked(what: FreeThreading) -> bool {
    ASKED.load(Relaxed) == what as u8
}

/// Whether there is no GIL until an extension module switches it on.
pub(crate) fn may_be_off() -> bool {
    cfg!(Py_GIL_DISABLED) && !is_asked(FreeThreading::Off)
}

/// Whether there is a GIL now.
fn is_on(py: &Attached<'_>) -> PyResult<bool> {
    if !may_be_off() {
        return Ok(true);
    }
    let ask = py.import(c"sys")?.attr(py, c"_is_gil_enabled")?;
    ask.call(py, [])?.is_true()
}

/// Returns the state of the GIL in words, for the metrics.
pub(crate) fn in_words(py: &Attached<'_>) -> PyResult<&'static str> {
    Ok(if is_on(py)? { "enabled" } else { "disabled" })
}

/// Notes and logs that a module has switched the GIL on.
pub(crate) fn switched_on(module: &str) {
    if SWITCHED_ON.set(module.to_owned()).is_ok() {
        let line = Message::GilSwitchedOn.line(&[&module]);
        host::log(level_of(Message::GilSwitchedOn), &line);
        if let Some(segment) = telemetry::segment() {
            segment.set_fact(Fact::Gil, "enabled");
        }
    }
}

/// Watches the GIL while a script is loaded.
pub(crate) struct GilWatch {
    /// Whether the GIL was off before.
    was_off: bool,
}

impl GilWatch {
    pub(crate) fn begin(py: &Attached<'_>) -> Self {
        Self {
            was_off: may_be_off() && !is_on_or_unknown(py),
        }
    }

    /// Finds out whether the script, which was executed, has switched the GIL on.
    pub(crate) fn end(&self, py: &Attached<'_>, script: &[u8]) {
        if !self.was_off || !is_on_or_unknown(py) {
            return;
        }
        // The warning that names the module may have been filtered.
        switched_on("an extension module");
        let module = SWITCHED_ON.get().cloned().unwrap_or_default();
        let mut culprits = lock(&CULPRITS);
        let culprits = culprits.get_or_insert_default();
        culprits.insert(script.to_vec(), module);
    }
}

fn is_on_or_unknown(py: &Attached<'_>) -> bool {
    is_on(py).unwrap_or_else(|raised| {
        py.clear(raised);
        true
    })
}

/// Whether the script must not be served, because it has switched the GIL on and the configuration forbids that. Logs
/// it in that case.
pub(crate) fn refuses(script: &[u8], request: Option<&RequestState>) -> bool {
    if !is_asked(FreeThreading::Require) {
        return false;
    }
    let shown = String::from_utf8_lossy(script);
    if !cfg!(Py_GIL_DISABLED) {
        let line = Message::BuildRefused.line(&[&shown]);
        log_message(request, Message::BuildRefused, &line);
        return true;
    }
    let culprits = lock(&CULPRITS);
    let Some(module) = culprits.as_ref().and_then(|all| all.get(script)).cloned() else {
        return false;
    };
    drop(culprits);
    let line = Message::GilRefused.line(&[&shown, &module]);
    log_message(request, Message::GilRefused, &line);
    true
}
