//! The engine's own threads. Signals are for httpd's threads, so these are started with all signals blocked.

use rayon::ThreadPoolBuilder;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use wsgi_core::child::steady;

use crate::host::{self, Level, level_of};

/// Bytes of their stacks, as many as the main thread of a process usually has: CPython limits the nesting of code by
/// the size of the stack.
const STACK: usize = 8 << 20;

/// Does `work` for each of `items` at the same time. Returns the results in the order of the items. The calling thread
/// must not be attached.
pub(crate) fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
    if items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    let pool = with_signals_blocked(|| {
        ThreadPoolBuilder::new()
            .num_threads(items.len())
            .stack_size(STACK)
            .thread_name(|at| format!("wsgi-start-{at}"))
            .build()
    });
    match pool {
        Ok(pool) => pool.install(|| items.into_par_iter().map(work).collect()),
        Err(error) => {
            host::log(
                Level::Warning,
                &format!("mod_wsgi_rs: one after the other, as there are no threads: {error}"),
            );
            items.into_iter().map(work).collect()
        }
    }
}

/// Does `work` on a new thread. Returns whether the thread was started.
pub(crate) fn background(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    let builder = std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK);
    with_signals_blocked(|| builder.spawn(work)).is_ok()
}

/// Does `work` on a new thread, and again from the beginning if it panics, for threads that the process cannot do
/// without. Returns whether the thread was started.
pub(crate) fn steady(name: &'static str, mut work: impl FnMut() + Send + 'static) -> bool {
    background(name, move || {
        let log = |message, line: &str| host::log(level_of(message), line);
        steady::run(name, log, &mut work);
    })
}

/// Does `work` on a new thread that exists as long as the process, and waits for the result. Returns `None` if the
/// thread was not started, or if `work` panicked.
#[cfg(any(Py_3_14, test))]
pub(crate) fn on_one_that_stays<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let begun = background(name, move || {
        let _ = tell.send(work());
        loop {
            std::thread::park();
        }
    });
    begun.then(|| told.recv().ok()).flatten()
}

fn with_signals_blocked<R>(start: impl FnOnce() -> R) -> R {
    // SAFETY: changes the mask of this thread, and puts it back; the sets are initialized before they are read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}
