//! httpd's scoreboard: what httpd's workers do, and how a child asks for a successor there.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::query as mpm;
use crate::sys;

/// The number of workers in each state, and the number of connections of an asynchronous MPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Waiting for a connection.
    pub idle: u64,
    /// Being started.
    pub starting: u64,
    /// Reading a request.
    pub reading: u64,
    /// Sending a response.
    pub writing: u64,
    /// Waiting for the next request of a connection.
    pub keepalive: u64,
    /// Closing a connection.
    pub closing: u64,
    /// Writing the access log.
    pub logging: u64,
    /// Ending, once their requests are answered.
    pub graceful: u64,
    /// Free slots in which the MPM may start a worker.
    pub open_slot: u64,
    /// Connections; `None` unless the MPM is asynchronous.
    pub connections: Option<Connections>,
}

/// Connections of an asynchronous MPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// All connections.
    pub total: u64,
    /// Waiting for their next request.
    pub keepalive: u64,
    /// Being closed.
    pub closing: u64,
    /// Being written to.
    pub writing: u64,
}

/// Returns whether there is a scoreboard. httpd makes it once, between the first configuration and the first child.
pub fn exists() -> bool {
    // SAFETY: a query.
    unsafe { sys::ap_exists_scoreboard_image() != 0 }
}

/// Reads the scoreboard; `None` while there is none.
pub fn read() -> Option<Workers> {
    if !exists() {
        return None;
    }
    let limit = |code| mpm::query(code).filter(|&limit| limit > 0);
    // MPMs without threads report 0 threads.
    let children = limit(sys::AP_MPMQ_HARD_LIMIT_DAEMONS)?;
    let threads = limit(sys::AP_MPMQ_HARD_LIMIT_THREADS).unwrap_or(1);
    let usable_children = limit(sys::AP_MPMQ_MAX_DAEMONS).unwrap_or(children);
    let usable_threads = limit(sys::AP_MPMQ_MAX_THREADS).unwrap_or(threads);
    let is_async = limit(sys::AP_MPMQ_IS_ASYNC).is_some();
    let mut workers = Workers {
        connections: is_async.then(Connections::default),
        ..Workers::default()
    };
    for child in 0..children {
        let process = process(child)?;
        if let Some(connections) = &mut workers.connections
            && process.pid != 0
        {
            connections.total += u64::from(process.connections);
            connections.keepalive += u64::from(process.keep_alive);
            connections.closing += u64::from(process.lingering_close);
            connections.writing += u64::from(process.write_completion);
        }
        let is_ending = process.pid != 0 && process.quiescing != 0;
        for thread in 0..threads {
            let usable = child < usable_children && thread < usable_threads;
            workers.count(status(child, thread)?, usable, is_ending);
        }
    }
    Some(workers)
}

/// Returns the slot of this process.
fn own_slot() -> Option<c_int> {
    let me = libc::pid_t::try_from(std::process::id()).ok()?;
    let children = mpm::query(sys::AP_MPMQ_HARD_LIMIT_DAEMONS)?;
    exists().then_some(())?;
    (0..children).find(|&child| process(child).is_some_and(|process| process.pid == me))
}

/// Returns whether the only worker of this process, a child of prefork, waits for a connection.
pub fn own_worker_waits() -> bool {
    own_slot().is_some_and(|slot| status(slot, 0) == Some(sys::SERVER_READY))
}

/// Returns the number of busy workers of this process plus, under event, the responses that it sends without a worker.
pub fn own_work() -> Option<usize> {
    let slot = own_slot()?;
    let threads = mpm::query(sys::AP_MPMQ_HARD_LIMIT_THREADS).filter(|&limit| limit > 0);
    let is_busy = |thread: &c_int| {
        let state = status(slot, *thread).unwrap_or(sys::SERVER_DEAD);
        matches!(
            state,
            sys::SERVER_BUSY_READ
                | sys::SERVER_BUSY_WRITE
                | sys::SERVER_BUSY_DNS
                | sys::SERVER_BUSY_LOG
                | sys::SERVER_CLOSING
        )
    };
    let workers = (0..threads.unwrap_or(1)).filter(is_busy).count();
    let process = process(slot)?;
    Some(workers + usize::try_from(process.write_completion).unwrap_or(0))
}

/// Returns whether the MPM may start another child besides those that it has.
pub fn has_room() -> bool {
    let (Some(all), Some(most)) = (
        mpm::query(sys::AP_MPMQ_HARD_LIMIT_DAEMONS),
        mpm::query(sys::AP_MPMQ_MAX_DAEMONS),
    ) else {
        return false;
    };
    let there = || (0..if exists() { all } else { 0 }).filter(|&slot| is_there(slot));
    let serves = |slot: &c_int| process(*slot).is_some_and(|process| process.quiescing == 0);
    // Event has more slots than serving children, for children that finish their requests.
    let places = if mpm::name() == b"event" { all } else { most };
    let is_below = |count: usize, limit: c_int| count < usize::try_from(limit).unwrap_or(0);
    is_below(there().filter(serves).count(), most) && is_below(there().count(), places)
}

/// Returns whether a slot has a child. Under prefork, only the state of the worker shows that the child has ended.
fn is_there(slot: c_int) -> bool {
    let is_alive = || mpm::name() != b"prefork" || status(slot, 0) != Some(sys::SERVER_DEAD);
    process(slot).is_some_and(|process| process.pid != 0) && is_alive()
}

/// Makes the parent start a successor while this child still accepts: the parent no longer counts this child's idle
/// workers. The caller repeats this until there is a successor, as the MPM writes to the same bytes, and then calls
/// [`stop_asking`]. It has no effect where the MPM may start no more children. [S-19]
pub fn ask_for_successor() {
    ask(true);
}

/// Makes the parent count this child's idle workers again.
pub fn stop_asking() {
    ask(false);
}

fn ask(asks: bool) {
    let Some(slot) = own_slot() else { return };
    // SAFETY: our own slot; the parent reads these bytes at any time, and copes with any value. The worker of prefork
    // also writes its state, so that byte is only exchanged while the worker waits.
    unsafe {
        let process = sys::ap_get_scoreboard_process(slot);
        let worker = sys::ap_get_scoreboard_worker_from_indexes(slot, 0);
        match mpm::name() {
            _ if process.is_null() || worker.is_null() => {}
            b"event" => (&raw mut (*process).not_accepting).write_volatile(asks.into()),
            b"worker" => (&raw mut (*process).quiescing).write_volatile(asks.into()),
            b"prefork" => {
                let state = AtomicU8::from_ptr(&raw mut (*worker).status);
                let (waits, busy) = (sys::SERVER_READY as u8, sys::SERVER_CLOSING as u8);
                let (from, to) = if asks { (waits, busy) } else { (busy, waits) };
                let _ = state.compare_exchange(from, to, Relaxed, Relaxed);
            }
            _ => {}
        }
    }
}

fn process(child: c_int) -> Option<sys::process_score> {
    // SAFETY: the slot lies within the hard limit. Other processes write to it at any time, so it is copied once, and
    // any value of its numbers is valid.
    unsafe {
        let process = sys::ap_get_scoreboard_process(child);
        (!process.is_null()).then(|| process.read_volatile())
    }
}

fn status(child: c_int, thread: c_int) -> Option<u32> {
    // SAFETY: both lie within the hard limits. Other processes write the byte at any time, so it is read once, and any
    // value is valid.
    unsafe {
        let worker = sys::ap_get_scoreboard_worker_from_indexes(child, thread);
        (!worker.is_null()).then(|| (&raw const (*worker).status).read_volatile().into())
    }
}

impl Workers {
    fn count(&mut self, status: u32, usable: bool, is_ending: bool) {
        let state = match status {
            sys::SERVER_DEAD if !usable => return,
            sys::SERVER_DEAD => &mut self.open_slot,
            sys::SERVER_STARTING => &mut self.starting,
            sys::SERVER_READY if is_ending => &mut self.graceful,
            sys::SERVER_READY => &mut self.idle,
            sys::SERVER_BUSY_READ => &mut self.reading,
            sys::SERVER_BUSY_WRITE | sys::SERVER_BUSY_DNS => &mut self.writing,
            sys::SERVER_BUSY_KEEPALIVE => &mut self.keepalive,
            sys::SERVER_BUSY_LOG => &mut self.logging,
            sys::SERVER_CLOSING => &mut self.closing,
            sys::SERVER_GRACEFUL | sys::SERVER_IDLE_KILL => &mut self.graceful,
            _ => return,
        };
        *state += 1;
    }
}
