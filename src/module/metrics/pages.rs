//! `SetHandler wsgi-metrics` and `SetHandler wsgi-status`: the pages, which any child serves, and our part of
//! `server-status`.

use std::ffi::{CStr, c_int};
use std::net::IpAddr;

use wsgi_core::messages::Message;
use wsgi_httpd::module::{Answer, StatusForm};
use wsgi_httpd::request::Request;
use wsgi_httpd::stream::{Stream, Then};
use wsgi_httpd::sys;
use wsgi_telemetry::status::{CONTENT_SECURITY_POLICY, Status};
use wsgi_telemetry::{Segment, clock, negotiate, status};

use super::{scoreboard, segment};

const METRICS: &CStr = c"wsgi-metrics";
const STATUS: &CStr = c"wsgi-status";

/// Seconds after which the status page reloads, if the URL does not say.
const REFRESH: u32 = 5;
/// Highest number of seconds that the URL may say.
const LONGEST_REFRESH: u32 = 3600;

/// The number of children whose memory is measured for one page.
const MEASURED: usize = 100;

/// A page, ready to be sent.
pub(crate) struct Page {
    pub(crate) content_type: &'static str,
    /// The value of `Content-Security-Policy`, for a page that browsers show.
    pub(crate) policy: Option<&'static str>,
    pub(crate) body: String,
}

/// The pages that may be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Metrics,
    Status,
}

/// Makes a page. `query` and `accept` are those of the request.
pub(crate) fn page(
    segment: Segment,
    subject: Subject,
    query: &[u8],
    accept: Option<&[u8]>,
) -> Page {
    let begin = clock::now();
    scoreboard::note(segment);
    segment.measure_children(MEASURED);
    for group in segment::groups().iter() {
        group.segment.measure_children(MEASURED);
    }
    match subject {
        Subject::Metrics => {
            let format = negotiate(accept);
            let mut body = String::new();
            wsgi_telemetry::render(&segment::snapshot(segment), format, &mut body);
            segment.scraped(clock::now().saturating_sub(begin));
            Page {
                content_type: format.content_type(),
                policy: None,
                body,
            }
        }
        Subject::Status => {
            let status = Status::new(&segment::snapshot(segment), &segment.history());
            if option(query, b"format") == Some(b"json") {
                Page {
                    content_type: "application/json",
                    policy: None,
                    body: status::render_json(&status),
                }
            } else {
                Page {
                    content_type: "text/html; charset=utf-8",
                    policy: Some(CONTENT_SECURITY_POLICY),
                    body: status::render_html(&status, refresh(query)),
                }
            }
        }
    }
}

/// Returns `?refresh=` in seconds; `None` for never.
fn refresh(query: &[u8]) -> Option<u32> {
    let asked = option(query, b"refresh")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse::<u32>().ok());
    Some(asked.unwrap_or(REFRESH).min(LONGEST_REFRESH)).filter(|&seconds| seconds != 0)
}

/// Returns the value of an option in a query.
fn option<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query
        .split(|&byte| byte == b'&')
        .find_map(|option| option.strip_prefix(name)?.strip_prefix(b"="))
}

/// Answers the request, if it is for one of the two pages.
pub(crate) fn handle(request: Request<'_>) -> Answer {
    let (subject, name) = match request.handler() {
        name if name == METRICS.to_bytes() => (Subject::Metrics, METRICS),
        name if name == STATUS.to_bytes() => (Subject::Status, STATUS),
        _ => return Answer::Declined,
    };
    let shown = name.to_string_lossy();
    if !matches!(request.method(), b"GET" | b"HEAD") {
        request.allow_get();
        return Answer::Status(sys::HTTP_METHOD_NOT_ALLOWED as c_int);
    }
    if !request.is_guarded(name)
        && let Err(client) = check_local(request)
    {
        let values: [&dyn std::fmt::Display; 2] = [&shown, &client];
        return refuse(
            request,
            sys::HTTP_FORBIDDEN,
            Message::MetricsLocalOnly,
            &values,
        );
    }
    let Some(segment) = segment::current() else {
        return refuse(request, sys::HTTP_NOT_FOUND, Message::MetricsOff, &[&shown]);
    };
    // httpd has already joined headers of the same name.
    let accept = request.headers_in().get(c"Accept");
    send(request, &page(segment, subject, request.args(), accept));
    Answer::Ok
}

/// Checks that the client is on this machine, as `Require local` does, and that no proxy is between. The error
/// describes any other client.
fn check_local(request: Request<'_>) -> Result<(), String> {
    let address = |text: &[u8]| -> Option<IpAddr> {
        let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(address.to_canonical())
    };
    let shown = String::from_utf8_lossy(request.client_ip());
    let headers = request.headers_in();
    let mut forwarding = [c"X-Forwarded-For", c"Forwarded"].iter();
    if forwarding.any(|name| headers.get(name).is_some()) {
        return Err(format!("somebody for whom {shown} is a proxy"));
    }
    let (client, own) = (address(request.client_ip()), address(request.local_ip()));
    let is_here = |address: IpAddr| address.is_loopback() || Some(address) == own;
    // mod_remoteip takes the client's address from a proxy.
    if client == address(request.peer_ip()) && client.is_some_and(is_here) {
        Ok(())
    } else {
        Err(shown.into_owned())
    }
}

fn refuse(
    request: Request<'_>,
    status: u32,
    message: Message,
    values: &[&dyn std::fmt::Display],
) -> Answer {
    request.log(message.level(), message.line(values).as_bytes());
    Answer::Status(status as c_int)
}

fn send(request: Request<'_>, page: &Page) {
    let mut stream = Stream::new(request, false);
    stream.set_content_type(page.content_type.as_bytes());
    stream.set_content_length(page.body.len() as u64);
    stream.add_header(b"Cache-Control", b"no-store", false);
    stream.add_header(b"X-Content-Type-Options", b"nosniff", false);
    if let Some(policy) = page.policy {
        stream.add_header(b"Content-Security-Policy", policy.as_bytes(), false);
    }
    stream.refuse_ranges();
    // An error means that the client is gone.
    let _ = stream.write(std::iter::once(page.body.as_bytes()), Then::End);
}

/// Returns our part of `server-status`.
pub(crate) fn status_block(form: StatusForm) -> String {
    let Some(segment) = segment::current() else {
        return String::new();
    };
    scoreboard::note(segment);
    let status = Status::new(&segment::snapshot(segment), &segment.history());
    match form {
        StatusForm::Lines => status::render_auto(&status),
        StatusForm::Html => status::render_html_fragment(&status),
    }
}
