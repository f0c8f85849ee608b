//! The trial of new code: a process that loads it as a child would, and answers the URLs of `WSGIWarmup`, before any
//! child retires for it. It counts for nothing and serves nobody.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use wsgi_abi::Engine;
use wsgi_httpd::log::Level;
use wsgi_httpd::task::Task;
use wsgi_telemetry::board::{ChildEntry, ChildState, ReloadRequest};

use crate::host::Exchanges;
use crate::placement::Script;
use crate::process::Process;
use crate::readiness::{self, Unready};
use crate::{child, environ, segment};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest text of what went wrong, bytes. Below what a pipe holds.
const LONGEST: usize = 2000;

/// A trial that goes on. What it tries to find out and has not is left to others when it is dropped.
pub(crate) struct Trial {
    task: Task,
    told: File,
    begun: Instant,
}

impl Trial {
    /// Begins one, of what is asked for.
    pub(crate) fn begin(process: &Arc<Process>, request: &ReloadRequest) -> io::Result<Self> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let task = Task::start(c"wsgi-trial", || run(process, request, tell))?;
        Ok(Self {
            task,
            told: told.into(),
            begun: Instant::now(),
        })
    }

    /// What came of it, if it has ended; the error says what is wrong with the code.
    pub(crate) fn outcome(&mut self) -> Option<Result<(), String>> {
        match self.task.ended() {
            Some(how) => {
                let told = self.read();
                Some(match how {
                    _ if !told.is_empty() => Err(told),
                    Ok(0) => Ok(()),
                    Ok(status) => Err(format!(
                        "the process that tried it ended with status {status}"
                    )),
                    Err(how) => Err(format!("the process that tried it {how}")),
                })
            }
            None if self.begun.elapsed() >= PATIENCE => Some(Err(format!(
                "it was not loaded within {} seconds",
                PATIENCE.as_secs()
            ))),
            None => None,
        }
    }

    fn read(&mut self) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 512];
        loop {
            match self.told.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => text.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Something that the application has started has the pipe, too, and says nothing.
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let pid = self.task.pid();
        if self.task.kill()
            && let Some(in_force) = segment::in_force()
        {
            in_force.segment.board().abandon_probes(pid);
        }
    }
}

/// In the new process. Its status is 0 where all is well.
fn run(process: &Arc<Process>, request: &ReloadRequest, tell: OwnedFd) -> u8 {
    environ::note_pid();
    *noted() = Some(Vec::new());
    let is_about = |script: &&Script| request.is_about(&script.group);
    // Of a group that only requests name, no script is known; whoever asks for it means something, so all is tried.
    let is_known = process.everything().iter().any(is_about);
    let is_meant = |name: &[u8]| !is_known || request.is_about(name);
    let engine = child::start_engine(process);
    if engine.is_some_and(|engine| try_all(process, engine, is_meant)) {
        end(engine);
        return 0;
    }
    let mut text = what_was_noted();
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    // Where it cannot be told, the status says that something is wrong, and the log what.
    let _ = rustix::io::write(&tell, text.as_bytes());
    end(engine);
    1
}

/// What the code has begun comes to its end as in a child: exit functions, threads.
fn end(engine: Option<Engine<Exchanges>>) {
    if let Some(engine) = engine {
        engine.stop();
    }
}

/// Loads the scripts of the groups that are meant, and asks for their URLs; whether all of that went well which goes well
/// in the children of now.
fn try_all(process: &Process, engine: Engine<Exchanges>, is_meant: impl Fn(&[u8]) -> bool) -> bool {
    let scripts = process.everything();
    let scripts = scripts.into_iter().filter(|script| is_meant(&script.group));
    let broken = match readiness::load(engine, scripts, []) {
        Err(Unready::Load(groups)) if groups.iter().any(|group| is_served(process, group)) => {
            return false;
        }
        Err(Unready::Load(groups)) => groups,
        Ok(()) | Err(Unready::Warmup) => Vec::new(),
    };
    // What was broken before is no reason to keep the rest as it is.
    noted().get_or_insert_default().clear();
    let warmups = process.known.warmups.iter().filter(|warmup| {
        let group = &warmup.script.group;
        is_meant(group) && !broken.contains(group)
    });
    readiness::load(engine, [], warmups).is_ok()
}

/// Whether a child that serves has loaded this group. That is only known where children load everything ahead.
fn is_served(process: &Process, group: &[u8]) -> bool {
    let Some(in_force) = segment::in_force().filter(|_| process.reload.replaces_children()) else {
        return true;
    };
    let board = in_force.segment.board();
    let Some(slot) = board.group(group) else {
        return true;
    };
    let has = |child: &ChildEntry| {
        child.generation == in_force.generation
            && child.state == ChildState::Ready
            && child.groups >> slot.number() & 1 == 1
    };
    board.children().iter().any(has)
}

/// The errors that this process has logged, where it is a trial.
static NOTED: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn noted() -> std::sync::MutexGuard<'static, Option<Vec<String>>> {
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line goes into the log. In a trial, errors are remembered as what is wrong with the code.
pub(crate) fn note(level: Level, line: &[u8]) {
    /// Most lines: the first one says what failed, and the last one of a traceback why.
    const MOST: usize = 200;
    if level <= Level::ERROR
        && let Some(lines) = &mut *noted()
        && lines.len() < MOST
    {
        lines.push(String::from_utf8_lossy(line).into_owned());
    }
}

/// The first line and the last one.
fn what_was_noted() -> String {
    let lines = noted().take().unwrap_or_default();
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) if lines.len() > 1 => format!("{first} {}", last.trim()),
        (Some(only), _) => only.clone(),
        _ => String::from("it cannot be loaded; the error log says more"),
    }
}
