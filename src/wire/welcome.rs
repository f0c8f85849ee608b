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

/// What became of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A process has taken it.
    Welcome,
    /// The supervisor has refused it with [`send_go_away`](crate::send_go_away): no process will take it soon.
    Refused,
    /// Nothing has come in time.
    Nothing,
}

/// Waits at most for `limit` until a process has taken the connection.
///
/// # Errors
/// The connection must be closed.
pub fn wait_for_welcome(connection: &Connection, limit: Duration) -> Result<Greeting, WireError> {
    let end = Deadline::after(limit);
    let mut incoming = connection.incoming();
    loop {
        if let Some(frame) = incoming.next(Wait::Tick)? {
            return match (frame.kind, frame.detail, frame.body) {
                (Kind::Welcome, PROTOCOL, build) if build == BUILD_ID.as_bytes() => {
                    Ok(Greeting::Welcome)
                }
                (Kind::GoAway, 0, []) => Ok(Greeting::Refused),
                _ => Err(WireError::Violation("it is of another build of the module")),
            };
        }
        if end.has_passed() {
            return Ok(Greeting::Nothing);
        }
    }
}
