//! What the engine needs from httpd during a request: the host table, over the stream of the request.

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use wsgi_abi::{
    ABI_VERSION, BUILD_ID, Bytes, GroupOptions, HostRequest, HostResult, HostStatus, HostTable,
    PathLayer, ResponseHead, WriteEnd,
};
use wsgi_core::interpreter_options;
use wsgi_httpd::guard::{guard, guard_or};
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::request::Request;
use wsgi_httpd::stream::{Stream, StreamError, Then};

use crate::process::current;

/// The table, for the engine.
pub(crate) static TABLE: HostTable = HostTable {
    abi_version: ABI_VERSION,
    build_id: Bytes::new(BUILD_ID.as_bytes()),
    log: log_line,
    read_body,
    start_response,
    write,
    send_file,
    cut_response,
    ssl_variable,
    group_options,
};

/// A request while the engine runs it. Lives in the frame of the handler.
pub(crate) struct Exchange<'r> {
    stream: Stream<'r>,
    sendfile: bool,
    /// Whether `ErrorDocument` takes the place of the application's own error pages.
    error_override: bool,
    /// The application's status where its page is replaced.
    overridden: Option<u16>,
    /// Whether a filter has answered the request itself, or refuses to read on.
    read_error: Option<StreamError>,
}

impl<'r> Exchange<'r> {
    pub(crate) fn new(request: Request<'r>, sendfile: bool, error_override: bool) -> Self {
        Self {
            stream: Stream::new(request),
            sendfile,
            error_override,
            overridden: None,
            read_error: None,
        }
    }

    /// For the engine, which only hands it back.
    pub(crate) fn as_host_request(&mut self) -> *mut HostRequest {
        (self as *mut Self).cast()
    }

    /// The status with which httpd is to make its own page.
    pub(crate) fn overridden(&self) -> Option<u16> {
        self.overridden
    }

    /// Why the body could not be read.
    pub(crate) fn read_error(&self) -> Option<&StreamError> {
        self.read_error.as_ref()
    }

    /// Sends a response without a body.
    pub(crate) fn send_empty(&mut self, status: u16, line: &[u8]) {
        self.stream.set_status(status, line);
        self.stream.set_content_length(0);
        // The client may be gone, which is no news to anybody.
        let _ = self.stream.write(std::iter::empty(), Then::End);
    }
}

/// # Safety
/// `request` must come from [`Exchange::as_host_request`], the exchange be alive, and no other call for it be under
/// way (`HostTable`).
unsafe fn exchange<'a>(request: *mut HostRequest) -> Option<&'a mut Exchange<'a>> {
    // SAFETY: by contract.
    NonNull::new(request).map(|request| unsafe { request.cast::<Exchange<'a>>().as_mut() })
}

fn result(exchange: &Exchange<'_>, outcome: Result<usize, StreamError>) -> HostResult {
    match outcome {
        Ok(count) => HostResult {
            status: HostStatus::Ok,
            count,
            reason: Bytes::ABSENT,
        },
        // Whoever has answered has taken the client away from the application.
        Err(StreamError::Aborted) => HostResult {
            status: HostStatus::Aborted,
            count: 0,
            reason: Bytes::ABSENT,
        },
        Err(StreamError::Answered) => {
            failed(exchange, "a filter of httpd has answered the request")
        }
        Err(StreamError::TooLarge) => {
            failed(exchange, "the body is longer than LimitRequestBody allows")
        }
        Err(StreamError::Other(reason)) => failed(exchange, &reason),
    }
}

fn failed(exchange: &Exchange<'_>, reason: &str) -> HostResult {
    let reason = exchange.stream.pool().dup_bytes(reason.as_bytes());
    HostResult {
        status: HostStatus::Failed,
        count: 0,
        reason: Bytes::new(reason),
    }
}

/// For a request that is not there, and for a panic.
const NOTHING: HostResult = HostResult {
    status: HostStatus::Failed,
    count: 0,
    reason: Bytes::new(b"internal error of mod_wsgi_rs"),
};

unsafe extern "C" fn log_line(request: *mut HostRequest, level: c_int, line: Bytes) {
    guard(|| {
        // SAFETY: by the contract of the table; logging needs no turn, it only reads the request.
        unsafe {
            let line = line.get_or_empty();
            match NonNull::new(request) {
                Some(request) => {
                    let stream = &raw const (*request.cast::<Exchange<'_>>().as_ptr()).stream;
                    (*stream).request().log(Level(level), line);
                }
                None => log::server(Level(level), line),
            }
        }
    });
}

unsafe extern "C" fn read_body(request: *mut HostRequest, into: *mut u8, len: usize) -> HostResult {
    // SAFETY: by the contract of the table.
    guard_or(NOTHING, || unsafe {
        let Some(exchange) = exchange(request) else {
            return NOTHING;
        };
        let into = if len == 0 {
            &mut [][..]
        } else {
            std::slice::from_raw_parts_mut(into, len)
        };
        let read = exchange.stream.read(into);
        if let Err(error) = &read {
            exchange.read_error = Some(error.clone());
        }
        result(exchange, read)
    })
}

unsafe extern "C" fn start_response(
    request: *mut HostRequest,
    head: *const ResponseHead,
) -> HostResult {
    // SAFETY: by the contract of the table.
    guard_or(NOTHING, || unsafe {
        let Some(exchange) = exchange(request) else {
            return NOTHING;
        };
        let head = &*head;
        let headers = std::slice::from_raw_parts(head.headers, head.headers_len);
        if exchange.error_override && (400..600).contains(&head.status) {
            exchange.overridden = Some(head.status);
        } else {
            exchange
                .stream
                .set_status(head.status, head.status_line.get_or_empty());
            if let Ok(length) = u64::try_from(head.content_length) {
                exchange.stream.set_content_length(length);
            }
        }
        for header in headers {
            let (name, value) = (header.name.get_or_empty(), header.value.get_or_empty());
            if name.eq_ignore_ascii_case(b"www-authenticate") {
                exchange.stream.add_header(name, value, true);
            } else if exchange.overridden.is_some() {
                // The rest belongs to the page that is replaced.
            } else if name.eq_ignore_ascii_case(b"content-type") {
                exchange.stream.set_content_type(value);
            } else {
                exchange.stream.add_header(name, value, false);
            }
        }
        result(exchange, Ok(0))
    })
}

unsafe extern "C" fn write(
    request: *mut HostRequest,
    chunks: *const Bytes,
    chunks_len: usize,
    end: WriteEnd,
) -> HostResult {
    // SAFETY: by the contract of the table.
    guard_or(NOTHING, || unsafe {
        let Some(exchange) = exchange(request) else {
            return NOTHING;
        };
        if exchange.overridden.is_some() {
            return result(exchange, Ok(0));
        }
        if exchange.read_error == Some(StreamError::Answered) {
            return result(exchange, Err(StreamError::Aborted));
        }
        let chunks = std::slice::from_raw_parts(chunks, chunks_len);
        let then = match end {
            WriteEnd::More => Then::More,
            WriteEnd::Flush => Then::Flush,
            WriteEnd::End => Then::End,
        };
        let written = exchange
            .stream
            .write(chunks.iter().map(|chunk| chunk.get_or_empty()), then);
        result(exchange, written.map(|()| 0))
    })
}

unsafe extern "C" fn send_file(
    request: *mut HostRequest,
    fd: c_int,
    offset: u64,
    length: u64,
) -> HostResult {
    // SAFETY: by the contract of the table; the descriptor is ours from here on.
    guard_or(NOTHING, || unsafe {
        let fd = OwnedFd::from_raw_fd(fd);
        let Some(exchange) = exchange(request) else {
            return NOTHING;
        };
        if exchange.overridden.is_some() {
            return result(exchange, Ok(0));
        }
        let sent = exchange
            .stream
            .send_file(fd, offset, length, exchange.sendfile);
        result(exchange, sent.map(|()| 0))
    })
}

unsafe extern "C" fn cut_response(request: *mut HostRequest) {
    // SAFETY: by the contract of the table.
    guard(|| unsafe {
        if let Some(exchange) = exchange(request)
            && exchange.overridden.is_none()
        {
            exchange.stream.cut();
        }
    });
}

unsafe extern "C" fn ssl_variable(request: *mut HostRequest, name: Bytes, value: *mut Bytes) {
    // SAFETY: by the contract of the table.
    guard(|| unsafe {
        if let Some(exchange) = exchange(request) {
            let found = exchange.stream.request().ssl_variable(name.get_or_empty());
            value.write(found.map_or(Bytes::ABSENT, Bytes::new));
        }
    });
}

unsafe extern "C" fn group_options(group: Bytes, options: *mut GroupOptions) {
    guard(|| {
        let Some(process) = current() else { return };
        // SAFETY: by the contract of the table.
        let group = String::from_utf8_lossy(unsafe { group.get_or_empty() }).into_owned();
        let resolved = interpreter_options::group_options(
            &process.interpreter_options,
            &process.python,
            &group,
        );
        if resolved.switch_interval_ignored {
            crate::process::log_message(
                wsgi_core::outcome::Message::SwitchIntervalIgnored,
                &[&group],
            );
        }
        // Kept for ever, once for each interpreter, of which there is a bounded number.
        let layers: &'static [Vec<String>] = resolved.python_path.leak();
        let layers: Vec<PathLayer> = layers
            .iter()
            .map(|layer| {
                let dirs: Vec<Bytes> = layer.iter().map(|dir| Bytes::new(dir.as_bytes())).collect();
                let dirs: &'static [Bytes] = dirs.leak();
                PathLayer {
                    dirs: dirs.as_ptr(),
                    dirs_len: dirs.len(),
                }
            })
            .collect();
        let layers: &'static [PathLayer] = layers.leak();
        // SAFETY: the engine hands over a place for the answer.
        unsafe {
            options.write(GroupOptions {
                python_path: layers.as_ptr(),
                python_path_len: layers.len(),
                switch_interval: resolved.switch_interval.unwrap_or(0.0),
                restrict_stdin: resolved.restrict_stdin,
                restrict_stdout: resolved.restrict_stdout,
                restrict_signal: resolved.restrict_signal,
            });
        }
    });
}
