//! What a trial tells the reloader through a pipe while it runs: each step before it begins, and the outcome of all of
//! them.
//!
//! Each line ends with NUL. A step begins with [`STEP`], a problem with [`PROBLEM`]; [`WELL`] says that all steps
//! succeeded.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::pipe::{PipeFlags, pipe_with};

const STEP: char = '@';
const PROBLEM: char = '!';
const WELL: &str = "well";

/// Highest number of bytes of a problem's text; a pipe holds more.
const LONGEST: usize = 2000;

/// The pipe of this process, if it is a trial.
static TELL: OnceLock<OwnedFd> = OnceLock::new();

/// The reloader's end of the pipe.
pub(super) struct Told {
    pipe: File,
    words: Vec<u8>,
}

/// What a trial has told so far.
pub(super) enum TrialProgress {
    /// All steps succeeded.
    Well,
    /// What is wrong with the code.
    Problem(String),
    /// No outcome yet; the last step that was begun, if any.
    At(Option<String>),
}

/// Makes the pipe. Returns the end that the reloader reads, and the end for [`tell_by`] in the trial.
pub(super) fn pipe() -> io::Result<(Told, OwnedFd)> {
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let told = Told {
        pipe: told.into(),
        words: Vec::new(),
    };
    Ok((told, tell))
}

/// Makes this process, which is a trial, report through `pipe`.
pub(super) fn tell_by(pipe: OwnedFd) {
    // A process is made a trial only once.
    let _ = TELL.set(pipe);
}

fn tell(words: &str) {
    if let Some(tell) = TELL.get() {
        // If the pipe is full, the exit status or the log says what is wrong.
        let _ = rustix::io::write(tell, format!("{words}\0").as_bytes());
    }
}

/// Reports the next step.
pub(super) fn tell_step(what: &str) {
    tell(&format!("{STEP}{what}"));
}

/// Reports what is wrong with the code.
pub(super) fn tell_problem(mut text: String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    tell(&format!("{PROBLEM}{text}"));
}

/// Reports that all steps succeeded.
pub(super) fn tell_well() {
    tell(WELL);
}

impl Told {
    /// Reads what has arrived.
    pub(super) fn look(&mut self) -> TrialProgress {
        self.read();
        let told = String::from_utf8_lossy(&self.words);
        // A last line without a NUL is still being written.
        let lines = || told.split_terminator('\0');
        if let Some(problem) = lines().find_map(|line| line.strip_prefix(PROBLEM)) {
            return TrialProgress::Problem(problem.to_owned());
        }
        if lines().any(|line| line == WELL) {
            return TrialProgress::Well;
        }
        let mut steps = lines().filter_map(|line| line.strip_prefix(STEP));
        TrialProgress::At(steps.next_back().map(String::from))
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.words.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A process that the application has started may hold the pipe open; it writes nothing to it.
                Err(_) => return,
            }
        }
    }
}
