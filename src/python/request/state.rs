//! The state of one request, shared by the thread that runs it and the Python objects that were handed to the
//! application (`wsgi.input`, `wsgi.errors`, `start_response`).
//!
//! The objects may outlive the request, and other Python threads may use them while it runs. The watchdog uses the
//! state, too. httpd allows one thread at a time to use a request and
//! its connection, even for a line of the log, for which it makes ids in their pools. Hence three rules:
//! * every call of the host is made under the request's own lock, `calls`. A call that may block goes through
//!   [`RequestState::host_call`], which takes the lock after the GIL was released and gives it back before the GIL is
//!   taken again;
//! * a line of the log does not wait for that lock, which a slow client can hold up without limit: if another thread
//!   holds it, the line goes out by [`HostRequest::log_beside`], which uses nothing that a call may change;
//! * [`RequestState::finish`] marks the request as ended and waits for a call that another thread may still be in.
//!   Afterwards the objects raise an exception.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use wsgi_abi::{EnvEntry, RunRequest, Slice, Times, keys};
use wsgi_core::log::log_lines::LineBuffer;
use wsgi_core::request::fault::{Fault, Transfer, Vigil};
use wsgi_telemetry::{App, clock};

use crate::cpython::object::Attached;
use crate::host::{self, Level};
use crate::metrics::telemetry::{self, Stream};
use crate::process;
use crate::request::deadline::Deadline;
use crate::request::flusher::Pace;
use crate::request::host::{Failure, HostRequest};
use crate::request::nesting::Lender;
use crate::request::permit;
use crate::request::response::Response;
use crate::sync::{lock, lock_of_copy, try_lock};

/// The state of one request.
pub(crate) struct RequestState {
    host: HostRequest,
    finished: AtomicBool,
    /// Held during a call of the host, never while attaching.
    calls: Mutex<()>,
    /// The partial line of `wsgi.errors` and of the standard streams. Held while lines are logged, so that the request
    /// cannot end before they are out.
    log: Mutex<LineBuffer>,
    /// Status, headers and what was sent. Held for single steps only.
    response: Mutex<Response>,
    /// Bytes of the body that were read from the host and not yet by the application. Held for single steps only.
    pub(crate) input: Mutex<BodyInput>,
    /// Whether there may be a body at all.
    pub(crate) has_body: bool,
    /// Decides when to check for the client while nothing is sent to it. Held for single steps only.
    vigil: Mutex<Vigil>,
    /// Whether the client was found to have left while there was nothing to send to it.
    has_left: AtomicBool,
    /// The first failure of the host that the application was told.
    fault: OnceLock<Told>,
    /// Whether the request has waited for a call of the host.
    waited: AtomicBool,
    /// When the chunks of the response are flushed.
    pub(crate) pace: Pace,
    /// The request line, for messages, once the request was answered without its thread.
    given_up: OnceLock<String>,
    deadline: Deadline,
    /// What requests nested in this one borrow.
    lender: Arc<Lender>,
    /// The host's entries of the environ. They live as long as the host's request.
    environ: Slice<'static, EnvEntry<'static>>,
    /// The application of the request, for the metrics.
    app: App,
    /// Stamps, to and from the host; null if nothing is measured. They live as long as the host's request.
    times: *const Times,
}

// SAFETY: `times` points to atomics, and is used like the host: not after `finish`.
unsafe impl Send for RequestState {}
// SAFETY: as above.
unsafe impl Sync for RequestState {}

/// Longest path that messages show, in characters.
const LONGEST_PATH: usize = 200;

/// Returns when a request began, as a stamp: the host's stamp, if there is one, or else now.
fn began(raw: &RunRequest<'_>) -> u64 {
    let stamp = raw
        .timing
        .times
        .map_or(0, |times| times.stamp.load(Ordering::Relaxed));
    if stamp == 0 { clock::now() } else { stamp }
}

/// How far the body has been read.
#[derive(Default)]
pub(crate) struct BodyInput {
    /// Bytes read from the host; those from `at` on were not yet handed out.
    pub(crate) buffer: Vec<u8>,
    /// Start of the unread bytes in `buffer`.
    pub(crate) at: usize,
    /// Whether the end of the body was seen.
    pub(crate) ended: bool,
    /// Why a read failed. Every later read fails too.
    pub(crate) failed: Option<Fault>,
    /// Why reading ahead stopped. The first read that needs more reports it.
    pub(crate) failure: Option<Failure>,
}

/// A failure of the host that the application was told.
pub(crate) struct Told {
    pub(crate) failure: Failure,
    pub(crate) transfer: Transfer,
}

/// The error of a call for a request that has ended.
pub(crate) struct Ended;

thread_local! {
    /// The request that this thread runs, for `sys.stdout` and `sys.stderr`.
    static CURRENT: Cell<*const RequestState> = const { Cell::new(std::ptr::null()) };
}

impl RequestState {
    /// # Safety
    /// The host and the times of `raw` must stay valid until [`RequestState::finish`] has returned.
    pub(crate) unsafe fn new(host: HostRequest, raw: &RunRequest<'_>) -> Arc<Self> {
        Arc::new(Self {
            host,
            finished: AtomicBool::new(false),
            calls: Mutex::new(()),
            log: Mutex::new(LineBuffer::new()),
            response: Mutex::new(Response::new(raw.environ.header_only)),
            input: Mutex::new(BodyInput::default()),
            has_body: raw.body.is_there,
            vigil: Mutex::default(),
            has_left: AtomicBool::new(false),
            fault: OnceLock::new(),
            waited: AtomicBool::new(false),
            pace: Pace::default(),
            given_up: OnceLock::new(),
            deadline: Deadline::begin(began(raw), raw.limits),
            lender: Arc::new(Lender::new(raw.nesting)),
            // SAFETY: only `line` looks at the entries, and not after `finish`. [S-24]
            environ: unsafe {
                std::mem::transmute::<Slice<'_, EnvEntry<'_>>, Slice<'static, EnvEntry<'static>>>(
                    raw.environ.entries,
                )
            },
            app: App::new(raw.target.app),
            times: raw
                .timing
                .times
                .map_or(std::ptr::null(), std::ptr::from_ref),
        })
    }

    /// Whether the request has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Returns the response so far.
    pub(crate) fn response(&self) -> MutexGuard<'_, Response> {
        lock(&self.response)
    }

    /// Calls the host with the GIL released, one call at a time.
    pub(crate) fn host_call<R: Send>(
        &self,
        py: &Attached<'_>,
        call: impl FnOnce(HostRequest) -> R + Send,
    ) -> Result<R, Ended> {
        self.waited.store(true, Ordering::Relaxed);
        self.host_call_at_end(py, call)
    }

    /// Does the same as [`Self::host_call`] for a call that ends the response, which does not show that the application
    /// waits.
    pub(crate) fn host_call_at_end<R: Send>(
        &self,
        py: &Attached<'_>,
        call: impl FnOnce(HostRequest) -> R + Send,
    ) -> Result<R, Ended> {
        if process::is_copy() {
            return Err(Ended);
        }
        py.detach_timed(|left| self.outside(|| self.call(left, call)))
    }

    /// Whether the client has left while there is nothing to send to it. Cheap: it asks the host only now and then.
    pub(crate) fn client_has_left(&self, py: &Attached<'_>) -> bool {
        if !lock(&self.vigil).is_due(clock::now()) {
            return false;
        }
        match self.host_call(py, HostRequest::client_presence) {
            Ok(presence) => {
                let left = lock(&self.vigil).has_left(presence, clock::now());
                self.has_left.fetch_or(left, Ordering::Relaxed);
                left
            }
            Err(Ended) => false,
        }
    }

    /// Whether [`Self::client_has_left`] has found that the client left.
    pub(crate) fn was_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// Whether the client has left, for the thread that owns the request and waits in the queue with it. Returns
    /// `false` while another thread is in a call of the host.
    pub(crate) fn client_has_left_queue(&self) -> bool {
        let Some(_one) = try_lock(&self.calls) else {
            return false;
        };
        if self.is_finished() {
            return false;
        }
        let presence = self.host.client_presence();
        lock(&self.vigil).has_left(presence, clock::now())
    }

    /// Notes a failure that the application is told; only the first one is kept.
    pub(crate) fn tell(&self, failure: &Failure, transfer: Transfer) {
        self.fault.get_or_init(|| Told {
            failure: failure.clone(),
            transfer,
        });
    }

    /// Returns the failure of the host that the application was told first.
    pub(crate) fn told(&self) -> Option<&Told> {
        self.fault.get()
    }

    /// Does `work` with the permit of the request free for other requests, unless the watchdog has given the permit back
    /// for good.
    fn outside<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Steps in again, also if the work panics.
        struct Back<'a>(&'a Deadline);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.step_in();
            }
        }
        let _offer = self.lender.offer();
        if permit::is_kept() || !self.deadline.step_out() {
            return work();
        }
        let _back = Back(&self.deadline);
        permit::outside(work)
    }

    /// Makes the call. Returns its result and the stamp of its end.
    fn call<R>(&self, left: u64, call: impl FnOnce(HostRequest) -> R) -> (Result<R, Ended>, u64) {
        let _one = lock(&self.calls);
        if self.is_finished() {
            return (Err(Ended), 0);
        }
        // SAFETY: the request has not ended, and `finish` waits for the lock. [S-24]
        let times = unsafe { self.times.as_ref() };
        if let Some(times) = times {
            times.stamp.store(left, Ordering::Relaxed);
        }
        let result = call(self.host);
        let back = times.map_or(0, |times| times.stamp.swap(0, Ordering::Relaxed));
        (Ok(result), back)
    }

    /// Flushes what the filters hold back of the response, on a flusher thread. Returns `false` if another thread is in
    /// a call of the host, so that the flush has to be tried again.
    pub(crate) fn flush_owed(&self) -> bool {
        let Some(_one) = try_lock(&self.calls) else {
            return false;
        };
        if !self.is_finished() {
            // The next write finds out that the client is gone.
            let _ = self.pace.settle_if_due(self.host);
        }
        true
    }

    /// Returns what requests nested in this one borrow.
    pub(crate) fn lender(&self) -> &Arc<Lender> {
        &self.lender
    }

    /// Returns the deadline of the request.
    pub(crate) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Returns method and path, for messages, without the query, which may hold secrets.
    pub(crate) fn line(&self) -> String {
        let Some(_open) = self.log() else {
            return self.shown();
        };
        if self.is_finished() {
            let known = self.given_up.get().cloned();
            return known.unwrap_or_else(|| String::from("a request that has ended"));
        }
        self.shown()
    }

    /// Returns method and path of a request that has not ended.
    fn shown(&self) -> String {
        let value = |id| {
            let value = EnvEntry::value_of(self.environ.get_or_empty(), id);
            String::from_utf8_lossy(value).into_owned()
        };
        let path = value(keys::REQUEST_URI);
        let path = path.split('?').next().unwrap_or_default();
        let path: String = path.chars().take(LONGEST_PATH).collect();
        format!("{} {path}", value(keys::REQUEST_METHOD))
    }

    /// Logs a line of the request, which has not ended. The caller holds the lock of the log.
    fn log_open(&self, level: Level, line: &[u8]) {
        match try_lock(&self.calls) {
            Some(_one) => self.host.log(level, line),
            None => self.host.log_beside(level, line),
        }
    }

    /// Answers the request without its thread, which is stuck. Returns whether that was possible. Called by the
    /// watchdog.
    pub(crate) fn give_up(&self) -> bool {
        // The lock of the log comes first, so that no thread holds the lock of the calls only to log a line.
        let mut log = lock(&self.log);
        // A thread in a call of the host waits for the client, for which httpd has a limit.
        let Some(_one) = try_lock(&self.calls) else {
            return false;
        };
        if self.is_finished() {
            return false;
        }
        log.flush(|line| self.host.log(Level::Error, line));
        self.given_up.get_or_init(|| self.shown());
        self.finished.store(true, Ordering::Release);
        drop(log);
        self.host.give_up();
        true
    }

    /// Whether the request was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get().is_some()
    }

    /// Whether the application has waited for a call of the host before it was done.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited.load(Ordering::Relaxed)
    }

    /// Reads up to `limit` bytes of the body that have arrived, so that the GIL is not released for them; most small
    /// bodies are read whole. Called by the thread that owns the request, before Python is entered.
    pub(crate) fn read_ahead(&self, limit: usize) {
        let _one = lock(&self.calls);
        let mut input = lock(&self.input);
        let input = &mut *input;
        let mut filled = 0;
        input.buffer.resize(limit, 0);
        while filled < limit {
            match self.host.read_at_hand(&mut input.buffer[filled..]) {
                Ok(Some(0)) => {
                    input.ended = true;
                    break;
                }
                Ok(Some(count)) => filled += count,
                Ok(None) => break,
                Err(failure) => {
                    input.failure = Some(failure);
                    break;
                }
            }
        }
        input.buffer.truncate(filled);
        self.note_unread(input);
    }

    /// Tells the host how many bytes of the body the application has not asked for so far.
    fn note_unread(&self, input: &BodyInput) {
        // SAFETY: the request has not ended, because its thread calls this or waits for the thread that does. [S-24]
        if let Some(times) = unsafe { self.times.as_ref() } {
            let unread = input.buffer.len().saturating_sub(input.at);
            times.body_unread.store(unread as u64, Ordering::Relaxed);
        }
    }

    /// Notes that the application is done.
    pub(crate) fn left(&self) {
        self.note_unread(&lock(&self.input));
    }

    /// Returns the host, for the thread that runs the request, once that is detached and the request is
    /// [`Self::finish`]ed.
    ///
    /// # Safety
    /// Only for the thread that runs the request, after `finish`, before it returns to the host.
    pub(crate) unsafe fn host_after_finish(&self) -> HostRequest {
        debug_assert!(self.is_finished());
        self.host
    }

    /// Logs a line to the request's log, or to the server's if the request has ended.
    pub(crate) fn log_line(&self, level: Level, line: &[u8]) {
        let open = self.log();
        if self.is_finished() || open.is_none() {
            host::log(level, &String::from_utf8_lossy(line));
        } else {
            self.log_open(level, line);
        }
    }

    /// Returns the lock of the log, or `None` in a forked copy of this process if a thread held it that the copy does
    /// not have.
    fn log(&self) -> Option<MutexGuard<'_, LineBuffer>> {
        if process::is_copy() {
            lock_of_copy(&self.log)
        } else {
            Some(lock(&self.log))
        }
    }

    /// Writes text of the application to the request's log, one record for each line.
    pub(crate) fn log_write(&self, data: &[u8], stream: Stream) -> Result<(), Ended> {
        let mut lines = 0;
        let Some(mut log) = self.log() else {
            let mut own = LineBuffer::new();
            let mut log = |line: &[u8]| {
                host::log(Level::Error, &String::from_utf8_lossy(line));
            };
            own.push(data, &mut log);
            own.flush(&mut log);
            return Ok(());
        };
        if self.is_finished() {
            return Err(Ended);
        }
        log.push(data, |line| {
            lines += 1;
            self.log_open(Level::Error, line);
        });
        drop(log);
        telemetry::count_lines(self.app, stream, lines);
        Ok(())
    }

    /// Logs a partial line.
    pub(crate) fn log_flush(&self, stream: Stream) -> Result<(), Ended> {
        let mut lines = 0;
        let Some(mut log) = self.log() else {
            return Ok(());
        };
        if self.is_finished() {
            return Err(Ended);
        }
        log.flush(|line| {
            lines += 1;
            self.log_open(Level::Error, line);
        });
        drop(log);
        telemetry::count_lines(self.app, stream, lines);
        Ok(())
    }

    /// Returns the application of the request, for the metrics.
    pub(crate) fn app(&self) -> App {
        self.app
    }

    /// Makes this the request of the calling thread, until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        Entered(CURRENT.replace(Arc::as_ptr(self)))
    }

    /// Marks the request as ended and waits for the call of another thread, if there is one. Called by the thread that
    /// runs the request, while detached.
    pub(crate) fn finish(&self) {
        let mut lines = 0;
        let mut log = lock(&self.log);
        log.flush(|line| {
            lines += 1;
            self.log_open(Level::Error, line);
        });
        // The partial line may come from any stream; it is counted as one of `wsgi.errors`.
        telemetry::count_lines(self.app, Stream::Errors, lines);
        // Set under the lock of the log, so that no other thread is between its check of the mark and its call.
        self.finished.store(true, Ordering::Release);
        drop(log);
        drop(lock(&self.calls));
    }
}

/// Ends [`RequestState::enter`] when dropped: the thread has its previous request again, if this one was nested in it.
pub(crate) struct Entered(*const RequestState);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Passes the request that the calling thread runs to `with`, if it runs one.
pub(crate) fn with_current<R>(with: impl FnOnce(Option<&RequestState>) -> R) -> R {
    let current = CURRENT.get();
    // SAFETY: set by `enter` from an Arc that outlives the `Entered` guard, which clears it. [S-24]
    with(unsafe { current.as_ref() })
}
