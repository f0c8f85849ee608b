//! The process's side of a request: the engine's calls become frames.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wsgi_abi::{
    Bytes, Fault, HostResult, HostStatus, Level, Presence, RequestHost, ResponseHead, RunOutcome,
    WriteEnd,
};

use crate::connection::{Connection, WireError};
use crate::deadline::Deadline;
use crate::frame::{Frame, Kind, limits};
use crate::incoming::Wait;
use crate::outgoing::Taken;
use crate::request::UnpackedRequest;
use crate::response::{
    Ended, PRESENCES, has_too_many_headers, number_of, of_detail, pack_end, pack_head,
    unpack_failure,
};

/// One request while the engine of this process runs it. The calls are those of
/// [`HostTable`](wsgi_abi::HostTable).
///
/// `log`, `log_beside`, `give_up` and `client_presence` never wait, neither for the child nor for another thread.
///
/// In a copy of the process, which the application has forked, lines of the log go to the fallback, and the other calls
/// fail as if the client had left: the connection is the parent's.
pub struct RemoteRequest<'c> {
    connection: &'c Connection,
    level: Level,
    /// Logs a line that cannot be sent at once.
    fallback: fn(Level, &[u8]),
    /// The start of the body.
    start: &'c [u8],
    is_whole: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How much of the start of the body was read.
    position: usize,
    /// A part of the body that the child has sent, and how much of it was read.
    part: Vec<u8>,
    part_position: usize,
    is_body_over: bool,
    presence: Option<Presence>,
    /// The child sends a page of its own.
    is_unwanted: bool,
    /// Why nothing can be sent any more.
    stopped: Option<HostResult>,
    /// The head of the response is on its way to the child.
    has_head: bool,
    /// Something was sent for this request, so the child may have answered.
    has_sent: bool,
    broken: Option<WireError>,
}

impl<'c> RemoteRequest<'c> {
    /// Begins the request that was received from `connection`. `fallback` logs to the process's own log. It gets the
    /// lines that the child cannot take at once, and must not wait: the calling thread may hold the GIL.
    pub fn new(
        connection: &'c Connection,
        request: &UnpackedRequest<'c>,
        fallback: fn(Level, &[u8]),
    ) -> Self {
        Self {
            connection,
            level: request.level,
            fallback,
            start: request.body.start,
            is_whole: request.body.is_whole,
            state: Mutex::new(State::default()),
        }
    }

    /// Returns whether nothing was sent for the request: then [`send_elsewhere`](crate::send_elsewhere) may still answer
    /// it in place of [`Self::end`].
    pub fn is_untouched(&self) -> bool {
        let state = self.state();
        state.is_some_and(|state| !state.has_sent && state.broken.is_none())
    }

    /// Ends the request: sends what is left of the response, and how the request ended.
    ///
    /// # Errors
    /// The connection must be closed. This is also the end of a request that was given up.
    pub fn end(self, ended: &Ended) -> Result<(), WireError> {
        self.connection.check_copy()?;
        let state = self.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if let Some(broken) = state.broken {
            return Err(broken);
        }
        let outcome = match ended.outcome {
            // `give_up` has sent the last frame.
            RunOutcome::GivenUp => return Err(WireError::CLOSED),
            // The head could not be sent.
            RunOutcome::Responded if !state.has_head => RunOutcome::Failed,
            outcome => outcome,
        };
        let ended = Ended { outcome, ..*ended };
        let mut sending = self.connection.outgoing();
        sending.hold_back(Kind::End, 0, |to| pack_end(to, &ended))?;
        sending.send()?;
        drop(sending);
        self.connection.give_back();
        Ok(())
    }

    /// Returns the state; `None` in a copy of the process, where its lock must not be touched.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        if self.connection.is_copy() {
            return None;
        }
        Some(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Logs a line in the child, or else in this process.
    fn log_line(&self, level: Level, line: &[u8]) {
        if level <= self.level && (self.connection.is_copy() || !self.try_send_line(level, line)) {
            (self.fallback)(level, line);
        }
    }

    /// Sends a line of the log: now, as the application may run for long before it sends anything else, but only if
    /// that does not wait. Returns whether it is on its way.
    fn try_send_line(&self, level: Level, line: &[u8]) -> bool {
        let Some(mut sending) = self.connection.try_outgoing() else {
            return false;
        };
        let line = &line[..line.len().min(limits::LINE)];
        let taken = sending.try_send_ahead(Kind::Log, number_of(level), |to| {
            to.0.extend_from_slice(line);
        });
        // A failure shows at the next call that returns a result.
        matches!(taken, Ok(Taken::Whole | Taken::Started))
    }

    /// Notes that the connection is of no use any more, and ends it. Returns the result of the call that found out.
    fn break_off(&self, state: &mut State, error: WireError) -> HostResult {
        self.connection.break_off();
        state.broken = Some(error);
        state.presence = Some(Presence::Gone);
        let result = match error {
            WireError::TimedOut => HostResult::failed(Fault::Slow, ""),
            _ => HostResult::aborted(),
        };
        *state.stopped.insert(result)
    }

    /// Returns the result of a call that has sent something.
    fn sent(&self, state: &mut State, sent: Result<(), WireError>) -> HostResult {
        state.has_sent = true;
        match sent {
            Ok(()) => HostResult::done(0),
            Err(error) => self.break_off(state, error),
        }
    }

    /// Takes what the child has sent meanwhile. Does not wait.
    fn look(&self, state: &mut State) {
        /// More than a child sends without being asked.
        const MOST_FRAMES: usize = 16;
        if state.broken.is_some() {
            return;
        }
        let mut incoming = self.connection.incoming();
        for _ in 0..MOST_FRAMES {
            let taken = match incoming.next(Wait::No) {
                Ok(None) => return,
                Ok(Some(frame)) => state.take(frame),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                self.break_off(state, error);
                return;
            }
        }
    }

    /// Returns why nothing of the response can be sent, if so.
    fn refusal(&self, state: &mut State) -> Option<HostResult> {
        if state.has_sent {
            self.look(state);
        }
        if let Some(stopped) = state.stopped {
            return Some(stopped);
        }
        state.is_unwanted.then(HostResult::unwanted)
    }

    /// Asks the child for a part of the body, and waits for it. Returns the failure, if it fails.
    fn ask_for_part(&self, state: &mut State, count: u32) -> Option<HostResult> {
        if state.broken.is_some() {
            return Some(HostResult::aborted());
        }
        state.has_sent = true;
        match self.exchange_part(state, count) {
            Ok(failure) => failure,
            Err(error) => Some(self.break_off(state, error)),
        }
    }

    fn exchange_part(
        &self,
        state: &mut State,
        count: u32,
    ) -> Result<Option<HostResult>, WireError> {
        let mut sending = self.connection.outgoing();
        sending.hold_back(Kind::Want, 0, |to| to.u32(count))?;
        sending.send()?;
        drop(sending);
        let deadline = Deadline::after(self.connection.patience());
        let mut incoming = self.connection.incoming();
        loop {
            if let Some(frame) = incoming.next(Wait::Tick)? {
                match frame.kind {
                    Kind::Body if frame.body.is_empty() != (count == 0) => {
                        let what = "a part of a body that nothing has asked for, or an empty one";
                        return Err(WireError::Violation(what));
                    }
                    Kind::Body => {
                        state.part.clear();
                        state.part.extend_from_slice(frame.body);
                        state.part_position = 0;
                        return Ok(None);
                    }
                    Kind::BodyEnd => {
                        state.is_body_over = true;
                        return Ok(None);
                    }
                    Kind::BodyFailed => return Ok(Some(unpack_failure(frame.body)?)),
                    _ => state.take(frame)?,
                }
            }
            // Also if frames keep arriving.
            if deadline.has_passed() {
                return Err(WireError::TimedOut);
            }
        }
    }
}

impl State {
    /// Takes a frame that may come at any time.
    fn take(&mut self, frame: Frame<'_>) -> Result<(), WireError> {
        match frame.kind {
            Kind::Presence => self.presence = Some(of_detail(&PRESENCES, frame.detail)?),
            Kind::Unwanted => self.is_unwanted = true,
            Kind::Stopped => self.stopped = Some(unpack_failure(frame.body)?),
            _ => return Err(WireError::Violation("a frame that nothing has asked for")),
        }
        Ok(())
    }

    /// Reads from what has arrived of the body.
    fn read_arrived(&mut self, start: &[u8], into: &mut [u8]) -> usize {
        let from_start = copy(&start[self.position..], into);
        self.position += from_start;
        let from_part = copy(&self.part[self.part_position..], &mut into[from_start..]);
        self.part_position += from_part;
        from_start + from_part
    }

    /// Whether something of the body has arrived and was not read.
    fn has_arrived(&self, start: &[u8]) -> bool {
        self.position < start.len() || self.part_position < self.part.len()
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    count
}

/// Returns the result of a call for which it makes no difference that httpd sends a page of its own.
fn without_page(refusal: HostResult) -> HostResult {
    match refusal.status {
        HostStatus::Unwanted => HostResult::done(0),
        _ => refusal,
    }
}

impl RequestHost for RemoteRequest<'_> {
    fn log(&self, level: Level, line: &[u8]) {
        self.log_line(level, line);
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        self.log_line(level, line);
    }

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        let Some(mut state) = self.state() else {
            return HostResult::aborted();
        };
        let state = &mut *state;
        if state.has_arrived(self.start) || self.is_whole || state.is_body_over {
            return HostResult::done(state.read_arrived(self.start, into));
        }
        // A longer part than the application asks for saves it a way to the child at the next read.
        let count = if into.is_empty() { 0 } else { limits::BODY };
        match self.ask_for_part(state, count as u32) {
            None => HostResult::done(state.read_arrived(self.start, into)),
            Some(failure) => failure,
        }
    }

    fn read_at_hand(&self, into: &mut [u8]) -> HostResult {
        let Some(mut state) = self.state() else {
            return HostResult::aborted();
        };
        if state.has_arrived(self.start) || self.is_whole || state.is_body_over {
            HostResult::done(state.read_arrived(self.start, into))
        } else {
            HostResult::later()
        }
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let Some(mut state) = self.state() else {
            return HostResult::aborted();
        };
        let state = &mut *state;
        if let Some(refusal) = self.refusal(state)
            && refusal.status == HostStatus::Failed
        {
            return refusal;
        }
        let mut sending = self.connection.outgoing();
        let is_held_back = !has_too_many_headers(head)
            && sending
                .hold_back(Kind::Head, 0, |to| pack_head(to, head))
                .is_ok();
        if is_held_back {
            state.has_head = true;
            return HostResult::done(0);
        }
        sending.give_back();
        let why = "the head of the response is longer than 1 MiB, or has more than 4096 headers";
        *state.stopped.insert(HostResult::failed(Fault::Server, why))
    }

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let Some(mut state) = self.state() else {
            return HostResult::aborted();
        };
        let state = &mut *state;
        if let Some(refusal) = self.refusal(state) {
            return refusal;
        }
        let parts = chunks.iter().map(|chunk| chunk.get_or_empty());
        let mut parts = parts
            .flat_map(|chunk| chunk.chunks(limits::CHUNK))
            .peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let is_last = parts.peek().is_none();
            let end = if is_last { end } else { WriteEnd::More };
            let mut sending = self.connection.outgoing();
            let held_back = sending.hold_back(Kind::Chunk, end as u8, |to| {
                to.0.extend_from_slice(part);
            });
            let is_now = matches!(end, WriteEnd::Flush | WriteEnd::EndNow);
            let sent = match held_back {
                Ok(()) if is_now || sending.is_full() => Some(sending.send()),
                Ok(()) => None,
                Err(malformed) => Some(Err(malformed.into())),
            };
            drop(sending);
            if let Some(sent) = sent {
                let result = self.sent(state, sent);
                if result.status != HostStatus::Ok {
                    return result;
                }
            }
            if is_last {
                return HostResult::done(0);
            }
        }
    }

    fn flush(&self) -> HostResult {
        let Some(mut state) = self.state() else {
            return HostResult::aborted();
        };
        let state = &mut *state;
        if let Some(refusal) = self.refusal(state) {
            return without_page(refusal);
        }
        let mut sending = self.connection.outgoing();
        let held_back = sending.hold_back(Kind::Flush, 0, |_| {});
        let sent = held_back
            .map_err(WireError::from)
            .and_then(|()| sending.send());
        drop(sending);
        self.sent(state, sent)
    }

    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        let Some(mut state) = self.state() else {
            return HostResult::aborted();
        };
        let state = &mut *state;
        if let Some(refusal) = self.refusal(state) {
            return without_page(refusal);
        }
        let mut sending = self.connection.outgoing();
        let sent = sending.send_descriptor(file.as_fd(), Kind::File, |to| {
            to.u64(offset);
            to.u64(length);
        });
        drop(sending);
        self.sent(state, sent)
    }

    fn cut_response(&self) {
        let Some(mut state) = self.state() else {
            return;
        };
        let state = &mut *state;
        // Without its head the child knows of no response.
        if !state.has_head || state.broken.is_some() {
            return;
        }
        let mut sending = self.connection.outgoing();
        let held_back = sending.hold_back(Kind::Cut, 0, |_| {});
        let sent = held_back
            .map_err(WireError::from)
            .and_then(|()| sending.send());
        drop(sending);
        self.sent(state, sent);
    }

    fn client_presence(&self) -> Presence {
        if self.connection.is_copy() {
            return Presence::Gone;
        }
        // A thread in another call finds out itself.
        let Ok(mut state) = self.state.try_lock() else {
            return Presence::Here;
        };
        self.look(&mut state);
        state.presence.unwrap_or(Presence::Here)
    }

    /// The engine makes no other call now; only `log_beside` may be under way.
    fn give_up(&self) {
        if self.connection.is_copy() {
            return;
        }
        let is_sent = self.connection.try_outgoing().is_some_and(|mut sending| {
            let taken = sending.try_send_ahead(Kind::GaveUp, 0, |_| {});
            let is_sent = taken == Ok(Taken::Whole);
            if is_sent {
                sending.finish();
            }
            is_sent
        });
        if !is_sent {
            self.connection.break_off();
        }
    }

    /// The variables of TLS stay in the child.
    fn ssl_variable(&self, _name: &[u8]) -> Option<&[u8]> {
        None
    }
}
