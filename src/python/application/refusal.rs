//! Packages that refuse a second interpreter in the process, or one with a GIL of its own: recognised among the
//! exceptions of applications, and answered with the name of the package and the remedy, once for each application.
//!
//! What such an exception looks like is known to `_refusal` in `python/bootstrap.py`.

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
    /// What a person has installed, as far as can be told.
    pub(crate) package: String,
    /// The module that was not loaded.
    pub(crate) module: String,
    /// What it refuses.
    pub(crate) kind: Kind,
}

impl Refusal {
    /// The module, and its package where its name does not say that.
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
    /// To be loaded into an interpreter with a GIL of its own.
    OwnGil,
}

/// Whether the exception is about such an import, in the interpreter of `py`. An error on the way to the answer counts as no.
pub(crate) fn find<'i>(py: &Attached<'i>, exception: &Obj<'i>) -> Option<Refusal> {
    let own_gil = py.interpreter().identity().replica.is_some();
    of(py, exception, own_gil).unwrap_or_else(|raised| {
        py.clear(raised);
        None
    })
}

/// The same; `own_gil` says which kind of interpreter it is.
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
        // SAFETY: `_refusal` returns a tuple of two; where it does not, the exception of the lookup is passed on.
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

/// Whether it is the first time.
fn is_new(refusal: &Refusal, script: &str, interpreter: &str) -> bool {
    static REPORTED: Mutex<Option<HashSet<[String; 3]>>> = Mutex::new(None);
    let mut reported = lock(&REPORTED);
    let reported = reported.get_or_insert_default();
    let application = [script, interpreter, &refusal.package].map(String::from);
    reported.len() < MAX_REPORTED && reported.insert(application)
}

/// Applications that are remembered: without a bound, names of groups that come from requests would fill the memory.
const MAX_REPORTED: usize = 1024;
