//! One request: is it ours, may it run, in which interpreter; then the engine runs it, and what became of it turns
//! into httpd's answer.

use std::ffi::{CStr, c_int};

use wsgi_abi::{Bytes, Limits, RunOutcome, RunRequest, Slice};
use wsgi_core::config::{HandlerScript, Settings};
use wsgi_core::messages::Message;
use wsgi_core::request::alias::ScriptOptions;
use wsgi_core::request::fault::Count;
use wsgi_core::request::framing::{Framing, check_request};
use wsgi_core::request::group;
use wsgi_httpd::module::Answer;
use wsgi_httpd::request::{FileKind, Request};
use wsgi_httpd::sys;
use wsgi_telemetry::App;

use crate::children::life::engine;
use crate::children::recycle;
use crate::children::retire;
use crate::config::read;
use crate::engine::host::{Exchange, limit_milliseconds};
use crate::metrics::segment;
use crate::request::client::{Client, GATEWAY_TIMEOUT};
use crate::request::environ::{self, BodyLength, RequestVariables, Routing};
use crate::request::timeline::{Abort, Rejection, Stage, Timeline};
use crate::request::translate::{alias_of, is_aliased};

/// The callable of a `WSGIHandlerScript`.
const HANDLE_REQUEST: &str = "handle_request";

/// Most of a body that is read before Python is entered, bytes.
const BODY_AHEAD: u32 = 64 * 1024;
/// When whoever is turned away is to come again, seconds.
const RETRY_AFTER: &CStr = c"1";

/// Answers the request, if it is ours.
pub(crate) fn handle(request: Request<'_>) -> Answer {
    let name = request.handler();
    let is_script = matches!(name, b"wsgi-script" | b"application/x-httpd-wsgi");
    let Some((server, place)) = read::of_request(request) else {
        return Answer::Declined;
    };
    let settings = Settings::resolve(place, &server.config);
    let handler_script = if is_script {
        None
    } else {
        settings.handler_script(name)
    };
    if !is_script && handler_script.is_none() {
        return Answer::Declined;
    }
    let alias = alias_of(request, server);
    let number = alias.map(|(number, _)| number);
    let is_there =
        number.is_some() || handler_script.is_some() || request.file_kind() == FileKind::File;
    // Clients make up names of files that are not there; no entry is made for those.
    let app = if is_there {
        segment::app_of(server, number, handler_script, request.filename())
    } else {
        App::OTHER
    };
    let timeline = Timeline::begin(request, app, settings.slow_requests);
    let alias = alias.map(|(_, alias)| &alias.options);
    let known_group = number.and_then(|number| server.group_of_alias(number, place));
    match serve(
        request,
        known_group,
        &settings,
        alias,
        handler_script,
        &timeline,
    ) {
        Ok(()) => {
            timeline.answered(request.status());
            Answer::Ok
        }
        Err(status) => {
            timeline.answered(u16::try_from(status).unwrap_or_else(|_| request.status()));
            Answer::Status(status)
        }
    }
}

/// Answers the request; the error is the status that httpd is to answer with.
fn serve(
    request: Request<'_>,
    known_group: Option<&[u8]>,
    settings: &Settings<'_>,
    alias: Option<&ScriptOptions>,
    handler_script: Option<&HandlerScript>,
    timeline: &Timeline<'_>,
) -> Result<(), c_int> {
    let filename = request.filename();
    let shown = String::from_utf8_lossy;
    if handler_script.is_none() {
        check_file(request, &shown(filename))?;
    }
    if request.refuses_path_info() && !request.path_info().is_empty() {
        return refuse(
            request,
            404,
            Message::PathInfoRefused,
            &[&shown(filename), &shown(request.path_info())],
        );
    }
    let headers = request.headers_in();
    let content_length = headers.get(c"Content-Length");
    let mut transfer_encoding = headers.get(c"Transfer-Encoding");
    if transfer_encoding.is_some() && !request.is_http1() {
        transfer_encoding = None;
    }
    let framing = Framing {
        transfer_encoding,
        content_length,
        chunked_request: settings.chunked_request,
        limit: if content_length.is_some() {
            request.body_limit()
        } else {
            0
        },
    };
    // An error page was asked for because of such a header, perhaps, and it is still there.
    if !request.is_error_page()
        && let Err(refusal) = check_request(&framing)
    {
        request.log(refusal.message().level(), refusal.log_line().as_bytes());
        if refusal.message() == Message::BodyTooLarge {
            timeline.reject(Rejection::BodyTooLarge);
        }
        return Err(refusal.status().into());
    }
    if settings.restrict_embedded {
        return refuse(
            request,
            500,
            Message::EmbeddedRestricted,
            &[&shown(filename)],
        );
    }
    let Some(engine) = engine() else {
        if retire::is_held_off() {
            timeline.reject(Rejection::NotLoaded);
            return Err(try_later(request));
        }
        return refuse(request, 500, Message::PythonAbsent, &[&shown(filename)]);
    };

    let options = handler_script.map(|script| &script.options).or(alias);
    let variables = RequestVariables {
        request,
        only_own: false,
    };
    let written = |option: fn(&ScriptOptions) -> Option<&String>, otherwise| {
        options.and_then(option).map_or(otherwise, String::as_str)
    };
    let written_group = written(
        |options| options.application_group.as_ref(),
        settings.application_group,
    );
    let application_group =
        group::application_group(written_group, &variables, settings.case_sensitive);
    // A name that no server has makes no interpreter. The application is told it all the same, as by mod_wsgi.
    let own_variables = RequestVariables {
        only_own: true,
        ..variables
    };
    let is_made_up = known_group.is_none()
        && written_group.starts_with('%')
        && variables.may_be_made_up(written_group);
    let own_group = is_made_up
        .then(|| group::application_group(written_group, &own_variables, settings.case_sensitive));
    let known_group = known_group.or(own_group.as_deref());
    let callable = match handler_script {
        Some(_) => HANDLE_REQUEST.as_bytes().into(),
        None => group::callable_object(
            written(
                |options| options.callable_object.as_ref(),
                settings.callable_object,
            ),
            &variables,
        ),
    };
    let script = handler_script.map_or(filename, |script| script.script.as_bytes());
    let pass_authorization = options
        .and_then(|options| options.pass_authorization)
        .unwrap_or(settings.pass_authorization);
    let routing = Routing {
        // Every request is served in the httpd children, whatever process group is configured.
        process_group: b"",
        application_group: &application_group,
        callable: &callable,
        handler_script: if handler_script.is_some() {
            script
        } else {
            b""
        },
        pass_authorization,
    };
    let comes_body = may_have_body(request, transfer_encoding, content_length);
    // The page for a body that was refused must not ask for it again.
    let has_body = comes_body && !request.has_lost_its_body();
    let client = Client::new(request, settings, comes_body, timeline);
    let body_length = if comes_body && !has_body {
        BodyLength::Untold
    } else if has_body && content_length.is_some() && !request.keeps_length() {
        client
            .read_whole(BODY_AHEAD as usize)
            .map_or(BodyLength::Untold, BodyLength::Bytes)
    } else {
        BodyLength::AsSent
    };
    let environ = environ::build(request, settings, &routing, body_length);
    let exchange = Exchange::Client(client);
    let mut run = RunRequest::new(script);
    run.group = Bytes::new(known_group.unwrap_or(&application_group));
    if handler_script.is_none() {
        run.script_mtime = request.file_mtime().unwrap_or(-1);
    }
    run.callable = Bytes::new(&callable);
    run.resource = Bytes::new(filename);
    run.environ = Slice::new(&environ.entries);
    if settings.pass_apache_request {
        run.apache_request = request.as_ptr().cast();
    }
    run.request_time = request.time();
    run.load_timeout = request.timeout();
    run.limits = Limits {
        request: limit_milliseconds(settings.request_timeout.map(|deadline| deadline.limit)),
        grace: limit_milliseconds(settings.request_timeout.map(|deadline| deadline.grace)),
        slow: limit_milliseconds(settings.slow_request),
    };
    // The body of a request that an error page is for may be what the error is about.
    if has_body && !request.is_error_page() && request.reads_from_protocol() {
        run.body_ahead = body_ahead(request, content_length);
    }
    run.script_reloading = settings.script_reloading;
    run.https = environ.https;
    run.has_body = has_body;
    run.header_only = request.header_only();
    run.times = timeline.times();
    run.app = timeline.app().number();
    timeline.dequeued(&application_group);
    let outcome = engine.run(run, &exchange);
    if was_run(outcome) {
        recycle::count_request();
    }
    match &exchange {
        Exchange::Client(client) => answer(request, outcome, client, timeline),
        Exchange::Warmup(_) => Err(sys::HTTP_INTERNAL_SERVER_ERROR as c_int),
    }
}

/// The checks of a script that stands for itself [M-6].
fn check_file(request: Request<'_>, filename: &str) -> Result<(), c_int> {
    if !is_aliased(request) && !request.allows_exec_cgi() {
        return refuse(request, 403, Message::ExecCgiOff, &[&filename]);
    }
    match request.file_kind() {
        FileKind::None => refuse(request, 404, Message::ScriptNotFound, &[&filename]),
        FileKind::Directory => refuse(request, 403, Message::ScriptIsDirectory, &[&filename]),
        FileKind::File => Ok(()),
    }
}

fn refuse(
    request: Request<'_>,
    status: c_int,
    message: Message,
    values: &[&dyn std::fmt::Display],
) -> Result<(), c_int> {
    request.log(message.level(), message.line(values).as_bytes());
    Err(status)
}

/// Whether reading the body can give anything. HTTP/2 has bodies without either header.
fn may_have_body(
    request: Request<'_>,
    transfer_encoding: Option<&[u8]>,
    content_length: Option<&[u8]>,
) -> bool {
    match content_length {
        _ if request.is_subrequest() => false,
        _ if transfer_encoding.is_some() => true,
        Some(length) => length.iter().any(|&digit| digit != b'0'),
        None => !request.is_http1(),
    }
}

/// Whether the request has got as far as its application; those that were turned away cost the child nothing that lasts.
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

/// The status for a request that would be answered a little later.
fn try_later(request: Request<'_>) -> c_int {
    request.retry_after(RETRY_AFTER);
    sys::HTTP_SERVICE_UNAVAILABLE as c_int
}

/// What of the body is read before Python is entered, if it has come by then: all of a small one, the beginning of one of
/// unknown length. A client that waits to be asked for it may not have to send it at all.
fn body_ahead(request: Request<'_>, content_length: Option<&[u8]>) -> u32 {
    if request.headers_in().get(c"Expect").is_some() {
        return 0;
    }
    let length = content_length.map(|digits| {
        let digits = std::str::from_utf8(digits).ok();
        digits.and_then(|digits| digits.trim().parse::<u64>().ok())
    });
    match length {
        None => BODY_AHEAD,
        Some(Some(length)) if length <= BODY_AHEAD.into() => u32::try_from(length).unwrap_or(0),
        Some(_) => 0,
    }
}

/// What httpd is told, for each way a request may end.
fn answer(
    request: Request<'_>,
    outcome: RunOutcome,
    client: &Client<'_>,
    timeline: &Timeline<'_>,
) -> Result<(), c_int> {
    if client.is_over() {
        return Ok(());
    }
    if client.is_answered() {
        return Err(sys::AP_FILTER_ERROR);
    }
    match outcome {
        RunOutcome::Responded => match client.overridden() {
            Some(status) => Err(status.into()),
            None => Ok(()),
        },
        RunOutcome::Failed if client.cut_if_begun() => Ok(()),
        RunOutcome::Failed => Err(sys::HTTP_INTERNAL_SERVER_ERROR as c_int),
        RunOutcome::Faulted => {
            let verdict = client.verdict();
            if verdict.count == Count::Refusal {
                timeline.reject(Rejection::BodyTooLarge);
            }
            match verdict.status {
                Some(status) => Err(status.into()),
                None => {
                    client.leave();
                    Ok(())
                }
            }
        }
        RunOutcome::CallableMissing => Err(sys::HTTP_NOT_FOUND as c_int),
        RunOutcome::TimedOut => {
            timeline.time_out(Stage::Application);
            client.send_empty(504, GATEWAY_TIMEOUT);
            Ok(())
        }
        RunOutcome::QueueFull => {
            timeline.reject(Rejection::QueueFull);
            Err(try_later(request))
        }
        RunOutcome::QueueTimedOut => {
            timeline.reject(Rejection::QueueTimeout);
            Err(sys::HTTP_GATEWAY_TIME_OUT as c_int)
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
        RunOutcome::GivenUp => Err(sys::AP_FILTER_ERROR),
        RunOutcome::LoadTimedOut => {
            timeline.reject(Rejection::NotLoaded);
            Err(try_later(request))
        }
        RunOutcome::NoInterpreter => {
            timeline.reject(Rejection::NotLoaded);
            Err(try_later(request))
        }
        RunOutcome::Draining => {
            timeline.reject(Rejection::Draining);
            Err(try_later(request))
        }
    }
}
