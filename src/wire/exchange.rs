//! The child's side of a request: sends it to a process, and makes the calls that the process asks for.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use wsgi_abi::{Bytes, Fault, HostResult, HostStatus, Presence, RequestHost, RunOutcome, WriteEnd};

use crate::checked::{AtEnd, CheckedResponse};
use crate::connection::{Connection, WireError};
use crate::deadline::Deadline;
use crate::frame::{Frame, Kind, Why, limits};
use crate::incoming::{Receiving, Wait};
use crate::pack::Packer;
use crate::request::{OutgoingRequest, pack_request};
use crate::response::{
    Ended, EndedTimes, LEVELS, UnpackedHead, WRITE_ENDS, of_detail, pack_failure, unpack_end,
    unpack_file, unpack_want,
};

/// What became of a request that was sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// The process has run it.
    Ended {
        /// How it ended.
        ended: Ended,
        /// Whether the connection can take another request.
        is_reusable: bool,
    },
    /// The process has not begun it. One that drains takes no other one on this connection.
    Elsewhere(Why),
    /// The request is longer than a process takes ([`limits::REQUEST`]), or the start of its body ([`limits::BODY`]).
    /// Nothing was sent, and the connection can take another request.
    TooLong,
}

/// The connection failed before the request ended. The caller cuts a response that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How it failed.
    pub error: WireError,
    /// Whether the process may have begun the request. Another process may run one that was not begun.
    pub was_begun: bool,
}

/// How often the child looks whether the client is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Sends a request, and makes the calls of `host` that the process asks for, until the request has ended. Fails if the
/// process sends no frame for `silence` while it is waited for; without a limit, waits as long as the process lives.
///
/// # Errors
/// [`Lost`]: the connection must be closed.
pub fn exchange(
    connection: &Connection,
    request: &OutgoingRequest<'_>,
    host: &dyn RequestHost,
    silence: Option<Duration>,
) -> Result<Exchanged, Lost> {
    let exchanged = match send_request(connection, request) {
        Ok(None) => {
            let header_only = request.run.environ.header_only;
            let mut exchange = Exchange::new(connection, host, header_only);
            exchange.run(silence).map_err(|error| exchange.lost(error))
        }
        Ok(Some(not_sent)) => Ok(not_sent),
        // A process that has not got the whole request has not begun it.
        Err(error) => Err(Lost {
            error,
            was_begun: false,
        }),
    };
    if exchanged.is_err() {
        connection.break_off();
    }
    connection.give_back();
    exchanged
}

/// Sends the request. Returns what became of it if it was not sent.
fn send_request(
    connection: &Connection,
    request: &OutgoingRequest<'_>,
) -> Result<Option<Exchanged>, WireError> {
    const UNASKED: WireError = WireError::Violation("a frame without a request");
    let mut incoming = connection.incoming();
    match incoming.next(Wait::No)?.map(|frame| frame.kind) {
        Some(Kind::GoAway) => return Ok(Some(Exchanged::Elsewhere(Why::Draining))),
        Some(_) => return Err(UNASKED),
        None if !incoming.is_empty() => return Err(UNASKED),
        None => {}
    }
    let mut sending = connection.outgoing();
    if pack_request(sending.held_back(), request).is_err() {
        return Ok(Some(Exchanged::TooLong));
    }
    sending.send()?;
    Ok(None)
}

struct Exchange<'e> {
    connection: &'e Connection,
    host: &'e dyn RequestHost,
    /// The process has sent something for this request.
    is_begun: bool,
    /// The process has sent something else than lines of its log.
    is_answered: bool,
    /// Something was sent after the request, which a process that has read the whole request may have left unread.
    has_sent: bool,
    /// Why nothing more can be sent to the process. What it has sent before is read all the same: a process that drains
    /// may close the connection behind the end of its last request.
    send_error: Option<WireError>,
    response: CheckedResponse,
    goes_away: bool,
    /// What the process knows of the client, and when the child has looked last.
    presence: Presence,
    looked: Instant,
    /// The process knows that no more of the response can be sent.
    has_stopped: bool,
    /// httpd has failed to send the response.
    has_failed: bool,
    /// httpd has cut the response.
    is_cut: bool,
}

/// What is left to do once the buffer of the frame is free.
enum Step {
    Next,
    Read(usize),
    Return(Exchanged),
}

impl<'e> Exchange<'e> {
    fn new(connection: &'e Connection, host: &'e dyn RequestHost, header_only: bool) -> Self {
        Self {
            connection,
            host,
            is_begun: false,
            is_answered: false,
            has_sent: false,
            send_error: None,
            response: CheckedResponse::new(header_only),
            goes_away: false,
            presence: Presence::Here,
            looked: Instant::now(),
            has_stopped: false,
            has_failed: false,
            is_cut: false,
        }
    }

    fn run(&mut self, silence: Option<Duration>) -> Result<Exchanged, WireError> {
        let mut silent_until = Deadline::after_some(silence);
        loop {
            self.look_at_client();
            let mut incoming = self.connection.incoming();
            let Some(frame) = incoming.next(Wait::Tick)? else {
                if silent_until.has_passed() {
                    return Err(WireError::TimedOut);
                }
                continue;
            };
            // The body of the frame lies in the buffer, so the next one is read only after the calls for this one.
            let step = match frame.kind {
                Kind::File => {
                    let part = unpack_file(frame.body)?;
                    let file = incoming.take_descriptor();
                    self.file(part, file)?;
                    Step::Next
                }
                _ => self.take(frame)?,
            };
            match step {
                Step::Next => {}
                Step::Read(count) => {
                    drop(incoming);
                    if self.send_error.is_none() {
                        self.read(count);
                    }
                }
                Step::Return(exchanged) => return self.check_left(exchanged, &mut incoming),
            }
            silent_until = Deadline::after_some(silence);
        }
    }

    /// Returns how the request was lost by `error`.
    fn lost(&self, error: WireError) -> Lost {
        let was_read = error != WireError::Closed { was_unread: true };
        Lost {
            error: match error {
                WireError::Closed { .. } => self.send_error.unwrap_or(error),
                _ => error,
            },
            was_begun: self.is_begun || self.has_sent || was_read,
        }
    }

    /// Checks what the process has sent behind its last frame for the request.
    fn check_left(
        &self,
        exchanged: Exchanged,
        incoming: &mut Receiving<'_>,
    ) -> Result<Exchanged, WireError> {
        if incoming.take_descriptor().is_some() {
            return Err(WireError::Violation("a descriptor comes without its file"));
        }
        Ok(match exchanged {
            Exchanged::Ended { ended, is_reusable } => Exchanged::Ended {
                ended,
                // Only `GoAway` may follow, after which the connection takes no further request either.
                is_reusable: is_reusable && self.send_error.is_none() && incoming.is_empty(),
            },
            other => other,
        })
    }

    /// Does what a frame asks for, without another one having been read.
    fn take(&mut self, frame: Frame<'_>) -> Result<Step, WireError> {
        let was_answered = self.is_answered;
        self.is_begun |= !matches!(frame.kind, Kind::GoAway | Kind::Elsewhere);
        self.is_answered |= !matches!(frame.kind, Kind::GoAway | Kind::Elsewhere | Kind::Log);
        match frame.kind {
            Kind::Head => {
                let head = UnpackedHead::unpack(frame.body)?;
                self.response.begin(&head)?;
                let result = self.host.start_response(&head.as_head());
                self.answer(&result);
            }
            Kind::Chunk => self.chunk(frame.body, of_detail(&WRITE_ENDS, frame.detail)?)?,
            Kind::Flush => {
                self.response.open_body()?;
                if !self.has_stopped {
                    let result = self.host.flush();
                    self.answer(&result);
                }
            }
            Kind::Want => return Ok(Step::Read(unpack_want(frame.body)?)),
            Kind::Log => {
                let level = of_detail(&LEVELS, frame.detail)?;
                self.host.log(level, frame.body);
            }
            Kind::Cut => {
                self.response.cut()?;
                self.cut();
            }
            Kind::GaveUp => {
                self.host.give_up();
                return Ok(Step::Return(Exchanged::Ended {
                    ended: Ended {
                        outcome: RunOutcome::GivenUp,
                        times: EndedTimes::default(),
                    },
                    is_reusable: false,
                }));
            }
            Kind::End => {
                let mut ended = unpack_end(frame.body)?;
                ended.outcome = self.end(ended.outcome)?;
                return Ok(Step::Return(Exchanged::Ended {
                    ended,
                    is_reusable: !self.goes_away,
                }));
            }
            Kind::GoAway => self.goes_away = true,
            Kind::Elsewhere if was_answered => {
                return Err(WireError::Violation("a request is refused after its begin"));
            }
            Kind::Elsewhere => {
                let why = of_detail(&Why::ALL, frame.detail)?;
                return Ok(Step::Return(Exchanged::Elsewhere(why)));
            }
            Kind::Request
            | Kind::Body
            | Kind::BodyEnd
            | Kind::BodyFailed
            | Kind::Presence
            | Kind::Unwanted
            | Kind::Stopped
            | Kind::Welcome
            | Kind::File => return Err(WireError::Violation("a frame of the other direction")),
        }
        Ok(Step::Next)
    }

    /// Sends a part of the response to the client.
    fn chunk(&mut self, part: &[u8], end: WriteEnd) -> Result<(), WireError> {
        let is_end = matches!(end, WriteEnd::End | WriteEnd::EndNow);
        let is_short = self.response.take(part.len(), is_end)?;
        if self.has_stopped {
            return Ok(());
        }
        // The body is not ended for httpd, so that it can be cut.
        let end = if is_short { WriteEnd::More } else { end };
        let result = self.host.write(&[Bytes::new(part)], end);
        self.answer(&result);
        if is_short && !self.has_stopped {
            self.cut();
        }
        Ok(())
    }

    /// Sends a file to the client, as the end of the response.
    fn file(
        &mut self,
        (offset, length): (u64, u64),
        file: Option<OwnedFd>,
    ) -> Result<(), WireError> {
        self.is_begun = true;
        let end = offset.checked_add(length).map(i64::try_from);
        let (Some(Ok(_)), Ok(count)) = (end, usize::try_from(length)) else {
            return Err(WireError::Violation("a file is longer than a file can be"));
        };
        let is_short = self.response.take(count, true)?;
        let file = file.ok_or(WireError::Violation("a file comes without its descriptor"))?;
        check_file(&file)?;
        if self.has_stopped {
            return Ok(());
        }
        if is_short {
            // httpd takes a file for the end of the body, which could not be cut any more.
            self.cut();
            return Ok(());
        }
        let result = self.host.send_file(file, offset, length);
        self.answer(&result);
        Ok(())
    }

    /// Ends the request. Returns the outcome for the caller.
    fn end(&mut self, outcome: RunOutcome) -> Result<RunOutcome, WireError> {
        if self.response.check_end(outcome, self.has_stopped)? == AtEnd::Cut {
            self.cut();
        }
        Ok(match outcome {
            // In a child, the failed call itself tells the engine, which then returns this.
            RunOutcome::Responded if self.has_failed && !self.is_cut => RunOutcome::Failed,
            outcome => outcome,
        })
    }

    fn cut(&mut self) {
        self.is_cut = true;
        self.host.cut_response();
    }

    /// Reads from the client, and sends the process what was read.
    fn read(&mut self, count: usize) {
        let mut buffer = [0; limits::BODY];
        let into = &mut buffer[..count.min(limits::BODY)];
        let result = self.host.read_body(into);
        match result.status {
            HostStatus::Ok if result.count == 0 && count > 0 => self.send(Kind::BodyEnd, 0, |_| {}),
            HostStatus::Ok => {
                let read = &into[..result.count.min(into.len())];
                self.send(Kind::Body, 0, |to| to.0.extend_from_slice(read));
            }
            HostStatus::Failed | HostStatus::Later | HostStatus::Unwanted => {
                self.send(Kind::BodyFailed, 0, |to| pack_failure(to, &result));
            }
        }
    }

    /// Tells the process if the response cannot be sent as it thinks.
    fn answer(&mut self, result: &HostResult) {
        if self.has_stopped || matches!(result.status, HostStatus::Ok | HostStatus::Later) {
            return;
        }
        self.has_stopped = true;
        if result.status == HostStatus::Unwanted {
            self.send(Kind::Unwanted, 0, |_| {});
        } else {
            self.has_failed = result.fault == Fault::Server;
            self.send(Kind::Stopped, 0, |to| pack_failure(to, result));
        }
    }

    /// Tells the process if the client has left. A client that has left does not come back, so the process gets few
    /// such frames, even if it reads none.
    fn look_at_client(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let presence = self.host.client_presence();
        if presence as u8 > self.presence as u8 {
            self.presence = presence;
            self.send(Kind::Presence, presence as u8, |_| {});
        }
    }

    fn send(&mut self, kind: Kind, detail: u8, pack: impl FnOnce(&mut Packer<'_>)) {
        self.has_sent = true;
        if self.send_error.is_some() {
            return;
        }
        let mut sending = self.connection.outgoing();
        let held_back = sending.hold_back(kind, detail, pack);
        let sent = held_back
            .map_err(WireError::from)
            .and_then(|()| sending.send());
        self.send_error = sent.err();
    }
}

/// Checks that a descriptor is one that httpd can read a response from: a device could block the thread, or answer with
/// what the process may not read itself.
fn check_file(file: &OwnedFd) -> Result<(), WireError> {
    let is_regular =
        fstat(file).is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_file());
    let flags = fcntl_getfl(file)?;
    let is_readable = matches!(flags & OFlags::RWMODE, OFlags::RDONLY | OFlags::RDWR)
        && !flags.contains(OFlags::PATH);
    if is_regular && is_readable {
        Ok(())
    } else {
        Err(WireError::Violation(
            "a file is no regular file, or not readable",
        ))
    }
}
