//! A request while its thread is attached: load the script, make the environ, call the application, iterate over the
//! result, and close the result in every case.

use std::sync::Arc;
use std::time::Duration;

use pyo3::ffi;
use wsgi_abi::{RunOutcome, RunRequest};
use wsgi_core::messages::Message;
use wsgi_core::request::fault::{self, Blame, Cause, Ending};
use wsgi_telemetry::PhaseCell;
use wsgi_telemetry::catalogue::{EXCEPTION_PHASE, Id, value};

use crate::application::refusal;
use crate::application::script::{Application, NotLoaded, Wanted};
use crate::cpython::context::Context;
use crate::cpython::object::{Attached, Obj, PyResult, Raised};
use crate::cpython::traceback::is_system_exit;
use crate::cpython::{forked, gil_clock};
use crate::host::Level;
use crate::metrics::{gauges, gil, telemetry};
use crate::request::log::{log_message, log_raised, log_traceback, log_traceback_at};
use crate::request::permit;
use crate::request::state::{RequestState, with_current};
use crate::sync::lock;
use crate::wsgi::environ::{self, Parts};
use crate::wsgi::errors::ErrorsStream;
use crate::wsgi::output::{self, Body, Done, Why};
use crate::wsgi::{events, faults, input, start_response};

/// The phase in which the application raised.
#[derive(Clone, Copy)]
#[repr(usize)]
enum RaisedIn {
    Call = value(EXCEPTION_PHASE, "call"),
    Iterate = value(EXCEPTION_PHASE, "iterate"),
    Close = value(EXCEPTION_PHASE, "close"),
}

/// A request on its way into Python.
pub(crate) struct Job<'r> {
    pub(crate) raw: &'r RunRequest<'r>,
    pub(crate) state: &'r Arc<RequestState>,
    pub(crate) application: &'static Application,
    /// The number of the thread that owns the request.
    pub(crate) thread_id: u32,
}

impl Job<'_> {
    /// Whether another thread may run the job in passing: its application is loaded and has never waited for the host,
    /// and its body, if any, has arrived.
    pub(crate) fn is_delegable(&self) -> bool {
        self.application.state().is_ready()
            && !self.application.has_waited()
            && (!self.raw.body.is_there || lock(&self.state.input).ended)
    }
}

/// Runs the application for a job. The calling thread has a permit, and is attached to the job's interpreter.
pub(crate) fn perform(py: &Attached<'_>, job: &Job<'_>) -> Done {
    let busy = py.interpreter().enter();
    let deadline = job.state.deadline();
    let outer = with_current(|outer| outer.map(|outer| outer.deadline().suspend(py)));
    let entered = job.state.enter();
    let kept = job.state.lender().keep();
    deadline.enter(py, permit::current());
    let done = match Context::enter(py) {
        Ok(context) => {
            let done = in_python(py, job);
            forked::ends(py);
            context.leave(py);
            done
        }
        Err(raised) => failed(py, raised, job.application, job.state, RaisedIn::Call),
    };
    deadline.leave(py);
    drop(kept);
    drop(entered);
    if let Some(suspended) = outer {
        with_current(|outer| outer.map(|outer| outer.deadline().resume(&suspended)));
    }
    if job.state.has_waited() {
        job.application.note_waited();
    }
    if job.raw.body.ahead != 0 {
        job.state.left();
    }
    gil_clock::end(job.raw.timing.times);
    drop(busy);
    done
}

/// Runs the job of another thread, which waits for it. `since` is the stamp at which the calling thread began to wait
/// for the GIL; 0 if it had the GIL already. `shown` is where the phase of the request is noted.
pub(crate) fn perform_lent(
    py: &Attached<'_>,
    job: &Job<'_>,
    since: u64,
    shown: Option<PhaseCell>,
) -> Done {
    let timer = gil::time_lent(job.state.app(), since, shown);
    gil_clock::attached();
    let done = perform(py, job);
    drop(timer);
    done
}

fn in_python(py: &Attached<'_>, job: &Job<'_>) -> Done {
    let (raw, application, request) = (job.raw, job.application, job.state);
    let wanted = Wanted {
        mtime: (raw.target.script_mtime >= 0).then_some(raw.target.script_mtime),
        reloading: raw.target.script_reloading,
        resource: Some(raw.target.resource.get_or_empty()),
        timeout: Duration::from_secs(u64::from(raw.target.load_timeout)),
    };
    let loaded = || application.module(py, &wanted, Some(request));
    let module = match request.deadline().load(loaded) {
        Ok(module) => module,
        Err(NotLoaded::Failed { again }) => return Done::Again(Why::Failed { again }),
        Err(NotLoaded::Refused(module)) => return Done::Again(Why::Refused(module)),
        Err(NotLoaded::TimedOut) => return Done::Final(RunOutcome::LoadTimedOut),
    };
    forked::ends(py);
    let name = raw.target.callable.get_or_empty();
    let callable = match lookup(py, &module, name) {
        Ok(Some(callable)) => callable,
        Ok(None) => {
            let line = Message::CallableMissing
                .line(&[&application.script_text(), &String::from_utf8_lossy(name)]);
            log_message(Some(request), Message::CallableMissing, &line);
            return Done::Final(RunOutcome::CallableMissing);
        }
        Err(raised) => return failed(py, raised, application, request, RaisedIn::Call),
    };
    let errors = match ErrorsStream::of_request(py, request) {
        Ok(errors) => errors,
        Err(raised) => return failed(py, raised, application, request, RaisedIn::Call),
    };
    let done = match call(py, job, &errors, callable) {
        Ok(done) => done,
        Err(raised) => failed(py, raised, application, request, RaisedIn::Call),
    };
    errors.recycle(py);
    gauges::refresh(py);
    done
}

fn lookup<'i>(py: &Attached<'i>, module: &Obj<'i>, name: &[u8]) -> PyResult<Option<Obj<'i>>> {
    let name = match name {
        b"application" => py.state().names.application.get(py),
        name => py.interned_latin1(name)?,
    };
    module.module_dict(py)?.item_named(py, &name)
}

/// Calls the application and sends its result.
fn call<'i>(
    py: &Attached<'i>,
    job: &Job<'_>,
    errors: &ErrorsStream<'i>,
    callable: Obj<'i>,
) -> PyResult<Done> {
    let (raw, application, request) = (job.raw, job.application, job.state);
    let input = input::new_input(py, request)?;
    let parts = Parts {
        entries: raw.environ.entries.get_or_empty(),
        https: raw.environ.https,
        thread_id: job.thread_id,
        timing: raw.timing,
        input: &input,
        errors: errors.stream(),
        apache_request: raw.environ.apache_request,
    };
    let environ = environ::build(py, &parts)?;
    let adapter = start_response::new_adapter(py, request)?;
    // SAFETY: attached, and both are alive.
    let start_response = unsafe {
        py.own(ffi::PyObject_GetAttr(
            adapter.as_ptr(),
            py.state().names.start_response.as_ptr(),
        ))?
    };
    let events = events::Source { request };
    let listened = events.wanted(py);
    let callable = if listened {
        events.request_started(py, raw, &environ, callable)?
    } else {
        callable
    };

    let called = callable.call(py, [&environ, &start_response]);
    forked::ends(py);
    let done = match called {
        Ok(result) => {
            let sent = output::send_result(py, application, request, &result);
            forked::ends(py);
            let done = sent.unwrap_or_else(|raised| {
                failed(py, raised, application, request, RaisedIn::Iterate)
            });
            close_result(py, application, request, &result);
            done
        }
        Err(raised) => failed(py, raised, application, request, RaisedIn::Call),
    };
    if listened && let Err(raised) = events.request_finished(py, raw, &environ) {
        py.clear(raised);
    }
    Ok(done)
}

/// Calls `close()`, if the result has it. An exception from it is logged and changes nothing.
fn close_result<'i>(
    py: &Attached<'i>,
    application: &'static Application,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) {
    // SAFETY: attached and alive.
    unsafe {
        // The types that most applications return have no `close`.
        if ffi::PyList_CheckExact(result.as_ptr()) != 0
            || ffi::PyTuple_CheckExact(result.as_ptr()) != 0
        {
            return;
        }
        let close = ffi::PyObject_GetAttr(result.as_ptr(), py.state().names.close.as_ptr());
        forked::ends(py);
        if close.is_null() {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) != 0 {
                ffi::PyErr_Clear();
            } else {
                let line = Message::CloseLookup.line(&[&application.script_text()]);
                log_raised(py, Raised, Some(request), Message::CloseLookup, &line);
            }
            return;
        }
        let Ok(close) = py.own(close) else {
            return;
        };
        let closed = close.call(py, []);
        forked::ends(py);
        if let Err(raised) = closed {
            log_application_exception(py, raised, application, request, RaisedIn::Close);
        }
    }
}

/// Logs what the application raised. Returns what that means for the response.
fn failed(
    py: &Attached<'_>,
    raised: Raised,
    application: &'static Application,
    request: &Arc<RequestState>,
    raised_in: RaisedIn,
) -> Done {
    let cause = log_application_exception(py, raised, application, request, raised_in);
    let progress = request.response().progress();
    match fault::ending(cause, progress) {
        Ending::Send => Done::Send(Body::Collected),
        Ending::Cut => Done::Send(Body::Cut),
        // No call of the host has failed, which would have counted the client's leaving.
        Ending::Leave if request.was_left() => Done::Final(RunOutcome::ClientLeft),
        Ending::Leave => Done::Final(RunOutcome::Responded),
        Ending::Failed => Done::Final(RunOutcome::Failed),
        Ending::TimedOut => Done::Final(RunOutcome::TimedOut),
        Ending::Faulted => Done::Final(RunOutcome::Faulted),
    }
}

/// Logs what the application raised, and counts it if the exception is the application's own. Returns the cause.
fn log_application_exception(
    py: &Attached<'_>,
    raised: Raised,
    application: &'static Application,
    request: &Arc<RequestState>,
    raised_in: RaisedIn,
) -> Cause {
    let Some(exception) = py.take(raised) else {
        return Cause::Application;
    };
    let interpreter = py.interpreter();
    // SAFETY: attached, and both are alive.
    if unsafe {
        ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), py.state().request_timeout.as_ptr())
    } != 0
    {
        request.log_line(
            Level::Info,
            b"Request interrupted by RequestTimeout; thread recovered",
        );
        return Cause::TimedOut;
    }
    let context = format!("{} {}", interpreter.describe(), crate::process::mode());
    let script = application.script_text();
    let cause = faults::cause_of(py, request, &exception);
    let publish = || {
        let events = events::Source { request };
        if events.wanted(py)
            && let Err(raised) = events.request_exception(py, &exception)
        {
            py.clear(raised);
        }
    };
    if let Cause::Fault(fault, transfer) = cause {
        let verdict = fault::verdict(fault, transfer);
        let line = if verdict.blame == Blame::Server {
            let reason = request.told().map_or("", |told| &*told.failure.reason);
            verdict.message.line(&[&script, &reason])
        } else {
            let name = exception.type_name();
            verdict
                .message
                .line(&[&verdict.words, &name, &script, &context])
        };
        log_message(Some(request), verdict.message, &line);
        let level = match verdict.blame {
            Blame::Server => Level::Error,
            Blame::Client | Blame::Nobody => Level::Debug,
        };
        log_traceback_at(py, &exception, Some(request), level);
        publish();
        return cause;
    }
    telemetry::count(request.app(), |block| {
        block.add(Id::Exceptions, raised_in as usize, 1);
    });
    if is_system_exit(&exception) {
        let line = Message::ApplicationSystemExit.line(&[&script, &context]);
        log_message(Some(request), Message::ApplicationSystemExit, &line);
        return cause;
    }
    let line = Message::ApplicationException.line(&[&exception.type_name(), &script, &context]);
    log_message(Some(request), Message::ApplicationException, &line);
    log_traceback(py, &exception, Some(request));
    if let Some(refusal) = refusal::find(py, &exception) {
        refusal::report(&refusal, &script, &interpreter.describe(), Some(request));
    }
    publish();
    cause
}
