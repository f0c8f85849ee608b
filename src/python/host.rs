//! The host's side as the engine calls it: the [`HostTable`] behind safe functions. The calls for one request are in
//! `request::host`.
//!
//! The table is set once, when the engine starts; the unit tests set their own.

use std::sync::OnceLock;

pub use wsgi_abi::Level;
use wsgi_abi::{Arenas, Bytes, GilDecision, GroupOptions, HostTable, Retire};
use wsgi_core::messages::Message;

static HOST: OnceLock<&'static HostTable> = OnceLock::new();

/// Sets the table; a second call is ignored.
///
/// # Safety
/// Every function of the table must keep the contract that `wsgi_abi` states for it.
pub unsafe fn set(table: &'static HostTable) {
    let _ = HOST.set(table);
}

/// Returns the table; `None` before the engine has started.
pub(crate) fn table() -> Option<&'static HostTable> {
    HOST.get().copied()
}

/// Returns the level at which the host logs a message. A notice becomes info, because httpd logs notices whatever
/// `LogLevel` says.
pub(crate) fn level_of(message: Message) -> Level {
    match message.level() {
        Level::Notice => Level::Info,
        level => level,
    }
}

/// Logs to the server's log.
pub fn log(level: Level, line: &str) {
    if let Some(host) = HOST.get() {
        (host.log_server)(level, Bytes::new(line.as_bytes()));
    }
}

/// Returns the arenas of the calling thread.
pub(crate) fn arenas(now: u64) -> Arenas {
    HOST.get().map_or(Arenas::NONE, |host| (host.arenas)(now))
}

/// See [`HostTable::gil_decision`]. Must be called while detached.
pub(crate) fn gil_decision(group: &[u8]) -> GilDecision {
    HOST.get().map_or(GilDecision::Shared, |host| {
        (host.gil_decision)(Bytes::new(group))
    })
}

/// See [`HostTable::gil_decided`].
pub(crate) fn gil_decided(group: &[u8], choice: GilDecision, module: &[u8]) {
    if let Some(host) = HOST.get() {
        (host.gil_decided)(Bytes::new(group), choice, Bytes::new(module));
    }
}

/// Asks the host to replace this child.
pub(crate) fn retire(why: Retire) {
    if let Some(host) = HOST.get() {
        (host.retire)(why);
    }
}

/// Asks the host for the options of an application group.
pub(crate) fn group_options(group: &[u8]) -> GroupOptions {
    HOST.get().map_or_else(GroupOptions::default, |host| {
        (host.group_options)(Bytes::new(group))
    })
}
