//! Sending: the body that the application gives, chunk by chunk, and what is left to send once Python was left.
//!
//! A body whose end is known (a list or tuple, or one that has reached its declared length) is collected while it is
//! small, and leaves in one piece after Python; everything else goes out when it comes ([`crate::flusher`] says how), with
//! the GIL released.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pyo3::ffi;
use wsgi_abi::WriteEnd;

use crate::copy;
use crate::host::{Failure, Request};
use crate::object::{Attached, ExceptionClass, Obj, PyResult, Raised};
use crate::request::RequestState;
use crate::response::{COLLECT_LIMIT, Commit};
use crate::telemetry;
use crate::types::{State, bytes_of, request_ended, write_failed};

/// What is to be sent after Python was left.
#[derive(Default)]
pub(crate) enum Last {
    /// Headers, where they have not left, and what was collected.
    #[default]
    Collected,
    /// A part of a file.
    File {
        /// The file, a descriptor of our own.
        fd: OwnedFd,
        /// Where to begin.
        offset: u64,
        /// How much to send.
        length: u64,
    },
}

/// How sending the body ended.
pub(crate) enum Sent {
    /// All of it was taken.
    All(Last),
    /// The client is gone; nobody is interested in the rest.
    Aborted,
}

/// Sends data at once, and the headers before it.
pub(crate) fn send(
    py: &Attached<'_>,
    request: &Arc<RequestState>,
    data: &[u8],
    end: WriteEnd,
) -> PyResult<()> {
    match send_or_failure(py, request, data, end)? {
        Ok(()) => Ok(()),
        Err(failure) => Err(write_failed(py, &failure)),
    }
}

fn send_or_failure(
    py: &Attached<'_>,
    request: &Arc<RequestState>,
    data: &[u8],
    end: WriteEnd,
) -> PyResult<Result<(), Failure>> {
    if !request.response().is_started() {
        return Err(not_started(py, request));
    }
    let sent = request.host_call(py, move |host| {
        // Inside of the call, so that of two threads that write the first also sends the headers, and that they do
        // not get lost in one that comes too late.
        let (commit, pending, take) = {
            let mut response = request.response();
            let commit = response.commit(None);
            let mut pending = std::mem::take(&mut response.pending);
            pending.truncate(response.take(pending.len()));
            (commit, pending, response.take(data.len()))
        };
        start(host, commit.as_ref())?;
        if !pending.is_empty() {
            host.write(&pending, WriteEnd::More)?;
        }
        let end = match end {
            WriteEnd::Flush => request.pace.next(request),
            end => end,
        };
        match end {
            WriteEnd::Flush => request
                .pace
                .flushing(|| host.write(&data[..take], WriteEnd::Flush)),
            WriteEnd::More if take == 0 => Ok(()),
            end => host.write(&data[..take], end),
        }
    });
    sent.map_err(|_| request_ended(py))
}

/// Hands over the headers, if they are still here.
fn start(host: Request, commit: Option<&Commit>) -> Result<(), Failure> {
    match commit {
        Some(commit) => host.start_response(&commit.head, commit.content_length),
        None => Ok(()),
    }
}

/// Sends what the application returned.
pub(crate) fn send_result<'i>(
    py: &Attached<'i>,
    state: &State,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) -> PyResult<Sent> {
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
    if let Some(file) = file_of(py, state, request, result)? {
        return Ok(Sent::All(file));
    }
    send_iterable(py, request, result)
}

/// A list or tuple: all chunks are there, so the length is known and nothing needs a flush.
fn send_known<'i>(
    py: &Attached<'i>,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
    is_list: bool,
) -> PyResult<Sent> {
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
        return Ok(Sent::All(Last::Collected));
    }
    let started = request
        .host_call(py, |host| {
            let commit = request.response().commit(Some(total as u64));
            start(host, commit.as_ref())
        })
        .map_err(|_| request_ended(py))?;
    if let Err(failure) = started {
        return aborted_or_raised(py, &failure);
    }
    for chunk in chunks {
        if let Err(failure) = send_or_failure(py, request, bytes_of(chunk), WriteEnd::More)? {
            return aborted_or_raised(py, &failure);
        }
    }
    Ok(Sent::All(Last::Collected))
}

/// Any other iterable: each chunk goes out when it comes, but for one that completes the declared length.
fn send_iterable<'i>(
    py: &Attached<'i>,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) -> PyResult<Sent> {
    // SAFETY: attached and alive.
    let iterator = unsafe { py.own(ffi::PyObject_GetIter(result.as_ptr())) };
    copy::ends(py);
    let iterator = iterator?;
    loop {
        // SAFETY: an iterator; null means the end, or an exception.
        let chunk = unsafe { ffi::PyIter_Next(iterator.as_ptr()) };
        copy::ends(py);
        if chunk.is_null() {
            break;
        }
        // SAFETY: a new reference.
        let chunk = unsafe { py.own(chunk)? };
        check_bytes(py, request, &chunk)?;
        let data = bytes_of(&chunk);
        if data.is_empty() {
            continue;
        }
        if collect(request, data) {
            continue;
        }
        if request.response().is_complete() {
            // Surplus over the declared length.
            continue;
        }
        if let Err(failure) = send_or_failure(py, request, data, WriteEnd::Flush)? {
            return aborted_or_raised(py, &failure);
        }
    }
    // SAFETY: attached.
    if unsafe { !ffi::PyErr_Occurred().is_null() } {
        return Err(Raised);
    }
    if !request.response().is_started() {
        return Err(not_started(py, request));
    }
    Ok(Sent::All(Last::Collected))
}

/// Keeps the data for later if it is small and completes what was declared.
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

/// A file wrapper whose file httpd can send itself.
fn file_of<'i>(
    py: &Attached<'i>,
    state: &State,
    request: &Arc<RequestState>,
    result: &Obj<'i>,
) -> PyResult<Option<Last>> {
    let Some(filelike) = state.files.wrapped(py, result)? else {
        return Ok(None);
    };
    {
        let response = request.response();
        if response.is_committed() || !response.is_started() {
            return Ok(None);
        }
        if response.is_without_content() {
            return Ok(Some(Last::Collected));
        }
    }
    let Some(file) = state.files.regular(py, &filelike) else {
        return Ok(None);
    };
    let available = file.length;
    let started = request
        .host_call(py, |host| {
            let mut response = request.response();
            let length = response.declared().unwrap_or(available).min(available);
            let commit = response.commit_with_length(length);
            // Without headers to send, another thread has begun to write meanwhile.
            let Some(commit) = commit else {
                return Ok(None);
            };
            response.take(usize::try_from(length).unwrap_or(usize::MAX));
            drop(response);
            start(host, Some(&commit)).map(|()| Some(length))
        })
        .map_err(|_| request_ended(py))?;
    match started {
        Ok(Some(length)) => Ok(Some(Last::File {
            fd: file.fd,
            offset: file.offset,
            length,
        })),
        Ok(None) => Ok(None),
        Err(failure) => Err(write_failed(py, &failure)),
    }
}

/// How a response ended.
pub(crate) enum End {
    /// Whole.
    Whole,
    /// With fewer bytes than it had declared, and not ended for httpd: it has to be cut.
    Short,
    /// Whole, without a body that its status does not allow.
    WithoutContent(u16),
}

/// Sends what is left, with this end. Called after Python was left, by the thread that runs the request or in its place.
pub(crate) fn finish(
    host: Request,
    request: &RequestState,
    last: Last,
    end: WriteEnd,
) -> Result<End, Failure> {
    match last {
        Last::Collected => {
            let (commit, pending, take, short, refused) = {
                let mut response = request.response();
                let pending = std::mem::take(&mut response.pending);
                let commit = response.commit(Some(pending.len() as u64));
                let take = response.take(pending.len());
                (
                    commit,
                    pending,
                    take,
                    response.is_short(),
                    response.refused(),
                )
            };
            start(host, commit.as_ref())?;
            if short {
                host.write(&pending[..take], WriteEnd::More)?;
                return Ok(End::Short);
            }
            host.write(&pending[..take], end)?;
            if let Some(status) = refused {
                return Ok(End::WithoutContent(status));
            }
        }
        Last::File { fd, offset, length } => host.send_file(fd, offset, length)?,
    }
    Ok(End::Whole)
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

/// A client that leaves ends the iteration without an exception; other failures raise.
fn aborted_or_raised(py: &Attached<'_>, failure: &Failure) -> PyResult<Sent> {
    match failure {
        Failure::Aborted => Ok(Sent::Aborted),
        Failure::Other(_) => Err(write_failed(py, failure)),
    }
}
