//! Packages that refuse a second interpreter in the process, or one with its own GIL. They are recognised by the
//! exceptions of applications and reported with the name of the package and the remedy, once for each application.
//!
//! `_refusal` in `python/bootstrap.py` knows what such an exception looks like.

use std::collections::HashSet;
use std::sync::Mutex;

use pyo3::ffi;
use wsgi_core::messages::Message;

use crate::cpython::object::{Attached, Obj, PyResult};
use crate::request::log::log_message;
use crate::request::state::RequestState;
use crate::sync::lock;

/// An import that failed because of the interpreter that it was in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The package as a person installs it, as far as it is known.
    pub(crate) package: String,
    /// The module that was not loaded.
    pub(crate) module: String,
    /// What the module refuses.
    pub(crate) kind: Kind,
}

impl Refusal {
    /// Returns the name of the module, with the package if the name does not begin with that.
    pub(crate) fn describe(&self) -> String {
        match self.module.starts_with(&self.package) {
            true => self.module.clone(),
            false => format!("{} of {}", self.module, self.package),
        }
    }
}

/// What a package refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To be loaded into a second interpreter of the process.
    Second,
    /// To be loaded into an interpreter with its own GIL.
    OwnGil,
}

/// Returns the refusal that the exception reports, in the interpreter of `py`. An error on the way counts as no
/// refusal.
pub(crate) fn find<'i>(py: &Attached<'i>, exception: &Obj<'i>) -> Option<Refusal> {
    let own_gil = py.interpreter().identity().replica.is_some();
    of(py, exception, own_gil).unwrap_or_else(|raised| {
        py.clear(raised);
        None
    })
}

/// Returns the refusal that the exception reports; `own_gil` says whether the interpreter has its own GIL.
pub(crate) fn of<'i>(
    py: &Attached<'i>,
    exception: &Obj<'i>,
    own_gil: bool,
) -> PyResult<Option<Refusal>> {
    let answer = py.state().refusal.get(py).call(py, [exception])?;
    if answer.is_none() {
        return Ok(None);
    }
    let text = |at| {
        // SAFETY: `_refusal` returns a tuple of two; if it does not, the exception of the lookup is passed on.
        unsafe { py.share(ffi::PyTuple_GetItem(answer.as_ptr(), at)) }.map(|text| text.to_text())
    };
    Ok(Some(Refusal {
        package: text(0)?,
        module: text(1)?,
        kind: if own_gil { Kind::OwnGil } else { Kind::Second },
    }))
}

/// Logs what refuses and what to do, unless that was logged for this application. `interpreter` is its description.
pub(crate) fn report(
    refusal: &Refusal,
    script: &str,
    interpreter: &str,
    request: Option<&RequestState>,
) {
    if !is_new(refusal, script, interpreter) {
        return;
    }
    let message = match refusal.kind {
        Kind::Second => Message::RefusesSecond,
        Kind::OwnGil => Message::RefusesOwnGil,
    };
    let line = message.line(&[&refusal.package, &script, &interpreter, &refusal.module]);
    log_message(request, message, &line);
}

/// Whether this refusal is reported for the first time.
fn is_new(refusal: &Refusal, script: &str, interpreter: &str) -> bool {
    static REPORTED: Mutex<Option<HashSet<[String; 3]>>> = Mutex::new(None);
    let mut reported = lock(&REPORTED);
    let reported = reported.get_or_insert_default();
    let application = [script, interpreter, &refusal.package].map(String::from);
    reported.len() < MAX_REPORTED && reported.insert(application)
}

/// How many applications are remembered. Without a bound, group names that come from requests would fill the memory.
const MAX_REPORTED: usize = 1024;
