//! Failures of the host as exceptions: what the application is told, and whether an exception that leaves the
//! application was caused by a failure. The table in `wsgi_core::request::fault` says what follows from each.

use std::ffi::CStr;

use pyo3::ffi;
use wsgi_core::request::fault::{Cause, Errno, Fault, Transfer, verdict};

use crate::cpython::object::{Attached, ExceptionClass, Obj, Raised};
use crate::request::host::Failure;
use crate::request::state::RequestState;

/// The attribute that marks an `OSError` raised here, with the request that it was raised for.
const MARK: &CStr = c"_mod_wsgi_request";

/// How many exceptions of a chain are examined: chains may have rings.
const LONGEST_CHAIN: usize = 32;

/// Raises the `OSError` for a failed read or write, with the text `text`.
pub(crate) fn raise(
    py: &Attached<'_>,
    request: &RequestState,
    failure: &Failure,
    transfer: Transfer,
    text: &str,
) -> Raised {
    request.tell(failure, transfer);
    let raised = py.raise(ExceptionClass::Os, text);
    let Some(exception) = py.take(raised) else {
        return py.raise(ExceptionClass::Os, text);
    };
    let errno = match verdict(failure.fault, transfer).errno {
        Errno::ConnectionReset => libc::ECONNRESET,
        Errno::BrokenPipe => libc::EPIPE,
        Errno::TimedOut => libc::ETIMEDOUT,
        Errno::TooBig => libc::EFBIG,
        Errno::BadMessage => libc::EBADMSG,
        Errno::NotSupported => libc::ENOTSUP,
        Errno::ConnectionAborted => libc::ECONNABORTED,
        Errno::InputOutput => libc::EIO,
    };
    // With both arguments OSError would become one of its subclasses, and its text would change.
    let marked = py
        .int(errno.into())
        .and_then(|errno| exception.set_attr(c"errno", &errno))
        .and_then(|()| py.int(mark_of(request)))
        .and_then(|mark| exception.set_attr(MARK, &mark));
    match marked {
        // SAFETY: attached and alive; the class is that of the object.
        Ok(()) => unsafe {
            ffi::PyErr_SetObject(ffi::Py_TYPE(exception.as_ptr()).cast(), exception.as_ptr());
            Raised
        },
        Err(raised) => raised,
    }
}

/// Returns the number that marks a request while it lives.
fn mark_of(request: &RequestState) -> i64 {
    std::ptr::from_ref(request).addr() as i64
}

/// Returns the failure that caused an exception which leaves the application. The exception is the `OSError` of a
/// failed read or write of this request, or has it as its cause or context; or it is a `ConnectionError`, and the
/// client is known to be gone.
pub(crate) fn cause_of(py: &Attached<'_>, request: &RequestState, exception: &Obj<'_>) -> Cause {
    let Some(told) = request.told() else {
        return Cause::Application;
    };
    let fault = told.failure.fault;
    // SAFETY: attached and alive; the class is one of CPython's statics.
    let is_connection_error = unsafe {
        ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), ffi::PyExc_ConnectionError) != 0
    };
    if (fault == Fault::Gone && is_connection_error) || comes_of(py, exception, mark_of(request)) {
        Cause::Fault(fault, told.transfer)
    } else {
        Cause::Application
    }
}

/// Whether the exception, or one that caused it, has the mark.
fn comes_of(py: &Attached<'_>, exception: &Obj<'_>, mark: i64) -> bool {
    // SAFETY: alive, and of this attachment.
    let Ok(first) = (unsafe { py.share(exception.as_ptr()) }) else {
        return false;
    };
    let mut next = vec![first];
    let mut seen = 0;
    while let Some(exception) = next.pop() {
        if seen == LONGEST_CHAIN {
            return false;
        }
        seen += 1;
        if has_mark(py, &exception, mark) {
            return true;
        }
        // SAFETY: the object is an exception; both functions return new references, or null without setting an error.
        let links = unsafe {
            [
                ffi::PyException_GetContext(exception.as_ptr()),
                ffi::PyException_GetCause(exception.as_ptr()),
            ]
        };
        for link in links.into_iter().filter(|link| !link.is_null()) {
            // SAFETY: a new reference to an exception.
            next.extend(unsafe { py.own(link) });
        }
    }
    false
}

fn has_mark<'i>(py: &Attached<'i>, exception: &Obj<'i>, mark: i64) -> bool {
    // Only for OSError itself, whose attributes run no code of the application.
    // SAFETY: attached and alive.
    if unsafe { ffi::Py_TYPE(exception.as_ptr()).cast() != ffi::PyExc_OSError } {
        return false;
    }
    match exception
        .attr(py, MARK)
        .and_then(|found| found.as_i64().map(|found| found == mark))
    {
        Ok(same) => same,
        Err(raised) => {
            py.clear(raised);
            false
        }
    }
}
