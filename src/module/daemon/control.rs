//! What a process of a group hears from outside: the words of its supervisor, and signals; and what it says to the
//! supervisor.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use metrics::counter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::low_level::pipe;
use wsgi_core::config::ProcessGroup;
use wsgi_telemetry::board::RetireReason;
use wsgi_telemetry::catalogue::Id;

use crate::children::slot;
use crate::log::log_info;

/// What a process and its supervisor say to each other, one byte each. To the process: take requests.
pub(super) const SERVE: u8 = b'S';
/// To the process: take no more requests, and end when those that run have ended.
pub(super) const DRAIN: u8 = b'D';
/// From the process: its applications are loaded.
pub(super) const READY: u8 = b'R';
/// From the process: it takes no more requests.
pub(super) const CONFIRMED: u8 = b'C';
/// From the process: the next step of its start begins.
pub(super) const STEP: u8 = b'P';
/// From the process: it should be replaced.
pub(super) const REPLACE: u8 = b'W';
/// From the process: its code is old, and so is that of a process that is starting.
pub(super) const RENEW: u8 = b'N';
/// From the process: it has asked for something on the board of its group.
pub(super) const NEWS: u8 = b'B';
/// From the process: it was told to leave (`SIGUSR1`).
pub(super) const EVICT: u8 = b'E';
/// From the process: it has had no request for `inactivity-timeout=`.
pub(super) const IDLE: u8 = b'I';

/// The end of the connection to the supervisor, for threads that ask for a successor.
static CONTROL: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps the end of the connection to the supervisor.
pub(super) fn keep(control: OwnedFd) {
    // A process has one supervisor.
    let _ = CONTROL.set(control);
}

/// Returns the end of the connection to the supervisor.
pub(super) fn get() -> Option<&'static OwnedFd> {
    CONTROL.get()
}

/// Signals that this process has got; each stream is readable after one of its signals.
pub(super) struct Signals {
    /// `SIGTERM`, `SIGINT`: end.
    pub(super) end: SignalStream,
    /// `SIGUSR1`: a successor must take over.
    pub(super) replace: SignalStream,
    /// What applications are told of the end for `SIGUSR1`.
    pub(super) replaces: &'static str,
    /// `SIGXCPU`, for `cpu-time-limit=`: the same.
    pub(super) cpu_time: SignalStream,
    /// `SIGHUP`, for subscribers in applications.
    pub(super) hang_up: SignalStream,
    /// `SIGUSR2`, likewise.
    pub(super) user: SignalStream,
}

impl Signals {
    /// Makes the signals of this process readable. In a service, Python handles those that end it. `SIGHUP` and `SIGUSR2`
    /// end no process.
    pub(super) fn register(group: &ProcessGroup) -> io::Result<Self> {
        let of_end: &[_] = match group.is_service() {
            true => &[],
            false => &[SIGTERM, SIGINT],
        };
        Ok(Self {
            end: SignalStream::of(of_end)?,
            hang_up: SignalStream::of(&[SIGHUP])?,
            user: SignalStream::of(&[SIGUSR2])?,
            replace: SignalStream::of(&[SIGUSR1])?,
            replaces: match group.eviction_timeout {
                Some(_) => "eviction_signal",
                None => "graceful_signal",
            },
            cpu_time: SignalStream::of(&[SIGXCPU])?,
        })
    }
}

/// A stream that is readable after one of its signals.
pub(super) struct SignalStream {
    read: UnixStream,
    /// Kept, as the other end of a stream without signals would else be readable.
    _written: UnixStream,
}

impl SignalStream {
    fn of(signals: &[i32]) -> io::Result<Self> {
        let (read, written) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        for &signal in signals {
            pipe::register(signal, written.try_clone()?)?;
        }
        Ok(Self {
            read,
            _written: written,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Empties the stream, so that the next signal shows. Returns how many signals there were.
    pub(super) fn clear(&self) -> usize {
        let mut read = [0; 16];
        // It was readable just now, and holds as many bytes as there were signals.
        rustix::io::read(&self.read, &mut read).unwrap_or(0)
    }
}

/// Returns a random number from 0 to 1.
pub(super) fn random() -> f64 {
    RandomState::new().hash_one(std::process::id()) as f64 / u64::MAX as f64
}

/// Says a word to the supervisor.
pub(super) fn say(word: u8) {
    if let Some(control) = CONTROL.get() {
        // If the supervisor has ended, this process ends as well.
        let _ = rustix::io::write(control, &[word]);
    }
}

/// Why this process will end, in the words of mod_wsgi. The first reason counts.
static REASON: OnceLock<&str> = OnceLock::new();

/// Notes why this process will end.
pub(super) fn note_reason(reason: &'static str) {
    REASON.get_or_init(|| reason);
}

/// Returns why this process ends. Without a reason of its own, it was told to.
pub(super) fn shutdown_reason() -> &'static str {
    REASON.get().copied().unwrap_or("shutdown_signal")
}

/// Asks the supervisor for a successor of this process, and counts why.
pub(super) fn ask_for_successor(reason: RetireReason) {
    note_reason(match reason {
        RetireReason::MaxRequests => "maximum_requests",
        RetireReason::Age => "restart_interval",
        RetireReason::RequestTimeout => "request_timeout",
        RetireReason::Deadlock => "deadlock_timeout",
        RetireReason::StartupTimeout => "startup_timeout",
        RetireReason::CpuTime => "cpu_time_limit",
        RetireReason::SourceChanged | RetireReason::Touched | RetireReason::Api => "script_reload",
        // mod_wsgi has no such limits.
        RetireReason::Memory | RetireReason::Descriptors => reason.label(),
    });
    counter!(Id::ChildrenRecycles.name(), "reason" => reason.label()).increment(1);
    if let Some(slot) = slot::get() {
        let me = slot.in_force.me();
        // Only shows the reason: the supervisor decides.
        slot.board().mark(me.pid, me.ticks, reason);
    }
    log_info(&format!(
        "this process asks for a successor: {}",
        reason.text()
    ));
    say(match reason {
        RetireReason::SourceChanged => RENEW,
        RetireReason::Api => EVICT,
        _ => REPLACE,
    });
}
