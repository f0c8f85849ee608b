//! The two tables of functions, and what a start of the engine takes.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::{
    AtExit, Bytes, FreeThreading, GilDecision, GroupOptions, HostRequest, HostResult, Level,
    Presence, ResponseHead, Retire, RunOutcome, RunRequest, Slice, WriteEnd,
};

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
    /// The whole memory; absent if nothing is measured.
    pub cells: Slice<'static, AtomicU64>,
    /// Number of arenas.
    pub arenas: usize,
    /// Number of applications.
    pub applications: usize,
    /// Number of series for the applications' own metrics.
    pub series: usize,
    /// Set in a process that an application has forked, which must not write to the segment; exists even if nothing is
    /// measured. Check it before you use cells of an arena that was asked for earlier.
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

/// What the module offers to the engine; made by [`host_table`](crate::host_table).
///
/// A `request` argument is a request that has not ended. Calls for one request never overlap, but may come from another
/// thread than the one that runs it; only `log_beside` may be called at any time. No function unwinds. All but
/// `arenas`, `log`, `log_beside`, `log_server`, `group_options`, `gil_decided` and `retire` may block, so the engine
/// calls them without the GIL.
#[repr(C)]
pub struct HostTable {
    /// [`ABI_VERSION`](crate::ABI_VERSION).
    pub abi_version: u32,
    /// [`BUILD_ID`](crate::BUILD_ID).
    pub build_id: Bytes<'static>,
    /// Logs one line to the server's log.
    pub log_server: extern "C" fn(level: Level, line: Bytes<'_>),
    /// Returns the options of an application group.
    pub group_options: extern "C" fn(group: Bytes<'_>) -> GroupOptions,
    /// Returns what the children know of a group whose mode is [`GilMode::Auto`](crate::GilMode::Auto). Waits, within
    /// bounds, while another child tries.
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
    /// Asks for this child to be replaced.
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
    /// `mod_wsgi.process_group`; empty in httpd's children.
    pub process_group: Bytes<'a>,
    /// The application group that the main interpreter reports: the only group of the server, if it runs there.
    pub main_group: Bytes<'a>,
    /// How Python ends when the process ends.
    pub at_exit: AtExit,
    /// How long the end of Python may take, seconds; after that the process ends as it is.
    pub exit_timeout: u32,
    /// After how long without a GIL the child is replaced, seconds; 0 for never.
    pub deadlock_timeout: u32,
    /// Whether httpd runs as one process with a terminal (`-X`), in which the standard streams stay as they are.
    pub single_process: bool,
    /// Whether the process only runs the scripts that it loads (`threads=0`): `SIGTERM` raises `SystemExit` in them.
    pub service: bool,
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
    /// [`ABI_VERSION`](crate::ABI_VERSION).
    pub abi_version: u32,
    /// [`BUILD_ID`](crate::BUILD_ID).
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
    /// GIL for at most `patience_ms` milliseconds, and a few seconds more if it does not get one. `data` is for `take`
    /// alone. Must be called from a thread that runs no request.
    pub dump_stacks: unsafe extern "C" fn(
        patience_ms: u32,
        data: *mut c_void,
        take: unsafe extern "C" fn(data: *mut c_void, text: Bytes<'_>),
    ),
    /// Publishes the event `process_signal` in every interpreter, for a signal that this process has got. Waits for each
    /// GIL.
    pub signal: extern "C" fn(number: c_int),
    /// Returns the number of threads that have nothing left to do for their requests and have not returned, because the
    /// requests were given up ([`HostTable::give_up`]).
    pub stuck: extern "C" fn() -> u32,
    /// Returns the number of requests that wait until they may enter Python, or that another thread runs meanwhile.
    pub waiting: extern "C" fn() -> u32,
    /// Runs one request on the calling thread. The request's `host` must be one of the host table that the engine was
    /// started with.
    pub run: unsafe extern "C" fn(request: &RunRequest<'_>) -> RunOutcome,
    /// From now on, only its own thread touches a request, as httpd is about to free the requests. Safe in a signal
    /// handler; takes at most a fifth of a second.
    pub hold: extern "C" fn(),
    /// Ends Python's work in this process: admits no further request, runs the shutdown callbacks and `atexit` of every
    /// interpreter as [`StartConfig::at_exit`] says, and flushes the standard streams. Ends the process if that takes
    /// longer than [`StartConfig::exit_timeout`]. Subscribers of `process_stopping` are told the `reason`.
    pub stop: extern "C" fn(reason: Bytes<'_>),
}
