//! What a trial tells the reloader through a pipe while it runs: each step before it is taken, and what came of all of them.
//!
//! Each line ends with NUL. A step begins with [`STEP`], a problem with [`PROBLEM`]; [`WELL`] says that all went well.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::pipe::{PipeFlags, pipe_with};

const STEP: char = '@';
const PROBLEM: char = '!';
const WELL: &str = "well";

/// Longest text of a problem, bytes. Below what a pipe holds.
const LONGEST: usize = 2000;

/// The pipe of this process, if it is a trial.
static TELL: OnceLock<OwnedFd> = OnceLock::new();

/// The reloader's end of the pipe.
pub(super) struct Told {
    pipe: File,
    words: Vec<u8>,
}

/// What a trial has told by now.
pub(super) enum TrialProgress {
    /// All went well.
    Well,
    /// This is wrong with the code.
    Problem(String),
    /// Neither yet; the last step that was begun, if there was one.
    At(Option<String>),
}

/// Makes the pipe: the end that is read, and the one for [`tell_by`] in the trial.
pub(super) fn pipe() -> io::Result<(Told, OwnedFd)> {
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let told = Told {
        pipe: told.into(),
        words: Vec::new(),
    };
    Ok((told, tell))
}

/// This process is a trial, and tells by this pipe.
pub(super) fn tell_by(pipe: OwnedFd) {
    // A trial is told so once.
    let _ = TELL.set(pipe);
}

fn tell(words: &str) {
    if let Some(tell) = TELL.get() {
        // Where the pipe is full, the status of the process or the log says what is wrong.
        let _ = rustix::io::write(tell, format!("{words}\0").as_bytes());
    }
}

/// What the trial does next.
pub(super) fn tell_step(what: &str) {
    tell(&format!("{STEP}{what}"));
}

/// What is wrong with the code.
pub(super) fn tell_problem(mut text: String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    tell(&format!("{PROBLEM}{text}"));
}

/// All went well.
pub(super) fn tell_well() {
    tell(WELL);
}

impl Told {
    /// Reads what has come.
    pub(super) fn look(&mut self) -> TrialProgress {
        self.read();
        let told = String::from_utf8_lossy(&self.words);
        // The last line without an end is being written.
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
                // A process that the application has started has the pipe, too, and writes nothing to it.
                Err(_) => return,
            }
        }
    }
}
