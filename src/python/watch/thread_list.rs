//! The threads of an interpreter with their Python stacks, as lines of text.

use std::ffi::c_ulong;

/// The most frames of a thread that are shown, the innermost ones.
pub(super) const MOST_FRAMES: usize = 100;
/// The most bytes of a thread's stack.
pub(super) const MOST_OF_THREAD: usize = 16 << 10;
/// The longest path, and the longest name, that is shown whole, in characters.
pub(super) const MOST_OF_NAME: usize = 300;
/// The most threads of an interpreter that are looked at, the newest ones. Without the GIL the limit is CPython's, 100.
#[cfg(not(Py_GIL_DISABLED))]
pub(super) const MOST_THREADS: usize = 1000;

/// A thread of an interpreter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// The thread's identity, as `threading.get_ident` returns it.
    pub(super) ident: c_ulong,
    /// The kernel's number of the thread, if it is known.
    pub(super) native: Option<u32>,
    /// A line for each frame, the innermost first.
    pub(super) frames: Vec<String>,
    /// Whether there are more frames, further out.
    pub(super) is_cut: bool,
}

/// Threads of an interpreter.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) all: Vec<Thread>,
    /// Whether there are more, older threads.
    pub(super) is_cut: bool,
}

impl Threads {
    /// Lists each thread once: a thread may have several states of an interpreter, of which at most one is in use.
    /// [S-27]
    pub(super) fn merged(states: impl IntoIterator<Item = Thread>, is_cut: bool) -> Self {
        let mut all: Vec<Thread> = Vec::new();
        for state in states {
            match all.iter_mut().find(|known| known.ident == state.ident) {
                Some(known) if known.frames.is_empty() => *known = state,
                Some(_) => {}
                None => all.push(state),
            }
        }
        Self { all, is_cut }
    }
}

impl Thread {
    pub(super) fn name(&self) -> String {
        match self.native {
            Some(native) => format!("Thread {native} ({:#x})", self.ident),
            None => format!("Thread {:#x}", self.ident),
        }
    }

    /// Returns the lines of the stack, the innermost call last.
    pub(super) fn stack(&self) -> String {
        let mut size = 0;
        let fits = |line: &&String| {
            size += line.len() + 1;
            size <= MOST_OF_THREAD
        };
        let frames: Vec<&String> = self.frames.iter().take_while(fits).collect();
        let mut text = String::new();
        if self.is_cut || frames.len() < self.frames.len() {
            text.push_str("  ... calls further out are left out\n");
        }
        for line in frames.into_iter().rev() {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Formats a frame like Python's tracebacks.
pub(super) fn frame(file: &str, line: &dyn std::fmt::Display, function: &str) -> String {
    let file = printable(file, MOST_OF_NAME);
    let function = printable(function, MOST_OF_NAME);
    format!("  File \"{file}\", line {line}, in {function}")
}

/// Replaces control characters, and shortens a text longer than `most` characters to its last part, which says more
/// than the first.
pub(super) fn printable(text: &str, most: usize) -> String {
    let count = text.chars().count();
    let shown = |character: char| match character.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => character,
    };
    if count <= most {
        return text.chars().map(shown).collect();
    }
    let last = text.chars().skip(count - most).map(shown);
    std::iter::once('…').chain(last).collect()
}
