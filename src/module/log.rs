//! Lines for the error log: numbered messages, and lines that only report progress.
//!
//! A numbered message says what failed, why, what follows, and what to do ([`Message`]). The trial of new code also
//! remembers the errors: they say what is wrong with that code.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wsgi_core::messages::Message;
use wsgi_httpd::log::{self, Level};

/// Writes a message to the server's log.
pub(crate) fn log_message(message: Message, values: &[&dyn Display]) {
    log_line(message.level(), message.line(values).as_bytes());
}

/// Writes a message while httpd starts: to the log, and to the terminal that starts it.
pub(crate) fn log_at_startup(message: Message, values: &[&dyn Display]) {
    log::startup(message.level(), &message.line(values));
}

/// Reports progress, without a number, as it needs no action.
pub(crate) fn log_info(line: &str) {
    log_line(Level::Info, format!("mod_wsgi_rs: {line}").as_bytes());
}

/// Writes a line to the server's log.
pub(crate) fn log_line(level: Level, line: &[u8]) {
    remember(level, line);
    log::server(level, line);
}

/// The errors of a trial; `None` in any other process.
static ERRORS: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn errors() -> MutexGuard<'static, Option<Vec<String>>> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to remember errors, and forgets those that were remembered before.
pub(crate) fn remember_errors() {
    *errors() = Some(Vec::new());
}

/// Returns the remembered errors, and stops remembering.
pub(crate) fn take_errors() -> Vec<String> {
    errors().take().unwrap_or_default()
}

fn remember(level: Level, line: &[u8]) {
    /// Highest number of lines. The first one says what failed, and the last line of a traceback says why.
    const MOST: usize = 200;
    if level <= Level::Error
        && let Some(lines) = &mut *errors()
        && lines.len() < MOST
    {
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
}

/// Makes panics report their location in the error log instead of on the terminal.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(|| String::from("an unknown place"), ToString::to_string);
        let text = info.payload_as_str().unwrap_or("no text");
        log_message(Message::Panic, &[&place, &text]);
    }));
}
