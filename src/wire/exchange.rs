//! The child's side of a request: sends it to a process, and makes the calls that the process asks for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use wsgi_abi::{Bytes, HostResult, HostStatus, Presence, RequestHost, RunOutcome, WriteEnd};

use crate::connection::{Connection, Silence, Wait, WireError};
use crate::frame::{Frame, Kind, Why, limits};
use crate::pack::Malformed;
use crate::request::{PackedRequest, pack_request};
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
    /// The process has not begun it, and takes no other one on this connection.
    Elsewhere(Why),
}

/// The connection failed before the request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How it failed.
    pub error: WireError,
    /// Whether the process may have begun the request. Another process may run one that was not begun.
    pub was_begun: bool,
}

/// Sends a request, and makes the calls of `host` that the process asks for, until the request has ended. Fails if the
/// process sends nothing for `patience` while it is waited for.
///
/// # Errors
/// [`Lost`]: the connection must be closed.
pub fn exchange(
    connection: &Connection,
    request: &PackedRequest<'_>,
    host: &dyn RequestHost,
    patience: Duration,
) -> Result<Exchanged, Lost> {
    let mut exchange = Exchange {
        connection,
        host,
        patience,
        is_begun: false,
        has_head: false,
        is_over: false,
        goes_away: false,
        presence: Presence::Here,
        has_refused: false,
    };
    let mut sending = connection.outgoing();
    let sent = pack_request(sending.buffer(), request)
        .map_err(|Malformed(_)| WireError::Violation("the request is too long to be sent"))
        .and_then(|()| sending.send());
    drop(sending);
    // A process that has not got the whole request has not begun it.
    sent.map_err(|error| Lost {
        error,
        was_begun: false,
    })?;
    let exchanged = exchange.run();
    exchanged.map_err(|error| {
        let was_read = error != WireError::Closed { was_unread: true };
        Lost {
            error,
            was_begun: exchange.is_begun || was_read,
        }
    })
}

struct Exchange<'e> {
    connection: &'e Connection,
    host: &'e dyn RequestHost,
    patience: Duration,
    /// The process has sent something for this request.
    is_begun: bool,
    has_head: bool,
    /// The body of the response has ended.
    is_over: bool,
    goes_away: bool,
    /// What the process knows of the client.
    presence: Presence,
    /// The process knows that no more of the response can be sent.
    has_refused: bool,
}

impl Exchange<'_> {
    fn run(&mut self) -> Result<Exchanged, WireError> {
        let mut silence = Silence::begin(self.patience);
        loop {
            let mut incoming = self.connection.incoming();
            let Some(frame) = incoming.next(Wait::Tick)? else {
                drop(incoming);
                silence.check()?;
                self.look_at_client()?;
                continue;
            };
            let kind = frame.kind;
            // The body of the frame lies in the buffer, so the next one is read only after the calls for this one.
            let step = match kind {
                Kind::File => {
                    let part = unpack_file(frame.body)?;
                    let file = incoming.take_descriptor();
                    self.file(part, file)?;
                    None
                }
                _ => self.take(frame)?,
            };
            drop(incoming);
            match step {
                Some(Step::Read(count)) => self.read(count)?,
                Some(Step::Return(exchanged)) => {
                    let left = self.connection.incoming().take_descriptor();
                    return match left {
                        None => Ok(exchanged),
                        Some(_) => Err(WireError::Violation("a descriptor comes without its file")),
                    };
                }
                None => {}
            }
            silence = Silence::begin(self.patience);
        }
    }

    /// Does what a frame asks for, without another one having been read.
    fn take(&mut self, frame: Frame<'_>) -> Result<Option<Step>, WireError> {
        let was_begun = self.is_begun;
        self.is_begun |= !matches!(frame.kind, Kind::GoAway | Kind::Elsewhere);
        match frame.kind {
            Kind::Head => {
                if std::mem::replace(&mut self.has_head, true) {
                    return Err(WireError::Violation("a second head"));
                }
                let head = UnpackedHead::unpack(frame.body)?;
                let result = self.host.start_response(&head.as_head());
                self.answer(&result)?;
            }
            Kind::Chunk => {
                let end = of_detail(&WRITE_ENDS, frame.detail)?;
                self.check_body()?;
                self.is_over = matches!(end, WriteEnd::End | WriteEnd::EndNow);
                if !self.has_refused {
                    let result = self.host.write(&[Bytes::new(frame.body)], end);
                    self.answer(&result)?;
                }
            }
            Kind::Flush => {
                self.check_body()?;
                if !self.has_refused {
                    let result = self.host.flush();
                    self.answer(&result)?;
                }
            }
            Kind::Want => return Ok(Some(Step::Read(unpack_want(frame.body)?))),
            Kind::Log => {
                let level = of_detail(&LEVELS, frame.detail)?;
                self.host.log(level, frame.body);
            }
            Kind::Cut => {
                if !self.has_head {
                    return Err(WireError::Violation("a response is cut before its head"));
                }
                self.is_over = true;
                self.host.cut_response();
            }
            Kind::GaveUp => {
                self.host.give_up();
                return Ok(Some(Step::Return(Exchanged::Ended {
                    ended: Ended {
                        outcome: RunOutcome::GivenUp,
                        times: EndedTimes::default(),
                    },
                    is_reusable: false,
                })));
            }
            Kind::End => {
                let ended = unpack_end(frame.body)?;
                if ended.outcome == RunOutcome::Responded && !self.has_head {
                    return Err(WireError::Violation("a response without a head"));
                }
                return Ok(Some(Step::Return(Exchanged::Ended {
                    ended,
                    is_reusable: !self.goes_away,
                })));
            }
            Kind::GoAway => self.goes_away = true,
            Kind::Elsewhere if was_begun => {
                return Err(WireError::Violation("a request is refused after its begin"));
            }
            Kind::Elsewhere => {
                let why = of_detail(&Why::ALL, frame.detail)?;
                return Ok(Some(Step::Return(Exchanged::Elsewhere(why))));
            }
            Kind::Request
            | Kind::Body
            | Kind::BodyEnd
            | Kind::BodyFailed
            | Kind::Presence
            | Kind::Unwanted
            | Kind::Stopped
            | Kind::File => return Err(WireError::Violation("a frame of the other direction")),
        }
        Ok(None)
    }

    fn check_body(&self) -> Result<(), WireError> {
        match (self.has_head, self.is_over) {
            (true, false) => Ok(()),
            (false, _) => Err(WireError::Violation("a body before its head")),
            (true, true) => Err(WireError::Violation("a body after its end")),
        }
    }

    fn file(
        &mut self,
        (offset, length): (u64, u64),
        file: Option<OwnedFd>,
    ) -> Result<(), WireError> {
        self.is_begun = true;
        self.check_body()?;
        self.is_over = true;
        let file = file.ok_or(WireError::Violation("a file comes without its descriptor"))?;
        check_file(&file)?;
        if self.has_refused {
            return Ok(());
        }
        let result = self.host.send_file(file, offset, length);
        self.answer(&result)
    }

    /// Reads from the client, and sends the process what was read.
    fn read(&mut self, count: usize) -> Result<(), WireError> {
        let mut buffer = [0; limits::BODY];
        let into = &mut buffer[..count.min(limits::BODY)];
        let result = self.host.read_body(into);
        let mut sending = self.connection.outgoing();
        match result.status {
            HostStatus::Ok if result.count == 0 && count > 0 => {
                sending.append(Kind::BodyEnd, 0, |_| {})?;
            }
            HostStatus::Ok => {
                let read = &into[..result.count.min(into.len())];
                sending.append(Kind::Body, 0, |to| to.0.extend_from_slice(read))?;
            }
            HostStatus::Failed | HostStatus::Later | HostStatus::Unwanted => {
                sending.append(Kind::BodyFailed, 0, |to| pack_failure(to, &result))?;
            }
        }
        sending.send()
    }

    /// Tells the process if the response cannot be sent as it thinks.
    fn answer(&mut self, result: &HostResult) -> Result<(), WireError> {
        if self.has_refused || matches!(result.status, HostStatus::Ok | HostStatus::Later) {
            return Ok(());
        }
        self.has_refused = true;
        let mut sending = self.connection.outgoing();
        match result.status {
            HostStatus::Unwanted => sending.append(Kind::Unwanted, 0, |_| {})?,
            _ => sending.append(Kind::Stopped, 0, |to| pack_failure(to, result))?,
        }
        sending.send()
    }

    /// Tells the process if the client has left.
    fn look_at_client(&mut self) -> Result<(), WireError> {
        let presence = self.host.client_presence();
        if presence == self.presence {
            return Ok(());
        }
        self.presence = presence;
        let mut sending = self.connection.outgoing();
        sending.append(Kind::Presence, presence as u8, |_| {})?;
        sending.send()
    }
}

/// What is left to do once the buffer of the frame is free.
enum Step {
    Read(usize),
    Return(Exchanged),
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
