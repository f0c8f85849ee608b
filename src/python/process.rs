//! Facts about this process and the calling thread for every part of the engine: whether the child is ending, whether
//! the process is a copy that an application has forked, and which number the thread has.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static CLOSING: AtomicBool = AtomicBool::new(false);
static THREADS: AtomicU32 = AtomicU32::new(0);
static FORKED: OnceLock<&AtomicBool> = OnceLock::new();

thread_local! {
    /// The number of this thread, for `mod_wsgi.thread_id`.
    static THREAD_ID: Cell<Option<u32>> = const { Cell::new(None) };
    /// Whether this thread is inside the engine.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Returns the number of the calling thread, which it gets at first use; the thread that starts the engine gets 0.
pub(crate) fn thread_id() -> u32 {
    THREAD_ID.get().unwrap_or_else(|| {
        let id = THREADS.fetch_add(1, Ordering::Relaxed);
        THREAD_ID.set(Some(id));
        id
    })
}

/// Whether the calling thread is inside the engine, where a signal handler may interrupt it.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Whether no request is let in any more.
pub(crate) fn is_closing() -> bool {
    CLOSING.load(Ordering::Acquire)
}

/// Lets requests in again.
pub(crate) fn open() {
    CLOSING.store(false, Ordering::Release);
}

/// Lets no request in from now on.
pub(crate) fn close() {
    CLOSING.store(true, Ordering::Release);
}

/// Marks the thread as [`is_inside`], until this is dropped.
pub(crate) struct Inside(bool);

impl Inside {
    pub(crate) fn enter() -> Self {
        Self(INSIDE.replace(true))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// Remembers the flag that the host sets in a process that an application has forked.
pub(crate) fn set_forked_flag(flag: &'static AtomicBool) {
    FORKED.get_or_init(|| flag);
}

/// Whether an application has forked this process. Such a copy has one thread, and must not write to cells of the
/// segment.
#[inline]
pub(crate) fn is_copy() -> bool {
    FORKED
        .get()
        .is_some_and(|forked| forked.load(Ordering::Relaxed))
}

/// Ends the process at once.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: ends the process; httpd's clean-up is the child's business.
    unsafe { libc::_exit(status) }
}

/// Where this process runs applications, for lines of the log.
static MODE: OnceLock<String> = OnceLock::new();
static IS_IN_GROUP: AtomicBool = AtomicBool::new(false);
static IS_SERVICE: AtomicBool = AtomicBool::new(false);

/// Sets the process group of this process, empty for a child of httpd, and whether it only runs scripts.
pub(crate) fn set_group(group: &[u8], is_service: bool) {
    IS_IN_GROUP.store(!group.is_empty(), Ordering::Relaxed);
    IS_SERVICE.store(is_service, Ordering::Relaxed);
    MODE.get_or_init(|| match group {
        b"" => String::from("in embedded mode"),
        name => format!("in process group '{}'", String::from_utf8_lossy(name)),
    });
}

/// Returns where this process runs applications, in words.
pub(crate) fn mode() -> &'static str {
    MODE.get().map_or("in embedded mode", |mode| mode)
}

/// Whether this is a process of a group.
pub(crate) fn is_in_group() -> bool {
    IS_IN_GROUP.load(Ordering::Relaxed)
}

/// Whether this process only runs scripts (`threads=0`).
pub(crate) fn is_service() -> bool {
    IS_SERVICE.load(Ordering::Relaxed)
}
