//! The greeting of a new connection: a child learns that a process has taken the connection, and that both sides have
//! the same protocol. A connection that no process takes waits in the queue of its socket.

use std::time::Duration;

use wsgi_abi::BUILD_ID;

use crate::connection::{Connection, WireError};
use crate::deadline::Deadline;
use crate::frame::Kind;
use crate::incoming::Wait;

/// Must change together with the frames. The numbers of the contract's values have their own name, [`BUILD_ID`].
const PROTOCOL: u8 = 1;

/// Tells the child that this process has taken its connection.
///
/// # Errors
/// The connection must be closed.
pub fn send_welcome(connection: &Connection) -> Result<(), WireError> {
    let mut sending = connection.outgoing();
    sending.hold_back(Kind::Welcome, PROTOCOL, |to| {
        to.0.extend_from_slice(BUILD_ID.as_bytes());
    })?;
    sending.send()
}

/// Waits until a process has taken the connection. Returns `false` if none has within `limit`.
///
/// # Errors
/// The connection must be closed.
pub fn wait_for_welcome(connection: &Connection, limit: Duration) -> Result<bool, WireError> {
    let end = Deadline::after(limit);
    let mut incoming = connection.incoming();
    loop {
        if let Some(frame) = incoming.next(Wait::Tick)? {
            return match (frame.kind, frame.detail, frame.body) {
                (Kind::Welcome, PROTOCOL, build) if build == BUILD_ID.as_bytes() => Ok(true),
                _ => Err(WireError::Violation("it is of another build of the module")),
            };
        }
        if end.has_passed() {
            return Ok(false);
        }
    }
}
