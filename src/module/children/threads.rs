//! The threads of this child that requests for applications hold, in this process or in process groups, and those that
//! they leave to other requests (`reserve=` of `WSGIThreadShare`).

use std::sync::OnceLock;

use wsgi_core::admission::limit::{Limit, Permit};
use wsgi_httpd::request::{HoldsThread, Request};

use crate::config::inherited::Process;

/// How many threads the requests for all applications together may hold. Not set without a reserve.
static FOR_APPLICATIONS: OnceLock<Limit> = OnceLock::new();

/// Sets the limit. For a child, at its start.
pub(super) fn child_begins(process: &Process) {
    let reserve = process.plan.reserve(process.python.thread_reserve);
    if reserve != 0 {
        let left = process.plan.python_threads().saturating_sub(reserve);
        FOR_APPLICATIONS.get_or_init(|| Limit::new(left.max(1)));
    }
}

/// The calling thread is held by a request until this is dropped.
pub(crate) struct Held<'r> {
    _mark: Option<HoldsThread<'r>>,
    _permit: Permit<'static>,
}

/// Counts the calling thread as held by `request`, unless that is nested in one that holds it. Returns `None` if as many
/// threads are held as may be.
pub(crate) fn hold(request: Request<'_>) -> Option<Held<'_>> {
    match FOR_APPLICATIONS.get() {
        Some(limit) if !request.is_within_holder() => Some(Held {
            _permit: limit.take()?,
            _mark: Some(request.hold_thread()),
        }),
        _ => Some(Held {
            _permit: Permit::already(),
            _mark: None,
        }),
    }
}
