//! One request, from the module's call to its answer: load the script, make the environ, call the application,
//! iterate over what it returned, close it always, leave Python, send the rest.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pyo3::ffi;
use wsgi_abi::{RunOutcome, RunRequest, WriteEnd};
use wsgi_core::messages::Message;
use wsgi_core::request::fault::{self, Blame, Cause, Ending, Transfer};
use wsgi_telemetry::catalogue::{EXCEPTION_PHASE, Id, value};
use wsgi_telemetry::{App, PhaseCell};

use crate::admission::executor;
use crate::admission::executor::Ended;
use crate::admission::group;
use crate::admission::group::{NoGroup, Site};
use crate::application::refusal;
use crate::application::script::{Application, NotLoaded, Wanted};
use crate::cpython::context::Context;
use crate::cpython::gil_clock;
use crate::cpython::gil_clock::Entering;
use crate::cpython::object::{Attached, Obj, PyResult, Raised};
use crate::host::Request;
use crate::lifecycle::forked;
use crate::metrics::gauges;
use crate::metrics::telemetry;
use crate::request::log;
use crate::request::log::{is_system_exit, level_of, log_traceback, log_traceback_at};
use crate::request::running;
use crate::request::state::{RequestState, lock, with_current};
use crate::watch::watchdog;
use crate::wsgi::environ;
use crate::wsgi::environ::Parts;
use crate::wsgi::errors::ErrorsStream;
use crate::wsgi::module::State;
use crate::wsgi::output;
use crate::wsgi::output::{End, Last, Sent};
use crate::wsgi::{events, faults};
use crate::wsgi::{input, module, start_response};

static CLOSING: AtomicBool = AtomicBool::new(false);
static THREADS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Number of this thread, for `mod_wsgi.thread_id`.
    static THREAD_ID: Cell<Option<u32>> = const { Cell::new(None) };
    /// Whether this thread is inside [`run`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The script that this thread ran last, to find it again without a lookup.
    static LAST: Cell<Option<&'static Site>> = const { Cell::new(None) };
}

/// Number of the calling thread, given at first use; the thread that starts the engine gets 0.
pub(crate) fn thread_id() -> u32 {
    THREAD_ID.get().unwrap_or_else(|| {
        let id = THREADS.fetch_add(1, Ordering::Relaxed);
        THREAD_ID.set(Some(id));
        id
    })
}

/// Whether the calling thread is inside a request, as a signal handler may find it.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Whether no request is let in any more.
pub(crate) fn is_closing() -> bool {
    CLOSING.load(Ordering::Acquire)
}

/// Requests are let in again.
pub(crate) fn open() {
    CLOSING.store(false, Ordering::Release);
}

/// From now on no request is let in.
pub(crate) fn close() {
    CLOSING.store(true, Ordering::Release);
}

/// Where the application raised.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Phase {
    Call = value(EXCEPTION_PHASE, "call"),
    Iterate = value(EXCEPTION_PHASE, "iterate"),
    Close = value(EXCEPTION_PHASE, "close"),
}

/// In how many interpreters at most a request looks for its application.
const MOST_TRIES: u32 = 3;

/// A request on its way into Python.
pub(crate) struct Job<'r> {
    pub(crate) raw: &'r RunRequest<'r>,
    pub(crate) state: &'r Arc<RequestState>,
    pub(crate) application: &'static Application,
    /// Number of the thread whose request it is.
    thread_id: u32,
}

impl Job<'_> {
    /// Whether another thread may run it in passing: it is known to wait for nobody.
    pub(crate) fn is_delegable(&self) -> bool {
        self.application.life().is_ready()
            && !self.application.has_waited()
            && (!self.raw.has_body || lock(&self.state.input).ended)
    }
}

/// What Python left behind when it was left.
pub(crate) enum Left {
    /// The application is done; the rest may be sent.
    Done(Last),
    /// The client is gone.
    Aborted,
    /// The application failed after the response had begun.
    Cut,
    /// Nothing was sent: the script could not be loaded.
    NotLoaded,
    /// Nothing was sent, and the application's group has gone to another interpreter meanwhile.
    Elsewhere,
    /// Nothing was sent.
    Nothing(RunOutcome),
}

impl Left {
    /// Whether it is a response that can go out as it is, sent by whichever thread.
    pub(crate) fn is_collected(&self) -> bool {
        matches!(self, Self::Done(Last::Collected))
    }
}

/// Runs one request.
///
/// # Safety
/// `raw.host()` must be a request of the host that was set, which the calling thread owns.
pub unsafe fn run(raw: &RunRequest<'_>) -> RunOutcome {
    let _inside = Inside::enter();
    let (group, script) = (raw.group.get_or_empty(), raw.script.get_or_empty());
    // SAFETY: by contract; calls of the host go through the state, one at a time.
    let state = unsafe { RequestState::new(Request::new(raw.host()), raw) };
    if is_closing() {
        let line = Message::PythonAbsent.line(&[&String::from_utf8_lossy(script)]);
        log::log_message(Some(&state), Message::PythonAbsent, &line);
        return refused(&state, RunOutcome::Draining);
    }
    let visit = Entering::new(App::new(raw.app), raw.times);
    let running = Running(&state);
    // Before the interpreter is there: a request whose thread makes it may have to be answered without that thread.
    let _taken = running::take(&state);
    let site = match find(group, script, App::new(raw.app), &state) {
        Ok(site) => site,
        Err(NoGroup::Failed) => {
            let line = Message::InterpreterUnavailable.line(&[&String::from_utf8_lossy(group)]);
            log::log_message(Some(&state), Message::InterpreterUnavailable, &line);
            return refused(&state, RunOutcome::Failed);
        }
        Err(NoGroup::Limit) => return refused(&state, RunOutcome::NoInterpreter),
        Err(NoGroup::TimedOut) => return refused(&state, RunOutcome::LoadTimedOut),
        Err(NoGroup::Full) => return refused(&state, RunOutcome::QueueFull),
        Err(NoGroup::GivenUp) => return RunOutcome::GivenUp,
    };
    if state.course().is_limited() {
        watchdog::watch(state.course().next_due());
    }
    // What is asked for before the first client comes is asked for on no thread of httpd.
    let is_warmup = raw.replica >= 0;
    let held = if is_warmup { None } else { site.hold() };
    if held.is_none() && !is_warmup {
        return refused(&state, RunOutcome::QueueFull);
    }
    if raw.body_ahead != 0 {
        state.read_ahead(raw.body_ahead as usize);
        gil_clock::waiting(0);
    }
    let mut tries = 0;
    let (ended, application) = loop {
        tries += 1;
        let (application, executor) = site.choose(raw.replica);
        let job = Job {
            raw,
            state: &state,
            application,
            thread_id: thread_id(),
        };
        state.course().approach(application.interpreter());
        if !application.life().is_ready() {
            if application.is_overdue() {
                break (Ended::Refused(RunOutcome::LoadTimedOut), application);
            }
            if application.is_new() {
                state.course().begins_with_load();
            }
        }
        match executor.run(&job) {
            Ended::Left(Left::Elsewhere) if tries < MOST_TRIES => {}
            // Another replica has it.
            Ended::Left(Left::NotLoaded)
                if tries < MOST_TRIES && raw.replica < 0 && site.is_served() => {}
            ended => break (ended, application),
        }
    };
    drop(running);
    drop(visit);
    // Wherever it was: nothing may be done for it any more.
    if state.is_given_up() {
        return RunOutcome::GivenUp;
    }
    let left = match ended {
        Ended::Left(left) => left,
        Ended::Sent(outcome) | Ended::Refused(outcome) => return outcome,
    };
    // SAFETY: this is the thread that runs the request, after `finish`.
    let host = unsafe { state.host_after_finish() };
    send_rest(host, application, &state, left, WriteEnd::End)
}

/// Runs the application for a job. The calling thread has a place inside, and is attached to the job's interpreter.
pub(crate) fn perform(py: &Attached<'_>, job: &Job<'_>) -> Left {
    let interpreter = job.application.interpreter();
    let busy = interpreter.enter();
    let course = job.state.course();
    let outer = with_current(|outer| outer.map(|outer| outer.course().suspend(py)));
    let entered = job.state.enter();
    course.enter(py, interpreter, executor::current());
    let left = match Context::enter(py) {
        Ok(context) => {
            let left = in_python(py, job);
            forked::ends(py);
            context.leave(py);
            left
        }
        Err(raised) => failed(py, raised, job.application, job.state, Phase::Call),
    };
    course.leave(py);
    drop(entered);
    if let Some(suspended) = outer {
        with_current(|outer| outer.map(|outer| outer.course().resume(&suspended)));
    }
    if job.state.has_waited() {
        job.application.note_waited();
    }
    if job.raw.body_ahead != 0 {
        job.state.left();
    }
    gil_clock::end(job.raw.times);
    drop(busy);
    left
}

/// The same for the job of another thread, which waits for it. `since` is a stamp of when the calling thread began to wait
/// for the GIL; 0 where it has had it already. `shown`: where the phase of the request is noted.
pub(crate) fn perform_lent(
    py: &Attached<'_>,
    job: &Job<'_>,
    since: u64,
    shown: Option<PhaseCell>,
) -> Left {
    let visit = Entering::lent(job.state.app(), since, shown);
    gil_clock::attached();
    let left = perform(py, job);
    drop(visit);
    left
}

/// What a request has left to be sent, and whose it is.
pub(crate) struct Owed {
    state: Arc<RequestState>,
    application: &'static Application,
    pub(crate) left: Left,
}

impl Owed {
    pub(crate) fn new(job: &Job<'_>, left: Left) -> Self {
        Self {
            state: Arc::clone(job.state),
            application: job.application,
            left,
        }
    }

    /// Sends it at once, in place of the thread whose request it is and which does something else meanwhile. The calling
    /// thread must not be attached.
    pub(crate) fn send_now(self) -> RunOutcome {
        self.state.finish();
        if self.state.is_given_up() {
            return RunOutcome::GivenUp;
        }
        // SAFETY: in place of the thread that runs the request, which does nothing for it meanwhile. [S-31]
        let host = unsafe { self.state.host_after_finish() };
        let outcome = send_rest(
            host,
            self.application,
            &self.state,
            self.left,
            WriteEnd::Leave,
        );
        self.state.note_sent_elsewhere();
        outcome
    }
}

/// Sets the mark that [`is_inside`] asks for, until it is dropped.
pub(crate) struct Inside(bool);

impl Inside {
    pub(crate) fn enter() -> Self {
        Self(INSIDE.replace(true))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// Finishes the request when dropped: also after a panic, for the objects of the request may outlive it.
struct Running<'a>(&'a RequestState);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// A request ends that was not run; perhaps its client was answered meanwhile.
fn refused(state: &RequestState, outcome: RunOutcome) -> RunOutcome {
    state.finish();
    if state.is_given_up() {
        RunOutcome::GivenUp
    } else {
        outcome
    }
}

fn find(
    group: &[u8],
    script: &[u8],
    app: App,
    state: &RequestState,
) -> Result<&'static Site, NoGroup> {
    if let Some(last) = LAST.get()
        && last.script() == script
        && last.group_name() == group
    {
        return Ok(last);
    }
    let site = group::of(group, Some(state))?.site(script, app);
    LAST.set(Some(site));
    Ok(site)
}

fn send_rest(
    host: Request,
    application: &Application,
    state: &RequestState,
    left: Left,
    end: WriteEnd,
) -> RunOutcome {
    match left {
        Left::Nothing(outcome) => return outcome,
        Left::NotLoaded | Left::Elsewhere => return RunOutcome::Failed,
        Left::Aborted => {}
        Left::Cut => host.cut_response(),
        Left::Done(last) => match output::finish(host, state, last, end) {
            Ok(End::Whole) => {}
            Ok(End::WithoutContent(status)) => {
                let line = Message::BodyRefused.line(&[&application.script_text(), &status]);
                host.log(level_of(Message::BodyRefused), line.as_bytes());
            }
            Ok(End::Short) => {
                telemetry::protocol_error(state.app());
                let line = Message::ShortBody.line(&[&application.script_text()]);
                host.log(level_of(Message::ShortBody), line.as_bytes());
                host.cut_response();
            }
            Err(failure) if fault::verdict(failure.fault, Transfer::Write).is_quiet => {}
            Err(failure) => {
                let message = fault::verdict(failure.fault, Transfer::Write).message;
                let line = message.line(&[&application.script_text(), &failure.reason]);
                host.log(level_of(message), line.as_bytes());
                return RunOutcome::Failed;
            }
        },
    }
    RunOutcome::Responded
}

fn in_python(py: &Attached<'_>, job: &Job<'_>) -> Left {
    let (raw, application, request) = (job.raw, job.application, job.state);
    let wanted = Wanted {
        mtime: (raw.script_mtime >= 0).then_some(raw.script_mtime),
        reloading: raw.script_reloading,
        resource: Some(raw.resource.get_or_empty()),
        timeout: Duration::from_secs(u64::from(raw.load_timeout)),
    };
    let loaded = || application.module(py, &wanted, Some(request));
    let module = match request.course().load(loaded) {
        Ok(module) => module,
        Err(NotLoaded::Failed) => return Left::NotLoaded,
        Err(NotLoaded::Elsewhere) => return Left::Elsewhere,
        Err(NotLoaded::TimedOut) => return Left::Nothing(RunOutcome::LoadTimedOut),
    };
    forked::ends(py);
    let name = raw.callable.get_or_empty();
    let callable = match lookup(py, &module, name) {
        Ok(Some(callable)) => callable,
        Ok(None) => {
            let line = Message::CallableMissing
                .line(&[&application.script_text(), &String::from_utf8_lossy(name)]);
            log::log_message(Some(request), Message::CallableMissing, &line);
            return Left::Nothing(RunOutcome::CallableMissing);
        }
        Err(raised) => return failed(py, raised, application, request, Phase::Call),
    };
    let state = application.interpreter().module(py);
    let errors = match ErrorsStream::of_request(py, state, request) {
        Ok(errors) => errors,
        Err(raised) => return failed(py, raised, application, request, Phase::Call),
    };
    let left = match exchange(py, job, state, &errors, callable) {
        Ok(left) => left,
        Err(raised) => failed(py, raised, application, request, Phase::Call),
    };
    errors.recycle(state);
    gauges::refresh(py, application.interpreter());
    left
}

fn lookup<'i>(py: &Attached<'i>, module: &Obj<'i>, name: &[u8]) -> PyResult<Option<Obj<'i>>> {
    let name = module::interned_latin1(py, name)?;
    // SAFETY: attached; the dictionary is borrowed from the module, and the item is a new reference.
    unsafe {
        let (dict, mut item) = (ffi::PyModule_GetDict(module.as_ptr()), std::ptr::null_mut());
        match ffi::compat::PyDict_GetItemRef(dict, name.as_ptr(), &mut item) {
            0 => Ok(None),
            _ => py.own(item).map(Some),
        }
    }
}

/// Calls the application and sends what it gives.
fn exchange<'i>(
    py: &Attached<'i>,
    job: &Job<'_>,
    state: &State,
    errors: &ErrorsStream<'i>,
    callable: Obj<'i>,
) -> PyResult<Left> {
    let (raw, application, request) = (job.raw, job.application, job.state);
    let input = input::new_input(py, state, request)?;
    let parts = Parts {
        entries: raw.environ.get_or_empty(),
        https: raw.https,
        thread_id: job.thread_id,
        request_time: raw.request_time,
        input: &input,
        errors: errors.stream(),
        apache_request: raw.apache_request,
    };
    let environ = environ::build(py, state, &parts)?;
    let adapter = start_response::new_adapter(py, state, request)?;
    // SAFETY: attached; the name is kept in this interpreter.
    let start_response = unsafe {
        py.own(ffi::PyObject_GetAttr(
            adapter.as_ptr(),
            state.names.start_response.as_ptr(),
        ))?
    };
    let events = events::Source {
        state,
        interpreter: Some(application.interpreter()),
        request,
    };
    let listened = events.wanted();
    let callable = if listened {
        events.request_started(py, raw, &environ, callable)?
    } else {
        callable
    };

    let called = callable.call(py, [&environ, &start_response]);
    forked::ends(py);
    let left = match called {
        Ok(result) => {
            let sent = output::send_result(py, state, application, request, &result);
            forked::ends(py);
            let left = match sent {
                Ok(Sent::All(last)) => Left::Done(last),
                Ok(Sent::Aborted) => Left::Aborted,
                Ok(Sent::Left) => Left::Nothing(RunOutcome::ClientLeft),
                Err(raised) => failed(py, raised, application, request, Phase::Iterate),
            };
            close_result(py, state, application, request, &result);
            left
        }
        Err(raised) => failed(py, raised, application, request, Phase::Call),
    };
    if listened && let Err(raised) = events.request_finished(py, raw, &environ) {
        py.clear(raised);
    }
    Ok(left)
}

/// `close()`, if the result has one; what it raises is logged and changes nothing.
fn close_result<'i>(
    py: &Attached<'i>,
    state: &State,
    application: &'static Application,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) {
    // SAFETY: attached and alive.
    unsafe {
        // The types that most applications return have none.
        if ffi::PyList_CheckExact(result.as_ptr()) != 0
            || ffi::PyTuple_CheckExact(result.as_ptr()) != 0
        {
            return;
        }
        let close = ffi::PyObject_GetAttr(result.as_ptr(), state.names.close.as_ptr());
        forked::ends(py);
        if close.is_null() {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) != 0 {
                ffi::PyErr_Clear();
            } else {
                let line = Message::CloseLookup.line(&[&application.script_text()]);
                let interpreter = Some(application.interpreter());
                log::log_raised(
                    py,
                    Raised,
                    Some(request),
                    Message::CloseLookup,
                    &line,
                    interpreter,
                );
            }
            return;
        }
        let Ok(close) = py.own(close) else {
            return;
        };
        let closed = close.call(py, []);
        forked::ends(py);
        if let Err(raised) = closed {
            log_application_exception(py, raised, application, request, Phase::Close);
        }
    }
}

/// Logs what the application raised, and says what that means for the response.
fn failed(
    py: &Attached<'_>,
    raised: Raised,
    application: &'static Application,
    request: &Arc<RequestState>,
    phase: Phase,
) -> Left {
    let cause = log_application_exception(py, raised, application, request, phase);
    let progress = request.response().progress();
    match fault::ending(cause, progress) {
        Ending::Send => Left::Done(Last::Collected),
        Ending::Cut => Left::Cut,
        // No call of the host has failed that would have counted it.
        Ending::Leave if request.was_left() => Left::Nothing(RunOutcome::ClientLeft),
        Ending::Leave => Left::Aborted,
        Ending::Failed => Left::Nothing(RunOutcome::Failed),
        Ending::TimedOut => Left::Nothing(RunOutcome::TimedOut),
        Ending::Faulted => Left::Nothing(RunOutcome::Faulted),
    }
}

/// Logs what the application raised, and counts it where it is the application's own. Returns whose it was.
fn log_application_exception(
    py: &Attached<'_>,
    raised: Raised,
    application: &'static Application,
    request: &Arc<RequestState>,
    phase: Phase,
) -> Cause {
    let Some(exception) = py.take(raised) else {
        return Cause::Application;
    };
    let interpreter = application.interpreter();
    let state = interpreter.module(py);
    // SAFETY: attached; the class is kept in this interpreter.
    if unsafe {
        ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), state.request_timeout.as_ptr())
    } != 0
    {
        request.log_line(
            crate::host::Level::Info,
            b"Request interrupted by RequestTimeout; thread recovered",
        );
        return Cause::TimedOut;
    }
    let context = format!("{} in embedded mode", interpreter.describe());
    let script = application.script_text();
    let cause = faults::cause_of(py, request, &exception);
    let publish = || {
        let events = events::Source {
            state,
            interpreter: Some(interpreter),
            request,
        };
        if events.wanted()
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
        log::log_message(Some(request), verdict.message, &line);
        let level = match verdict.blame {
            Blame::Server => crate::host::Level::Error,
            Blame::Client | Blame::Nobody => crate::host::Level::Debug,
        };
        log_traceback_at(py, &exception, Some(request), Some(interpreter), level);
        publish();
        return cause;
    }
    telemetry::count(request.app(), |block| {
        block.add(Id::Exceptions, phase as usize, 1);
    });
    if is_system_exit(&exception) {
        let line = Message::ApplicationSystemExit.line(&[&script, &context]);
        log::log_message(Some(request), Message::ApplicationSystemExit, &line);
        return cause;
    }
    let line = Message::ApplicationException.line(&[&exception.type_name(), &script, &context]);
    log::log_message(Some(request), Message::ApplicationException, &line);
    log_traceback(py, &exception, Some(request), Some(interpreter));
    if let Some(refusal) = refusal::find(py, &exception, interpreter) {
        refusal::report(&refusal, &script, &interpreter.describe(), Some(request));
    }
    publish();
    cause
}
