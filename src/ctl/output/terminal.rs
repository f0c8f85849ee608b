//! Standard output as a terminal: its size, its colours, single keys.

use std::io::{ErrorKind, IsTerminal, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::output::failure::{Failure, Outcome};
use crate::output::visible::{visible, visible_but_colours, visible_json};

/// Whether anybody has read what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// The reader has gone away, as `head` does.
    NobodyReads,
}

/// Writes to standard output, at once. What a terminal would obey is shown instead, wherever the output goes.
pub(crate) fn write(text: &str) -> Outcome<Written> {
    put(&visible(text))
}

/// The same with a text that has colours of our own.
pub(crate) fn write_painted(text: &str) -> Outcome<Written> {
    put(&visible_but_colours(text))
}

/// The same with JSON, whose meaning stays.
pub(crate) fn write_json(text: &str) -> Outcome<Written> {
    put(&visible_json(text))
}

/// What programs are to read, as it is; only on a terminal as [`write()`] does it.
pub(crate) fn write_for_programs(text: &str) -> Outcome<Written> {
    if is_terminal() {
        write(text)
    } else {
        put(text)
    }
}

/// What the terminal is to obey.
pub(crate) fn control(sequence: &'static str) -> Outcome<Written> {
    put(sequence)
}

fn put(text: &str) -> Outcome<Written> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::NobodyReads),
        Err(error) => Err(Failure::new(format!("cannot write: {error}"))),
    }
}

/// Columns and rows; where it is no terminal, what `COLUMNS` says, and no end of rows.
pub(crate) fn size() -> (usize, usize) {
    let said = std::env::var("COLUMNS").ok();
    let said = said.and_then(|columns| columns.parse().ok());
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), usize::from(size.ws_row).max(1)),
        _ => (said.unwrap_or(100), usize::MAX),
    }
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether standard output shows colours, and its owner likes them.
pub(crate) fn wants_colours() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    wanted && able && is_terminal()
}

/// Waits for the time to come, for keys and for signals.
pub(crate) struct Keys {
    /// How the terminal was, if there is one.
    before: Option<Termios>,
    ended: Arc<AtomicBool>,
}

impl Keys {
    /// From now on keys come without a line feed, if standard input is a terminal, until this is dropped.
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
            // Where this fails, Ctrl-C is the key.
            let _ = tcsetattr(stdin(), OptionalActions::Now, &now);
        }
        Ok(Self { before, ended })
    }

    /// Waits so long; whether to go on.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.ended.load(Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            // A signal may come just before the wait, which then must not be long.
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
            // The terminal is gone.
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
