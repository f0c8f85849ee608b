//! The trial of new code: a process that loads it as a child would, and answers the URLs of `WSGIWarmup`, before any
//! child retires for it. It counts for nothing and serves nobody.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use wsgi_abi::Engine;
use wsgi_httpd::forked;
use wsgi_httpd::log::Level;
use wsgi_httpd::mpm::child_exit::end_as_it_is;
use wsgi_httpd::task::Task;
use wsgi_telemetry::board::{ChildEntry, ChildState, ReloadRequest};

use crate::children::life;
use crate::children::readiness::{self, Unready};
use crate::config::inherited::Process;
use crate::config::placement::Script;
use crate::engine::host::Exchanges;
use crate::metrics::segment;
use crate::request::environ;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After how long it gives way to other code.
const SLOW: Duration = Duration::from_secs(5);
/// Longest text of what went wrong, bytes. Below what a pipe holds.
const LONGEST: usize = 2000;

/// A trial that goes on. What it tries to find out and has not is left to others when it is dropped.
pub(crate) struct Trial {
    task: Task,
    told: File,
    words: Vec<u8>,
    begun: Instant,
}

/// What a trial tells begins with one of these, and ends with NUL: what it does next, and what came of it.
const STEP: char = '@';
const PROBLEM: char = '!';
const WELL: &str = "well";

/// Where this process tells, if it is a trial.
static TELL: OnceLock<OwnedFd> = OnceLock::new();

fn tell(words: &str) {
    if let Some(tell) = TELL.get() {
        // Where there is no room, the status or the log says what is wrong.
        let _ = rustix::io::write(tell, format!("{words}\0").as_bytes());
    }
}

/// What a trial does next. Of no effect in a child.
pub(crate) fn tell_step(what: &str) {
    tell(&format!("{STEP}{what}"));
}

/// Whether a load hangs in this trial, as was said before.
static HANGS: AtomicBool = AtomicBool::new(false);

/// A load hangs, which the engine says again and again. A trial ends by that, once the log has said where. Of no effect in a
/// child.
pub(crate) fn hangs() {
    if TELL.get().is_none() || !HANGS.swap(true, Relaxed) {
        return;
    }
    tell_problem(what_was_noted());
    end_as_it_is();
}

impl Trial {
    /// Begins one, of what is asked for.
    pub(crate) fn begin(process: &Arc<Process>, request: &ReloadRequest) -> io::Result<Self> {
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let task = Task::start(c"wsgi-trial", || run(process, request, tell))?;
        Ok(Self {
            task,
            told: told.into(),
            words: Vec::new(),
            begun: Instant::now(),
        })
    }

    /// How many scripts one of what is asked for loads, and at how many places only requests say what there is.
    pub(crate) fn extent(process: &Process, request: &ReloadRequest) -> (u32, u32) {
        let scripts = process.everything();
        let is_about = |script: &&&Script| request.is_about(&script.group);
        let meant = scripts.iter().filter(is_about).count();
        let (tried, untried) = match (&request.group, meant) {
            (Some(_), 1..) => (meant, 0),
            _ => (scripts.len(), process.known.unknown),
        };
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (number(tried), number(untried))
    }

    /// Whether other new code is not to wait for it any longer.
    pub(crate) fn is_slow(&self) -> bool {
        self.begun.elapsed() >= SLOW
    }

    /// What came of it, if it has ended; the error says what is wrong with the code.
    pub(crate) fn outcome(&mut self) -> Option<Result<(), String>> {
        let ended = self.task.ended();
        self.read();
        if ended.is_none() && self.begun.elapsed() < PATIENCE {
            return None;
        }
        let told = String::from_utf8_lossy(&self.words).into_owned();
        // The last line without an end is being written.
        let lines = || told.split_terminator('\0');
        if let Some(problem) = lines().find_map(|line| line.strip_prefix(PROBLEM)) {
            return Some(Err(problem.to_owned()));
        }
        if lines().any(|line| line == WELL) {
            return Some(Ok(()));
        }
        let last = lines()
            .filter_map(|line| line.strip_prefix(STEP))
            .next_back();
        let last = last.unwrap_or("the start of Python");
        Some(Err(match ended {
            None => format!("{last}: not done within {} seconds", PATIENCE.as_secs()),
            Some(Ok(status)) => {
                format!("{last}: ended the process that tried it, with status {status}")
            }
            Some(Err(how)) => format!("{last}: the process that tried it {how}"),
        }))
    }

    /// What it has told by now.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.told.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.words.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Something that the application has started has the pipe, too, and says nothing.
                Err(_) => return,
            }
        }
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
fn run(process: &Arc<Process>, request: &ReloadRequest, told_to: OwnedFd) -> u8 {
    environ::note_pid();
    forked::watch(wsgi_telemetry::writer::detach);
    let _ = TELL.set(told_to);
    *noted() = Some(Vec::new());
    let is_about = |script: &&Script| request.is_about(&script.group);
    // Of a group that only requests name, no script is known; whoever asks for it means something, so all is tried.
    let is_known = process.everything().iter().any(is_about);
    let is_meant = |name: &[u8]| !is_known || request.is_about(name);
    let engine = life::start_engine(process);
    if engine.is_some_and(|engine| try_all(process, engine, is_meant)) {
        tell(WELL);
        end(engine);
        return 0;
    }
    tell_problem(what_was_noted());
    end(engine);
    1
}

fn tell_problem(mut text: String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    tell(&format!("{PROBLEM}{text}"));
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
    if level <= Level::Error
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
