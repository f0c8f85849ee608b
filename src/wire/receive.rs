//! The process's side of a connection on which no request runs.

use crate::connection::{Connection, WireError};
use crate::frame::{Kind, Why};
use crate::incoming::{KEPT, Wait};
use crate::request::UnpackedRequest;

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

    /// Forgets the request, and gives back the memory of a long one. [`receive`] begins with this; call it yourself
    /// before the buffer lies idle.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }

    /// Returns the size of the buffer.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity()
    }
}

/// What a child may send of its own accord for one request: two changes of the client's presence, and that nothing more
/// can be sent. It may arrive when the request has ended.
const MOST_LATE: usize = 3;

/// Receives a request from a connection on which none runs. Returns `false` if it has not arrived whole. Does not wait.
///
/// # Errors
/// The connection must be closed.
pub fn receive(connection: &Connection, into: &mut RequestBuffer) -> Result<bool, WireError> {
    connection.check_copy()?;
    into.clear();
    let mut incoming = connection.incoming();
    for _ in 0..=MOST_LATE {
        let Some(frame) = incoming.next(Wait::No)? else {
            return Ok(false);
        };
        match frame.kind {
            Kind::Request => {
                into.level = frame.detail;
                into.bytes.extend_from_slice(frame.body);
                incoming.give_back();
                return Ok(true);
            }
            Kind::Presence | Kind::Unwanted | Kind::Stopped => {}
            _ => return Err(WireError::Violation("a frame without a request")),
        }
    }
    Err(WireError::Violation("too many frames without a request"))
}

/// Answers a request that was not begun.
///
/// # Errors
/// The connection must be closed.
pub fn send_elsewhere(connection: &Connection, why: Why) -> Result<(), WireError> {
    send_alone(connection, Kind::Elsewhere, why as u8)
}

/// Tells the child that this process takes no further request on the connection. A request that is already on its way
/// must be refused. Called while no request runs on the connection, or by the thread that runs it.
///
/// # Errors
/// The connection must be closed.
pub fn send_go_away(connection: &Connection) -> Result<(), WireError> {
    send_alone(connection, Kind::GoAway, 0)
}

/// Sends a frame that belongs to no request.
fn send_alone(connection: &Connection, kind: Kind, detail: u8) -> Result<(), WireError> {
    connection.check_copy()?;
    connection.outgoing().send_ahead(kind, detail)
}
