//! Standard output as a terminal: its size, its colours, single keys.

use std::io::{ErrorKind, IsTerminal, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::output::failure::{Failure, Outcome};
use crate::output::visible::{visible, visible_but_colours, visible_json};

/// Whether standard output still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// The reader has closed its end, as `head` does.
    Closed,
}

/// Writes to standard output and flushes. Escapes what a terminal would obey, even if the output is not a terminal.
pub(crate) fn write(text: &str) -> Outcome<Written> {
    put(&visible(text))
}

/// Writes a line of progress. A reader that closes its end does not end the command.
pub(crate) fn tell(line: &str) {
    let _ = write(&format!("{line}\n"));
}

/// Does the same as [`write()`] with a text that has our own colours.
pub(crate) fn write_painted(text: &str) -> Outcome<Written> {
    put(&visible_but_colours(text))
}

/// Does the same with JSON, without changing its meaning.
pub(crate) fn write_json(text: &str) -> Outcome<Written> {
    put(&visible_json(text))
}

/// Writes text for programs unchanged; on a terminal, escapes it as [`write()`] does.
pub(crate) fn write_for_programs(text: &str) -> Outcome<Written> {
    if is_terminal() {
        write(text)
    } else {
        put(text)
    }
}

/// Writes a control sequence of the terminal.
pub(crate) fn control(sequence: &'static str) -> Outcome<Written> {
    put(sequence)
}

fn put(text: &str) -> Outcome<Written> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::Closed),
        Err(error) => Err(Failure::new(format!("cannot write: {error}"))),
    }
}

/// Returns columns and rows. Without a terminal: the value of `COLUMNS`, and as many rows as there are lines.
pub(crate) fn size() -> (usize, usize) {
    let columns = std::env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), usize::from(size.ws_row).max(1)),
        _ => (columns.unwrap_or(100), usize::MAX),
    }
}

/// Returns whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Returns whether standard output is a terminal that shows colours, and `NO_COLOR` is not set.
pub(crate) fn wants_colours() -> bool {
    AutoStream::choice(&stdout()) != ColorChoice::Never
}

/// Waits for a timeout, for keys and for signals.
pub(crate) struct Keys {
    /// The previous mode of the terminal, if there is one.
    before: Option<Termios>,
    ended: Arc<AtomicBool>,
}

impl Keys {
    /// Makes the terminal on standard input, if it is one, deliver keys without a line feed until the value is dropped.
    pub(crate) fn listen() -> Outcome<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&ended))
                .map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
        }
        let before = (stdin().is_terminal() && is_terminal())
            .then(|| tcgetattr(stdin()).ok())
            .flatten();
        if let Some(before) = &before {
            let mut now = before.clone();
            now.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            now.special_codes[SpecialCodeIndex::VMIN] = 0;
            now.special_codes[SpecialCodeIndex::VTIME] = 0;
            // If this fails, only Ctrl-C ends the command.
            let _ = tcsetattr(stdin(), OptionalActions::Now, &now);
        }
        Ok(Self { before, ended })
    }

    /// Waits for `time`, or until a key or a signal asks for the end. Returns whether to continue.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.ended.load(Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            // A signal may arrive just before the wait, so the wait must be short.
            let step = left.min(STEP);
            match &self.before {
                None => std::thread::sleep(step),
                Some(_) if key_is_there(step) => {
                    if self.asks_for_the_end() {
                        return false;
                    }
                }
                Some(_) => {}
            }
        }
        false
    }

    fn asks_for_the_end(&self) -> bool {
        let mut keys = [0; 64];
        match rustix::io::read(stdin(), &mut keys) {
            // The terminal was closed.
            Ok(0) => true,
            Ok(count) => keys[..count].iter().any(|key| b"qQ\x04".contains(key)),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => false,
            Err(_) => true,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn key_is_there(time: Duration) -> bool {
    let Ok(time) = Timespec::try_from(time) else {
        return false;
    };
    let input = stdin();
    let mut files = [PollFd::new(&input, PollFlags::IN)];
    matches!(poll(&mut files, Some(&time)), Ok(1..))
}

/// Longest time until a signal is noticed.
const STEP: Duration = Duration::from_millis(200);
