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
//! | `Head`, `Chunk`, `Flush`, `File`, `Cut` | the response; a file is a descriptor, which httpd reads |
//! | `Want` | the application reads: only then does httpd read from the client |
//! | `Log` | a line for the log of the request |
//! | `GaveUp` | the thread hangs: answer 504 in its place |
//! | `End` | the request has ended; the connection can take another one |
//! | `Elsewhere` | the request was not begun: ask another process |
//! | `GoAway` | the process takes no further request |
//!
//! The child reads the body only when the application asks for it, and both sides always read what the other one has
//! sent before they wait for it. So neither can block the other, however client and application behave.
//!
//! Neither side trusts the other: each length is checked before memory is allocated for it, and a frame that is not
//! allowed at its place ends the connection.

#![forbid(unsafe_code)]

mod connection;
mod exchange;
mod frame;
mod pack;
mod remote;
mod request;
mod response;

pub use connection::{Connection, WireError};
pub use exchange::{Exchanged, Lost, exchange};
pub use frame::{Why, limits};
pub use remote::{RemoteRequest, RequestBuffer, go_away, receive, refuse};
pub use request::{PackedBody, PackedRequest, UnpackedRequest};
pub use response::{Ended, EndedTimes};

#[cfg(test)]
mod tests;
