//! The body of a request and the response to it, through httpd's filters.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::FdFlags;

use wsgi_core::request::fault::Fault;

use crate::mpm::connections;
use crate::request::Request;
use crate::{c_bytes, sys};

/// Statuses that httpd's filters return when the client is gone.
const GONE: [sys::apr_status_t; 13] = [
    sys::APR_EAGAIN as c_int,
    sys::APR_EOF as c_int,
    sys::APR_INCOMPLETE as c_int,
    libc::ECONNRESET,
    libc::ECONNABORTED,
    libc::EPIPE,
    libc::ENOTCONN,
    libc::ESHUTDOWN,
    libc::EHOSTUNREACH,
    libc::EHOSTDOWN,
    libc::ENETUNREACH,
    libc::ENETDOWN,
    libc::ENETRESET,
];

/// Statuses that httpd's filters return when httpd itself is short of memory or descriptors.
const SHORT: [sys::apr_status_t; 4] = [libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::ENOBUFS];

/// Why reading or writing stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The cause.
    pub fault: Fault,
    /// APR's text for the status.
    pub reason: String,
}

/// The body of one request and the response to it.
pub struct Stream<'r> {
    request: Request<'r>,
    input: *mut sys::apr_bucket_brigade,
    output: *mut sys::apr_bucket_brigade,
    input_ended: bool,
    /// Whether the request may have a body.
    has_body: bool,
    ahead: Ahead,
    /// Whether the end of the response was passed on.
    ended: bool,
}

/// What [`Stream::read_whole`] has read, and the error that stopped it or [`Stream::read_start`].
#[derive(Default)]
struct Ahead {
    data: Vec<u8>,
    /// The start of the part of `data` that was not taken yet.
    at: usize,
    error: Option<StreamError>,
}

/// What comes after the data of a [`Stream::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More data; httpd may hold this data back.
    More,
    /// More data; this data is sent now.
    Flush,
    /// The end of the response.
    End,
    /// The end of the response, and all of it is sent now, as the handler goes on.
    EndNow,
}

impl<'r> Stream<'r> {
    /// Returns the stream of `request` for its handler. `has_body`: whether the request may have a body.
    pub fn new(request: Request<'r>, has_body: bool) -> Self {
        Self {
            request,
            input: std::ptr::null_mut(),
            output: std::ptr::null_mut(),
            input_ended: false,
            has_body,
            ahead: Ahead::default(),
            ended: false,
        }
    }

    fn rec(&self) -> *mut sys::request_rec {
        self.request.as_ptr()
    }

    fn new_brigade(&self) -> *mut sys::apr_bucket_brigade {
        // SAFETY: pool and allocator of the request, which only this thread uses. [S-64]
        unsafe { sys::apr_brigade_create((*self.rec()).pool, self.bucket_alloc()) }
    }

    fn bucket_alloc(&self) -> *mut sys::apr_bucket_alloc_t {
        // SAFETY: every request has a connection, which only this thread uses. [S-64]
        unsafe { (*(*self.rec()).connection).bucket_alloc }
    }

    /// Reads the part of the body that has arrived. Blocks until at least one byte or the end of the body has arrived.
    /// With an empty `into`, only sends a pending `100 Continue`.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        let read = self.read_by(into, sys::APR_BLOCK_READ)?;
        Ok(read.unwrap_or(0))
    }

    /// Reads the whole body if it has at most `limit` bytes, and keeps it for later reads. Returns the length that the
    /// filters gave. Returns `None` if the body is longer, and if reading failed: then the read at that position
    /// returns the error.
    pub fn read_whole(&mut self, limit: usize) -> Option<usize> {
        let mut filled = 0;
        let mut data = vec![0; limit + 1];
        while filled <= limit {
            match self.read_by(&mut data[filled..], sys::APR_BLOCK_READ) {
                Ok(Some(count @ 1..)) => filled += count,
                Ok(_) => break,
                Err(error) => {
                    self.ahead.error = Some(error);
                    break;
                }
            }
        }
        data.truncate(filled);
        self.ahead.data = data;
        (filled <= limit && self.ahead.error.is_none()).then_some(filled)
    }

    /// Reads what has arrived of the start of the body, without blocking. Returns the number of bytes, and whether this
    /// is the whole body. If reading fails, the read at that position returns the error.
    pub fn read_start(&mut self, into: &mut [u8]) -> (usize, bool) {
        let mut filled = 0;
        while filled < into.len() {
            match self.read_at_hand(&mut into[filled..]) {
                Ok(Some(0)) => return (filled, true),
                Ok(Some(count)) => filled += count,
                Ok(None) => break,
                Err(error) => {
                    self.ahead.error = Some(error);
                    break;
                }
            }
        }
        (filled, false)
    }

    /// Takes from what was read ahead; `None` if nothing is left.
    fn take_ahead(&mut self, into: &mut [u8]) -> Option<Result<usize, StreamError>> {
        let ahead = &mut self.ahead;
        let left = &ahead.data[ahead.at..];
        if left.is_empty() {
            return ahead.error.take().map(Err);
        }
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        ahead.at += count;
        if ahead.at == ahead.data.len() {
            (ahead.data, ahead.at) = (Vec::new(), 0);
        }
        Some(Ok(count))
    }

    /// Reads the part of the body that has arrived, without blocking; `None` if nothing has.
    pub fn read_at_hand(&mut self, into: &mut [u8]) -> Result<Option<usize>, StreamError> {
        self.read_by(into, sys::APR_NONBLOCK_READ)
    }

    fn read_by(
        &mut self,
        into: &mut [u8],
        mode: sys::apr_read_type_e,
    ) -> Result<Option<usize>, StreamError> {
        if let Some(taken) = self.take_ahead(into) {
            return taken.map(Some);
        }
        if self.input.is_null() {
            self.input = self.new_brigade();
        }
        // SAFETY: a brigade of this request, the buckets in it, and the filters of the request, which only this thread
        // uses; the data of a bucket are copied before the bucket is deleted. [S-4] [S-64]
        unsafe {
            let mut filled = self.take_buffered(into)?;
            while filled == 0 && !self.input_ended {
                let status = sys::ap_get_brigade(
                    (*self.rec()).input_filters,
                    self.input,
                    sys::AP_MODE_READBYTES,
                    mode,
                    into.len() as sys::apr_off_t,
                );
                let is_empty = status == 0 && sys::wsgi_shim_first(self.input).is_null();
                if mode == sys::APR_NONBLOCK_READ
                    && (status == sys::APR_EAGAIN as c_int || is_empty)
                {
                    return Ok(None);
                }
                if status != 0 {
                    self.input_ended = true;
                    return Err(self.read_error(status));
                }
                if into.is_empty() {
                    return Ok(Some(0));
                }
                filled = self.take_buffered(into)?;
            }
            Ok(Some(filled))
        }
    }

    /// Copies data from the buckets in `input`.
    ///
    /// # Safety
    /// `input` must be a brigade of this request.
    unsafe fn take_buffered(&mut self, into: &mut [u8]) -> Result<usize, StreamError> {
        let mut filled = 0;
        // SAFETY: by contract. [S-4]
        unsafe {
            while filled < into.len() {
                let bucket = sys::wsgi_shim_first(self.input);
                if bucket.is_null() {
                    break;
                }
                if sys::wsgi_shim_is_eos(bucket) != 0 {
                    self.input_ended = true;
                    sys::apr_brigade_cleanup(self.input.cast());
                    break;
                }
                if sys::wsgi_shim_is_metadata(bucket) != 0 {
                    sys::wsgi_shim_delete(bucket);
                    continue;
                }
                let (mut data, mut len) = (std::ptr::null(), 0);
                let status = sys::wsgi_shim_read(bucket, &mut data, &mut len);
                if status != 0 {
                    self.input_ended = true;
                    return Err(self.read_error(status));
                }
                let take = len.min(into.len() - filled);
                if take < len {
                    sys::wsgi_shim_split(bucket, take);
                }
                std::ptr::copy_nonoverlapping(data.cast::<u8>(), into[filled..].as_mut_ptr(), take);
                filled += take;
                sys::wsgi_shim_delete(bucket);
            }
        }
        Ok(filled)
    }

    /// Returns the error of a failed read. Ends the connection, as the rest of the body may still arrive on it.
    fn read_error(&self, status: sys::apr_status_t) -> StreamError {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::wsgi_shim_keepalive_off(self.rec()) };
        StreamError {
            fault: read_fault(status, self.is_aborted()),
            reason: reason(status),
        }
    }

    /// Sets the status and the status line.
    pub fn set_status(&mut self, status: u16, line: &[u8]) {
        let line = self.request.pool().dup(line);
        // SAFETY: only this thread uses the request; the line lives as long as the request. [S-64]
        unsafe {
            let rec = self.rec();
            (*rec).status = status.into();
            (*rec).status_line = line;
            // Otherwise a later read of the body would send "100 Continue" in the middle of the response.
            sys::wsgi_shim_end_expecting_100(rec);
        }
    }

    /// Makes the response end its connection. Must be called before the response begins.
    pub fn end_connection(&mut self) {
        // SAFETY: only this thread uses the request, whose head has not been sent. [S-64]
        unsafe { connections::end_connection(self.rec()) }
    }

    /// Sets the content type, for which httpd may add output filters.
    pub fn set_content_type(&mut self, value: &[u8]) {
        // SAFETY: only this thread uses the request; the copy lives as long as the request. [S-64]
        unsafe { sys::ap_set_content_type(self.rec(), self.request.pool().dup(value)) }
    }

    /// Sets the content length.
    pub fn set_content_length(&mut self, length: u64) {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::ap_set_content_length(self.rec(), i64::try_from(length).unwrap_or(i64::MAX)) }
    }

    /// Adds a header. `even_for_errors`: also send it with an error page of httpd.
    pub fn add_header(&mut self, name: &[u8], value: &[u8], even_for_errors: bool) {
        let pool = self.request.pool();
        // SAFETY: only this thread uses the request and its tables; the copies live as long as the request. [S-64]
        unsafe {
            let rec = self.rec();
            let table = if even_for_errors {
                (*rec).err_headers_out
            } else {
                (*rec).headers_out
            };
            sys::apr_table_addn(table, pool.dup(name), pool.dup(value));
        }
    }

    /// Removes the filter for byte ranges, which would cut ranges out of the response to any method.
    pub fn refuse_ranges(&mut self) {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::wsgi_shim_refuse_ranges(self.rec()) }
    }

    /// Returns the current status of the response.
    fn status(&self) -> c_int {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { (&raw const (*self.rec()).status).read() }
    }

    /// Returns whether a write may make other requests run. Those must run on the thread of this request.
    pub fn runs_requests(&self) -> bool {
        // SAFETY: looks at the chain of filters of the request, which only this thread uses. [S-64]
        unsafe { sys::wsgi_shim_runs_requests(self.rec()) != 0 }
    }

    /// Returns whether the head of the response has been written to the connection.
    pub fn is_begun(&self) -> bool {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::wsgi_shim_head_sent(self.rec()) != 0 }
    }

    /// Returns whether a filter has ended the response before the application did. mod_xsendfile does this and then
    /// removes itself: data written later would be taken for the response to the next request.
    pub fn is_over(&self) -> bool {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { (&raw const (*self.rec()).eos_sent).read() != 0 && !self.ended }
    }

    /// Sends data. httpd copies what it does not send at once.
    pub fn write<'d>(
        &mut self,
        chunks: impl Iterator<Item = &'d [u8]>,
        then: Then,
    ) -> Result<(), StreamError> {
        if self.is_over() {
            return Err(StreamError {
                fault: Fault::Answered,
                reason: String::from("a filter of httpd has ended the response"),
            });
        }
        if self.output.is_null() {
            self.output = self.new_brigade();
        }
        self.ended |= matches!(then, Then::End | Then::EndNow);
        // SAFETY: transient buckets point at data that outlives the call of the filters; a filter that keeps a bucket
        // sets it aside, which copies it. The filters are those of the request, which only this thread uses. [S-5]
        // [S-64]
        unsafe {
            let alloc = self.bucket_alloc();
            for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
                let bucket =
                    sys::apr_bucket_transient_create(chunk.as_ptr().cast(), chunk.len(), alloc);
                sys::wsgi_shim_insert_tail(self.output, bucket);
            }
            match then {
                Then::More => {}
                Then::Flush => {
                    sys::wsgi_shim_insert_tail(self.output, sys::apr_bucket_flush_create(alloc))
                }
                Then::End | Then::EndNow => {
                    sys::wsgi_shim_insert_tail(self.output, sys::apr_bucket_eos_create(alloc));
                }
            }
            self.pass()?;
            // mod_http2 flushes the streams of its connection itself.
            let holds_back = self.request.protocol().starts_with(b"HTTP/1");
            let is_awaited = match then {
                Then::End => self.has_body && !self.input_ended,
                Then::EndNow => true,
                Then::More | Then::Flush => false,
            };
            if is_awaited && holds_back {
                self.flush_connection()?;
            }
            Ok(())
        }
    }

    /// Sends what the connection holds back. Before httpd did so, it would read the rest of the body, and the client
    /// may wait for the response before it sends that.
    ///
    /// # Safety
    /// `output` must be an empty brigade of this request.
    unsafe fn flush_connection(&mut self) -> Result<(), StreamError> {
        // SAFETY: by contract; the response has ended for the request's own filters, so the flush goes to the filters
        // of the connection.
        unsafe {
            let flush = sys::apr_bucket_flush_create(self.bucket_alloc());
            sys::wsgi_shim_insert_tail(self.output, flush);
            self.pass_to((*(*self.rec()).connection).output_filters)
        }
    }

    /// Sends a part of a regular file as the end of the response. httpd may send it after the handler has returned, and
    /// even after the request has ended. `offset` and `length` are in bytes.
    pub fn send_file(
        &mut self,
        fd: OwnedFd,
        offset: u64,
        length: u64,
        sendfile: bool,
    ) -> Result<(), StreamError> {
        if self.is_over() {
            return Err(StreamError {
                fault: Fault::Answered,
                reason: String::from("a filter of httpd has ended the response"),
            });
        }
        if self.output.is_null() {
            self.output = self.new_brigade();
        }
        self.ended = true;
        let failed = |status| {
            Err(StreamError {
                fault: Fault::Server,
                reason: reason(status),
            })
        };
        // SAFETY: pool and brigade of the request, which only this thread uses. The file that the buckets share has its
        // own descriptor, which APR owns like one that it has opened, and which moves to another pool with its buckets.
        // [S-6] [S-64]
        unsafe {
            let pool = (*self.rec()).pool;
            let flags = sys::APR_FOPEN_READ
                | if sendfile {
                    sys::APR_FOPEN_SENDFILE_ENABLED
                } else {
                    0
                };
            let (mut ours, mut file) = (std::ptr::null_mut(), std::ptr::null_mut());
            let mut number: c_int = fd.as_raw_fd();
            let status = sys::apr_os_file_put(&mut ours, &mut number, flags as i32, pool);
            if status != 0 {
                return failed(status);
            }
            let status = sys::apr_file_dup(&mut file, ours, pool);
            drop(fd);
            if status != 0 {
                return failed(status);
            }
            // Programs that the application starts must not inherit it; APR closes it only for programs that APR
            // starts.
            sys::apr_os_file_get(&mut number, file);
            let duplicate = BorrowedFd::borrow_raw(number);
            if let Err(error) = rustix::io::fcntl_setfd(duplicate, FdFlags::CLOEXEC) {
                return failed(error.raw_os_error());
            }
            if let (Ok(offset), Ok(length @ 1..)) = (i64::try_from(offset), i64::try_from(length)) {
                let bucket = sys::apr_brigade_insert_file(self.output, file, offset, length, pool);
                // Reading a mapped file that was truncated would end the process by SIGBUS.
                sys::apr_bucket_file_enable_mmap(bucket, 0);
            }
            sys::wsgi_shim_insert_tail(
                self.output,
                sys::apr_bucket_eos_create(self.bucket_alloc()),
            );
            self.pass()
        }
    }

    /// Breaks off a response that has begun, so that the client can tell it from a complete one: what was written is
    /// sent, no end is marked, and the connection is closed.
    pub fn cut(&mut self) {
        if self.is_over() {
            return;
        }
        // An error does not matter: the response is broken off whether or not the client takes the data.
        let _ = self.write(std::iter::empty(), Then::Flush);
        // SAFETY: only this thread uses the request; mod_proxy uses the same buckets when a backend breaks off. [S-7]
        // [S-64]
        unsafe {
            let rec = self.rec();
            let alloc = self.bucket_alloc();
            sys::wsgi_shim_keepalive_off(rec);
            (*rec).no_cache = 1;
            let status = sys::HTTP_BAD_GATEWAY as c_int;
            let error = sys::ap_bucket_error_create(status, std::ptr::null(), (*rec).pool, alloc);
            sys::wsgi_shim_insert_tail(self.output, error);
            sys::wsgi_shim_insert_tail(self.output, sys::ap_bucket_eoc_create(alloc));
            let _ = self.pass();
            (*rec).eos_sent = 1;
        }
    }

    /// Returns whether the client is known to be gone.
    pub fn is_aborted(&self) -> bool {
        // SAFETY: only this thread uses the request and its connection. [S-64]
        unsafe { sys::wsgi_shim_aborted(self.rec()) != 0 }
    }

    /// # Safety
    /// The buckets in `output` must be valid.
    unsafe fn pass(&mut self) -> Result<(), StreamError> {
        // SAFETY: by contract; the filters of the request, which only this thread uses. [S-64]
        unsafe { self.pass_to((*self.rec()).output_filters) }
    }

    /// # Safety
    /// The same as for [`Stream::pass`], and `filters` must be a chain of this request or its connection.
    unsafe fn pass_to(&mut self, filters: *mut sys::ap_filter_t) -> Result<(), StreamError> {
        let (was_begun, before) = (self.is_begun(), self.status());
        // SAFETY: by contract.
        unsafe {
            let status = sys::ap_pass_brigade(filters, self.output);
            sys::apr_brigade_cleanup(self.output.cast());
            if status == 0 && !self.is_aborted() {
                return Ok(());
            }
            // A filter that answers instead of the application sets another status: the byte range filter for ranges
            // outside of the response, mod_xsendfile for a missing file. Some filters also return that status.
            let now = self.status();
            let is_answered = status == sys::AP_FILTER_ERROR
                || now != before && now >= sys::HTTP_BAD_REQUEST as c_int;
            Err(StreamError {
                fault: write_fault(status, self.is_aborted(), is_answered && !was_begun),
                reason: reason(status),
            })
        }
    }
}

/// Returns the cause of a failed read. httpd maps some statuses to HTTP statuses; the others are told apart here.
fn read_fault(status: sys::apr_status_t, is_aborted: bool) -> Fault {
    // SAFETY: a pure function.
    match unsafe { sys::ap_map_http_request_error(status, 0) } {
        sys::AP_FILTER_ERROR => Fault::Answered,
        mapped if mapped == sys::HTTP_REQUEST_ENTITY_TOO_LARGE as c_int => Fault::TooLarge,
        mapped if mapped == sys::HTTP_NOT_IMPLEMENTED as c_int => Fault::Unsupported,
        mapped if mapped == sys::HTTP_REQUEST_TIME_OUT as c_int => Fault::Slow,
        _ if is_aborted || GONE.contains(&status) => Fault::Gone,
        _ if SHORT.contains(&status) => Fault::Server,
        _ => Fault::Malformed,
    }
}

/// Returns the cause of a failed write.
fn write_fault(status: sys::apr_status_t, is_aborted: bool, is_answered: bool) -> Fault {
    if status == sys::APR_TIMEUP as c_int || status == libc::ETIMEDOUT {
        Fault::Slow
    } else if is_aborted || GONE.contains(&status) {
        Fault::Gone
    } else if is_answered {
        Fault::Answered
    } else {
        Fault::Server
    }
}

/// Returns APR's text for a status.
fn reason(status: sys::apr_status_t) -> String {
    let mut buffer = [0 as c_char; 256];
    // SAFETY: writes at most `buffer.len()` bytes, including a NUL.
    unsafe {
        sys::apr_strerror(status, buffer.as_mut_ptr(), buffer.len());
        String::from_utf8_lossy(c_bytes(buffer.as_ptr())).into_owned()
    }
}
