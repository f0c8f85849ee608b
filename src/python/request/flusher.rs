//! When a chunk of a response is flushed that others may follow at once.
//!
//! No chunk may be delayed (PEP 3333), but where many chunks come in a row, a flush for each costs more than the
//! chunks: filters that compress lose what they know of the text, each flush is a TLS record and a packet, and
//! mod_ratelimit takes it for the end of an interval. The engine cannot know whether the application has its next chunk
//! ready. So the thread of the request flushes the first chunk, and each one that follows a pause. A chunk that comes
//! within [`PAUSE`] of a flush is only handed to the filters, and a flusher thread flushes it when that time is over,
//! unless another flush came first. A chunk is thus held for at most [`PAUSE`], or, if the flush before it took long,
//! for a time in proportion to that: then the client or a filter cannot take more.
//!
//! The flush is a call of the host like any other: made under the lock of the request's calls, and not once the request
//! is finished. It may wait for the client. So a thread that begins a flush leaves another thread behind for the other
//! requests. There are never more flusher threads than responses that are being sent, and none after a while without
//! streaming.

use std::collections::BTreeMap;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wsgi_abi::WriteEnd;
use wsgi_telemetry::clock;

use crate::cpython::threads;
use crate::request::host::{Failure, HostRequest};
use crate::request::state::RequestState;
use crate::sync::lock;

/// How long chunks after a quick flush may wait for the next flush, nanoseconds.
const PAUSE: u64 = 20_000_000;
/// After a flush that took long, the next one waits this many times as long.
const SHARE: u64 = 4;
/// The longest such wait, nanoseconds.
const LONGEST: u64 = 500_000_000;
/// How soon a flush is tried again if the request's own thread is in a call of the host, nanoseconds. Doubles with each
/// try.
const AGAIN: u64 = 5_000_000;
/// How long a flusher thread stays without work.
const IDLE: Duration = Duration::from_secs(10);
/// How many threads stay to wait. With two, one can flush and come back without another one being started.
const STAY: usize = 2;

/// When the chunks of one response are flushed. Only used under the lock of its request's calls.
#[derive(Default)]
pub(crate) struct Pace {
    /// From when on the next chunk is flushed at once, as a stamp.
    due: AtomicU64,
    /// Whether something was written after the last flush; a flusher thread knows of it.
    owed: AtomicBool,
}

impl Pace {
    /// Returns how to write the next chunk: flushed now, or with chunks to come.
    pub(crate) fn next(&self, request: &Arc<RequestState>) -> WriteEnd {
        let due = self.due.load(Relaxed);
        if clock::now() >= due {
            return WriteEnd::Flush;
        }
        if !self.owed.load(Relaxed) {
            if !promise(request, due) {
                return WriteEnd::Flush;
            }
            self.owed.store(true, Relaxed);
        }
        WriteEnd::More
    }

    /// Does `work`, which flushes, and sets the time of the next flush.
    pub(crate) fn flushing<R>(&self, work: impl FnOnce() -> R) -> R {
        let began = clock::now();
        let result = work();
        let now = clock::now();
        let wait = now.saturating_sub(began).saturating_mul(SHARE);
        self.due.store(now + wait.clamp(PAUSE, LONGEST), Relaxed);
        self.owed.store(false, Relaxed);
        result
    }

    /// Flushes what is owed, if that is due. What was written since another flush is in the queue with its own time.
    pub(crate) fn settle_if_due(&self, host: HostRequest) -> Result<(), Failure> {
        if clock::now() < self.due.load(Relaxed) {
            return Ok(());
        }
        self.settle(host)
    }

    /// Flushes what is owed. Called before the request's thread waits for something else, because the client may wait
    /// for that chunk.
    pub(crate) fn settle(&self, host: HostRequest) -> Result<(), Failure> {
        if !self.owed.load(Relaxed) {
            return Ok(());
        }
        self.flushing(|| host.flush())
    }
}

/// Requests that are owed a flush, by the time when it is due, and the number of threads that flush.
struct FlushQueue {
    requests: BTreeMap<(u64, u64), OwedFlush>,
    /// Tells apart the flushes that are due at the same time.
    number: u64,
    /// Threads that wait for the first flush to be due.
    threads: usize,
}

/// A flush that is owed.
struct OwedFlush {
    request: Arc<RequestState>,
    /// How long to wait before the next try while the request is busy, nanoseconds.
    again: u64,
}

static WAITING: Mutex<FlushQueue> = Mutex::new(FlushQueue {
    requests: BTreeMap::new(),
    number: 0,
    threads: 0,
});
static CHANGED: Condvar = Condvar::new();

/// Whether flusher threads must not flush any more.
static IS_HELD: AtomicBool = AtomicBool::new(false);
/// How many flusher threads are in a flush, or about to be.
static FLUSHING: AtomicU32 = AtomicU32::new(0);
/// How often [`hold`] waits, each time for a millisecond, for a thread that is in a flush.
const HOLD_TRIES: u32 = 200;

/// Stops flusher threads from touching requests, so that httpd may take the requests away. A thread that waits for a
/// slow client is not waited for. Prefork calls this in a signal handler, on the thread that runs a request: that
/// thread may hold any lock, so this uses atomics alone.
pub fn hold() {
    IS_HELD.store(true, SeqCst);
    for _ in 0..HOLD_TRIES {
        if FLUSHING.load(SeqCst) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Undoes [`hold`], for the case that the same process begins again (`httpd -X`).
pub(crate) fn release() {
    IS_HELD.store(false, SeqCst);
}

/// Puts a flush of the request at the stamp `due` into the queue. Returns whether there is a thread to do it.
fn promise(request: &Arc<RequestState>, due: u64) -> bool {
    let mut waiting = lock(&WAITING);
    if waiting.threads == 0 && !start(&mut waiting) {
        return false;
    }
    let request = Arc::clone(request);
    waiting.add(
        due,
        OwedFlush {
            request,
            again: AGAIN,
        },
    );
    true
}

impl FlushQueue {
    fn add(&mut self, due: u64, owed: OwedFlush) {
        self.number += 1;
        let key = (due, self.number);
        self.requests.insert(key, owed);
        if self.requests.first_key_value().map(|(first, _)| *first) == Some(key) {
            CHANGED.notify_one();
        }
    }
}

/// Starts a flusher thread, which counts as waiting from now on. Returns whether it was started.
fn start(waiting: &mut FlushQueue) -> bool {
    waiting.threads += 1;
    let started = threads::background("wsgi-flush", run);
    if !started {
        waiting.threads -= 1;
    }
    started
}

fn run() {
    let mut waiting = lock(&WAITING);
    loop {
        let now = clock::now();
        let first = waiting.requests.first_key_value().map(|(key, _)| key.0);
        let sleep = match first {
            Some(due) if due <= now => {
                let Some((_, mut owed)) = waiting.requests.pop_first() else {
                    continue;
                };
                waiting.threads -= 1;
                if !waiting.requests.is_empty() {
                    if waiting.threads == 0 {
                        // Without another thread, the other requests wait until this thread is back, or for their own
                        // threads.
                        start(&mut waiting);
                    } else {
                        // The waiting thread waits for a flush that was due later.
                        CHANGED.notify_one();
                    }
                }
                drop(waiting);
                FLUSHING.fetch_add(1, SeqCst);
                let is_done = IS_HELD.load(SeqCst) || owed.request.flush_owed();
                FLUSHING.fetch_sub(1, SeqCst);
                waiting = lock(&WAITING);
                if !is_done {
                    // The request's thread may be waiting for a slow client. Many such requests must not keep this
                    // thread busy.
                    let due = clock::now() + owed.again;
                    owed.again = (owed.again * 2).min(LONGEST);
                    waiting.add(due, owed);
                }
                if waiting.threads >= STAY {
                    return;
                }
                waiting.threads += 1;
                continue;
            }
            Some(due) => Duration::from_nanos(due - now),
            None => IDLE,
        };
        let (back, timeout) = CHANGED
            .wait_timeout(waiting, sleep)
            .unwrap_or_else(PoisonError::into_inner);
        waiting = back;
        if first.is_none() && timeout.timed_out() && waiting.requests.is_empty() {
            waiting.threads -= 1;
            return;
        }
    }
}
