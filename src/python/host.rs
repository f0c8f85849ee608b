//! The module's side, seen from Python's: the [`HostTable`] behind safe functions, but for the calls of one request, which are
//! in `request::host`.
//!
//! The table is set once, when the engine starts; the unit tests set one of their own.

use std::sync::OnceLock;

use wsgi_abi::{Arenas, Bytes, GilChoice, GroupOptions, HostTable, Retire};
use wsgi_core::messages::{Level as CoreLevel, Message};

static HOST: OnceLock<&'static HostTable> = OnceLock::new();

/// Levels of `http_log.h`, as far as the engine uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// `APLOG_CRIT`
    Critical = 2,
    /// `APLOG_ERR`
    Error = 3,
    /// `APLOG_WARNING`
    Warning = 4,
    /// `APLOG_INFO`
    Info = 6,
    /// `APLOG_DEBUG`
    Debug = 7,
}

/// Sets the table; a second call is ignored.
///
/// # Safety
/// Every function of the table must keep the contract that `wsgi_abi` states for it.
pub unsafe fn set(table: &'static HostTable) {
    let _ = HOST.set(table);
}

/// The table, once the engine was started.
pub(crate) fn table() -> Option<&'static HostTable> {
    HOST.get().copied()
}

/// The level of a message, for the host.
pub(crate) fn level_of(message: Message) -> Level {
    match message.level() {
        CoreLevel::Critical => Level::Critical,
        CoreLevel::Error => Level::Error,
        CoreLevel::Warning => Level::Warning,
        CoreLevel::Notice | CoreLevel::Info => Level::Info,
    }
}

/// Logs to the server's log.
pub fn log(level: Level, line: &str) {
    if let Some(host) = HOST.get() {
        (host.log_server)(level as i32, Bytes::new(line.as_bytes()));
    }
}

/// The arenas of the calling thread.
pub(crate) fn arenas(now: u64) -> Arenas {
    HOST.get().map_or(Arenas::NONE, |host| (host.arenas)(now))
}

/// See [`HostTable::gil_choice`]; to be called while detached.
pub(crate) fn gil_choice(group: &[u8]) -> GilChoice {
    HOST.get().map_or(GilChoice::Shared, |host| {
        (host.gil_choice)(Bytes::new(group))
    })
}

/// See [`HostTable::gil_chosen`].
pub(crate) fn gil_chosen(group: &[u8], choice: GilChoice, module: &[u8]) {
    if let Some(host) = HOST.get() {
        (host.gil_chosen)(Bytes::new(group), choice, Bytes::new(module));
    }
}

/// Has this child replaced.
pub(crate) fn retire(why: Retire) {
    if let Some(host) = HOST.get() {
        (host.retire)(why);
    }
}

/// Asks for the options of an application group.
pub(crate) fn group_options(group: &[u8]) -> GroupOptions {
    HOST.get().map_or_else(GroupOptions::default, |host| {
        (host.group_options)(Bytes::new(group))
    })
}
