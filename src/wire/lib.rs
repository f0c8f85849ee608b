//! The wire between a child of httpd and a process of a process group: a Unix socket that carries one request after the
//! other, each as frames.
//!
//! The engine in the process asks its host for the body of the request, and gives it the response. In a child of httpd
//! the host is the request itself. In a process it is a [`RemoteRequest`], which makes a frame of each call; the
//! child's [`exchange()`] reads the frames, and makes the calls there. So the engine runs in both places without a
//! difference.
//!
//! | from the child | meaning |
//! |---|---|
//! | `Request` | what [`RunRequest`](wsgi_abi::RunRequest) holds, and the start of the body |
//! | `Body`, `BodyEnd`, `BodyFailed` | the answer to `Want` |
//! | `Presence` | the client has left, or has closed its half of the connection |
//! | `Unwanted` | httpd sends a page of its own in place of the response's body |
//! | `Stopped` | nothing more can be sent to the client |
//!
//! | from the process | meaning |
//! |---|---|
//! | `Welcome` | the process has taken the connection, and has this protocol |
//! | `Head`, `Chunk`, `Flush`, `File`, `Cut` | the response; a file is a descriptor, which httpd reads |
//! | `Want` | the application reads: only then does httpd read from the client |
//! | `Log` | a line for the log of the request |
//! | `GaveUp` | the thread hangs: answer 504 in its place |
//! | `End` | the request has ended; the connection can take another one |
//! | `Elsewhere` | the request was not begun: ask another process |
//! | `GoAway` | the process takes no further request |
//!
//! The child sends a body only on `Want`; all that it sends unasked is short. So it never waits for a process that
//! waits for it, however client and application behave.
//!
//! Neither side trusts the other: lengths have limits, memory grows with what has arrived and not with what is
//! announced, and a frame that is not allowed at its place ends the connection. The child passes on only what the
//! engine could have sent: a process cannot make httpd send a response that is not valid, or two.
//!
//! A side that fails to send ends the connection, so that no frame follows a part of one.

#![forbid(unsafe_code)]

mod checked;
mod connection;
mod deadline;
mod exchange;
mod frame;
mod incoming;
mod outgoing;
mod pack;
mod receive;
mod remote;
mod request;
mod response;
mod welcome;

pub use connection::{Connection, WireError};
pub use exchange::{Exchanged, Lost, exchange};
pub use frame::{Why, limits};
pub use receive::{RequestBuffer, receive, send_elsewhere, send_go_away};
pub use remote::RemoteRequest;
pub use request::{BodyStart, OutgoingRequest, UnpackedRequest};
pub use response::{Ended, EndedTimes};

pub use welcome::{Greeting, send_welcome, wait_for_welcome};

#[cfg(test)]
mod tests;
