//! Threads that a child cannot do without.

use std::io;

use wsgi_core::child::steady;
use wsgi_core::messages::Message;

use crate::log::log_line;

/// Runs `work` on a new thread, and runs it again from the start if it panics.
///
/// # Errors
/// That of the kernel if it cannot make a thread.
pub(crate) fn spawn<R: Send + 'static>(
    name: &'static str,
    mut work: impl FnMut() -> R + Send + 'static,
) -> io::Result<()> {
    let log = |message: Message, line: &str| log_line(message.level(), line.as_bytes());
    let thread = std::thread::Builder::new().name(name.into());
    thread
        .spawn(move || {
            steady::run(name, log, &mut work);
        })
        .map(drop)
}
