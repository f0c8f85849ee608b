//! One request, from the module's call to the outcome: find the application and its executor, try another interpreter
//! if the application could not be loaded, leave Python, and send the rest of the response.

use std::cell::Cell;
use std::time::Instant;

use wsgi_abi::{RunOutcome, RunRequest};
use wsgi_core::messages::Message;
use wsgi_telemetry::{App, clock};

use crate::admission::group::{self, NoGroup, Site};
use crate::cpython::gil_clock;
use crate::host;
use crate::metrics::gil;
use crate::process::{self, thread_id};
use crate::request::host::HostRequest;
use crate::request::log::log_message;
use crate::request::nesting::{self, Loan};
use crate::request::state::RequestState;
use crate::request::{alarm, running};
use crate::wsgi::output::{Done, Why};
use crate::wsgi::perform::Job;

thread_local! {
    /// The script that this thread ran last, so that the next request finds it without a lookup.
    static LAST: Cell<Option<&'static Site>> = const { Cell::new(None) };
}

/// The most interpreters in which a request tries to load its application.
const MOST_TRIES: u32 = 3;

/// Runs one request.
///
/// # Safety
/// `raw.host()` must be a request of the host that was set, which the calling thread owns.
pub unsafe fn run(raw: &RunRequest<'_>) -> RunOutcome {
    let _inside = process::Inside::enter();
    let (group, script) = (
        raw.target.group.get_or_empty(),
        raw.target.script.get_or_empty(),
    );
    let Some(table) = host::table() else {
        return RunOutcome::Failed;
    };
    // SAFETY: by contract; calls of the host go through the state, one at a time.
    let state = unsafe { RequestState::new(HostRequest::new(table, raw.host()), raw) };
    if process::is_closing() {
        // The request of a group goes to another process.
        if !process::is_in_group() {
            let line = Message::PythonAbsent.line(&[&String::from_utf8_lossy(script)]);
            log_message(Some(&state), Message::PythonAbsent, &line);
        }
        return refused(&state, RunOutcome::Draining);
    }
    let timer = gil::time(App::new(raw.target.app), raw.timing.times);
    let finish = Finish(&state);
    // Taken before the interpreter exists: a request whose thread makes the interpreter may have to be answered without
    // that thread.
    let _taken = running::take(&state);
    let site = match find(group, script, App::new(raw.target.app), &state) {
        Ok(site) => site,
        Err(NoGroup::Failed) => {
            let line = Message::InterpreterUnavailable.line(&[&String::from_utf8_lossy(group)]);
            log_message(Some(&state), Message::InterpreterUnavailable, &line);
            return refused(&state, RunOutcome::Failed);
        }
        Err(NoGroup::Limit) => return refused(&state, RunOutcome::NoInterpreter),
        Err(NoGroup::TimedOut) => return refused(&state, RunOutcome::LoadTimedOut),
        Err(NoGroup::Full) => return refused(&state, RunOutcome::QueueFull),
        Err(NoGroup::GivenUp) => return RunOutcome::GivenUp,
    };
    if state.deadline().is_limited() {
        alarm::set(state.deadline().next_due());
    }
    // Warm-up requests, before the first client comes, hold no thread of httpd.
    let is_warmup = raw.target.replica >= 0;
    let held = if is_warmup { None } else { site.hold() };
    if held.is_none() && !is_warmup {
        return refused(&state, RunOutcome::QueueFull);
    }
    let loan = match borrow(raw, &state, site) {
        Ok(loan) => loan,
        Err(outcome) => return refused(&state, outcome),
    };
    if raw.body.ahead != 0 {
        state.read_ahead(raw.body.ahead as usize);
        gil_clock::waiting(0);
    }
    let mut tries = 0;
    let (done, application) = loop {
        tries += 1;
        let (application, executor) = site.choose(raw.target.replica);
        let job = Job {
            raw,
            state: &state,
            application,
            thread_id: thread_id(),
        };
        state.deadline().approach(application.interpreter());
        if !application.state().is_ready() {
            if application.is_overdue() {
                break (Done::Final(RunOutcome::LoadTimedOut), application);
            }
            if application.is_new() {
                state.deadline().begins_with_load();
            }
        }
        let done = executor.run(&job);
        if let Done::Again(why) = &done {
            let has_moved = site.not_loaded(application, why);
            let is_elsewhere = match why {
                Why::Refused(_) => has_moved,
                // Another replica has loaded it.
                Why::Failed { .. } => raw.target.replica < 0 && site.is_served(),
            };
            if is_elsewhere && tries < MOST_TRIES && !state.is_given_up() {
                continue;
            }
        }
        break (done, application);
    };
    drop(loan);
    drop(finish);
    drop(timer);
    // The request was answered without its thread, so nothing may be done for it any more.
    if state.is_given_up() {
        return RunOutcome::GivenUp;
    }
    if let Done::Final(outcome) = done {
        return outcome;
    }
    // SAFETY: this is the thread that runs the request, after `finish`.
    let host = unsafe { state.host_after_finish() };
    done.send(host, application, &state)
}

/// Borrows the permits of the requests that wait for this one, if it is nested in some.
fn borrow(
    raw: &RunRequest<'_>,
    state: &RequestState,
    site: &Site,
) -> Result<Option<Loan>, RunOutcome> {
    let outer = running::lenders(raw.nesting);
    if outer.is_empty() {
        return Ok(None);
    }
    let began = Instant::now();
    nesting::borrow(outer, || {
        if process::is_closing() {
            return Some(RunOutcome::Draining);
        }
        let is_late = state.deadline().is_late(clock::now());
        (is_late || began.elapsed() >= site.queue_timeout()).then_some(RunOutcome::QueueTimedOut)
    })
}

/// Finishes the request when dropped, also after a panic, because the objects of the request may outlive it.
struct Finish<'a>(&'a RequestState);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Ends a request that was not run. Returns `GivenUp` if its client was already answered.
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
