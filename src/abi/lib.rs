//! The contract between `mod_wsgi_rs.so` and the engines: two tables of C functions and the `#[repr(C)]`
//! values that cross them. Nothing else: no rule and no policy lives here.
//!
//! The module calls the [`EngineTable`] that an engine exports as `wsgi_engine`; during [`EngineTable::run`] the
//! engine calls back through the [`HostTable`] that it was started with. Both tables begin with
//! [`ABI_VERSION`] and [`BUILD_ID`]; a side that meets another value refuses to go on.
//!
//! Every [`Bytes`] is borrowed: it is valid for the call it is an argument of, unless its field says more.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

pub mod keys;

/// Raised with every change of a layout or of a meaning in this crate.
pub const ABI_VERSION: u32 = 1;

/// Distinguishes builds of one [`ABI_VERSION`]: module and engine must come from the same release.
pub const BUILD_ID: &str = concat!("mod_wsgi_rs ", env!("CARGO_PKG_VERSION"));

/// The symbol under which an engine exports its [`EngineTable`].
pub const ENGINE_SYMBOL: &[u8] = b"wsgi_engine\0";

/// Borrowed bytes; a null `ptr` means absent, which is not the same as empty.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// First byte, or null.
    pub ptr: *const u8,
    /// Count of bytes.
    pub len: usize,
}

impl Bytes {
    /// No value.
    pub const ABSENT: Bytes = Bytes {
        ptr: std::ptr::null(),
        len: 0,
    };

    /// Borrows `bytes`; the caller keeps them alive for as long as the receiver may look.
    pub const fn new(bytes: &[u8]) -> Bytes {
        Bytes {
            ptr: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// Whether there is no value.
    pub const fn is_absent(self) -> bool {
        self.ptr.is_null()
    }

    /// The bytes, or `None` where absent.
    ///
    /// # Safety
    /// What `ptr` and `len` describe must stay valid and unchanged for `'a`.
    pub const unsafe fn get<'a>(self) -> Option<&'a [u8]> {
        if self.ptr.is_null() {
            None
        } else {
            // SAFETY: the caller vouches for pointer, length and lifetime.
            Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
        }
    }

    /// The bytes, or an empty slice where absent.
    ///
    /// # Safety
    /// As for [`Bytes::get`].
    pub const unsafe fn get_or_empty<'a>(self) -> &'a [u8] {
        // SAFETY: passed on to the caller.
        match unsafe { self.get() } {
            Some(bytes) => bytes,
            None => &[],
        }
    }
}

/// A request on the module's side. The engine only hands the pointer back.
#[repr(C)]
pub struct HostRequest {
    _opaque: [u8; 0],
}

/// How the key of an [`EnvEntry`] is to be read.
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
#[derive(Clone, Copy, Debug)]
pub struct EnvEntry {
    /// How to read the key.
    pub kind: KeyKind,
    /// Index into [`keys::KEYS`] where `kind` is [`KeyKind::Known`].
    pub id: u16,
    /// The key where `kind` is not [`KeyKind::Known`].
    pub key: Bytes,
    /// The value, latin-1 (file-system encoding for the paths among the known keys); absent becomes `None`.
    pub value: Bytes,
}

/// One request, as the module hands it to [`EngineTable::run`].
#[repr(C)]
pub struct RunRequest {
    /// To be handed back with every call of the [`HostTable`].
    pub host: *mut HostRequest,
    /// Application group; empty for the main interpreter.
    pub group: Bytes,
    /// Path of the script that holds the callable.
    pub script: Bytes,
    /// Modification time of the script in microseconds since the epoch; negative where the module did not stat
    /// it, so the engine must.
    pub script_mtime: i64,
    /// Name of the callable in the script.
    pub callable: Bytes,
    /// What `reload_required` is asked about: the file that the URL was mapped to.
    pub resource: Bytes,
    /// The environ, in order; a later entry replaces an earlier one of the same key.
    pub environ: *const EnvEntry,
    /// Count of entries.
    pub environ_len: usize,
    /// `request_rec *` for `apache.request_rec`, or null where it is not to be passed.
    pub apache_request: *mut c_void,
    /// When the request was received, microseconds since the epoch.
    pub request_time: i64,
    /// How long to wait for another thread that loads the same script, seconds.
    pub load_timeout: u32,
    /// Whether a changed script is loaded again.
    pub script_reloading: bool,
    /// `wsgi.url_scheme` is `https`.
    pub https: bool,
    /// Whether the request may have a body; reads of one that has none end at once, without the host.
    pub has_body: bool,
    /// The request method is HEAD for the client, whatever the environ says.
    pub header_only: bool,
}

/// What became of a request; the module's answer to httpd follows from it.
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
}

/// One header of a response.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Name as the application gave it, a token.
    pub name: Bytes,
    /// Value without control characters.
    pub value: Bytes,
}

/// Status line and headers of a response, validated by the engine.
#[repr(C)]
pub struct ResponseHead {
    /// Status code, three digits.
    pub status: u16,
    /// The whole of the status line, "200 OK".
    pub status_line: Bytes,
    /// The headers in the application's order, without `Content-Length`.
    pub headers: *const Header,
    /// Count of headers.
    pub headers_len: usize,
    /// Length of the body; negative where unknown.
    pub content_length: i64,
}

/// How a call of the host ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// Done.
    Ok = 0,
    /// The client is gone.
    Aborted = 1,
    /// Another failure; `reason` says which.
    Failed = 2,
}

/// Result of a call of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostResult {
    /// How it ended.
    pub status: HostStatus,
    /// Bytes read, for `read_body`; 0 at the end of the body. 0 otherwise.
    pub count: usize,
    /// Why it failed; valid until the request ends. Absent with [`HostStatus::Ok`].
    pub reason: Bytes,
}

/// What follows the chunks of a [`HostTable::write`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// More will come; httpd may hold these back.
    More = 0,
    /// More will come, and these go out now.
    Flush = 1,
    /// The body ends here.
    End = 2,
}

/// Options of one application group, resolved by the module from `<WSGIInterpreterOptions>` and the server's own
/// directives. What it points at lives as long as the process.
#[repr(C)]
pub struct GroupOptions {
    /// Directories for `site.addsitedir`, least specific layer first; each layer goes to the front of `sys.path`.
    pub python_path: *const PathLayer,
    /// Count of layers.
    pub python_path_len: usize,
    /// Seconds for `sys.setswitchinterval`; 0 leaves CPython's.
    pub switch_interval: f64,
    /// Replace `sys.stdin` by an object that refuses every use.
    pub restrict_stdin: bool,
    /// Replace `sys.stdout` likewise.
    pub restrict_stdout: bool,
    /// Replace `signal.signal` by a function that logs and registers nothing.
    pub restrict_signal: bool,
}

/// Directories of one `WSGIPythonPath`, in order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PathLayer {
    /// First directory.
    pub dirs: *const Bytes,
    /// Count of directories.
    pub dirs_len: usize,
}

/// What the module offers to the engine. `request` arguments are the [`RunRequest::host`] of a request that has
/// not ended; calls for one request never overlap, but may come from another thread than the one that runs it.
/// No function unwinds; all may block, so the engine calls them without the GIL (`log` and `group_options` excepted).
#[repr(C)]
pub struct HostTable {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// [`BUILD_ID`].
    pub build_id: Bytes,
    /// Logs one line at a level of `http_log.h` (3 error, 4 warning, 6 info, 7 debug); `request` may be null for
    /// the server's log. Does not block on anything but the log itself.
    pub log: unsafe extern "C" fn(request: *mut HostRequest, level: c_int, line: Bytes),
    /// Reads at most `len` bytes of the body, fewer only where fewer are at hand; `len` 0 only sends a pending
    /// `100 Continue`.
    pub read_body:
        unsafe extern "C" fn(request: *mut HostRequest, into: *mut u8, len: usize) -> HostResult,
    /// Sets status and headers; exactly once, before the first `write` or `send_file`.
    pub start_response:
        unsafe extern "C" fn(request: *mut HostRequest, head: *const ResponseHead) -> HostResult,
    /// Sends chunks of the body.
    pub write: unsafe extern "C" fn(
        request: *mut HostRequest,
        chunks: *const Bytes,
        chunks_len: usize,
        end: WriteEnd,
    ) -> HostResult,
    /// Sends `length` bytes of the regular file `fd` from `offset` as the end of the body; takes `fd` over.
    pub send_file: unsafe extern "C" fn(
        request: *mut HostRequest,
        fd: c_int,
        offset: u64,
        length: u64,
    ) -> HostResult,
    /// Ends a started response in a way that the client can tell from a complete one, and closes the connection.
    pub cut_response: unsafe extern "C" fn(request: *mut HostRequest),
    /// A variable of mod_ssl into `value`, valid until the request ends; absent without TLS.
    pub ssl_variable:
        unsafe extern "C" fn(request: *mut HostRequest, name: Bytes, value: *mut Bytes),
    /// Options of an application group.
    pub group_options: unsafe extern "C" fn(group: Bytes, options: *mut GroupOptions),
}

/// The configuration of Python, for [`EngineTable::start`].
#[repr(C)]
pub struct StartConfig {
    /// `PyConfig.program_name` and `executable`: `<venv>/bin/python` or `<prefix>/bin/pythonX.Y`; absent for the
    /// Python that the engine was built with.
    pub program_name: Bytes,
    /// `PyConfig.home`; absent for a virtual environment and for the default.
    pub home: Bytes,
    /// `-W` options, in order.
    pub warnings: *const Bytes,
    /// Count of `warnings`.
    pub warnings_len: usize,
    /// `PYTHON_EGG_CACHE`, or absent.
    pub python_eggs: Bytes,
    /// `PyConfig.optimization_level`; 0 leaves CPython's.
    pub optimize: c_int,
    /// Hash seed; negative for a random one, which is CPython's default.
    pub hash_seed: i64,
    /// Keep compiled modules (`.pyc`).
    pub write_bytecode: bool,
    /// httpd runs as one process with a terminal (`-X`): the standard streams stay as they are.
    pub single_process: bool,
    /// `wsgi.multithread`.
    pub multithread: bool,
    /// `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// `mod_wsgi.maximum_processes`.
    pub maximum_processes: u32,
    /// `mod_wsgi.threads_per_process`.
    pub threads_per_process: u32,
    /// `apache.version`.
    pub apache_version: [u32; 3],
    /// `apache.description`.
    pub server_description: Bytes,
    /// `apache.mpm_name`.
    pub mpm_name: Bytes,
    /// `apache.build_date`.
    pub build_date: Bytes,
    /// `SERVER_SOFTWARE` of every environ.
    pub server_software: Bytes,
}

/// What an engine offers to the module; exported as the static `wsgi_engine`. No function unwinds.
#[repr(C)]
pub struct EngineTable {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// [`BUILD_ID`].
    pub build_id: Bytes,
    /// The Python that the engine was compiled for, as "3.11".
    pub python: Bytes,
    /// Starts Python in this process, once, on the thread of `child_init`. Returns whether it serves; otherwise
    /// `problem`, valid for ever, says why not and what to do.
    pub start: unsafe extern "C" fn(
        host: *const HostTable,
        config: *const StartConfig,
        problem: *mut Bytes,
    ) -> bool,
    /// Loads a script ahead of its first request. Returns whether it loaded; what went wrong is in the log.
    pub load: unsafe extern "C" fn(group: Bytes, script: Bytes) -> bool,
    /// Runs one request on the calling thread.
    pub run: unsafe extern "C" fn(request: *const RunRequest) -> RunOutcome,
    /// Ends Python's work in this process: no request is let in any more, the shutdown callbacks and `atexit` of
    /// every interpreter run, the standard streams are flushed. Python itself is not finalized.
    pub stop: unsafe extern "C" fn(),
}

// SAFETY: both tables are constant data: numbers, functions and pointers to 'static bytes.
unsafe impl Sync for EngineTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}
