//! Keeps an interpreter's writes to `os.environ` from the environment of the process (`environ.py`).

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use pyo3::ffi;

use super::module;
use crate::cpython::object::{Attached, PyResult, done};

const SOURCE: &CStr = module::source(concat!(include_str!("../python/environ.py"), "\0"));

type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// The environment as it was when Python started. Interpreters that are made later get it without what the main
/// interpreter has written since.
static AT_START: OnceLock<Variables> = OnceLock::new();

/// Remembers the environment of the process, before any application can write to it.
pub(crate) fn remember_environ() {
    AT_START.get_or_init(|| {
        let bytes = |text: std::ffi::OsString| text.as_bytes().to_vec();
        let all = std::env::vars_os();
        all.map(|(name, value)| (bytes(name), bytes(value)))
            .collect()
    });
}

/// Gives the interpreter that the thread is attached to an environment of its own. Must come before anything else
/// there.
pub(crate) fn keep_environ(py: &Attached<'_>) -> PyResult<()> {
    let globals = py.dict()?;
    globals.set_item(c"__name__", &py.str("mod_wsgi.environ")?)?;
    module::execute(py, SOURCE, c"<mod_wsgi.environ>", &globals)?;
    let environment = py.dict()?;
    for (name, value) in AT_START.get().into_iter().flatten() {
        let (name, value) = (py.bytes(name)?, py.bytes(value)?);
        // SAFETY: attached and alive; the dictionary takes references of its own.
        done(unsafe { ffi::PyDict_SetItem(environment.as_ptr(), name.as_ptr(), value.as_ptr()) })?;
    }
    // SAFETY: borrowed from the dictionary, which is alive.
    let keep = unsafe {
        py.share(ffi::PyDict_GetItemString(
            globals.as_ptr(),
            c"keep_environ".as_ptr(),
        ))?
    };
    keep.call(py, [&environment]).map(drop)
}
