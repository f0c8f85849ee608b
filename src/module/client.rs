//! A request of a client while the engine runs it, over the stream of the request.

use std::cell::RefCell;
use std::ffi::c_int;
use std::os::fd::OwnedFd;

use wsgi_abi::{Bytes, HostResult, ResponseHead, WriteEnd};
use wsgi_core::config::Settings;
use wsgi_httpd::log::Level;
use wsgi_httpd::request::{Request, has_error_page};
use wsgi_httpd::stream::{Stream, StreamError, Then};
use wsgi_httpd::{client, connections};

use crate::timeline::{Abort, Stage, Timeline};

/// The line of a response to a request that took too long.
pub(crate) const GATEWAY_TIMEOUT: &[u8] = b"504 Gateway Timeout";

/// A request while the engine runs it. Lives in the frame of the handler.
pub(crate) struct Client<'r> {
    request: Request<'r>,
    sendfile: bool,
    /// Whether `ErrorDocument` takes the place of the application's own error pages.
    error_override: bool,
    timeline: &'r Timeline<'r>,
    /// Borrowed for the time of one call; calls do not overlap.
    state: RefCell<State<'r>>,
}

struct State<'r> {
    stream: Stream<'r>,
    /// The application's status where its page is replaced.
    overridden: Option<u16>,
    /// Why the body could not be read.
    read_error: Option<StreamError>,
    /// A filter has answered when the response was written.
    is_answered: bool,
}

impl State<'_> {
    /// Whether a filter has answered in place of the application, which has lost its client by that.
    fn is_answered(&self) -> bool {
        self.is_answered || self.read_error == Some(StreamError::Answered)
    }
}

impl<'r> Client<'r> {
    pub(crate) fn new(
        request: Request<'r>,
        settings: &Settings<'_>,
        has_body: bool,
        timeline: &'r Timeline<'r>,
    ) -> Self {
        Self {
            request,
            timeline,
            sendfile: settings.enable_sendfile,
            // The page that takes the place of the application's may itself be made by an application.
            error_override: settings.error_override && !request.is_error_page(),
            state: RefCell::new(State {
                stream: Stream::new(request, has_body),
                overridden: None,
                read_error: None,
                is_answered: false,
            }),
        }
    }

    /// The status with which httpd is to make its own page.
    pub(crate) fn overridden(&self) -> Option<u16> {
        self.state.borrow().overridden
    }

    /// Why the body could not be read.
    pub(crate) fn read_error(&self) -> Option<StreamError> {
        self.state.borrow().read_error.clone()
    }

    /// Whether a filter has answered in place of the application.
    pub(crate) fn is_answered(&self) -> bool {
        self.state.borrow().is_answered()
    }

    /// Whether a filter has ended the response before the application did.
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().stream.is_over()
    }

    /// Ends a response that has begun; whether it had.
    pub(crate) fn cut_if_begun(&self) -> bool {
        let stream = &mut self.state.borrow_mut().stream;
        let begun = stream.is_begun();
        if begun {
            stream.cut();
        }
        begun
    }

    /// Reads all of the body, if it has at most `limit` bytes, and keeps it for the application; its length where that
    /// is known by that.
    pub(crate) fn read_whole(&self, limit: usize) -> Option<usize> {
        let moving = self.timeline.reading();
        let length = self.state.borrow_mut().stream.read_whole(limit);
        moving.end(0);
        length
    }

    /// A call has failed, which is counted.
    fn failed(&self, error: &StreamError, abort: Abort, stage: Stage) {
        match error {
            StreamError::Aborted => self.timeline.abort(abort),
            StreamError::TimedOut => self.timeline.time_out(stage),
            StreamError::Answered | StreamError::TooLarge | StreamError::Other(_) => {}
        }
    }

    /// What the engine is told of a part of the response that was handed to the filters. Nobody waits any more for what
    /// a filter has answered.
    fn written(&self, state: &mut State<'_>, outcome: Result<(), StreamError>) -> HostResult {
        if let Err(error) = &outcome {
            self.failed(error, Abort::Write, Stage::Write);
            if *error == StreamError::Answered {
                state.is_answered = true;
                return HostResult::aborted();
            }
        }
        sent(outcome)
    }

    /// Sends a response without a body.
    pub(crate) fn send_empty(&self, status: u16, line: &[u8]) {
        let stream = &mut self.state.borrow_mut().stream;
        stream.set_status(status, line);
        stream.set_content_length(0);
        // The client may be gone, which is no news to anybody.
        let _ = stream.write(std::iter::empty(), Then::End);
    }
}

/// The methods of [`wsgi_abi::Host`] for it.
impl Client<'_> {
    pub(crate) fn log(&self, level: c_int, line: &[u8]) {
        self.request.log(Level(level), line);
    }

    pub(crate) fn log_beside(&self, level: c_int, line: &[u8]) {
        self.request.log_beside(Level(level), line);
    }

    pub(crate) fn read_body(&self, into: &mut [u8]) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        let moving = self.timeline.reading();
        let read = state.stream.read(into);
        moving.end(*read.as_ref().unwrap_or(&0) as u64);
        if let Err(error) = &read {
            self.failed(error, Abort::Read, Stage::Read);
            state.read_error = Some(error.clone());
        }
        result(read)
    }

    pub(crate) fn read_at_hand(&self, into: &mut [u8]) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        let moving = self.timeline.reading();
        let read = state.stream.read_at_hand(into);
        moving.end(read.as_ref().map_or(0, |count| count.unwrap_or(0)) as u64);
        if let Err(error) = &read {
            self.failed(error, Abort::Read, Stage::Read);
            state.read_error = Some(error.clone());
        }
        match read {
            Ok(None) => HostResult::later(),
            read => result(read.map(|count| count.unwrap_or(0))),
        }
    }

    pub(crate) fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.is_answered() {
            return HostResult::aborted();
        }
        if connections::are_leaving() {
            state.stream.end_connection();
        }
        let stream = &mut state.stream;
        // Of all methods, GET alone is defined with ranges (RFC 9110, 14.2); the filter knows when to leave a response as
        // it is, and what filters before it make of this one is not ours to judge.
        if self.request.method() != b"GET" || refuses_ranges(head) {
            stream.refuse_ranges();
        }
        if self.error_override && has_error_page(head.status) {
            state.overridden = Some(head.status);
        } else {
            stream.set_status(head.status, head.status_line.get_or_empty());
            if let Ok(length) = u64::try_from(head.content_length) {
                stream.set_content_length(length);
            }
        }
        let mut allows = false;
        for header in head.headers.get_or_empty() {
            let (name, value) = (header.name.get_or_empty(), header.value.get_or_empty());
            if name.eq_ignore_ascii_case(b"www-authenticate") {
                stream.add_header(name, value, true);
            } else if state.overridden.is_some() {
                // What tells the client how to go on belongs to the status; the rest, to the page that is replaced.
                if name.eq_ignore_ascii_case(b"allow") {
                    if !std::mem::replace(&mut allows, true) {
                        self.request.allow_none();
                    }
                    self.request.allow(value);
                } else if [&b"proxy-authenticate"[..], b"retry-after"]
                    .iter()
                    .any(|kept| name.eq_ignore_ascii_case(kept))
                {
                    stream.add_header(name, value, true);
                }
            } else if name.eq_ignore_ascii_case(b"content-type") {
                stream.set_content_type(value);
            } else {
                stream.add_header(name, value, false);
            }
        }
        HostResult::done(0)
    }

    pub(crate) fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_some() {
            return HostResult::done(0);
        }
        if state.is_answered() {
            return HostResult::aborted();
        }
        let then = match end {
            WriteEnd::More => Then::More,
            WriteEnd::Flush | WriteEnd::Leave => Then::Flush,
            WriteEnd::End => Then::End,
        };
        if end == WriteEnd::Leave && !state.stream.is_begun() {
            state.stream.end_connection();
        }
        let moving = self.timeline.writing();
        let bytes: usize = chunks.iter().map(|chunk| chunk.get_or_empty().len()).sum();
        let chunks = chunks.iter().map(|chunk| chunk.get_or_empty());
        let mut written = state.stream.write(chunks, then);
        if end == WriteEnd::Leave && written.is_ok() {
            written = state.stream.write(std::iter::empty(), Then::End);
            client::stop_sending(self.request);
        }
        moving.end(bytes as u64);
        self.written(state, written)
    }

    pub(crate) fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_some() {
            return HostResult::done(0);
        }
        if state.is_answered() {
            return HostResult::aborted();
        }
        let moving = self.timeline.writing();
        let result = state.stream.send_file(file, offset, length, self.sendfile);
        moving.end(length);
        self.written(state, result)
    }

    pub(crate) fn cut_response(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_none() && !state.is_answered() {
            state.stream.cut();
        }
    }

    /// What was written with [`WriteEnd::More`] goes out.
    pub(crate) fn flush(&self) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_some() {
            return HostResult::done(0);
        }
        if state.is_answered() {
            return HostResult::aborted();
        }
        let flushed = state.stream.write(std::iter::empty(), Then::Flush);
        self.written(state, flushed)
    }

    /// Whether the client has closed its connection.
    pub(crate) fn is_gone(&self) -> bool {
        client::is_gone(self.request)
    }

    /// Answers 504 in place of the thread that is stuck with the request, and ends the connection.
    pub(crate) fn give_up(&self) {
        // Not if that thread is in one of these methods: then it waits for the client, for which there are other limits.
        let Ok(mut state) = self.state.try_borrow_mut() else {
            return;
        };
        client::wait_little(self.request);
        let is_answered = state.is_answered() || state.overridden.is_some();
        let stream = &mut state.stream;
        if !stream.is_begun() && !is_answered {
            stream.end_connection();
            stream.set_status(504, GATEWAY_TIMEOUT);
            stream.set_content_length(0);
            // The client may be gone, which is no news to anybody.
            let _ = stream.write(std::iter::empty(), Then::Flush);
            let _ = stream.write(std::iter::empty(), Then::End);
        }
        client::hang_up(self.request);
        self.timeline.give_up();
    }

    pub(crate) fn ssl_variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.request.ssl_variable(name)
    }
}

/// Whether the application says that there are no ranges of what it sends.
fn refuses_ranges(head: &ResponseHead<'_>) -> bool {
    head.headers.get_or_empty().iter().any(|header| {
        header
            .name
            .get_or_empty()
            .eq_ignore_ascii_case(b"accept-ranges")
            && header
                .value
                .get_or_empty()
                .trim_ascii()
                .eq_ignore_ascii_case(b"none")
    })
}

/// A client that takes nothing any more has gone, whether it said so or not.
fn sent(outcome: Result<(), StreamError>) -> HostResult {
    match outcome {
        Err(StreamError::TimedOut) => HostResult::aborted(),
        outcome => result(outcome.map(|()| 0)),
    }
}

fn result(outcome: Result<usize, StreamError>) -> HostResult {
    match outcome {
        Ok(count) => HostResult::done(count),
        Err(StreamError::Aborted) => HostResult::aborted(),
        Err(StreamError::Answered) => {
            HostResult::failed("a filter of httpd has answered the request")
        }
        Err(StreamError::TooLarge) => {
            HostResult::failed("the body is longer than LimitRequestBody allows")
        }
        Err(StreamError::TimedOut) => HostResult::failed("The timeout specified has expired"),
        Err(StreamError::Other(reason)) => HostResult::failed(&reason),
    }
}
