//! The host of a test: feeds the body in given pieces, and records what it is told.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use wsgi_abi::{
    ABI_VERSION, BUILD_ID, Bytes, GroupOptions, HostRequest, HostResult, HostStatus, HostTable,
    PathLayer, ResponseHead, RunOutcome, WriteEnd,
};

/// A part of a request's body.
pub(super) enum Piece {
    Data(Vec<u8>),
    /// Something to wait for before the next part is there.
    Wait(Box<dyn FnOnce() + Send>),
    Aborted,
    Failed(&'static str),
}

impl Piece {
    pub(super) fn text(text: &str) -> Piece {
        Piece::Data(text.into())
    }
}

/// What the engine made of a request.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub(super) outcome: Option<RunOutcome>,
    /// Empty where the response was not started.
    pub(super) status_line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content_length: Option<u64>,
    pub(super) writes: Vec<(Vec<u8>, WriteEnd)>,
    pub(super) file: Option<Vec<u8>>,
    pub(super) cut: bool,
    /// Level and line.
    pub(super) log: Vec<(i32, String)>,
    /// Size asked for by each read.
    pub(super) reads: Vec<usize>,
}

impl Exchange {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// All of the body.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .writes
            .iter()
            .flat_map(|write| write.0.clone())
            .collect();
        bytes.extend(self.file.iter().flatten());
        bytes
    }

    /// The writes, as text.
    pub(super) fn pieces(&self) -> Vec<(&str, WriteEnd)> {
        let writes = self.writes.iter();
        writes
            .map(|(data, end)| (std::str::from_utf8(data).unwrap(), *end))
            .collect()
    }

    /// The lines of one level of the log.
    pub(super) fn lines(&self, level: i32) -> Vec<&str> {
        let of_level = self.log.iter().filter(|(at, _)| *at == level);
        of_level.map(|(_, line)| line.as_str()).collect()
    }

    pub(super) fn logged(&self, fragment: &str) -> bool {
        self.log.iter().any(|(_, line)| line.contains(fragment))
    }

    pub(super) fn is(&self, outcome: RunOutcome) -> bool {
        self.outcome == Some(outcome)
    }
}

/// One request on the side of the host; its address is the `HostRequest`.
#[derive(Default)]
pub(super) struct Host {
    pub(super) body: Mutex<VecDeque<Piece>>,
    /// From the write with this number on, the client is gone.
    pub(super) aborted_after: Option<usize>,
    record: Mutex<Exchange>,
    /// A call that may block is under way.
    busy: AtomicBool,
    ended: AtomicBool,
}

impl Host {
    /// Has a request run with this host.
    pub(super) fn run(self, run: impl FnOnce(*mut HostRequest) -> RunOutcome) -> Exchange {
        // Kept for ever, so that a call after the end is found out instead of being undefined.
        let host: &'static Host = Box::leak(Box::new(self));
        let outcome = run((&raw const *host).cast_mut().cast());
        host.ended.store(true, Ordering::SeqCst);
        let mut record = std::mem::take(&mut *lock(&host.record));
        record.outcome = Some(outcome);
        record
    }

    /// # Safety
    /// `request` must be a pointer that [`Host::run`] gave.
    unsafe fn of(request: *mut HostRequest) -> &'static Host {
        // SAFETY: by contract; hosts are never freed.
        let host = unsafe { &*request.cast::<Host>() };
        assert!(
            !host.ended.load(Ordering::SeqCst),
            "a call after the end of the request"
        );
        host
    }

    /// A call that may block: without the GIL, and one at a time.
    ///
    /// # Safety
    /// As for [`Host::of`].
    unsafe fn enter(request: *mut HostRequest) -> (&'static Host, Busy) {
        // SAFETY: by contract.
        let host = unsafe { Host::of(request) };
        assert!(!holds_gil(), "a call that may block, with the GIL held");
        assert!(
            !host.busy.swap(true, Ordering::SeqCst),
            "two calls at a time"
        );
        (host, Busy(&host.busy))
    }

    fn read(&self, into: &mut [u8]) -> HostResult {
        lock(&self.record).reads.push(into.len());
        if into.is_empty() {
            return count(0);
        }
        loop {
            // The lock is not held while the piece is waited for.
            let piece = lock(&self.body).pop_front();
            match piece {
                None => return count(0),
                Some(Piece::Wait(wait)) => wait(),
                Some(Piece::Aborted) => return failure(HostStatus::Aborted, ""),
                Some(Piece::Failed(reason)) => return failure(HostStatus::Failed, reason),
                Some(Piece::Data(data)) if data.is_empty() => {}
                Some(Piece::Data(mut data)) => {
                    let rest = data.split_off(data.len().min(into.len()));
                    into[..data.len()].copy_from_slice(&data);
                    if !rest.is_empty() {
                        lock(&self.body).push_front(Piece::Data(rest));
                    }
                    return count(data.len());
                }
            }
        }
    }

    fn is_aborted(&self, record: &Exchange) -> bool {
        self.aborted_after
            .is_some_and(|after| record.writes.len() >= after)
    }
}

struct Busy(&'static AtomicBool);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the calling thread is attached. `PyGILState_Check` says always yes once there is a sub-interpreter.
pub(super) fn holds_gil() -> bool {
    // SAFETY: neither needs the GIL. Before 3.12 the first gives the state of whichever thread holds the GIL, and the
    // second the one state of this thread.
    unsafe {
        let current = ffi::compat::PyThreadState_GetUnchecked();
        !current.is_null() && current == ffi::PyGILState_GetThisThreadState()
    }
}

fn count(count: usize) -> HostResult {
    HostResult {
        status: HostStatus::Ok,
        count,
        reason: Bytes::ABSENT,
    }
}

fn failure(status: HostStatus, reason: &'static str) -> HostResult {
    HostResult {
        status,
        count: 0,
        reason: Bytes::new(reason.as_bytes()),
    }
}

fn text(bytes: Bytes) -> String {
    // SAFETY: borrowed for the call that the bytes are an argument of, and copied at once.
    String::from_utf8_lossy(unsafe { bytes.get_or_empty() }).into_owned()
}

/// Lines of the server's log, from all tests.
static SERVER_LOG: Mutex<Vec<(i32, String)>> = Mutex::new(Vec::new());

/// Whether the server's log has such a line.
pub(super) fn server_logged(level: i32, line: &str) -> bool {
    lock(&SERVER_LOG)
        .iter()
        .any(|entry| *entry == (level, line.to_owned()))
}

/// The functions are called by the engine only, and do not unwind: a failed assertion in one ends the test process.
pub(super) static TABLE: HostTable = HostTable {
    abi_version: ABI_VERSION,
    build_id: Bytes::new(BUILD_ID.as_bytes()),
    log,
    read_body,
    start_response,
    write,
    send_file,
    cut_response,
    ssl_variable,
    group_options,
};

unsafe extern "C" fn log(request: *mut HostRequest, level: c_int, line: Bytes) {
    let line = (level, text(line));
    if request.is_null() {
        lock(&SERVER_LOG).push(line);
    } else {
        // SAFETY: a request of `Host::run`.
        lock(&unsafe { Host::of(request) }.record).log.push(line);
    }
}

unsafe extern "C" fn read_body(request: *mut HostRequest, into: *mut u8, len: usize) -> HostResult {
    // SAFETY: a request of `Host::run`, and a buffer of the engine.
    let ((host, _busy), into) = unsafe {
        (
            Host::enter(request),
            std::slice::from_raw_parts_mut(into, len),
        )
    };
    host.read(into)
}

unsafe extern "C" fn start_response(
    request: *mut HostRequest,
    head: *const ResponseHead,
) -> HostResult {
    // SAFETY: a request of `Host::run`, and a head that is valid during the call.
    let ((host, _busy), head) = unsafe { (Host::enter(request), &*head) };
    let mut record = lock(&host.record);
    assert!(record.status_line.is_empty(), "a second start_response");
    record.status_line = text(head.status_line);
    assert_eq!(record.status_line[..3].parse::<u16>().unwrap(), head.status);
    // SAFETY: as above.
    let headers = unsafe { crate::host::slice(head.headers, head.headers_len) };
    record.headers = headers
        .iter()
        .map(|header| (text(header.name), text(header.value)))
        .collect();
    record.content_length = u64::try_from(head.content_length).ok();
    count(0)
}

unsafe extern "C" fn write(
    request: *mut HostRequest,
    chunks: *const Bytes,
    chunks_len: usize,
    end: WriteEnd,
) -> HostResult {
    // SAFETY: a request of `Host::run`, and chunks that are valid during the call.
    let ((host, _busy), chunks) =
        unsafe { (Host::enter(request), crate::host::slice(chunks, chunks_len)) };
    let mut record = lock(&host.record);
    assert!(
        !record.status_line.is_empty(),
        "a write before start_response"
    );
    assert!(
        !record.writes.iter().any(|write| write.1 == WriteEnd::End),
        "a write after the end"
    );
    if host.is_aborted(&record) {
        return failure(HostStatus::Aborted, "");
    }
    // SAFETY: as above.
    let data = chunks
        .iter()
        .flat_map(|chunk| unsafe { chunk.get_or_empty() }.to_vec());
    let data = data.collect();
    record.writes.push((data, end));
    count(0)
}

unsafe extern "C" fn send_file(
    request: *mut HostRequest,
    fd: c_int,
    offset: u64,
    length: u64,
) -> HostResult {
    // SAFETY: a request of `Host::run`; the descriptor is given away by the engine.
    let ((host, _busy), file) = unsafe { (Host::enter(request), File::from_raw_fd(fd)) };
    let mut record = lock(&host.record);
    assert!(
        !record.status_line.is_empty(),
        "a file before start_response"
    );
    if host.is_aborted(&record) {
        return failure(HostStatus::Aborted, "");
    }
    let mut content = vec![0; usize::try_from(length).unwrap()];
    file.read_exact_at(&mut content, offset).unwrap();
    record.file = Some(content);
    count(0)
}

unsafe extern "C" fn cut_response(request: *mut HostRequest) {
    // SAFETY: a request of `Host::run`.
    let (host, _busy) = unsafe { Host::enter(request) };
    let mut record = lock(&host.record);
    assert!(!record.status_line.is_empty(), "nothing to cut");
    record.cut = true;
}

unsafe extern "C" fn ssl_variable(request: *mut HostRequest, name: Bytes, value: *mut Bytes) {
    // SAFETY: a request of `Host::run`, and a place for the answer.
    let ((_host, _busy), value) = unsafe { (Host::enter(request), &mut *value) };
    match text(name).as_str() {
        "HTTPS" => *value = Bytes::new(b"on"),
        "SSL_CLIENT_S_DN" => *value = Bytes::new(b"CN=caf\xe9"),
        _ => {}
    }
}

/// Restricts what the groups whose name begins with "restricted" may do, and gives "with-path" a search path.
unsafe extern "C" fn group_options(group: Bytes, options: *mut GroupOptions) {
    static DIRS: Constant<[Bytes; 2]> = Constant([
        Bytes::new(b"/nonexistent/one"),
        Bytes::new(b"/nonexistent/two"),
    ]);
    static LAYERS: Constant<[PathLayer; 1]> = Constant([PathLayer {
        dirs: DIRS.0.as_ptr(),
        dirs_len: 2,
    }]);
    // SAFETY: a place for the answer.
    let options = unsafe { &mut *options };
    let group = text(group);
    let restricted = group.starts_with("restricted");
    options.restrict_stdin = restricted;
    options.restrict_stdout = restricted;
    options.restrict_signal = restricted;
    if group == "with-path" {
        options.python_path = LAYERS.0.as_ptr();
        options.python_path_len = LAYERS.0.len();
    }
}

struct Constant<T>(T);
// SAFETY: constant data.
unsafe impl<T> Sync for Constant<T> {}
