//! The times and counts of one request, from the start of its handler to its end. Recorded once, by drop.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use wsgi_abi::Times;
use wsgi_httpd::request::Request;
use wsgi_telemetry::catalogue::{
    self, ABORT_PHASE, ANSWERED, CODE, Id, REJECTION, TIMEOUT_STAGE, value,
};
use wsgi_telemetry::{App, Arena, Event, Notable, OuterRequest, Phase, PhaseCell, clock, writer};

use crate::metrics::segment;

/// Why a request was refused before the application was called. The variants are the values of the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Rejection {
    QueueFull = value(REJECTION, "queue_full"),
    QueueTimeout = value(REJECTION, "queue_timeout"),
    Draining = value(REJECTION, "draining"),
    NotLoaded = value(REJECTION, "not_loaded"),
    BodyTooLarge = value(REJECTION, "body_too_large"),
}

/// The stage in which a time limit was exceeded. The variants are the values of the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Stage {
    Application = value(TIMEOUT_STAGE, "application"),
    Read = value(TIMEOUT_STAGE, "read"),
    Write = value(TIMEOUT_STAGE, "write"),
}

/// The phase in which the client was found to be gone. The variants are the values of the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Abort {
    Queue = value(ABORT_PHASE, "queue"),
    Read = value(ABORT_PHASE, "read"),
    Write = value(ABORT_PHASE, "write"),
}

/// The measurements of one request. All its stamps are 0 if nothing is measured.
pub(crate) struct Timeline<'r> {
    request: Request<'r>,
    app: App,
    method: usize,
    /// When the handler was entered.
    entry: u64,
    /// Nanoseconds after which the request is a slow one; 0 for never.
    slow: u64,
    /// The stamps that module and engine share.
    times: Times,
    /// When the engine was asked to run the request; 0 if it never was.
    enqueued: Cell<u64>,
    first_byte: Cell<u64>,
    input: Cell<u64>,
    output: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    rejection: Cell<Option<Rejection>>,
    timeout: Cell<Option<Stage>>,
    abort: Cell<Option<Abort>>,
    /// The status of the response; 0 for none.
    status: Cell<u16>,
    /// Whether there is no response.
    is_unanswered: Cell<bool>,
    /// Whether the request was recorded while it still ran.
    is_given_up: Cell<bool>,
    /// The cell that shows the phase of the request.
    phase: Option<PhaseCell>,
    /// Whether a process group has the request.
    is_passed_on: Cell<bool>,
    /// The request that ran on this thread before, and goes on after this one.
    before: Cell<Option<Box<OuterRequest>>>,
}

impl<'r> Timeline<'r> {
    /// Begins to measure a request of `app`, whose handler was just entered.
    pub(crate) fn begin(request: Request<'r>, app: App, slow: u64) -> Self {
        let entry = segment::stamp();
        let method = catalogue::method(request.method());
        let arena = if entry == 0 {
            None
        } else {
            writer::arena(entry)
        };
        let before = arena.and_then(|arena| arena.begin(entry, app, method, request.uri(), b""));
        Self {
            request,
            app,
            method,
            entry,
            slow,
            times: Times::default(),
            enqueued: Cell::new(0),
            first_byte: Cell::new(0),
            input: Cell::new(0),
            output: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            rejection: Cell::new(None),
            timeout: Cell::new(None),
            abort: Cell::new(None),
            status: Cell::new(0),
            is_unanswered: Cell::new(false),
            is_given_up: Cell::new(false),
            phase: arena.and_then(|arena| arena.phase_cell()),
            is_passed_on: Cell::new(false),
            before: Cell::new(before),
        }
    }

    /// Returns the stamps that module and engine share; `None` if nothing is measured.
    pub(crate) fn times(&self) -> Option<&Times> {
        (self.entry != 0).then_some(&self.times)
    }

    /// Notes that the request begins to wait for Python, in an interpreter of this group.
    pub(crate) fn enqueued(&self, group: &[u8]) {
        if self.entry == 0 {
            return;
        }
        let now = clock::now();
        self.enqueued.set(now);
        self.times.stamp.store(now, Relaxed);
        if !group.is_empty()
            && let Some(arena) = writer::arena(now)
        {
            arena.set_group(group);
        }
    }

    /// Returns the stamp by which this child shows the request while it runs; 0 if nothing is measured.
    pub(crate) fn since(&self) -> u64 {
        self.entry
    }

    /// Notes that the request is passed to a process group, which shows its further phases.
    pub(crate) fn pass_to(&self, process_group: &str) {
        if let Some(cell) = self.phase {
            cell.pass_to(process_group);
            self.is_passed_on.set(true);
        }
    }

    /// Begins a host call that reads the body. [`Moving::end`] ends it.
    pub(crate) fn reading(&self) -> Moving<'_, 'r> {
        self.moving(Phase::Reading)
    }

    /// Begins a host call that writes the response. [`Moving::end`] ends it.
    pub(crate) fn writing(&self) -> Moving<'_, 'r> {
        self.moving(Phase::Writing)
    }

    fn moving(&self, phase: Phase) -> Moving<'_, 'r> {
        let mut since = 0;
        if self.entry != 0 {
            since = match self.times.stamp.swap(0, Relaxed) {
                0 => clock::now(),
                stamp => stamp,
            };
            self.show(phase);
        }
        Moving {
            timeline: self,
            since,
            phase,
        }
    }

    fn show(&self, phase: Phase) {
        if let Some(cell) = self.phase
            && !writer::detached().load(Relaxed)
        {
            cell.set(phase);
        }
    }

    /// Notes why the request was refused.
    pub(crate) fn reject(&self, why: Rejection) {
        self.rejection.set(Some(why));
    }

    /// Notes in which stage the request exceeded its time limit. The first call counts.
    pub(crate) fn time_out(&self, stage: Stage) {
        self.timeout.set(self.timeout.get().or(Some(stage)));
    }

    /// Notes in which phase the client was found to be gone. The first call counts.
    pub(crate) fn abort(&self, phase: Abort) {
        self.abort.set(self.abort.get().or(Some(phase)));
    }

    /// Notes the status of the response, unless nothing is sent.
    pub(crate) fn answered(&self, status: u16) {
        if !self.is_unanswered.get() {
            self.status.set(status);
        }
    }

    /// Notes that nothing is sent, whatever httpd does with the request.
    pub(crate) fn unanswered(&self) {
        self.is_unanswered.set(true);
    }

    /// Records a request that is given up: its thread is stuck with it, and it was answered with 504. The request is
    /// recorded now, as its thread may never return. Another thread calls this, while the thread of the request is not
    /// in the module.
    pub(crate) fn give_up(&self) {
        if self.entry == 0 || self.is_given_up.replace(true) {
            return;
        }
        self.time_out(Stage::Application);
        self.status.set(504);
        if let Some(arena) = writer::process() {
            self.record(arena, clock::now());
        }
    }

    fn record(&self, arena: Arena, end: u64) {
        let block = arena.application(self.app);
        let status = self.status.get();
        let class = usize::from(status / 100);
        let total = end.saturating_sub(self.entry);
        let enqueued = self.enqueued.get();
        if enqueued != 0 {
            block.observe(Id::QueueWait, 0, self.times.queue.load(Relaxed));
        }
        let first_byte = self.first_byte.get();
        if first_byte != 0 {
            block.observe(
                Id::TimeToFirstByte,
                0,
                first_byte.saturating_sub(self.entry),
            );
        }
        let unread = self.times.body_unread.load(Relaxed);
        for (id, count) in [
            (Id::InputRead, self.input.get()),
            (Id::OutputWrite, self.output.get()),
            (Id::RequestBody, self.bytes_in.get().saturating_sub(unread)),
            (Id::ResponseBody, self.bytes_out.get()),
        ] {
            if count != 0 {
                block.add(id, 0, count);
            }
        }
        if let Some(why) = self.rejection.get() {
            block.add(Id::Rejected, why as usize, 1);
            self.note(arena, Notable::Rejected(why as u8), total);
        }
        if let Some(stage) = self.timeout.get() {
            block.add(Id::Timeouts, stage as usize, 1);
            self.note(arena, Notable::TimedOut(stage as u8), total);
        }
        if let Some(phase) = self.abort.get() {
            block.add(Id::ClientAborts, phase as usize, 1);
        }
        if self.slow != 0 && total >= self.slow {
            block.add(Id::SlowRequests, 0, 1);
            self.note(arena, Notable::Slow, total);
        }
        if let Some(code) = class
            .checked_sub(2)
            .filter(|code| *code < ANSWERED.values.len())
        {
            block.observe(Id::RequestDuration, code, total);
        }
        let code = match class {
            1..=5 => class - 1,
            _ => value(CODE, "none"),
        };
        block.finish_request(self.method * CODE.values.len() + code);
    }

    fn note(&self, arena: Arena, why: Notable, total: u64) {
        let event = Event {
            at: 0,
            why,
            app: self.app,
            method: self.method,
            status: self.status.get(),
            pid: std::process::id(),
            total,
            application: self.times.application.load(Relaxed),
            gil_wait: self.times.gil_wait.load(Relaxed),
            input: self.input.get(),
            output: self.output.get(),
            url: String::new(),
        };
        arena.segment().note(&event, self.request.uri());
    }
}

impl Drop for Timeline<'_> {
    fn drop(&mut self) {
        if self.entry == 0 {
            return;
        }
        // When the last host call ended or the thread left Python; 0 if the request was refused before that.
        let end = match self.times.stamp.load(Relaxed) {
            0 => clock::now(),
            stamp => stamp,
        };
        if let Some(arena) = writer::arena(end) {
            if !self.is_given_up.get() {
                self.record(arena, end);
            }
            arena.end(self.before.take());
            segment::account_cpu(end);
        }
    }
}

/// A host call that reads or writes.
pub(crate) struct Moving<'t, 'r> {
    timeline: &'t Timeline<'r>,
    since: u64,
    phase: Phase,
}

impl Moving<'_, '_> {
    /// Ends the call, which has read or written `bytes` bytes of a body.
    pub(crate) fn end(self, bytes: u64) {
        let timeline = self.timeline;
        if self.since == 0 {
            return;
        }
        let now = clock::now();
        let (time, count) = if self.phase == Phase::Reading {
            (&timeline.input, &timeline.bytes_in)
        } else {
            if bytes > 0 && timeline.first_byte.get() == 0 {
                timeline.first_byte.set(self.since);
            }
            (&timeline.output, &timeline.bytes_out)
        };
        time.set(time.get() + now.saturating_sub(self.since));
        count.set(count.get() + bytes);
        timeline.times.stamp.store(now, Relaxed);
        // Elsewhere the engine of this process shows the next phase.
        if timeline.is_passed_on.get() {
            timeline.show(Phase::WaitingForGroup);
        }
    }
}
