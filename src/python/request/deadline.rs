//! The deadline of one request, for the watchdog: where the request is, on which thread, and how long it may take.
//!
//! ```text
//!   Waiting ──enter──▶ Inside ──leave──▶ Left
//!                       │  ▲
//!               suspend │  │ resume       another request runs on the same thread
//!                       ▼  │
//!                     Suspended
//! ```
//!
//! A thread that is attached to the interpreter and holds the lock injects an exception into the thread of a request
//! that is `Inside`. `leave` takes back an exception that has not been raised yet, under the same lock and while
//! attached. A request is never inside twice, so no request ever gets the exception of another one.

use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pyo3::ffi;
use wsgi_abi::Limits;
use wsgi_telemetry::clock;

use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::Attached;
use crate::request::permit::PermitSource;
use crate::sync::lock;

const MILLISECOND: u64 = 1_000_000;

/// Where a request is, and what the watchdog has done about it.
pub(crate) struct Deadline {
    /// When the request began, as a stamp. The time that its application takes to load does not count, and is added to
    /// this.
    began: AtomicU64,
    /// When the request arrived, as a stamp that does not change.
    arrived: u64,
    /// When the request began to wait for its application to load, as a stamp; 0 while it does not wait.
    loads: AtomicU64,
    limits: Limits,
    /// Whether the request waits for a permit or was refused one. Written by its thread.
    is_queued: AtomicBool,
    location: Mutex<Location>,
    /// The index in [`STEPS`] of the next step.
    next: AtomicU8,
    /// When the watchdog next asks for the child to be replaced because the request was given up and still runs, as a
    /// stamp.
    again: AtomicU64,
}

#[derive(Clone, Copy)]
enum Phase {
    Waiting,
    Inside,
    Suspended,
    Left,
}

struct Location {
    phase: Phase,
    /// The thread that runs the request, as CPython knows it.
    ident: c_ulong,
    interpreter: Option<&'static Interpreter>,
    /// The executor that gave the request its permit.
    source: Option<&'static dyn PermitSource>,
    /// Whether an exception was injected that may not have been raised yet.
    is_injected: bool,
    /// Whether the watchdog gave the permit back, because the thread hangs and cannot do so.
    has_lost_permit: bool,
    /// Whether the thread has given its permit back while it waits for something that needs no GIL.
    is_outside: bool,
}

/// What the watchdog does about a request that takes long, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Log its stack (`WSGISlowRequestStack`).
    TellSlow,
    /// Log its stack, and interrupt it.
    Interrupt,
    /// Interrupt it again: it has caught the exception, or is in a call that no exception can end.
    InterruptAgain,
    /// Answer it without its thread, which may never return.
    GiveUp,
}

/// All steps, in their order.
const STEPS: [Step; 4] = [
    Step::TellSlow,
    Step::Interrupt,
    Step::InterruptAgain,
    Step::GiveUp,
];

impl Deadline {
    /// Makes the deadline of a request that began at the stamp `began`.
    pub(crate) fn begin(began: u64, limits: Limits) -> Self {
        Self {
            began: AtomicU64::new(began),
            arrived: began,
            loads: AtomicU64::new(0),
            limits,
            is_queued: AtomicBool::new(false),
            location: Mutex::new(Location {
                phase: Phase::Waiting,
                ident: 0,
                interpreter: None,
                source: None,
                is_injected: false,
                has_lost_permit: false,
                is_outside: false,
            }),
            next: AtomicU8::new(0),
            again: AtomicU64::new(0),
        }
    }

    /// Whether the request has any limits.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.request != 0 || self.limits.slow != 0
    }

    /// Whether the request has taken longer than its limit.
    pub(crate) fn is_late(&self, now: u64) -> bool {
        self.limits.request != 0 && now >= self.due(Step::Interrupt) && !self.is_loading()
    }

    /// Returns how long the request may still take; if its application is being loaded, it may take longer.
    pub(crate) fn until_late(&self, now: u64) -> Duration {
        let now = match self.loads.load(Relaxed) {
            0 => now,
            since => since,
        };
        Duration::from_nanos(self.due(Step::Interrupt).saturating_sub(now))
    }

    /// Returns how long ago the request arrived, including the time for which it waited for a load.
    pub(crate) fn since_arrival(&self, now: u64) -> Duration {
        Duration::from_nanos(now.saturating_sub(self.arrived))
    }

    /// Returns how long the request has taken, in nanoseconds, not counting finished waits for a load.
    pub(crate) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.began.load(Relaxed))
    }

    /// Runs `load`, in which the request waits for its application to load. That time does not count: loading has its
    /// own limit, and a load that is interrupted each time would never finish.
    pub(crate) fn load<R>(&self, load: impl FnOnce() -> R) -> R {
        if !self.is_limited() {
            return load();
        }
        self.wait_for_load(clock::now());
        let result = load();
        self.load_ends();
        result
    }

    /// Notes that the request has waited for a load from its beginning and still waits: its interpreter is being made,
    /// or its application is being loaded.
    pub(crate) fn begins_with_load(&self) {
        self.wait_for_load(self.began.load(Relaxed));
    }

    fn wait_for_load(&self, since: u64) {
        if self.is_limited() && !self.is_loading() {
            self.loads.store(since, Relaxed);
        }
    }

    /// Notes that the request no longer waits for a load, if it did. The time of the wait does not count.
    pub(crate) fn load_ends(&self) {
        if !self.is_loading() {
            return;
        }
        // Two threads may get here: the one that waits for a permit, and the one that runs the request.
        let since = self.loads.swap(0, Relaxed);
        if since != 0 {
            let took = clock::now().saturating_sub(since);
            self.began.fetch_add(took, Relaxed);
        }
    }

    /// Whether the request waits for its application to load.
    pub(crate) fn is_loading(&self) -> bool {
        self.loads.load(Relaxed) != 0
    }

    /// Notes whether the request's thread waits for a permit. While the thread waits, it checks the time limit itself.
    pub(crate) fn wait_in_queue(&self, waits: bool) {
        self.is_queued.store(waits, Relaxed);
    }

    /// Whether the request's thread waits for a permit.
    pub(crate) fn is_queued(&self) -> bool {
        self.is_queued.load(Relaxed)
    }

    /// Returns when a step is due, as a stamp; `u64::MAX` stands for never.
    fn due(&self, step: Step) -> u64 {
        let Limits {
            request,
            grace,
            slow,
        } = self.limits;
        let (limit, graces) = match step {
            Step::TellSlow => (slow, 0),
            Step::Interrupt => (request, 0),
            Step::InterruptAgain => (request, 1),
            Step::GiveUp => (request, 2),
        };
        if limit == 0 {
            return u64::MAX;
        }
        let milliseconds = u64::from(limit) + graces * u64::from(grace);
        self.began.load(Relaxed) + milliseconds * MILLISECOND
    }

    /// Returns when the next step is due, as a stamp.
    pub(crate) fn next_due(&self) -> u64 {
        let left = STEPS.iter().skip(self.next.load(Relaxed).into());
        left.map(|step| self.due(*step)).min().unwrap_or(u64::MAX)
    }

    /// Returns the step that is due now. Each step is returned once; a step that becomes due after a later one is
    /// skipped. Only one thread may call this.
    pub(crate) fn take_step(&self, now: u64) -> Option<Step> {
        let next = self.next.load(Relaxed);
        let left = STEPS.iter().enumerate().skip(next.into());
        let due = left.filter(|(_, step)| self.due(**step) <= now);
        // A slow request is logged even if the limit of the request is as short as the threshold.
        let (at, step) = due.min_by_key(|(_, step)| self.due(**step))?;
        self.next.store(at as u8 + 1, Relaxed);
        Some(*step)
    }

    /// Returns whether the watchdog asks now for the child to be replaced because the request was given up and still
    /// runs: true once in `every` nanoseconds.
    pub(crate) fn claim_reminder(&self, now: u64, every: u64) -> bool {
        let is_due = now >= self.again.load(Relaxed);
        if is_due {
            self.again.store(now + every, Relaxed);
        }
        is_due
    }

    /// Notes that the request is on its way into this interpreter.
    pub(crate) fn approach(&self, interpreter: &'static Interpreter) {
        self.location().interpreter = Some(interpreter);
    }

    /// Returns the interpreter that the request is in, or on its way into.
    pub(crate) fn interpreter(&self) -> Option<&'static Interpreter> {
        self.location().interpreter
    }

    /// Notes that the calling thread runs the request from now on, in the interpreter that it is attached to.
    pub(crate) fn enter(&self, py: &Attached<'_>, source: Option<&'static dyn PermitSource>) {
        self.wait_in_queue(false);
        let mut location = self.location();
        location.phase = Phase::Inside;
        location.ident = own_ident();
        location.interpreter = Some(py.interpreter());
        location.source = source;
    }

    /// Notes that the request is done, except for Python objects that may still be destroyed.
    pub(crate) fn leave(&self, py: &Attached<'_>) {
        let mut location = self.location();
        location.phase = Phase::Left;
        location.take_back(py);
        if std::mem::take(&mut location.has_lost_permit)
            && let Some(source) = location.source
        {
            // The thread that runs the request will give its permit back a second time.
            source.step_in();
        }
    }

    /// Notes that another request begins on the same thread.
    pub(crate) fn suspend(&self, py: &Attached<'_>) -> Suspended {
        let mut location = self.location();
        let was_inside = matches!(location.phase, Phase::Inside);
        if was_inside {
            location.phase = Phase::Suspended;
        }
        let owes = location.take_back(py);
        Suspended { was_inside, owes }
    }

    /// Notes that the request goes on. An exception that [`Self::suspend`] took back is injected again by the watchdog.
    pub(crate) fn resume(&self, suspended: &Suspended) {
        if suspended.was_inside {
            self.location().phase = Phase::Inside;
        }
        if suspended.owes {
            self.next.fetch_min(1, Relaxed);
        }
    }

    /// Raises `RequestTimeout` in the request's thread, if the request is inside the interpreter that the calling
    /// thread is attached to. Returns whether it did.
    pub(crate) fn interrupt(&self, py: &Attached<'_>) -> bool {
        let mut location = self.location();
        let is_here = location
            .interpreter
            .is_some_and(|other| std::ptr::eq(other, py.interpreter()));
        if !matches!(location.phase, Phase::Inside) || !is_here {
            return false;
        }
        location.is_injected = true;
        let class = py.state().request_timeout.as_ptr();
        // SAFETY: the calling thread is attached, and the class is one of this interpreter.
        unsafe { ffi::PyThreadState_SetAsyncExc(location.ident.cast_signed(), class) != 0 }
    }

    /// Returns the interpreter that the request is inside of, and its thread.
    pub(crate) fn inside(&self) -> Option<(&'static Interpreter, c_ulong)> {
        let location = self.location();
        match location.phase {
            Phase::Inside => location.interpreter.map(|of| (of, location.ident)),
            Phase::Waiting | Phase::Suspended | Phase::Left => None,
        }
    }

    /// Returns the CPU time of the request's thread in nanoseconds, if the request is inside with a permit of `source`.
    pub(crate) fn cpu_time(&self, source: &dyn PermitSource) -> Option<u64> {
        let location = self.location();
        let own = location
            .source
            .filter(|_| matches!(location.phase, Phase::Inside))?;
        if !std::ptr::addr_eq(own, source) {
            return None;
        }
        // SAFETY: the thread is inside, and cannot leave while the lock is held. The clock is only used if the first
        // call succeeded.
        unsafe {
            let (mut clock, mut time) = (0, std::mem::zeroed::<libc::timespec>());
            let is_there = libc::pthread_getcpuclockid(location.ident, &mut clock) == 0
                && libc::clock_gettime(clock, &mut time) == 0;
            is_there.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
        }
    }

    /// Whether another request runs on the request's thread.
    pub(crate) fn is_suspended(&self) -> bool {
        matches!(self.location().phase, Phase::Suspended)
    }

    /// Notes that the calling thread is about to give the request's permit back for a while. Returns whether it has a
    /// permit to give: it runs the request, and the watchdog has not given the permit back.
    pub(crate) fn step_out(&self) -> bool {
        let mut location = self.location();
        let has_permit = location.ident == own_ident() && !location.has_lost_permit;
        location.is_outside |= has_permit;
        has_permit
    }

    /// Notes that the request has a permit again.
    pub(crate) fn step_in(&self) {
        self.location().is_outside = false;
    }

    /// Gives the request's permit back, because its thread hangs and cannot do so.
    pub(crate) fn lose_permit(&self) {
        let mut location = self.location();
        if matches!(location.phase, Phase::Inside)
            && !location.has_lost_permit
            && !location.is_outside
            && let Some(source) = location.source
        {
            location.has_lost_permit = true;
            drop(location);
            source.step_out();
        }
    }

    fn location(&self) -> MutexGuard<'_, Location> {
        lock(&self.location)
    }
}

impl Location {
    /// Takes back an exception that has not been raised. Returns whether there may have been one.
    fn take_back(&mut self, _py: &Attached<'_>) -> bool {
        let was_injected = std::mem::take(&mut self.is_injected);
        if was_injected {
            // SAFETY: attached, on the thread with this identifier.
            unsafe {
                ffi::PyThreadState_SetAsyncExc(self.ident.cast_signed(), std::ptr::null_mut())
            };
        }
        was_injected
    }
}

/// The state of a request when another one began on its thread.
pub(crate) struct Suspended {
    was_inside: bool,
    /// An exception was injected into the request's thread and taken back.
    owes: bool,
}

/// Returns the identifier of the calling thread, as `PyThread_get_thread_ident` does.
fn own_ident() -> c_ulong {
    // SAFETY: may be called at any time.
    unsafe { libc::pthread_self() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = MILLISECOND;

    fn deadline(request: u32, grace: u32, slow: u32) -> Deadline {
        Deadline::begin(
            1000 * MS,
            Limits {
                request,
                grace,
                slow,
            },
        )
    }

    #[test]
    fn steps_come_in_their_order_and_once() {
        let deadline = deadline(200, 50, 100);
        assert_eq!(deadline.next_due(), 1100 * MS);
        assert_eq!(deadline.take_step(1099 * MS), None);
        assert_eq!(deadline.take_step(1100 * MS), Some(Step::TellSlow));
        assert_eq!(deadline.take_step(1100 * MS), None);
        assert!(!deadline.is_late(1199 * MS) && deadline.is_late(1200 * MS));
        for (at, step) in [
            (1200, Step::Interrupt),
            (1250, Step::InterruptAgain),
            (1300, Step::GiveUp),
        ] {
            assert_eq!(deadline.next_due(), at * MS);
            assert_eq!(deadline.take_step(at * MS), Some(step));
            assert_eq!(deadline.take_step(at * MS), None);
        }
        assert_eq!(deadline.next_due(), u64::MAX);
    }

    /// The number of permits that were given back and not taken again.
    #[derive(Default)]
    struct CountedPermits(std::sync::atomic::AtomicI32);

    impl PermitSource for CountedPermits {
        fn step_out(&'static self) {
            self.0.fetch_add(1, Relaxed);
        }

        fn step_in(&self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }

    #[test]
    fn a_slot_is_given_back_once() {
        let given: &'static CountedPermits = Box::leak(Box::default());
        let deadline = deadline(100, 0, 0);
        let mut location = deadline.location();
        (location.phase, location.ident) = (Phase::Inside, own_ident());
        location.source = Some(given);
        drop(location);
        // The thread gave the permit back itself.
        assert!(deadline.step_out());
        deadline.lose_permit();
        assert_eq!(given.0.load(Relaxed), 0);
        deadline.step_in();
        // A thread that has lost its permit does not step out.
        deadline.lose_permit();
        assert!(!deadline.step_out());
        deadline.lose_permit();
        assert_eq!(given.0.load(Relaxed), 1);
        // Other threads of an application have no permit.
        let other = std::thread::scope(|scope| scope.spawn(|| deadline.step_out()).join());
        assert_eq!(other.ok(), Some(false));
    }

    #[test]
    fn what_is_not_limited_is_never_due() {
        assert_eq!(deadline(0, 50, 0).next_due(), u64::MAX);
        let slow = deadline(0, 50, 100);
        assert_eq!(slow.take_step(2000 * MS), Some(Step::TellSlow));
        assert_eq!(slow.take_step(9000 * MS), None);
        assert!(!slow.is_late(u64::MAX));
        let limited = deadline(100, 0, 0);
        assert_eq!(limited.take_step(1100 * MS), Some(Step::Interrupt));
        assert_eq!(limited.take_step(1100 * MS), Some(Step::InterruptAgain));
        assert_eq!(limited.take_step(1100 * MS), Some(Step::GiveUp));
    }

    #[test]
    fn a_threshold_above_the_limit_is_passed_over() {
        let deadline = deadline(100, 50, 1000);
        assert_eq!(deadline.take_step(1100 * MS), Some(Step::Interrupt));
        assert_eq!(deadline.next_due(), 1150 * MS);
    }
}
