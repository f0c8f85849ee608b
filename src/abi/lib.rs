//! The contract between `mod_wsgi_rs.so` and the engines: two tables of C functions and the `#[repr(C)]` values that
//! their functions take and return. It holds no rules and no policy.
//!
//! The module calls the [`EngineTable`] that an engine exports as `wsgi_engine`; during [`EngineTable::run`] the
//! engine calls back through the [`HostTable`] that it was started with. Both tables begin with
//! [`ABI_VERSION`] and [`BUILD_ID`]; a side that meets another value refuses to go on.
//!
//! Lifetimes say how long a passed value stays valid. The functions that take a request are unsafe, because only their
//! caller knows that the request has not ended. [`Host`] makes them from ordinary methods; [`Engine`] calls an engine.

mod engine;
mod guard;
mod host;
pub mod keys;
mod options;
mod request;
mod response;
mod slice;
mod tables;

pub use engine::Engine;
pub use guard::guard;
pub use host::{Host, Hosts, RequestHost, host_table};
pub use options::{
    Admission, AtExit, FreeThreading, GilDecision, GilMode, GroupOptions, Level, Retire, Strategy,
};
pub use request::{
    BodyPlan, EnvEntry, Environ, HostRequest, KeyKind, Limits, Nesting, RunOutcome, RunRequest,
    Target, Times, Timing,
};
pub use response::{Fault, Header, HostResult, HostStatus, Presence, ResponseHead, WriteEnd};
pub use slice::{Bytes, Slice, keep};
pub use tables::{Arenas, EngineTable, HostTable, SegmentView, StartConfig};

/// Raised with every change of a layout or of a meaning in this crate.
pub const ABI_VERSION: u32 = 11;

/// Distinguishes builds of one [`ABI_VERSION`]: module and engine must come from the same source of the contract.
pub const BUILD_ID: &str = concat!(
    "mod_wsgi_rs ",
    env!("CARGO_PKG_VERSION"),
    ", contract ",
    env!("WSGI_CONTRACT")
);

/// The symbol under which an engine exports its [`EngineTable`].
pub const ENGINE_SYMBOL: &[u8] = b"wsgi_engine\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_that_fails_says_its_own_reason() {
        let (first, second) = (keep(String::from("one")), keep(String::from("another")));
        assert_eq!(first.get(), Some(&b"one"[..]));
        assert_eq!(second.get(), Some(&b"another"[..]));
    }
}
