//! The process's side of a request: the engine's calls become frames.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wsgi_abi::{
    Bytes, Fault, HostResult, HostStatus, Level, Presence, RequestHost, ResponseHead, WriteEnd,
};

use crate::connection::{Connection, Silence, Wait, WireError};
use crate::frame::{Frame, Kind, Why, limits};
use crate::pack::Malformed;
use crate::request::UnpackedRequest;
use crate::response::{
    Ended, PRESENCES, number_of, of_detail, pack_end, pack_head, unpack_failure,
};

/// The bytes of a request while it runs. The buffer of the connection is needed for the frames that follow.
#[derive(Default)]
pub struct RequestBuffer {
    level: u8,
    bytes: Vec<u8>,
}

impl RequestBuffer {
    /// Returns the request.
    ///
    /// # Errors
    /// [`WireError::Violation`]
    pub fn request(&self) -> Result<UnpackedRequest<'_>, WireError> {
        Ok(UnpackedRequest::unpack(self.level, &self.bytes)?)
    }
}

/// Receives a request from a connection on which none runs. Returns `false` if it has not arrived whole. Does not wait.
///
/// # Errors
/// The connection must be closed.
pub fn receive(connection: &Connection, into: &mut RequestBuffer) -> Result<bool, WireError> {
    let mut incoming = connection.incoming();
    while let Some(frame) = incoming.next(Wait::No)? {
        match frame.kind {
            Kind::Request => {
                into.level = frame.detail;
                into.bytes.clear();
                into.bytes.extend_from_slice(frame.body);
                return Ok(true);
            }
            // Sent before the child knew that the last request had ended.
            Kind::Presence | Kind::Unwanted | Kind::Stopped => {}
            _ => return Err(WireError::Violation("a frame without a request")),
        }
    }
    Ok(false)
}

/// Answers a request that was not begun.
///
/// # Errors
/// The connection must be closed.
pub fn refuse(connection: &Connection, why: Why) -> Result<(), WireError> {
    let mut sending = connection.outgoing();
    sending.append(Kind::Elsewhere, why as u8, |_| {})?;
    sending.send()
}

/// Tells the child that this process takes no further request on the connection. A request that is already on its way
/// must be refused.
///
/// # Errors
/// The connection must be closed.
pub fn go_away(connection: &Connection) -> Result<(), WireError> {
    let mut sending = connection.outgoing();
    sending.append(Kind::GoAway, 0, |_| {})?;
    sending.send()
}

/// One request while the engine of this process runs it. The calls are those of
/// [`HostTable`](wsgi_abi::HostTable).
pub struct RemoteRequest<'c> {
    connection: &'c Connection,
    level: Level,
    /// The start of the body.
    start: &'c [u8],
    is_whole: bool,
    /// How long the child may take to send a part of the body, or to take a part of the response.
    patience: Duration,
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
    /// Something was sent for this request, so the child may have answered.
    has_sent: bool,
    broken: Option<WireError>,
}

impl<'c> RemoteRequest<'c> {
    /// Begins the request that was received from `connection`.
    pub fn new(
        connection: &'c Connection,
        request: &UnpackedRequest<'c>,
        patience: Duration,
    ) -> Self {
        Self {
            connection,
            level: request.level,
            start: request.body.start,
            is_whole: request.body.is_whole,
            patience,
            state: Mutex::new(State::default()),
        }
    }

    /// Ends the request: sends what is left of the response, and how the request ended.
    ///
    /// # Errors
    /// The connection must be closed.
    pub fn end(self, ended: &Ended) -> Result<(), WireError> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(broken) = state.broken {
            return Err(broken);
        }
        let mut sending = self.connection.outgoing();
        sending.append(Kind::End, 0, |to| pack_end(to, ended))?;
        sending.send()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a line of the log at once: the application may run for long before it sends anything else.
    fn send_line(&self, level: Level, line: &[u8]) {
        if level > self.level {
            return;
        }
        let line = &line[..line.len().min(limits::LINE)];
        let mut sending = self.connection.outgoing();
        let appended = sending.append(Kind::Log, number_of(level), |to| {
            to.0.extend_from_slice(line);
        });
        // A failure shows at the next call that returns a result.
        let _ = appended.map(|()| sending.send());
    }

    /// Sends what is held back.
    fn send(&self, state: &mut State) -> HostResult {
        state.has_sent = true;
        match self.connection.outgoing().send() {
            Ok(()) => HostResult::done(0),
            Err(error) => state.break_off(error),
        }
    }

    /// Takes what the child has sent meanwhile. Does not wait.
    fn look(&self, state: &mut State) {
        if state.broken.is_some() {
            return;
        }
        let mut incoming = self.connection.incoming();
        loop {
            match incoming.next(Wait::No) {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    if let Err(error) = state.take(frame) {
                        state.break_off(error);
                        return;
                    }
                }
                Err(error) => {
                    state.break_off(error);
                    return;
                }
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
    fn want(&self, state: &mut State, count: usize) -> Option<HostResult> {
        if state.broken.is_some() {
            return Some(HostResult::aborted());
        }
        state.has_sent = true;
        match self.exchange_part(state, count) {
            Ok(failure) => failure,
            Err(error) => Some(state.break_off(error)),
        }
    }

    fn exchange_part(
        &self,
        state: &mut State,
        count: usize,
    ) -> Result<Option<HostResult>, WireError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut sending = self.connection.outgoing();
        sending.append(Kind::Want, 0, |to| to.u32(count))?;
        sending.send()?;
        drop(sending);
        let silence = Silence::begin(self.patience);
        let mut incoming = self.connection.incoming();
        loop {
            let Some(frame) = incoming.next(Wait::Tick)? else {
                silence.check()?;
                continue;
            };
            match frame.kind {
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

    /// Notes that the connection is of no use any more. Returns the result of the call that found out.
    fn break_off(&mut self, error: WireError) -> HostResult {
        self.broken = Some(error);
        self.presence = Some(Presence::Gone);
        let result = match error {
            WireError::TimedOut => HostResult::failed(Fault::Slow, ""),
            _ => HostResult::aborted(),
        };
        *self.stopped.insert(result)
    }

    /// Reads from what has arrived of the body.
    fn read_arrived(&mut self, start: &[u8], into: &mut [u8]) -> usize {
        let from_start = copy(&start[self.position..], into);
        self.position += from_start;
        let from_part = copy(&self.part[self.part_position..], &mut into[from_start..]);
        self.part_position += from_part;
        from_start + from_part
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    count
}

impl RequestHost for RemoteRequest<'_> {
    fn log(&self, level: Level, line: &[u8]) {
        self.send_line(level, line);
    }

    fn log_beside(&self, level: Level, line: &[u8]) {
        self.send_line(level, line);
    }

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        let state = &mut *self.state();
        let arrived = state.read_arrived(self.start, into);
        if arrived > 0 || self.is_whole || state.is_body_over {
            return HostResult::done(arrived);
        }
        // A longer part than the application asks for saves it a way to the child at the next read.
        let count = if into.is_empty() { 0 } else { limits::BODY };
        match self.want(state, count) {
            None => HostResult::done(state.read_arrived(self.start, into)),
            Some(failure) => failure,
        }
    }

    fn read_at_hand(&self, into: &mut [u8]) -> HostResult {
        let state = &mut *self.state();
        match state.read_arrived(self.start, into) {
            0 if self.is_whole || state.is_body_over => HostResult::done(0),
            0 => HostResult::later(),
            arrived => HostResult::done(arrived),
        }
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let state = &mut *self.state();
        if let Some(refusal) = self.refusal(state)
            && refusal.status == HostStatus::Failed
        {
            return refusal;
        }
        let mut sending = self.connection.outgoing();
        match sending.append(Kind::Head, 0, |to| pack_head(to, head)) {
            Ok(()) => HostResult::done(0),
            Err(Malformed(_)) => HostResult::failed(
                Fault::Server,
                "the headers of the response are longer than 16 MiB",
            ),
        }
    }

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let state = &mut *self.state();
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
            let appended = sending.append(Kind::Chunk, end as u8, |to| {
                to.0.extend_from_slice(part);
            });
            let is_full = sending.is_full();
            drop(sending);
            if let Err(malformed) = appended {
                return state.break_off(malformed.into());
            }
            if is_full || matches!(end, WriteEnd::Flush | WriteEnd::EndNow) {
                let sent = self.send(state);
                if sent.status != HostStatus::Ok {
                    return sent;
                }
            }
            if is_last {
                return HostResult::done(0);
            }
        }
    }

    fn flush(&self) -> HostResult {
        let state = &mut *self.state();
        if let Some(refusal) = self.refusal(state) {
            return match refusal.status {
                HostStatus::Unwanted => HostResult::done(0),
                _ => refusal,
            };
        }
        let appended = self.connection.outgoing().append(Kind::Flush, 0, |_| {});
        match appended {
            Ok(()) => self.send(state),
            Err(malformed) => state.break_off(malformed.into()),
        }
    }

    fn send_file(&self, file: OwnedFd, offset: u64, length: u64) -> HostResult {
        let state = &mut *self.state();
        if let Some(refusal) = self.refusal(state) {
            return match refusal.status {
                HostStatus::Unwanted => HostResult::done(0),
                _ => refusal,
            };
        }
        state.has_sent = true;
        let mut sending = self.connection.outgoing();
        // The descriptor must come with the first byte of its frame.
        let sent = sending.send().and_then(|()| {
            sending.append(Kind::File, 0, |to| {
                to.u64(offset);
                to.u64(length);
            })?;
            sending.send_with(Some(file.as_fd()))
        });
        drop(sending);
        match sent {
            Ok(()) => HostResult::done(0),
            Err(error) => state.break_off(error),
        }
    }

    fn cut_response(&self) {
        let state = &mut *self.state();
        let appended = self.connection.outgoing().append(Kind::Cut, 0, |_| {});
        if appended.is_ok() {
            self.send(state);
        }
    }

    fn client_presence(&self) -> Presence {
        let state = &mut *self.state();
        self.look(state);
        state.presence.unwrap_or(Presence::Here)
    }

    /// The thread of the request hangs, maybe with the lock of the state.
    fn give_up(&self) {
        let mut sending = self.connection.outgoing();
        // An error means that the child is gone, and with it the client.
        let _ = sending
            .append(Kind::GaveUp, 0, |_| {})
            .map(|()| sending.send());
    }

    /// The variables of TLS stay in the child.
    fn ssl_variable(&self, _name: &[u8]) -> Option<&[u8]> {
        None
    }
}
