//! When the watchdog of this child has to wake up. Requests and loads set the time; the thread belongs to `watch`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::Thread;
use std::time::Duration;

use wsgi_telemetry::clock;

/// The watchdog's thread, once it was needed.
static WATCHDOG: OnceLock<Thread> = OnceLock::new();
/// The function that starts that thread, unless it runs already.
static START: OnceLock<fn()> = OnceLock::new();
/// The stamp at which the watchdog wakes up by itself.
static WAKES: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets the function that starts the watchdog's thread.
pub(crate) fn set_start(start: fn()) {
    START.get_or_init(|| start);
}

/// Makes the watchdog look at the stamp `due`, at the latest, because something with a limit has begun.
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

/// Whether this process has a thread that is the watchdog.
pub(crate) fn has_thread() -> bool {
    WATCHDOG.get().is_some()
}

/// Makes the calling thread the watchdog's.
pub(crate) fn adopt_thread() {
    WATCHDOG.get_or_init(std::thread::current);
}

/// Notes that the watchdog begins to look at everything that is due. A request that begins from now on may be due
/// earlier than the stamp that the look finds, and unparks the thread.
pub(crate) fn begin_look() {
    WAKES.store(u64::MAX, SeqCst);
}

/// Sleeps until the stamp `next`, or until the thread is unparked.
pub(crate) fn sleep_until(next: u64) {
    WAKES.store(next, SeqCst);
    let sleep = next.saturating_sub(clock::now());
    std::thread::park_timeout(Duration::from_nanos(sleep));
}
