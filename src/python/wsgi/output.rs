//! Sending the response: the body that the application gives, chunk by chunk, and the rest after Python was left.
//!
//! A body whose end is known (a list or tuple, or one that has reached its declared length) is collected while it is
//! small, and sent in one piece after Python was left. Every other body is sent chunk by chunk
//! ([`flusher`](crate::request::flusher) says when each is flushed), with the GIL released.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pyo3::ffi;
use wsgi_abi::{RunOutcome, WriteEnd};
use wsgi_core::messages::Message;
use wsgi_core::request::fault::{Fault, Transfer, verdict};
use wsgi_telemetry::clock;

use crate::application::endings::{Endings, IterableKind};
use crate::application::script::Application;
use crate::cpython::forked;
use crate::cpython::object::{Attached, ExceptionClass, Obj, PyResult, Raised};
use crate::host::level_of;
use crate::metrics::telemetry;
use crate::request::host::{Accepted, Failure, HostRequest};
use crate::request::response::{COLLECT_LIMIT, Commit};
use crate::request::state::RequestState;
use crate::wsgi::start_response::{bytes_of, request_ended, write_failed};

/// The state of a request after Python was left.
pub(crate) enum Done {
    /// The application is done; the rest of the response may be sent.
    Send(Body),
    /// Nothing is left to be sent.
    Final(RunOutcome),
    /// The application could not be loaded, and nothing was sent: another interpreter may run the request.
    Again(Why),
}

/// Why the application could not be loaded.
pub(crate) enum Why {
    /// The script failed; a replica tries to load it again after `again` seconds.
    Failed { again: Option<u64> },
    /// This module refuses to be imported in such an interpreter.
    Refused(String),
}

/// The rest of a response.
pub(crate) enum Body {
    /// The headers, if they were not sent yet, and the collected bytes.
    Collected,
    /// A part of a file.
    File {
        /// A descriptor of the file, owned here.
        fd: OwnedFd,
        /// The offset of the first byte to send.
        offset: u64,
        /// The number of bytes to send.
        length: u64,
    },
    /// Nothing more: the application failed in the middle, so the response must be cut.
    Cut,
}

impl Done {
    /// Sends the rest of the response. The calling thread is not attached, and is the one that runs the request.
    pub(crate) fn send(
        self,
        host: HostRequest,
        application: &Application,
        request: &RequestState,
    ) -> RunOutcome {
        match self {
            Self::Final(outcome) => outcome,
            Self::Again(_) => RunOutcome::Failed,
            Self::Send(Body::Cut) => {
                host.cut_response();
                RunOutcome::Responded
            }
            Self::Send(Body::Collected) => {
                let sent = send_collected(host, application, request);
                responded(host, application, sent)
            }
            Self::Send(Body::File { fd, offset, length }) => {
                let sent = host.send_file(fd, offset, length);
                responded(host, application, sent)
            }
        }
    }
}

/// Returns the outcome of a request from how its rest was sent.
fn responded(
    host: HostRequest,
    application: &Application,
    sent: Result<(), Failure>,
) -> RunOutcome {
    let Err(failure) = sent else {
        return RunOutcome::Responded;
    };
    let verdict = verdict(failure.fault, Transfer::Write);
    if verdict.is_quiet {
        return RunOutcome::Responded;
    }
    let message = verdict.message;
    let line = message.line(&[&application.script_text(), &failure.reason]);
    host.log(level_of(message), line.as_bytes());
    RunOutcome::Failed
}

/// Sends data at once, after the headers if those were not sent yet.
pub(crate) fn send(py: &Attached<'_>, request: &Arc<RequestState>, data: &[u8]) -> PyResult<()> {
    let is_idle = data.is_empty() || request.response().is_over();
    if is_idle && request.client_has_left(py) {
        let gone = Failure {
            fault: Fault::Gone,
            reason: String::new(),
        };
        return Err(write_failed(py, request, &gone));
    }
    if !data.is_empty() && is_too_far_beyond(request) {
        let whole = Failure {
            fault: Fault::Whole,
            reason: String::from("the response is whole"),
        };
        return Err(write_failed(py, request, &whole));
    }
    match send_or_failure(py, request, data, WriteEnd::Flush)? {
        Ok(()) => Ok(()),
        Err(failure) => Err(write_failed(py, request, &failure)),
    }
}

/// Whether `write()` has been called too often, and for too long, since the response was complete.
fn is_too_far_beyond(request: &RequestState) -> bool {
    let mut response = request.response();
    if !response.is_over() {
        return false;
    }
    let now = clock::now();
    let (count, since) = response.goes_beyond(now);
    count > MORE_CHUNKS && now.saturating_sub(since) >= MORE_TIME
}

/// Sends data. Data that completes the declared length goes out with the end of the response.
fn send_or_failure(
    py: &Attached<'_>,
    request: &Arc<RequestState>,
    data: &[u8],
    end: WriteEnd,
) -> PyResult<Result<(), Failure>> {
    {
        let response = request.response();
        if !response.is_started() {
            drop(response);
            return Err(not_started(py, request));
        }
        if response.is_ended() {
            return Ok(Ok(()));
        }
    }
    let sent = request.host_call(py, move |host| send_in_call(host, request, data, end));
    sent.map_err(|_| request_ended(py))
}

/// Sends the collected bytes at once, with the end of the response.
fn send_whole(py: &Attached<'_>, request: &Arc<RequestState>) -> PyResult<Result<(), Failure>> {
    let sent =
        request.host_call_at_end(py, |host| send_in_call(host, request, &[], WriteEnd::Flush));
    sent.map_err(|_| request_ended(py))
}

/// Sends data from inside the call of the host. So the first of two threads that write also sends the headers, and the
/// headers do not get lost in a call that comes too late.
fn send_in_call(
    host: HostRequest,
    request: &Arc<RequestState>,
    data: &[u8],
    end: WriteEnd,
) -> Result<(), Failure> {
    let (commit, mut pending, take, end) = {
        let mut response = request.response();
        if response.is_ended() {
            return Ok(());
        }
        let commit = response.commit(None);
        let mut pending = std::mem::take(&mut response.pending);
        pending.truncate(response.take(pending.len()));
        let take = response.take(data.len());
        let end = if end == WriteEnd::Flush && response.is_complete() {
            response.end();
            WriteEnd::EndNow
        } else {
            end
        };
        (commit, pending, take, end)
    };
    start(host, commit.as_ref())?;
    let mut data = &data[..take];
    if !pending.is_empty() {
        pending.extend_from_slice(data);
        data = &pending;
    }
    let end = match end {
        WriteEnd::Flush => request.pace.next(request),
        end => end,
    };
    let taken = match end {
        WriteEnd::More if data.is_empty() => return Ok(()),
        WriteEnd::Flush | WriteEnd::EndNow => {
            let written = request.pace.flushing(|| host.write(data, end));
            if let Err(failure) = &written
                && failure.fault == Fault::Server
            {
                // The client has not got the whole response, which has to be cut.
                request.response().reopen();
            }
            written?
        }
        end => host.write(data, end)?,
    };
    if taken == Accepted::Unwanted {
        request.response().note_unwanted();
    }
    Ok(())
}

/// Hands the headers to the host, if they have not been sent.
fn start(host: HostRequest, commit: Option<&Commit>) -> Result<(), Failure> {
    match commit {
        Some(commit) => host.start_response(&commit.head, commit.content_length),
        None => Ok(()),
    }
}

/// Sends the body that the application returned.
pub(crate) fn send_result<'i>(
    py: &Attached<'i>,
    application: &Application,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) -> PyResult<Done> {
    // SAFETY: attached and alive.
    let (is_list, is_tuple) = unsafe {
        (
            ffi::PyList_CheckExact(result.as_ptr()) != 0,
            ffi::PyTuple_CheckExact(result.as_ptr()) != 0,
        )
    };
    if is_list || is_tuple {
        return send_known(py, request, result, is_list);
    }
    if let Some(file) = file_of(py, request, result)? {
        return Ok(Done::Send(file));
    }
    send_iterable(py, application.endings(), request, result)
}

/// Sends a list or tuple. All chunks are there, so the length is known and nothing needs a flush.
fn send_known<'i>(
    py: &Attached<'i>,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
    is_list: bool,
) -> PyResult<Done> {
    let mut chunks: Vec<Obj<'i>> = Vec::new();
    let mut single = None;
    let count = result.len()?;
    let mut total: usize = 0;
    for at in 0..count {
        // SAFETY: attached. The item of a list is a new reference: without a GIL another thread may change the list.
        let chunk = unsafe {
            if is_list {
                py.own(ffi::compat::PyList_GetItemRef(result.as_ptr(), at as isize))?
            } else {
                py.share(ffi::PyTuple_GetItem(result.as_ptr(), at as isize))?
            }
        };
        check_bytes(py, request, &chunk)?;
        total += bytes_of(&chunk).len();
        if count == 1 {
            single = Some(chunk);
        } else {
            chunks.push(chunk);
        }
    }
    let chunks: &[Obj<'i>] = single.as_ref().map_or(&chunks, std::slice::from_ref);
    let small = {
        let mut response = request.response();
        if !response.is_started() {
            drop(response);
            return Err(not_started(py, request));
        }
        let small = total + response.pending.len() <= COLLECT_LIMIT;
        if small {
            for chunk in chunks {
                response.pending.extend_from_slice(bytes_of(chunk));
            }
        }
        small
    };
    if small {
        return Ok(Done::Send(Body::Collected));
    }
    let started = request
        .host_call(py, |host| {
            let commit = request.response().commit(Some(total as u64));
            start(host, commit.as_ref())
        })
        .map_err(|_| request_ended(py))?;
    if let Err(failure) = started {
        return aborted_or_raised(py, request, &failure);
    }
    for chunk in chunks {
        if let Err(failure) = send_or_failure(py, request, bytes_of(chunk), WriteEnd::More)? {
            return aborted_or_raised(py, request, &failure);
        }
    }
    Ok(Done::Send(Body::Collected))
}

/// Sends any other iterable: each chunk is sent when it comes. A chunk that completes the declared length may wait for
/// the end of the iterable, if iterables of its kind are known to end quickly.
fn send_iterable<'i>(
    py: &Attached<'i>,
    endings: &Endings,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) -> PyResult<Done> {
    // SAFETY: attached and alive.
    let iterator = unsafe { py.own(ffi::PyObject_GetIter(result.as_ptr())) };
    forked::ends(py);
    let iterator = iterator?;
    let mut in_a_row: u32 = 0;
    let mut whole: Option<Whole> = None;
    loop {
        // SAFETY: an iterator; null means the end, or an exception.
        let chunk = unsafe { ffi::PyIter_Next(iterator.as_ptr()) };
        forked::ends(py);
        if chunk.is_null() {
            break;
        }
        // SAFETY: a new reference.
        let chunk = unsafe { py.own(chunk)? };
        check_bytes(py, request, &chunk)?;
        let data = bytes_of(&chunk);
        if let Some(whole) = &mut whole {
            if !whole.is_sent {
                whole.is_sent = true;
                if let Err(failure) = send_whole(py, request)? {
                    return aborted_or_raised(py, request, &failure);
                }
            }
            if whole.is_enough() {
                endings.note_more(whole.kind);
                return Ok(Done::Send(Body::Collected));
            }
            continue;
        }
        if data.is_empty() {
            if request.client_has_left(py) {
                return Ok(Done::Final(RunOutcome::ClientLeft));
            }
            in_a_row = in_a_row.wrapping_add(1);
            if in_a_row.is_multiple_of(OTHERS_TURN) {
                py.detach(|| ());
            }
            continue;
        }
        in_a_row = 0;
        if collect(request, data) {
            let kind = IterableKind::of(py, result);
            let is_sent = !endings.are_quick(kind);
            if is_sent && let Err(failure) = send_whole(py, request)? {
                return aborted_or_raised(py, request, &failure);
            }
            whole = Some(Whole::new(kind, is_sent));
            continue;
        }
        if let Err(failure) = send_or_failure(py, request, data, WriteEnd::Flush)? {
            return aborted_or_raised(py, request, &failure);
        }
        if request.response().is_over() {
            whole = Some(Whole::new(IterableKind::of(py, result), true));
        }
    }
    // SAFETY: attached.
    if unsafe { !ffi::PyErr_Occurred().is_null() } {
        return Err(Raised);
    }
    if !request.response().is_started() {
        return Err(not_started(py, request));
    }
    if let Some(whole) = whole {
        whole.ended(endings);
    }
    Ok(Done::Send(Body::Collected))
}

/// After this many empty chunks in a row other threads get the GIL: an iterator written in C does not release it.
const OTHERS_TURN: u32 = 256;

/// How many chunks an iterable may still give once its response is complete, before it is closed, and for how long
/// (nanoseconds). That leaves an iterable the time for its work after the last chunk, and stops an endless one.
const MORE_CHUNKS: u32 = 100;
const MORE_TIME: u64 = 1_000_000_000;

/// A response that is complete before its iterable has ended.
struct Whole {
    kind: IterableKind,
    since: u64,
    /// Whether the response was sent already.
    is_sent: bool,
    more: u32,
}

impl Whole {
    fn new(kind: IterableKind, is_sent: bool) -> Self {
        Self {
            kind,
            since: clock::now(),
            is_sent,
            more: 0,
        }
    }

    /// Counts one more chunk, which is dropped. Returns whether no further chunk is taken.
    fn is_enough(&mut self) -> bool {
        self.more += 1;
        self.more >= MORE_CHUNKS || clock::now().saturating_sub(self.since) >= MORE_TIME
    }

    /// Notes that the iterable has ended by itself.
    fn ended(self, endings: &Endings) {
        if self.more == 0 {
            endings.note(self.kind, clock::now().saturating_sub(self.since));
        } else {
            endings.note_more(self.kind);
        }
    }
}

/// Keeps the data for later if it is small and completes the declared length. Returns whether it does.
fn collect(request: &RequestState, data: &[u8]) -> bool {
    let mut response = request.response();
    if response.is_committed() || data.len() > COLLECT_LIMIT {
        return false;
    }
    let complete = match response.declared() {
        Some(declared) => response.pending.len() as u64 + data.len() as u64 >= declared,
        None => false,
    };
    if complete {
        let declared = usize::try_from(response.declared().unwrap_or(0)).unwrap_or(usize::MAX);
        let room = declared.saturating_sub(response.pending.len());
        let take = data.len().min(room);
        response.pending.extend_from_slice(&data[..take]);
    }
    complete
}

/// Returns the file of a file wrapper, if httpd can send it itself.
fn file_of<'i>(
    py: &Attached<'i>,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) -> PyResult<Option<Body>> {
    let Some(filelike) = py.state().files.wrapped(py, result)? else {
        return Ok(None);
    };
    {
        let mut response = request.response();
        if response.is_committed() || !response.is_started() {
            return Ok(None);
        }
        if response.is_without_content() {
            response.refuse_body();
            return Ok(Some(Body::Collected));
        }
    }
    let Some(file) = py.state().files.regular(py, &filelike) else {
        return Ok(None);
    };
    let available = file.length;
    let started = request
        .host_call(py, |host| {
            let mut response = request.response();
            let length = response.declared().unwrap_or(available).min(available);
            let commit = response.commit_with_length(length);
            // There are no headers to send if another thread has begun to write.
            let Some(commit) = commit else {
                return Ok(None);
            };
            response.take(usize::try_from(length).unwrap_or(usize::MAX));
            drop(response);
            start(host, Some(&commit))?;
            // The file is the whole body.
            request.response().end();
            Ok(Some(length))
        })
        .map_err(|_| request_ended(py))?;
    match started {
        Ok(Some(length)) => Ok(Some(Body::File {
            fd: file.fd,
            offset: file.offset,
            length,
        })),
        Ok(None) => Ok(None),
        Err(failure) => Err(write_failed(py, request, &failure)),
    }
}

/// Sends the collected bytes, after the headers if those were not sent yet. Logs a body that does not fit the declared
/// length or the status.
fn send_collected(
    host: HostRequest,
    application: &Application,
    request: &RequestState,
) -> Result<(), Failure> {
    let (commit, pending, take, is_short, refused) = {
        let mut response = request.response();
        if response.is_ended() {
            let refused = response.refused();
            drop(response);
            log_refused_body(host, application, refused);
            return Ok(());
        }
        let pending = std::mem::take(&mut response.pending);
        let commit = response.commit(Some(pending.len() as u64));
        let take = response.take(pending.len());
        let refused = response.refused();
        (commit, pending, take, response.is_short(), refused)
    };
    start(host, commit.as_ref())?;
    if is_short {
        // The body is not ended for httpd, so that it can be cut.
        host.write(&pending[..take], WriteEnd::More)?;
        telemetry::protocol_error(request.app());
        let line = Message::ShortBody.line(&[&application.script_text()]);
        host.log(level_of(Message::ShortBody), line.as_bytes());
        host.cut_response();
        return Ok(());
    }
    host.write(&pending[..take], WriteEnd::End)?;
    log_refused_body(host, application, refused);
    Ok(())
}

/// Logs that the response had a body, which its status does not allow.
fn log_refused_body(host: HostRequest, application: &Application, status: Option<u16>) {
    if let Some(status) = status {
        let line = Message::BodyRefused.line(&[&application.script_text(), &status]);
        host.log(level_of(Message::BodyRefused), line.as_bytes());
    }
}

fn check_bytes(py: &Attached<'_>, request: &RequestState, chunk: &Obj<'_>) -> PyResult<()> {
    // SAFETY: attached and alive.
    if unsafe { ffi::PyBytes_Check(chunk.as_ptr()) } != 0 {
        return Ok(());
    }
    telemetry::protocol_error(request.app());
    let text = format!(
        "response iterable must yield bytes, got value of type {}",
        chunk.type_name()
    );
    Err(py.raise(ExceptionClass::Type, &text))
}

fn not_started(py: &Attached<'_>, request: &RequestState) -> Raised {
    telemetry::protocol_error(request.app());
    py.raise(
        ExceptionClass::Runtime,
        "response has not been started: start_response() was not called",
    )
}

/// Ends the iteration without an exception if the client takes no more of the response; other failures raise.
fn aborted_or_raised(
    py: &Attached<'_>,
    request: &RequestState,
    failure: &Failure,
) -> PyResult<Done> {
    if verdict(failure.fault, Transfer::Write).is_quiet {
        Ok(Done::Final(RunOutcome::Responded))
    } else {
        Err(write_failed(py, request, failure))
    }
}
