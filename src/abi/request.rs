//! A request on its way into the engine: what to run, its environ, its body and its limits; and how it ended.

use std::ffi::c_void;
use std::sync::atomic::AtomicU64;

use crate::{Bytes, Host, Slice};

/// A request on the module's side. The engine only passes the pointer back.
#[repr(C)]
pub struct HostRequest {
    _opaque: [u8; 0],
}

/// How an [`EnvEntry`] holds its key.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `id` is an index into [`keys::KEYS`](crate::keys::KEYS); `key` is absent.
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
    /// Index into [`keys::KEYS`](crate::keys::KEYS) where `kind` is [`KeyKind::Known`].
    pub id: u16,
    /// The key where `kind` is not [`KeyKind::Known`].
    pub key: Bytes<'a>,
    /// The value, latin-1 (file-system encoding for the paths among the known keys); absent becomes `None`.
    pub value: Bytes<'a>,
}

/// One request, as the module hands it to [`EngineTable::run`](crate::EngineTable::run).
#[repr(C)]
pub struct RunRequest<'a> {
    /// Passed back with every call of the [`HostTable`](crate::HostTable); set by [`RunRequest::for_host`].
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
    /// Which other requests of a process group wait for this one.
    pub nesting: Nesting<'a>,
}

/// Which other requests of a process group wait for a request. Where a process of a group runs a request that httpd makes
/// for another one (an error page, an included part), both have threads of their own; in a child of httpd they have one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Nesting<'a> {
    /// The number of the request, which no other request in the process has; 0 in a child of httpd.
    pub id: u64,
    /// The numbers of the requests in the same process whose thread in httpd makes this one, the innermost first.
    pub within: Slice<'a, u64>,
}

impl Default for Nesting<'_> {
    fn default() -> Self {
        Self {
            id: 0,
            within: Slice::new(&[]),
        }
    }
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
    /// Returns the callable `application` of a script, in the main interpreter.
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

impl<'a> EnvEntry<'a> {
    /// Returns the value that `entries` have for the known key `id` ([`keys`](crate::keys)); empty if they have none.
    pub fn value_of(entries: &[Self], id: u16) -> &'a [u8] {
        let is_it = |entry: &&Self| entry.kind == KeyKind::Known && entry.id == id;
        let found = entries.iter().rfind(is_it);
        found.map_or(&[], |entry| entry.value.get_or_empty())
    }
}

impl<'a> Environ<'a> {
    /// Returns the environ of a request over plain HTTP with these entries.
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
    /// When a child of httpd sent it to a process group, and when a process took it; microseconds since the epoch, 0 for a
    /// request in httpd's child.
    pub queue_start: i64,
    /// See `queue_start`.
    pub daemon_start: i64,
    /// The times that module and engine pass to each other; `None` if nothing is measured.
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

/// How a request ended; the module's answer to httpd follows from it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// A response was handed to the host, whole or cut with
    /// [`HostTable::cut_response`](crate::HostTable::cut_response).
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
    /// The request was given up with [`HostTable::give_up`](crate::HostTable::give_up) while it ran: send nothing more.
    GivenUp = 9,
    /// The client left while the application ran and had nothing to send; the response may have begun.
    ClientLeft = 10,
    /// Nothing was sent: a failed call of the host ended the application, and the [`Fault`](crate::Fault) of the call
    /// says what to answer.
    Faulted = 11,
    /// Nothing was sent; this process has no interpreter left for the group: answer 503.
    NoInterpreter = 12,
}

impl<'a> RunRequest<'a> {
    /// Returns a request without a host.
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
            nesting: Nesting::default(),
        }
    }

    /// Returns the request with `host` set.
    pub fn for_host<H: Host>(mut self, host: &'a H) -> Self {
        self.host = std::ptr::from_ref(host).cast();
        self
    }

    /// Returns the host's request, which the engine passes back with every call of the [`HostTable`](crate::HostTable).
    pub fn host(&self) -> *const HostRequest {
        self.host
    }
}
