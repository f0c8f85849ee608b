//! The environ of a request as a Python dict.
//!
//! The dict starts as a copy of the entries that all requests share. Keys are interned strings, found by number or, for
//! header names, in a bounded table. Values that seldom change are compared with the last ones and used again.

use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::ffi;
use wsgi_abi::keys::{KEYS, PATHS, STEADY};
use wsgi_abi::{EnvEntry, KeyKind, Timing};
use wsgi_core::request::environ::header_key;

use crate::cpython::object::{Attached, Immortal, Obj, PyResult, Raised, Stored, done};

/// How many environ keys each interpreter keeps besides the known ones. Clients choose header names, hence a bound.
const MAX_MORE_KEYS: usize = 512;

/// What the dict is made from.
pub(crate) struct Parts<'a, 'i> {
    pub(crate) entries: &'a [EnvEntry<'a>],
    pub(crate) https: bool,
    pub(crate) thread_id: u32,
    pub(crate) timing: Timing<'a>,
    pub(crate) input: &'a Obj<'i>,
    pub(crate) errors: &'a Obj<'i>,
    /// `request_rec *`, or null.
    pub(crate) apache_request: *mut std::ffi::c_void,
}

/// Makes the dict.
pub(crate) fn build<'i>(py: &Attached<'i>, parts: &Parts<'_, 'i>) -> PyResult<Obj<'i>> {
    let state = py.state();
    // SAFETY: attached and alive; the dict takes references of its own.
    unsafe {
        let base = *state.base_environ.get().ok_or(Raised)?;
        let environ = py.own(ffi::PyDict_Copy(base.as_ptr()))?;
        for entry in parts.entries {
            let value = value(py, entry)?;
            match entry.kind {
                KeyKind::Known => {
                    let key = state.keys[usize::from(entry.id).min(KEYS.len() - 1)];
                    set(&environ, key.as_ptr(), &value)?;
                }
                KeyKind::Header => set(&environ, key(py, entry)?.as_ptr(), &value)?,
                // A variable of the request does not replace what every environ holds.
                KeyKind::Literal => {
                    let key = key(py, entry)?;
                    if ffi::PyDict_Contains(base.as_ptr(), key.as_ptr()) == 0 {
                        set(&environ, key.as_ptr(), &value)?;
                    }
                }
            }
        }
        let names = &state.names;
        set(&environ, names.input.as_ptr(), parts.input)?;
        set(&environ, names.errors.as_ptr(), parts.errors)?;
        if parts.https {
            set(&environ, names.url_scheme.as_ptr(), &names.https.get(py))?;
        }
        set(
            &environ,
            names.thread_id.as_ptr(),
            &py.int(parts.thread_id.into())?,
        )?;
        let request_start = py.float(seconds(parts.timing.received))?;
        set(&environ, names.request_start.as_ptr(), &request_start)?;
        // In a child of httpd, the base has the values.
        if parts.timing.daemon_start != 0 {
            for (name, time) in [
                (&names.queue_start, parts.timing.queue_start),
                (&names.daemon_start, parts.timing.daemon_start),
            ] {
                set(&environ, name.as_ptr(), &py.float(seconds(time))?)?;
            }
        }
        set(
            &environ,
            names.application_start.as_ptr(),
            &py.float(now())?,
        )?;
        if !parts.apache_request.is_null() {
            let capsule = py.own(ffi::PyCapsule_New(
                parts.apache_request,
                std::ptr::null(),
                None,
            ))?;
            environ.set_item(c"apache.request_rec", &capsule)?;
        }
        Ok(environ)
    }
}

/// Returns the current time, in seconds since the epoch.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_micros() as f64 / 1e6)
        .unwrap_or(0.0)
}

/// Converts microseconds to seconds.
pub(crate) fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

/// # Safety
/// `key` must be a live `str` of the interpreter that `environ` and `value` belong to.
unsafe fn set(environ: &Obj<'_>, key: *mut ffi::PyObject, value: &Obj<'_>) -> PyResult<()> {
    // SAFETY: by contract.
    done(unsafe { ffi::PyDict_SetItem(environ.as_ptr(), key, value.as_ptr()) })
}

fn value<'i>(py: &Attached<'i>, entry: &EnvEntry<'_>) -> PyResult<Obj<'i>> {
    let Some(bytes) = entry.value.get() else {
        return Ok(py.none());
    };
    let id = usize::from(entry.id);
    if entry.kind != KeyKind::Known || !STEADY.get(id).copied().unwrap_or(false) {
        return py.latin1(bytes);
    }
    let state = py.state();
    let known = state.steady.try_with(|steady| match &steady[id] {
        Some((last, value)) if last == bytes => value.get(py),
        _ => None,
    });
    if let Some(known) = known.flatten() {
        return Ok(known);
    }
    // Outside `try_with`: a codec of the file system may run Python code.
    let made = if PATHS.contains(&entry.id) {
        py.fs_path(bytes)?
    } else {
        py.latin1(bytes)?
    };
    let old = state.steady.try_with(|steady| {
        let new = (bytes.to_vec(), Stored::new(py, made.clone()));
        steady[id].replace(new)
    });
    if let Some((_, old)) = old.flatten() {
        drop(old.take(py));
    }
    Ok(made)
}

/// Returns the key of a header or of a variable that has no number.
fn key<'i>(py: &Attached<'i>, entry: &EnvEntry<'_>) -> PyResult<Obj<'i>> {
    let name = entry.key.get_or_empty();
    // A variable and a header may have the same name and different keys, so only the keys of headers are kept by name.
    if entry.kind == KeyKind::Literal {
        return py.latin1(name);
    }
    let state = py.state();
    let known = state.more_keys.try_with(|keys| match keys.get(name) {
        Some(known) => Ok(known.get(py)),
        None => Err(keys.len() < MAX_MORE_KEYS),
    });
    match known {
        Some(Ok(known)) => return Ok(known),
        Some(Err(true)) => {}
        // Interned only if it is kept: some versions of CPython never free an interned string.
        Some(Err(false)) | None => return py.latin1(&header_key(name)),
    }
    let made = py.interned_latin1(&header_key(name))?;
    state.more_keys.try_with(|keys| {
        let slot = keys.entry(name.to_vec());
        slot.or_insert_with(|| Immortal::new(made.clone()));
    });
    Ok(made)
}
