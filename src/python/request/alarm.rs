//! When the watchdog of this child has to wake up. Requests and loads set the time; the thread belongs to `watch`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::Thread;
use std::time::Duration;

use wsgi_telemetry::clock;

/// The watchdog's thread, once it was needed.
static WATCHDOG: OnceLock<Thread> = OnceLock::new();
/// Starts that thread, unless it was started.
static START: OnceLock<fn()> = OnceLock::new();
/// When it wakes up by itself, as a stamp.
static WAKES: AtomicU64 = AtomicU64::new(u64::MAX);

/// Says how the watchdog's thread is started.
pub(crate) fn set_start(start: fn()) {
    START.get_or_init(|| start);
}

/// Something that has a limit begins, which is due then.
pub(crate) fn set(due: u64) {
    if due < WAKES.load(SeqCst) || WATCHDOG.get().is_none() {
        if let Some(start) = START.get() {
            start();
        }
        if let Some(thread) = WATCHDOG.get() {
            thread.unpark();
        }
    }
}

/// Whether the calling thread, or another one, is the watchdog already.
pub(crate) fn has_thread() -> bool {
    WATCHDOG.get().is_some()
}

/// The calling thread is the watchdog's.
pub(crate) fn adopt_thread() {
    WATCHDOG.get_or_init(std::thread::current);
}

/// The watchdog looks at everything that is due. A request that begins from now on may be due earlier than the time that the
/// look gives, and unparks the thread.
pub(crate) fn begin_look() {
    WAKES.store(u64::MAX, SeqCst);
}

/// The watchdog sleeps until then, or until it is woken up.
pub(crate) fn sleep_until(next: u64) {
    WAKES.store(next, SeqCst);
    let sleep = next.saturating_sub(clock::now());
    std::thread::park_timeout(Duration::from_nanos(sleep));
}
