//! Runs an admitted request, and turns its outcome into httpd's answer.

use std::ffi::c_int;

use wsgi_abi::{
    BodyPlan, Bytes, Environ, Limits, Nesting, RunOutcome, RunRequest, Slice, Target, Timing,
};
use wsgi_core::config::Settings;
use wsgi_core::messages::Message;
use wsgi_core::request::fault::Count;
use wsgi_httpd::sys;
use wsgi_telemetry::clock;
use wsgi_wire::OutgoingRequest;

use super::admit::{Place, Route};
use super::body::Body;
use super::client::{Client, GATEWAY_TIMEOUT};
use super::environ;
use super::ours::Ours;
use super::refused::Refused;
use super::timeline::{Abort, Rejection, Stage, Timeline};
use crate::children::{recycle, threads};
use crate::daemon::{self, client::Answered};
use crate::engine::host::{HostRequest, limit_milliseconds};

/// Runs the request on this thread.
pub(super) fn run(
    ours: &Ours<'_>,
    route: &Route<'_>,
    timeline: &Timeline<'_>,
) -> Result<(), Refused> {
    let (request, settings, body) = (ours.request, &ours.settings, &route.body);
    let (deadline, write_limit) = match route.place {
        Place::Here(_) => (settings.request_timeout, None),
        Place::In(group) => {
            let config = &group.config;
            (
                settings.deadline_in(config),
                config.response_socket_timeout(),
            )
        }
    };
    let client = Client::new(request, settings, body.may_come, timeline, write_limit);
    let environ = environ::build(ours, route, body.length(&client));
    let run = RunRequest::new(
        Target {
            group: Bytes::new(route.interpreter_group()),
            replica: -1,
            script: Bytes::new(route.script),
            script_mtime: match ours.handler_script {
                Some(_) => -1,
                None => request.file_mtime().unwrap_or(-1),
            },
            script_reloading: settings.script_reloading,
            load_timeout: request.timeout(),
            callable: Bytes::new(&route.callable),
            resource: Bytes::new(request.filename()),
            app: ours.app.number(),
        },
        Environ {
            entries: Slice::new(&environ.entries),
            https: environ.https,
            header_only: request.header_only(),
            apache_request: if settings.pass_apache_request {
                request.as_ptr().cast()
            } else {
                std::ptr::null_mut()
            },
        },
        BodyPlan {
            is_there: body.is_for_application,
            ahead: body.ahead(),
        },
        Limits {
            request: limit_milliseconds(deadline.map(|deadline| deadline.limit)),
            grace: limit_milliseconds(deadline.map(|deadline| deadline.grace)),
            slow: limit_milliseconds(settings.slow_request),
        },
        Timing {
            received: request.time(),
            queue_start: match route.place {
                Place::Here(_) => 0,
                Place::In(_) => clock::unix_microseconds(),
            },
            daemon_start: 0,
            times: timeline.times(),
        },
    );
    timeline.enqueued(&route.application_group);
    let Some(_held) = threads::hold(request) else {
        return Err(Refused::later(Rejection::QueueFull));
    };
    match route.place {
        Place::Here(engine) => {
            let outcome = engine.run(run, &HostRequest::new(&client));
            if was_run(outcome) {
                recycle::count_request();
            }
            answer(outcome, &client, timeline)
        }
        Place::In(group) => {
            timeline.pass_to(&group.config.name);
            let outcome = in_group(group, &run, settings, body, &client, timeline)?;
            answer(outcome, &client, timeline)
        }
    }
}

/// Has a process of a group run the request.
fn in_group(
    group: &daemon::client::GroupClient,
    run: &RunRequest<'_>,
    settings: &Settings<'_>,
    body: &Body<'_>,
    client: &Client<'_>,
    timeline: &Timeline<'_>,
) -> Result<RunOutcome, Refused> {
    let mut buffer = Vec::new();
    let request = OutgoingRequest {
        run,
        level: client.log_level(),
        is_activity: !settings.ignore_activity,
        since: timeline.since(),
        body: client.read_start(body.ahead() as usize, &mut buffer),
        nesting: Nesting::default(),
    };
    let name = &group.config.name;
    match group.run(&request, client, timeline.times()) {
        Answered::By(outcome) => Ok(outcome),
        Answered::Nobody => Err(Refused::later(Rejection::NotLoaded)),
        Answered::Full => Err(Refused::later(Rejection::QueueFull)),
        Answered::Silent if client.cut_if_begun() => Ok(RunOutcome::Responded),
        Answered::Silent => {
            timeline.time_out(Stage::Application);
            client.send_empty(504, GATEWAY_TIMEOUT);
            Ok(RunOutcome::Responded)
        }
        Answered::Lost => Ok(RunOutcome::Failed),
        Answered::TooLong => Err(Refused::logged(500, Message::GroupRequestTooLong, &[name])),
    }
}

/// Returns whether the request got as far as its application. A request that was refused before that costs the child
/// nothing lasting, so `WSGIRecycle` does not count it.
fn was_run(outcome: RunOutcome) -> bool {
    match outcome {
        RunOutcome::Responded
        | RunOutcome::Failed
        | RunOutcome::Faulted
        | RunOutcome::CallableMissing
        | RunOutcome::TimedOut
        | RunOutcome::ClientLeft
        | RunOutcome::GivenUp => true,
        RunOutcome::QueueFull
        | RunOutcome::QueueTimedOut
        | RunOutcome::ClientGone
        | RunOutcome::NoInterpreter
        | RunOutcome::LoadTimedOut
        | RunOutcome::Draining => false,
    }
}

/// Returns httpd's answer for each outcome of a request.
fn answer(
    outcome: RunOutcome,
    client: &Client<'_>,
    timeline: &Timeline<'_>,
) -> Result<(), Refused> {
    if client.is_over() {
        return Ok(());
    }
    if client.is_answered() {
        return Err(Refused::status(sys::AP_FILTER_ERROR));
    }
    match outcome {
        RunOutcome::Responded => match client.overridden() {
            Some(status) => Err(Refused::status(status.into())),
            None => Ok(()),
        },
        RunOutcome::Failed if client.cut_if_begun() => Ok(()),
        RunOutcome::Failed => Err(Refused::status(sys::HTTP_INTERNAL_SERVER_ERROR as c_int)),
        RunOutcome::Faulted => {
            let verdict = client.verdict();
            if verdict.count == Count::Refusal {
                timeline.reject(Rejection::BodyTooLarge);
            }
            match verdict.status {
                Some(status) => Err(Refused::status(status.into())),
                None => {
                    client.leave();
                    Ok(())
                }
            }
        }
        RunOutcome::CallableMissing => Err(Refused::status(sys::HTTP_NOT_FOUND as c_int)),
        RunOutcome::TimedOut => {
            timeline.time_out(Stage::Application);
            client.send_empty(504, GATEWAY_TIMEOUT);
            Ok(())
        }
        RunOutcome::QueueTimedOut => {
            let timed_out = Refused::status(sys::HTTP_GATEWAY_TIME_OUT as c_int);
            Err(timed_out.counted(Rejection::QueueTimeout))
        }
        RunOutcome::ClientGone => {
            timeline.abort(Abort::Queue);
            client.leave();
            Ok(())
        }
        RunOutcome::ClientLeft => {
            timeline.abort(Abort::Write);
            client.leave();
            Ok(())
        }
        RunOutcome::GivenUp => Err(Refused::status(sys::AP_FILTER_ERROR)),
        RunOutcome::QueueFull => Err(Refused::later(Rejection::QueueFull)),
        RunOutcome::LoadTimedOut | RunOutcome::NoInterpreter => {
            Err(Refused::later(Rejection::NotLoaded))
        }
        RunOutcome::Draining => Err(Refused::later(Rejection::Draining)),
    }
}
