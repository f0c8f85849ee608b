//! The contract between `mod_wsgi_rs.so` and the engines: two tables of C functions and the `#[repr(C)]` values that
//! their functions take and return. It holds no rules and no policy.
//!
//! The module calls the [`EngineTable`] that an engine exports as `wsgi_engine`; during [`EngineTable::run`] the
//! engine calls back through the [`HostTable`] that it was started with. Both tables begin with
//! [`ABI_VERSION`] and [`BUILD_ID`]; a side that meets another value refuses to go on.
//!
//! Lifetimes say how long a passed value stays valid. The functions that take a request are unsafe, because only their
//! caller knows that the request has not ended. [`Host`] makes them from ordinary methods; [`Engine`] calls an engine.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64};

mod engine;
mod guard;
mod host;
pub mod keys;

pub use engine::Engine;
pub use guard::guard;
pub use host::{Host, Hosts, host_table};

/// Raised with every change of a layout or of a meaning in this crate.
pub const ABI_VERSION: u32 = 6;

/// Distinguishes builds of one [`ABI_VERSION`]: module and engine must come from the same source of the contract.
pub const BUILD_ID: &str = concat!(
    "mod_wsgi_rs ",
    env!("CARGO_PKG_VERSION"),
    ", contract ",
    env!("WSGI_CONTRACT")
);

/// The symbol under which an engine exports its [`EngineTable`].
pub const ENGINE_SYMBOL: &[u8] = b"wsgi_engine\0";

/// A borrowed slice that crosses the contract; it may be absent, which is not the same as empty.
#[repr(C)]
pub struct Slice<'a, T> {
    /// First element, or null for absent; otherwise valid for `len` elements during `'a`.
    ptr: *const T,
    len: usize,
    life: PhantomData<&'a [T]>,
}

/// Borrowed bytes.
pub type Bytes<'a> = Slice<'a, u8>;

/// Keeps a text until the process ends. Only for texts that a process makes a few times: it leaks them.
pub fn keep(text: String) -> Bytes<'static> {
    Bytes::new(text.leak().as_bytes())
}

// SAFETY: a `Slice` stands for an `Option<&[T]>`, which is `Send` and `Sync` if `T` is `Sync`.
unsafe impl<T: Sync> Send for Slice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slice<'_, T> {}

impl<T> Clone for Slice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<'_, T> {}

impl<'a, T> Slice<'a, T> {
    /// No value.
    pub const ABSENT: Self = Self {
        ptr: std::ptr::null(),
        len: 0,
        life: PhantomData,
    };

    /// Borrows `slice`.
    pub const fn new(slice: &'a [T]) -> Self {
        Self {
            ptr: slice.as_ptr(),
            len: slice.len(),
            life: PhantomData,
        }
    }

    /// Returns the slice, or `None` if it is absent.
    pub const fn get(self) -> Option<&'a [T]> {
        if self.ptr.is_null() {
            None
        } else {
            // SAFETY: the fields are private, and `new` took them from a slice that lives for `'a`.
            Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
        }
    }

    /// Returns the slice, or an empty one if it is absent.
    pub const fn get_or_empty(self) -> &'a [T] {
        match self.get() {
            Some(slice) => slice,
            None => &[],
        }
    }
}

impl<'a, T> From<Option<&'a [T]>> for Slice<'a, T> {
    fn from(slice: Option<&'a [T]>) -> Self {
        slice.map_or(Self::ABSENT, Self::new)
    }
}

/// A request on the module's side. The engine only passes the pointer back.
#[repr(C)]
pub struct HostRequest {
    _opaque: [u8; 0],
}

/// How an [`EnvEntry`] holds its key.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `id` is an index into [`keys::KEYS`]; `key` is absent.
    Known,
    /// `key` is the name of a request header as it was sent: `HTTP_` + upper case, `-` becomes `_`.
    Header,
    /// `key` is the environ key itself, latin-1.
    Literal,
}

/// One entry of the environ.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EnvEntry<'a> {
    /// How the entry holds its key.
    pub kind: KeyKind,
    /// Index into [`keys::KEYS`] where `kind` is [`KeyKind::Known`].
    pub id: u16,
    /// The key where `kind` is not [`KeyKind::Known`].
    pub key: Bytes<'a>,
    /// The value, latin-1 (file-system encoding for the paths among the known keys); absent becomes `None`.
    pub value: Bytes<'a>,
}

/// One request, as the module hands it to [`EngineTable::run`].
#[repr(C)]
pub struct RunRequest<'a> {
    /// Passed back with every call of the [`HostTable`]; set by [`RunRequest::for_host`].
    host: *const HostRequest,
    /// What the request runs, and where.
    pub target: Target<'a>,
    /// What the application learns about the request.
    pub environ: Environ<'a>,
    /// The body of the request.
    pub body: BodyPlan,
    /// How long the request may take; all zero for no limits.
    pub limits: Limits,
    /// When the request began, and how long each part takes.
    pub timing: Timing<'a>,
}

/// What a request runs, and where.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Application group; empty for the main interpreter.
    pub group: Bytes<'a>,
    /// Number of the replica that runs the request, from 0; negative for the least busy one.
    pub replica: i32,
    /// Path of the script that holds the callable.
    pub script: Bytes<'a>,
    /// Modification time of the script in microseconds since the epoch; negative where the module did not stat
    /// it, so the engine must.
    pub script_mtime: i64,
    /// Whether a changed script is loaded again.
    pub script_reloading: bool,
    /// How long to wait while another thread loads the same script, seconds.
    pub load_timeout: u32,
    /// Name of the callable in the script.
    pub callable: Bytes<'a>,
    /// The file that the URL was mapped to, which `reload_required` gets as its argument.
    pub resource: Bytes<'a>,
    /// Number of the application in the segment's table.
    pub app: u16,
}

impl<'a> Target<'a> {
    /// The callable `application` of a script, in the main interpreter.
    pub fn new(script: &'a [u8]) -> Self {
        Self {
            group: Bytes::new(b""),
            replica: -1,
            script: Bytes::new(script),
            script_mtime: -1,
            script_reloading: true,
            load_timeout: 60,
            callable: Bytes::new(b"application"),
            resource: Bytes::new(b""),
            app: 0,
        }
    }
}

/// What an application learns about its request.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Environ<'a> {
    /// The entries, in order; a later entry replaces an earlier one of the same key.
    pub entries: Slice<'a, EnvEntry<'a>>,
    /// Whether `wsgi.url_scheme` is `https`.
    pub https: bool,
    /// Whether the client's request method is HEAD, whatever the environ says.
    pub header_only: bool,
    /// `request_rec *` for `apache.request_rec`, or null where the application does not get it.
    pub apache_request: *mut c_void,
}

impl<'a> Environ<'a> {
    /// The environ of a request over plain HTTP with these entries.
    pub fn new(entries: &'a [EnvEntry<'a>]) -> Self {
        Self {
            entries: Slice::new(entries),
            https: false,
            header_only: false,
            apache_request: std::ptr::null_mut(),
        }
    }
}

/// How the body of a request is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyPlan {
    /// Whether the request may have a body; without one, reads end at once and do not call the host.
    pub is_there: bool,
    /// How many bytes are read before Python is entered, as far as they have arrived by then; 0 for none.
    pub ahead: u32,
}

/// When a request began, and how long each part of it takes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Timing<'a> {
    /// When the request was received, microseconds since the epoch.
    pub received: i64,
    /// The times that module and engine pass to each other; `None` where nothing is measured.
    pub times: Option<&'a Times>,
}

/// How long one request may take. Milliseconds; 0 for no limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `WSGIRequestTimeout`: time until the request is interrupted.
    pub request: u32,
    /// How long an interrupted request then has to end, before further measures follow.
    pub grace: u32,
    /// `WSGISlowRequestStack`: time until the request's stack is logged.
    pub slow: u32,
}

/// Times of one request, in nanoseconds of the monotonic clock. A stamp that ends a phase on one side begins the next
/// on the other, so that neither reads the clock again.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Times {
    /// The last stamp. The engine sets it before it calls the host or returns, the host when such a call ends. 0 where
    /// the other side has to read the clock itself.
    pub stamp: AtomicU64,
    /// How long the application ran, set by the engine before it returns.
    pub application: AtomicU64,
    /// How long the request waited for the GIL, set likewise.
    pub gil_wait: AtomicU64,
    /// How long the request was queued for a permit, set likewise.
    pub queue: AtomicU64,
    /// Bytes of the body that were read ahead and that the application has not read, set likewise.
    pub body_unread: AtomicU64,
}

/// Numbers of the arenas that the calling thread may write to; `u32::MAX` for none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arenas {
    /// The arena of the thread, or the spill arena.
    pub thread: u32,
    /// The arena of the child, to which all its threads may write with atomic additions.
    pub process: u32,
}

impl Arenas {
    /// The value in a process that does not record.
    pub const NONE: Self = Self {
        thread: u32::MAX,
        process: u32::MAX,
    };
}

/// The segment of metrics: its memory, and into how many parts of each kind it is divided.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SegmentView {
    /// The whole memory; absent where nothing is measured.
    pub cells: Slice<'static, AtomicU64>,
    /// Number of arenas.
    pub arenas: usize,
    /// Number of applications.
    pub applications: usize,
    /// Number of series for the applications' own metrics.
    pub series: usize,
    /// Set in a process that an application has forked, which must not write to the segment; exists even where nothing
    /// is measured. Check it before you use cells of an arena that was asked for earlier.
    pub detached: Option<&'static AtomicBool>,
}

impl Default for SegmentView {
    fn default() -> Self {
        Self::NONE
    }
}

impl SegmentView {
    /// The view of a server that measures nothing.
    pub const NONE: Self = Self {
        cells: Slice::ABSENT,
        arenas: 0,
        applications: 0,
        series: 0,
        detached: None,
    };
}

/// How a request ended; the module's answer to httpd follows from it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// A response was handed to the host, whole or cut with [`HostTable::cut_response`].
    Responded = 0,
    /// Nothing was sent; answer 500.
    Failed = 1,
    /// Nothing was sent; the script has no such callable: answer 404.
    CallableMissing = 2,
    /// Nothing was sent; the application was interrupted by `mod_wsgi.RequestTimeout`: answer 504 without a body.
    TimedOut = 3,
    /// Nothing was sent; another thread has been loading the script for too long: answer 503.
    LoadTimedOut = 4,
    /// Nothing was sent; Python is ending in this process: answer 503.
    Draining = 5,
    /// Nothing was sent; the group has as many requests as it may have: answer 503.
    QueueFull = 6,
    /// Nothing was sent; no permit came free in time: answer 504.
    QueueTimedOut = 7,
    /// Nothing was sent, as the client left while its request was queued.
    ClientGone = 8,
    /// The request was given up with [`HostTable::give_up`] while it ran: send nothing more.
    GivenUp = 9,
    /// The client left while the application ran and had nothing to send; the response may have begun.
    ClientLeft = 10,
    /// Nothing was sent: a failed call of the host ended the application, and the [`Fault`] of the call says what to
    /// answer.
    Faulted = 11,
    /// Nothing was sent; this process has no interpreter left for the group: answer 503.
    NoInterpreter = 12,
}

/// One header of a response.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header<'a> {
    /// Name as the application gave it, a token.
    pub name: Bytes<'a>,
    /// Value without control characters.
    pub value: Bytes<'a>,
}

/// Status line and headers of a response, validated by the engine.
#[repr(C)]
pub struct ResponseHead<'a> {
    /// Status code, three digits.
    pub status: u16,
    /// The whole of the status line, "200 OK".
    pub status_line: Bytes<'a>,
    /// The headers in the application's order, without `Content-Length`.
    pub headers: Slice<'a, Header<'a>>,
    /// Length of the body; negative where unknown.
    pub content_length: i64,
}

/// How a call of the host ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// Done.
    Ok = 0,
    /// The call failed; `fault` and `reason` say why.
    Failed = 1,
    /// Only for `read_at_hand`: nothing has arrived yet.
    Later = 2,
    /// Only for `write`: done, but the body is not sent, as httpd sends an error page instead.
    Unwanted = 3,
}

/// Why a call of the host failed. `wsgi_core::request::fault` says what follows from each.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client is gone, or has ended its half of the connection before its body was whole.
    Gone = 0,
    /// The client took longer than httpd allows.
    Slow = 1,
    /// The body is longer than `LimitRequestBody` allows.
    TooLarge = 2,
    /// httpd cannot decode the body.
    Malformed = 3,
    /// The body has an encoding that httpd does not implement.
    Unsupported = 4,
    /// A filter of httpd has answered the request.
    Answered = 5,
    /// httpd itself has failed.
    Server = 6,
    /// The response is complete, and the application still writes. Only the engine itself uses this.
    Whole = 7,
}

/// Whether a client is there.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing shows that the client has left.
    Here = 0,
    /// The client sends nothing more. A client that waits for its answer and one that has closed its connection look
    /// the same until something is sent to them.
    HalfClosed = 1,
    /// The connection is closed.
    Gone = 2,
}

/// Result of a call of the host.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostResult {
    /// How the call ended.
    pub status: HostStatus,
    /// Why the call failed, if `status` is [`HostStatus::Failed`].
    pub fault: Fault,
    /// Bytes read, for `read_body`; 0 at the end of the body. 0 otherwise.
    pub count: usize,
    reason_len: u32,
    reason: [u8; 160],
}

impl HostResult {
    /// Done.
    pub const fn done(count: usize) -> Self {
        Self {
            status: HostStatus::Ok,
            fault: Fault::Server,
            count,
            reason_len: 0,
            reason: [0; 160],
        }
    }

    /// Nothing has arrived yet.
    pub const fn later() -> Self {
        Self {
            status: HostStatus::Later,
            ..Self::done(0)
        }
    }

    /// Done, but the body is not sent.
    pub const fn unwanted() -> Self {
        Self {
            status: HostStatus::Unwanted,
            ..Self::done(0)
        }
    }

    /// The client is gone.
    pub const fn aborted() -> Self {
        Self {
            status: HostStatus::Failed,
            fault: Fault::Gone,
            ..Self::done(0)
        }
    }

    /// A failure with its reason `why`, which is cut after 160 bytes.
    pub fn failed(fault: Fault, why: &str) -> Self {
        let mut result = Self {
            status: HostStatus::Failed,
            fault,
            ..Self::done(0)
        };
        let len = why.len().min(result.reason.len());
        result.reason[..len].copy_from_slice(&why.as_bytes()[..len]);
        result.reason_len = len as u32;
        result
    }

    /// Returns why the call failed.
    pub fn reason(&self) -> String {
        let len = (self.reason_len as usize).min(self.reason.len());
        String::from_utf8_lossy(&self.reason[..len]).into_owned()
    }
}

/// What follows the chunks of a [`HostTable::write`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// More chunks will come; httpd may hold these back.
    More = 0,
    /// More chunks will come; these are sent now.
    Flush = 1,
    /// The body ends here.
    End = 2,
    /// The body ends here and is sent at once, while the application goes on; the connection serves other requests
    /// after that.
    EndNow = 3,
}

/// Options of one application group, resolved by the module from `<WSGIInterpreterOptions>` and the server's own
/// directives.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GroupOptions {
    /// Directories for `site.addsitedir`, one slice for each `WSGIPythonPath`, least specific first; each slice goes to
    /// the front of `sys.path`.
    pub python_path: Slice<'static, Slice<'static, Bytes<'static>>>,
    /// Seconds for `sys.setswitchinterval`; 0 leaves CPython's.
    pub switch_interval: f64,
    /// Whether `sys.stdin` is replaced by an object that refuses every use.
    pub restrict_stdin: bool,
    /// Whether `sys.stdout` is replaced likewise.
    pub restrict_stdout: bool,
    /// Whether `signal.signal` is replaced by a function that logs and registers nothing.
    pub restrict_signal: bool,
    /// Whether the group runs in the main interpreter, under whatever name.
    pub main: bool,
    /// Whether writes to `os.environ` stay in the interpreter; no effect in the main one.
    pub private_environ: bool,
    /// How the group's interpreters hold the GIL.
    pub gil: GilMode,
    /// How many interpreters with their own GIL hold the group's applications, from 1; 1 if `gil` is
    /// [`GilMode::Shared`].
    pub replicas: u32,
    /// Most interpreters of groups that the configuration does not name, if this is such a group; `u32::MAX` if the
    /// configuration names it.
    pub most_unnamed: u32,
    /// How the group's requests get into Python.
    pub admission: Admission,
    /// Most requests that may be inside one of the group's interpreters at a time, from 1:
    /// `mod_wsgi.threads_per_process`. `wsgi.multithread` is true where it is more than 1.
    pub threads: u32,
    /// How long the group's applications and interpreters may take to load, milliseconds; 0 for no limit.
    pub startup_timeout: u32,
}

/// How the requests of an application group get into Python.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Which thread runs a request.
    pub strategy: Strategy,
    /// Least and most requests inside an interpreter at a time, for [`Strategy::Delegate`].
    pub least: u32,
    /// See `least`.
    pub most: u32,
    /// Threads for each interpreter, for [`Strategy::Pool`].
    pub pool_size: u32,
    /// Most requests that may wait for a permit.
    pub queue_depth: u32,
    /// How long a request may wait, milliseconds.
    pub queue_timeout: u32,
    /// Most httpd threads that the group's requests may hold at a time, inside or waiting.
    pub share: u32,
}

impl Admission {
    /// All threads may run Python.
    pub const OPEN: Self = Self {
        strategy: Strategy::Direct,
        least: 3,
        most: u32::MAX,
        pool_size: 1,
        queue_depth: u32::MAX,
        queue_timeout: 60_000,
        share: u32::MAX,
    };
}

/// Which thread runs a request.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The request's own httpd thread, at once.
    Direct = 0,
    /// The request's own thread once it has a permit, or another thread that is inside and runs it before it leaves.
    Delegate = 1,
    /// A thread of a pool that does nothing else.
    Pool = 2,
}

/// Why the engine wants the child to be replaced.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// A request did not end after its timeout.
    Stuck = 0,
    /// A GIL was not available for too long.
    Deadlock = 1,
    /// An application or interpreter did not load in time; reported again as long as that lasts.
    Startup = 2,
}

/// How the interpreters of an application group hold the GIL.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GilMode {
    /// One interpreter under the GIL of the process.
    Shared = 0,
    /// Replicas, each with a GIL of its own.
    Own = 1,
    /// As [`GilMode::Own`] if the application can be imported in such an interpreter, else as [`GilMode::Shared`] in
    /// the main interpreter; see [`HostTable::gil_decision`].
    Auto = 2,
}

/// What is known about a group whose mode is [`GilMode::Auto`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GilDecision {
    /// Not known yet: the caller tries, and reports the result with [`HostTable::gil_decided`].
    Unknown = 0,
    /// Each interpreter of the group has its own GIL.
    Own = 1,
    /// The group runs under the GIL of the process, in the main interpreter.
    Shared = 2,
}

/// Whether a free-threaded build of Python runs without the GIL.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FreeThreading {
    /// With the GIL.
    Off = 0,
    /// Without the GIL, until an extension module that needs it switches it on.
    On = 1,
    /// Without the GIL; an application whose extensions switch it on is not served.
    Require = 2,
    /// As `On` with a free-threaded build; any other build is accepted, too.
    Possible = 3,
}

/// How Python ends when the process ends.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtExit {
    /// Runs the shutdown callbacks, waits for non-daemon threads and runs `atexit` of each interpreter; does not
    /// finalize Python.
    Callbacks = 0,
    /// Runs the shutdown callbacks only.
    Publish = 1,
    /// Does the same as `Callbacks`, and then finalizes Python where that is safe.
    Finalize = 2,
}

impl Default for GroupOptions {
    /// The options of a group without any configuration.
    fn default() -> Self {
        Self {
            python_path: Slice::ABSENT,
            switch_interval: 0.0,
            restrict_stdin: false,
            restrict_stdout: false,
            restrict_signal: true,
            main: false,
            private_environ: true,
            gil: GilMode::Shared,
            replicas: 1,
            most_unnamed: u32::MAX,
            admission: Admission::OPEN,
            threads: 1,
            startup_timeout: 0,
        }
    }
}

/// Level of a log record, as in `http_log.h`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `APLOG_CRIT`
    Critical = 2,
    /// `APLOG_ERR`
    Error = 3,
    /// `APLOG_WARNING`
    Warning = 4,
    /// `APLOG_NOTICE`: logged whatever `LogLevel` says.
    Notice = 5,
    /// `APLOG_INFO`
    Info = 6,
    /// `APLOG_DEBUG`
    Debug = 7,
}

impl Level {
    /// Returns the word of `LogLevel` for this level.
    pub fn name(self) -> &'static str {
        match self {
            Level::Critical => "crit",
            Level::Error => "error",
            Level::Warning => "warn",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// What the module offers to the engine; made by [`host_table`].
///
/// A `request` argument is a request that has not ended. Calls for one request never overlap, but may come from another
/// thread than the one that runs it; only `log_beside` may be called at any time. No function unwinds. All but
/// `arenas`, `log`, `log_beside`, `log_server`, `group_options`, `gil_decided` and `retire` may block, so the engine
/// calls them without the GIL.
#[repr(C)]
pub struct HostTable {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// [`BUILD_ID`].
    pub build_id: Bytes<'static>,
    /// Logs one line to the server's log.
    pub log_server: extern "C" fn(level: Level, line: Bytes<'_>),
    /// Returns the options of an application group.
    pub group_options: extern "C" fn(group: Bytes<'_>) -> GroupOptions,
    /// Returns what the children know of a group whose mode is [`GilMode::Auto`]. Waits, within bounds, while another
    /// child tries.
    pub gil_decision: extern "C" fn(group: Bytes<'_>) -> GilDecision,
    /// Reports the result of a try; [`GilDecision::Unknown`] if it gave none. `module` is the module that refused, or
    /// empty.
    pub gil_decided: extern "C" fn(group: Bytes<'_>, choice: GilDecision, module: Bytes<'_>),
    /// Returns the arenas of the calling thread; `now` is a stamp of this moment. Call it again for each record: a
    /// process that the application has forked has no arenas.
    pub arenas: extern "C" fn(now: u64) -> Arenas,
    /// Logs one line to the log of the request.
    pub log: unsafe extern "C" fn(request: *const HostRequest, level: Level, line: Bytes<'_>),
    /// Logs one line like `log`, while another call for the request may run. It uses nothing of httpd that such a call
    /// may change, so the line lacks the ids of request and connection.
    pub log_beside:
        unsafe extern "C" fn(request: *const HostRequest, level: Level, line: Bytes<'_>),
    /// Reads at most `len` bytes of the body, fewer only if fewer have arrived; `len` 0 only sends a pending `100
    /// Continue`.
    pub read_body:
        unsafe extern "C" fn(request: *const HostRequest, into: *mut u8, len: usize) -> HostResult,
    /// Reads what has already arrived of the body, as `read_body`; does not wait.
    pub read_at_hand:
        unsafe extern "C" fn(request: *const HostRequest, into: *mut u8, len: usize) -> HostResult,
    /// Sets status and headers. Called exactly once, before the first `write` or `send_file`.
    pub start_response:
        unsafe extern "C" fn(request: *const HostRequest, head: &ResponseHead<'_>) -> HostResult,
    /// Sends chunks of the body.
    pub write: unsafe extern "C" fn(
        request: *const HostRequest,
        chunks: Slice<'_, Bytes<'_>>,
        end: WriteEnd,
    ) -> HostResult,
    /// Sends what httpd holds back after a `write` with [`WriteEnd::More`]. Called while the application runs, by any
    /// thread; like all calls, not while another one is under way.
    pub flush: unsafe extern "C" fn(request: *const HostRequest) -> HostResult,
    /// Sends `length` bytes of the regular file `fd` from `offset` as the end of the body. Takes ownership of `fd`.
    pub send_file: unsafe extern "C" fn(
        request: *const HostRequest,
        fd: c_int,
        offset: u64,
        length: u64,
    ) -> HostResult,
    /// Ends a started response so that the client can tell it from a complete one, and closes the connection.
    pub cut_response: unsafe extern "C" fn(request: *const HostRequest),
    /// Returns whether the client of a request is there. Does not block.
    pub client_presence: unsafe extern "C" fn(request: *const HostRequest) -> Presence,
    /// Answers 504 in place of a thread that is stuck with the request, if nothing has been sent yet, and ends the
    /// connection. Called at most once, by another thread than the request's own, which makes no call at that time.
    /// Does not wait for the client.
    pub give_up: unsafe extern "C" fn(request: *const HostRequest),
    /// Has this child replaced.
    pub retire: extern "C" fn(why: Retire),
    /// Passes a variable of mod_ssl to `take`, or absent bytes without TLS. `data` is for `take` alone.
    pub ssl_variable: unsafe extern "C" fn(
        request: *const HostRequest,
        name: Bytes<'_>,
        data: *mut c_void,
        take: unsafe extern "C" fn(data: *mut c_void, value: Bytes<'_>),
    ),
}

/// The configuration of Python, for [`EngineTable::start`].
#[repr(C)]
pub struct StartConfig<'a> {
    /// `PyConfig.program_name` and `executable`: `<venv>/bin/python` or `<prefix>/bin/pythonX.Y`; absent for the
    /// Python that the engine was built with.
    pub program_name: Bytes<'a>,
    /// `PyConfig.home`; absent for a virtual environment and for the default.
    pub home: Bytes<'a>,
    /// `-W` options, in order.
    pub warnings: Slice<'a, Bytes<'a>>,
    /// `PYTHON_EGG_CACHE`; absent to leave it.
    pub python_eggs: Bytes<'a>,
    /// `PyConfig.optimization_level`; 0 leaves CPython's.
    pub optimize: c_int,
    /// Hash seed; negative for a random one, which is CPython's default.
    pub hash_seed: i64,
    /// Whether the values of `prometheus_client` are kept in the segment.
    pub prometheus_client: bool,
    /// Whether compiled modules (`.pyc`) are written.
    pub write_bytecode: bool,
    /// Whether a free-threaded build runs without the GIL; no effect on other builds.
    pub free_threading: FreeThreading,
    /// The application group that the main interpreter reports: the only group of the server, if it runs there.
    pub main_group: Bytes<'a>,
    /// How Python ends when the process ends.
    pub at_exit: AtExit,
    /// How long the end of Python may take, seconds; after that the process ends as it is.
    pub exit_timeout: u32,
    /// After how long without a GIL the child is replaced, seconds; 0 for never.
    pub deadlock_timeout: u32,
    /// How many httpd threads the requests of all groups together leave free for requests without Python.
    pub reserve: u32,
    /// Whether httpd runs as one process with a terminal (`-X`), in which the standard streams stay as they are.
    pub single_process: bool,
    /// `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// `mod_wsgi.maximum_processes`.
    pub maximum_processes: u32,
    /// Number of threads of a child that serve requests: `apache.threads_per_process`.
    pub threads_per_process: u32,
    /// `apache.version`.
    pub apache_version: [u32; 3],
    /// `apache.description`.
    pub server_description: Bytes<'a>,
    /// `apache.mpm_name`.
    pub mpm_name: Bytes<'a>,
    /// `apache.build_date`.
    pub build_date: Bytes<'a>,
    /// `SERVER_SOFTWARE` of every environ.
    pub server_software: Bytes<'a>,
    /// The segment of metrics.
    pub segment: SegmentView,
}

/// What an engine offers to the module; exported as the static `wsgi_engine`. No function unwinds.
#[repr(C)]
pub struct EngineTable {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// [`BUILD_ID`].
    pub build_id: Bytes<'static>,
    /// The Python that the engine was compiled for, as "3.11", or "3.14t" for a free-threaded build.
    pub python: Bytes<'static>,
    /// Starts Python in this process, on the thread of `child_init`. Returns whether Python serves; otherwise `problem`
    /// says why not and what to do. A second start continues with the running Python; if the first has failed, the
    /// second tries again, or says in `problem` why it cannot.
    pub start: extern "C" fn(
        host: &'static HostTable,
        config: &StartConfig<'_>,
        problem: &mut Bytes<'static>,
    ) -> bool,
    /// Loads a script ahead of its first request, in all interpreters of the group at the same time. Returns whether it
    /// loaded in at least one; the log says what went wrong. `app` is the number of the application in the segment's
    /// table.
    pub load: extern "C" fn(group: Bytes<'_>, script: Bytes<'_>, app: u16) -> bool,
    /// Returns the number of interpreters of the group, and makes them at the first use; 0 if that failed.
    pub replicas: extern "C" fn(group: Bytes<'_>) -> u32,
    /// Passes to `take` the path of a source file, imported by an interpreter or loaded as a script, that has changed
    /// since it was first seen; calls `take` at most once. `data` is for `take` alone. Must be called from one thread
    /// at a time.
    pub changed_source: unsafe extern "C" fn(
        data: *mut c_void,
        take: unsafe extern "C" fn(data: *mut c_void, path: Bytes<'_>),
    ),
    /// Passes to `take`, once, the stacks of all Python threads of this process, as a text for people. Waits for each
    /// GIL for at most `patience_ms` milliseconds, and a few seconds more where it does not get one. `data` is for
    /// `take` alone. Must be called from a thread that runs no request.
    pub dump_stacks: unsafe extern "C" fn(
        patience_ms: u32,
        data: *mut c_void,
        take: unsafe extern "C" fn(data: *mut c_void, text: Bytes<'_>),
    ),
    /// Returns the number of threads that have nothing left to do for their requests and have not come back, because the
    /// requests were given up ([`HostTable::give_up`]).
    pub stuck: extern "C" fn() -> u32,
    /// Runs one request on the calling thread. The request's `host` must be one of the host table that the engine was
    /// started with.
    pub run: unsafe extern "C" fn(request: &RunRequest<'_>) -> RunOutcome,
    /// From now on, only its own thread touches a request, as httpd is about to free the requests. Safe in a signal
    /// handler; takes at most a fifth of a second.
    pub hold: extern "C" fn(),
    /// Ends Python's work in this process: admits no further request, runs the shutdown callbacks and `atexit` of every
    /// interpreter as [`StartConfig::at_exit`] says, and flushes the standard streams. Ends the process if that takes
    /// longer than [`StartConfig::exit_timeout`].
    pub stop: extern "C" fn(),
}

impl<'a> RunRequest<'a> {
    /// A request without a host.
    pub fn new(
        target: Target<'a>,
        environ: Environ<'a>,
        body: BodyPlan,
        limits: Limits,
        timing: Timing<'a>,
    ) -> Self {
        Self {
            host: std::ptr::null(),
            target,
            environ,
            body,
            limits,
            timing,
        }
    }

    /// Returns the request with `host` set.
    pub fn for_host<H: Host>(mut self, host: &'a H) -> Self {
        self.host = std::ptr::from_ref(host).cast();
        self
    }

    /// Returns the host's request, which the engine passes back with every call of the [`HostTable`].
    pub fn host(&self) -> *const HostRequest {
        self.host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_that_fails_says_its_own_reason() {
        let (first, second) = (keep(String::from("one")), keep(String::from("another")));
        assert_eq!(first.get(), Some(&b"one"[..]));
        assert_eq!(second.get(), Some(&b"another"[..]));
    }
}
