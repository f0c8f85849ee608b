//! A client's request while the engine runs it, on top of the request's stream.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::time::Duration;

use wsgi_abi::{Bytes, HostResult, Presence, RequestHost, ResponseHead, WriteEnd};
use wsgi_core::config::Settings;
use wsgi_core::request::fault::{self, Count, Fault, Transfer, Verdict};
use wsgi_httpd::client;
use wsgi_httpd::log::Level;
use wsgi_httpd::mpm::connections;
use wsgi_httpd::request::{Request, has_error_page};
use wsgi_httpd::stream::{Stream, StreamError, Then};
use wsgi_wire::{BodyStart, limits};

use super::timeline::{Abort, Stage, Timeline};

/// The status line of the response to a request that took too long.
pub(crate) const GATEWAY_TIMEOUT: &[u8] = b"504 Gateway Timeout";

/// The status of a request whose client left before there was a response. It appears only in the access log, where
/// other servers write this number, too.
const CLIENT_LEFT: (u16, &[u8]) = (499, b"499 Client Closed Request");

/// A request while the engine runs it. The value lives in the stack frame of the handler.
pub(crate) struct Client<'r> {
    request: Request<'r>,
    sendfile: bool,
    /// Whether `ErrorDocument` replaces the application's own error pages.
    error_override: bool,
    timeline: &'r Timeline<'r>,
    /// How long a write of the application may wait for the client; `None` for httpd's `Timeout`.
    write_limit: Option<Duration>,
    /// Borrowed for the duration of one call; calls do not overlap.
    state: RefCell<ClientState<'r>>,
}

struct ClientState<'r> {
    stream: Stream<'r>,
    /// The status of the error page that replaces the application's response.
    overridden: Option<u16>,
    /// Whether the head of the response is known.
    has_head: bool,
    /// The fault of the last failed read of the body.
    read_fault: Option<Fault>,
    /// Whether a filter has answered instead of the application, whose output then has no client any more.
    is_answered: bool,
}

impl<'r> Client<'r> {
    pub(crate) fn new(
        request: Request<'r>,
        settings: &Settings<'_>,
        has_body: bool,
        timeline: &'r Timeline<'r>,
        write_limit: Option<Duration>,
    ) -> Self {
        Self {
            request,
            timeline,
            write_limit,
            sendfile: settings.enable_sendfile,
            // An application may itself make the page that replaces an application's response.
            error_override: settings.error_override && !request.is_error_page(),
            state: RefCell::new(ClientState {
                stream: Stream::new(request, has_body),
                overridden: None,
                has_head: false,
                read_fault: None,
                is_answered: false,
            }),
        }
    }

    /// Limits the writes that follow, until the returned value is dropped.
    fn limit_writes(&self) -> Option<client::WriteLimit<'r>> {
        let limit = self.write_limit?;
        Some(client::WriteLimit::new(self.request, limit))
    }

    /// Returns the status for which httpd must make its own page.
    pub(crate) fn overridden(&self) -> Option<u16> {
        self.state.borrow().overridden
    }

    /// Returns whether a filter has answered instead of the application.
    pub(crate) fn is_answered(&self) -> bool {
        self.state.borrow().is_answered
    }

    /// Returns what follows when a failure of one of these methods has ended the application.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.state.borrow().read_fault {
            Some(read) => fault::verdict(read, Transfer::Read),
            None => fault::verdict(Fault::Gone, Transfer::Write),
        }
    }

    /// Ends the request of a client that has left: nothing more is sent. If the response has no head yet, sets a status
    /// for the access log.
    pub(crate) fn leave(&self) {
        let state = &mut *self.state.borrow_mut();
        if !state.has_head {
            let (status, line) = CLIENT_LEFT;
            state.stream.set_status(status, line);
            self.timeline.unanswered();
        }
        client::hang_up(self.request);
    }

    /// Returns whether a filter has ended the response before the application did.
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().stream.is_over()
    }

    /// Breaks off a response that has begun. Returns whether it had.
    pub(crate) fn cut_if_begun(&self) -> bool {
        let stream = &mut self.state.borrow_mut().stream;
        let begun = stream.is_begun();
        if begun {
            stream.cut();
        }
        begun
    }

    /// Reads the whole body if it has at most `limit` bytes, and keeps it for the application. Returns the length if
    /// the end was reached.
    pub(crate) fn read_whole(&self, limit: usize) -> Option<usize> {
        let moving = self.timeline.reading();
        let length = self.state.borrow_mut().stream.read_whole(limit);
        moving.end(0);
        length
    }

    /// Reads the start of the body, for a process that gets it with the request: what has arrived of the first `ahead`
    /// bytes. Whether this is the whole body is what the filters say, not what the client has declared.
    pub(crate) fn read_start<'b>(&self, ahead: usize, buffer: &'b mut Vec<u8>) -> BodyStart<'b> {
        if ahead == 0 {
            return BodyStart::default();
        }
        // One byte more, so that the end of a body of this length is seen, too.
        buffer.resize((ahead + 1).min(limits::BODY), 0);
        let moving = self.timeline.reading();
        let (count, is_whole) = self.state.borrow_mut().stream.read_start(buffer);
        moving.end(count as u64);
        BodyStart {
            start: &buffer[..count],
            is_whole,
        }
    }

    /// Returns the highest level of lines that the log of the request takes.
    pub(crate) fn log_level(&self) -> Level {
        self.request.log_level()
    }

    /// Counts a failed call. Returns the result for the engine.
    fn failed(
        &self,
        state: &mut ClientState<'_>,
        error: &StreamError,
        transfer: Transfer,
    ) -> HostResult {
        let (abort, stage) = match transfer {
            Transfer::Read => (Abort::Read, Stage::Read),
            Transfer::Write => (Abort::Write, Stage::Write),
        };
        match fault::verdict(error.fault, transfer).count {
            Count::Abort => self.timeline.abort(abort),
            Count::Timeout => self.timeline.time_out(stage),
            // Counted where it decides the response.
            Count::Refusal | Count::Nothing => {}
        }
        state.is_answered |= error.fault == Fault::Answered;
        // The last failure is the one that has ended the application.
        state.read_fault = match transfer {
            Transfer::Read => Some(error.fault),
            Transfer::Write => None,
        };
        HostResult::failed(error.fault, &error.reason)
    }

    /// Returns the result for the engine after a part of the response was passed to the filters.
    fn written(&self, state: &mut ClientState<'_>, outcome: Result<(), StreamError>) -> HostResult {
        match outcome {
            Ok(()) => HostResult::done(0),
            Err(error) => self.failed(state, &error, Transfer::Write),
        }
    }

    /// Sends a response without a body.
    pub(crate) fn send_empty(&self, status: u16, line: &[u8]) {
        let stream = &mut self.state.borrow_mut().stream;
        stream.set_status(status, line);
        stream.set_content_length(0);
        // An error means that the client is gone.
        let _ = stream.write(std::iter::empty(), Then::End);
    }
}

impl RequestHost for Client<'_> {
    fn log(&self, level: Level, line: &[u8]) {
        self.request.log(level, line);
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        self.request.log_beside(level, line);
    }

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        let moving = self.timeline.reading();
        let read = state.stream.read(into);
        moving.end(*read.as_ref().unwrap_or(&0) as u64);
        match read {
            Ok(count) => HostResult::done(count),
            Err(error) => self.failed(state, &error, Transfer::Read),
        }
    }

    fn read_at_hand(&self, into: &mut [u8]) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        let moving = self.timeline.reading();
        let read = state.stream.read_at_hand(into);
        moving.end(read.as_ref().map_or(0, |count| count.unwrap_or(0)) as u64);
        match read {
            Ok(None) => HostResult::later(),
            Ok(Some(count)) => HostResult::done(count),
            Err(error) => self.failed(state, &error, Transfer::Read),
        }
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.is_answered {
            return answered();
        }
        if let Some(status) = fault::replaced(state.read_fault, head.status) {
            state.overridden = Some(status);
            return HostResult::done(0);
        }
        state.has_head = true;
        if connections::are_leaving() {
            state.stream.end_connection();
        }
        let stream = &mut state.stream;
        // GET is the only method for which ranges are defined (RFC 9110, 14.2). For GET, the filter itself decides when
        // to leave a response alone, and it alone sees what the filters before it have made of the response.
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
                // Headers that tell the client how to go on belong to the status; the others belong to the page that is
                // replaced.
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

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_some() {
            return HostResult::unwanted();
        }
        if state.is_answered {
            return answered();
        }
        let then = match end {
            // Such a filter makes requests, which the thread that flushes later could not run.
            WriteEnd::More if state.stream.runs_requests() => Then::Flush,
            WriteEnd::More => Then::More,
            WriteEnd::Flush => Then::Flush,
            WriteEnd::End => Then::End,
            WriteEnd::EndNow => Then::EndNow,
        };
        let moving = self.timeline.writing();
        let bytes: usize = chunks.iter().map(|chunk| chunk.get_or_empty().len()).sum();
        let chunks = chunks.iter().map(|chunk| chunk.get_or_empty());
        let _limit = self.limit_writes();
        let written = state.stream.write(chunks, then);
        moving.end(bytes as u64);
        self.written(state, written)
    }

    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_some() {
            return HostResult::done(0);
        }
        if state.is_answered {
            return answered();
        }
        let moving = self.timeline.writing();
        let _limit = self.limit_writes();
        let result = state.stream.send_file(file, offset, length, self.sendfile);
        moving.end(length);
        self.written(state, result)
    }

    fn cut_response(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_none() && !state.is_answered {
            state.stream.cut();
        }
    }

    /// Sends what was written with [`WriteEnd::More`].
    fn flush(&self) -> HostResult {
        let state = &mut *self.state.borrow_mut();
        if state.overridden.is_some() || state.stream.runs_requests() {
            return HostResult::done(0);
        }
        if state.is_answered {
            return answered();
        }
        let _limit = self.limit_writes();
        let flushed = state.stream.write(std::iter::empty(), Then::Flush);
        self.written(state, flushed)
    }

    fn client_presence(&self) -> Presence {
        client::presence(self.request)
    }

    /// Answers 504 instead of the thread that is stuck with the request, and ends the connection.
    fn give_up(&self) {
        // A thread inside one of these methods waits for the client, for which there are other limits.
        let Ok(mut state) = self.state.try_borrow_mut() else {
            return;
        };
        client::wait_little(self.request);
        let is_answered = state.is_answered || state.overridden.is_some();
        let stream = &mut state.stream;
        if !stream.is_begun() && !is_answered {
            stream.end_connection();
            stream.set_status(504, GATEWAY_TIMEOUT);
            stream.set_content_length(0);
            // An error means that the client is gone.
            let _ = stream.write(std::iter::empty(), Then::Flush);
            let _ = stream.write(std::iter::empty(), Then::End);
        }
        client::hang_up(self.request);
        self.timeline.give_up();
    }

    fn ssl_variable(&self, name: &[u8]) -> Option<&[u8]> {
        self.request.ssl_variable(name)
    }
}

/// Returns whether the application sends `Accept-Ranges: none`.
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

/// Returns the result for the engine once a filter has answered.
fn answered() -> HostResult {
    HostResult::failed(
        Fault::Answered,
        "a filter of httpd has answered the request",
    )
}
