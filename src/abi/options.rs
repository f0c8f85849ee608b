//! The options of an application group and of the engine, resolved by the module, and the levels of log lines.

use crate::{Bytes, Slice};

/// Options of one application group, resolved by the module from `<WSGIInterpreterOptions>` and the server's own
/// directives.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GroupOptions {
    /// Directories for `site.addsitedir`, one slice for each `WSGIPythonPath`, least specific first; each slice goes to
    /// the front of `sys.path`.
    pub python_path: Slice<'static, Slice<'static, Bytes<'static>>>,
    /// Seconds for `sys.setswitchinterval`; 0 keeps the default of CPython.
    pub switch_interval: f64,
    /// Whether `sys.stdin` is replaced by an object that refuses every use.
    pub restrict_stdin: bool,
    /// Whether `sys.stdout` is replaced by such an object.
    pub restrict_stdout: bool,
    /// Whether `signal.signal` is replaced by a function that logs and registers nothing.
    pub restrict_signal: bool,
    /// Whether the group runs in the main interpreter, whatever its name.
    pub main: bool,
    /// Whether writes to `os.environ` stay in the interpreter; no effect in the main one.
    pub private_environ: bool,
    /// How the group's interpreters hold the GIL.
    pub gil: GilMode,
    /// How many interpreters with their own GIL hold the group's applications, from 1; 1 if `gil` is
    /// [`GilMode::Shared`].
    pub replicas: u32,
    /// If the configuration does not name this group: the most interpreters that all such groups may have together.
    /// `u32::MAX` if the configuration names it.
    pub most_unnamed: u32,
    /// How the group's requests get into Python.
    pub admission: Admission,
    /// Most requests that may be inside one of the group's interpreters at a time, from 1:
    /// `mod_wsgi.threads_per_process`. `wsgi.multithread` is true if it is more than 1.
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
    /// For [`Strategy::Delegate`]: the lowest value of the limit on requests inside an interpreter.
    pub least: u32,
    /// The highest value of that limit.
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
    /// An application or interpreter did not load in time; reported again until it has loaded.
    Startup = 2,
    /// The script of an application has changed, or asks for a reload. Reported once for each application of a process
    /// group, whose processes do not load a script again themselves.
    Source = 3,
}

/// How the interpreters of an application group hold the GIL.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GilMode {
    /// One interpreter under the GIL of the process.
    Shared = 0,
    /// Replicas, each with its own GIL.
    Own = 1,
    /// Like [`GilMode::Own`] if the application can be imported in such an interpreter, else like [`GilMode::Shared`]
    /// in the main interpreter; see [`HostTable::gil_decision`](crate::HostTable::gil_decision).
    Auto = 2,
}

/// What is known about a group whose mode is [`GilMode::Auto`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GilDecision {
    /// Not known yet: the caller tries to load the application, and reports the result with
    /// [`HostTable::gil_decided`](crate::HostTable::gil_decided).
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
    /// Like `On`, but a build of Python with a GIL is accepted, too.
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
    /// Does the same as `Callbacks`, and then finalizes Python if that is safe.
    Finalize = 2,
}

impl Default for GroupOptions {
    /// Returns the options of a group without any configuration.
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
