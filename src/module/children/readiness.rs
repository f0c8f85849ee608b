//! When a child may take its first connection: it has loaded what is to be loaded ahead, and its applications have
//! answered the URLs of `WSGIWarmup`.
//!
//! Until then it stays in `child_init`, where it does not accept, as long as another child serves: a server without any
//! child that accepts is worse than one that answers late. Where the code cannot be loaded, the child waits for other
//! code, and then ends: what was imported before it failed would otherwise be a part of the new code.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wsgi_abi::Engine;
use wsgi_core::messages::Message;
use wsgi_httpd::log::{self, Level};
use wsgi_httpd::mpm::child_exit::{ChildInit, end_as_it_is};
use wsgi_httpd::process::is_asked_to_end;
use wsgi_telemetry::board::ChildState;

use crate::children::retire;
use crate::children::slot::{self, Place};
use crate::children::stacks;
use crate::config::inherited::{Process, log_line, log_message};
use crate::config::placement::{Script, Warmup};
use crate::engine::host::Exchanges;
use crate::engine::warmup;
use crate::metrics::applications::app_of_script;
use crate::reload::trial;

/// After how long a child that is not ready says so, and for how long it waits for its code where no other one serves.
const LATE: Duration = Duration::from_secs(60);
const NOBODY_SERVES: Duration = Duration::from_secs(10);
/// How often it looks whether it is to end meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// How often it looks for other code; after how long it asks a URL again that was not answered, at first and at last.
const AGAIN: Duration = Duration::from_secs(1);
const LAST_AGAIN: Duration = Duration::from_secs(30);

/// Bytes of the stack of the thread that loads, as many as the main thread of a process usually has.
const STACK: usize = 8 << 20;

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// A script of each of these groups could not be loaded. Why is in the log.
    Load(Vec<Vec<u8>>),
    /// A URL was not answered. The log says so.
    Warmup,
}

/// Loads these scripts and asks for these URLs; all of them, whatever comes of the ones before.
pub(crate) fn load<'a>(
    engine: Engine<Exchanges>,
    scripts: impl IntoIterator<Item = &'a Script>,
    warmups: impl IntoIterator<Item = &'a Warmup>,
) -> Result<(), Unready> {
    let (mut loaded, mut failed) = (Vec::new(), Vec::new());
    for Script { group, script } in scripts {
        let what = format!("WSGI script '{}'", String::from_utf8_lossy(script));
        at(&what, warmup::startup_limit(group));
        match engine.load(group, script, app_of_script(script).number()) {
            true => loaded.push(group),
            false => failed.push(group.clone()),
        }
    }
    for group in loaded.into_iter().filter(|group| !failed.contains(group)) {
        slot::loaded(group);
    }
    if !failed.is_empty() {
        return Err(Unready::Load(failed));
    }
    let mut answered = true;
    for warmup in warmups {
        let limit = warmup::startup_limit(&warmup.script.group);
        at(&format!("WSGIWarmup {}", warmup.url), limit);
        if let Err(line) = warmup::ask(engine, warmup) {
            log_line(Level::Error, format!("mod_wsgi_rs: {line}").as_bytes());
            answered = false;
        }
    }
    if answered {
        Ok(())
    } else {
        Err(Unready::Warmup)
    }
}

/// Returns when the child may accept.
pub(crate) fn wait(process: &Arc<Process>, engine: Engine<Exchanges>, inside: &ChildInit) {
    if !process.ahead().is_empty() || !process.known.warmups.is_empty() {
        get_ready(process, engine, inside);
    }
    slot::say(ChildState::Ready);
}

/// A child that is not ready: its place on the board, and the hook that it is inside of.
#[derive(Clone, Copy)]
struct Here<'c> {
    place: Option<Place>,
    inside: &'c ChildInit,
}

fn get_ready(process: &Arc<Process>, engine: Engine<Exchanges>, inside: &ChildInit) {
    let here = Here {
        place: slot::get(),
        inside,
    };
    let begun = Instant::now();
    let seen = stamps(process);
    let mut loads = true;
    let mut patience = AGAIN;
    loop {
        match attempt(process, engine, here, begun, loads) {
            None | Some(Ok(())) => return,
            Some(Err(_)) if !another_serves(here.place) => return,
            Some(Err(Unready::Load(groups))) => {
                return wait_for_other_code(process, here, &groups, &seen);
            }
            Some(Err(Unready::Warmup)) => {
                loads = false;
                let until = Instant::now() + patience;
                patience = (patience * 2).min(LAST_AGAIN);
                while Instant::now() < until {
                    if is_over(here.place) || !another_serves(here.place) {
                        return;
                    }
                    note_lateness(here, begun);
                    stacks::look();
                    std::thread::sleep(LOOK);
                }
            }
        }
    }
}

/// What is being loaded or asked for, since when, and how long that may take.
struct At {
    what: String,
    since: Instant,
    limit: Option<Duration>,
}

static AT: Mutex<Option<At>> = Mutex::new(None);

fn at(what: &str, limit: Option<Duration>) {
    *lock_at() = Some(At {
        what: what.to_owned(),
        since: Instant::now(),
        limit,
    });
    trial::tell_step(what);
}

fn lock_at() -> MutexGuard<'static, Option<At>> {
    AT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is being loaded, for messages.
fn what_is_loaded() -> String {
    let at = lock_at();
    at.as_ref().map(|at| at.what.clone()).unwrap_or_default()
}

/// Whether that takes longer than it may.
fn is_late() -> bool {
    let is_late = |at: &At| at.limit.is_some_and(|limit| at.since.elapsed() >= limit);
    lock_at().as_ref().is_some_and(is_late)
}

/// Ends this child where a load ahead of requests hangs and other children serve. Its successor tries again, and waits longer
/// each time that the load hangs there, too.
fn end_where_it_hangs(place: Option<Place>) {
    let Some(place) = place.filter(|place| place.another_serves()) else {
        return;
    };
    if !is_late() || !retire::note_hang(&place) {
        return;
    }
    slot::say(ChildState::Draining);
    log_message(Message::AheadOverdue, &[&what_is_loaded()]);
    // What hangs runs on another thread, which must not find taken down what it uses.
    end_as_it_is();
}

/// For a child that is not ready while others serve: ends it where there is newer code, and else says after a while that
/// it is late, once, so that no other one retires for it.
fn note_lateness(here: Here<'_>, begun: Instant) {
    let Some(place) = here.place.filter(|place| place.another_serves()) else {
        return;
    };
    if place.is_outdated() {
        end_for_other_code(here.inside);
    }
    if begun.elapsed() >= LATE && place.slot().state() == Some(ChildState::Starting) {
        slot::say(ChildState::NotReady);
        let line = format!(
            "mod_wsgi_rs: this child is not ready after {} seconds, and leaves connections to the others until it is: {}",
            LATE.as_secs(),
            what_is_loaded()
        );
        log::server(Level::Error, line.as_bytes());
    }
}

fn end_for_other_code(inside: &ChildInit) -> ! {
    slot::say(ChildState::Draining);
    let line = "mod_wsgi_rs: there is other code: this child ends, for one that loads it";
    log::server(Level::Info, line.as_bytes());
    inside.end_child()
}

/// Loads on another thread; `None` where that takes too long, and goes on without anybody waiting for it.
fn attempt(
    process: &Arc<Process>,
    engine: Engine<Exchanges>,
    here: Here<'_>,
    begun: Instant,
    loads: bool,
) -> Option<Result<(), Unready>> {
    // What an earlier attempt was at says nothing of this one.
    *lock_at() = None;
    let (tell, told) = mpsc::channel();
    let to_load = Arc::clone(process);
    let loader = std::thread::Builder::new()
        .name(String::from("wsgi-loader"))
        .stack_size(STACK);
    let started = loader.spawn(move || {
        let ahead = to_load.ahead();
        let scripts = ahead.into_iter().filter(|_| loads);
        let loaded = load(engine, scripts, &to_load.known.warmups);
        // Where nobody waits any more, the log has said so.
        let _ = tell.send(loaded);
    });
    if let Err(error) = started {
        let line = format!("mod_wsgi_rs: nothing is loaded ahead: no thread for it: {error}");
        log::server(Level::Error, line.as_bytes());
        return None;
    }
    wait_for(&told, here, begun)
}

fn wait_for(
    told: &Receiver<Result<(), Unready>>,
    here: Here<'_>,
    begun: Instant,
) -> Option<Result<(), Unready>> {
    loop {
        match told.recv_timeout(LOOK) {
            Ok(loaded) => return Some(loaded),
            // It has panicked, and the log says so.
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => stacks::look(),
        }
        if is_over(here.place) {
            return None;
        }
        let waited = begun.elapsed();
        if (waited >= NOBODY_SERVES || is_late()) && !another_serves(here.place) {
            let line = format!(
                "mod_wsgi_rs: not ready after {} seconds, and no other child serves; this one takes connections \
                 meanwhile, whose requests wait: {}",
                waited.as_secs(),
                what_is_loaded()
            );
            log::server(Level::Warning, line.as_bytes());
            return None;
        }
        note_lateness(here, begun);
        end_where_it_hangs(here.place);
    }
}

/// Leaves connections to the others until there is other code; ends the child then. Where the others could not load these
/// groups either, this one serves what it has.
fn wait_for_other_code(process: &Process, here: Here<'_>, groups: &[Vec<u8>], seen: &[Stamp]) {
    let others_have = |place: Place| groups.iter().any(|group| place.another_has(group));
    let Some(place) = here.place.filter(|place| others_have(*place)) else {
        return;
    };
    slot::say(ChildState::NotReady);
    let line = "mod_wsgi_rs: this child could not load what is to be loaded ahead, and leaves connections to the \
                others until there is other code";
    log::server(Level::Error, line.as_bytes());
    let mut look_again = Instant::now() + AGAIN;
    while !is_over(Some(place)) && others_have(place) {
        stacks::look();
        std::thread::sleep(LOOK);
        if Instant::now() < look_again {
            continue;
        }
        look_again = Instant::now() + AGAIN;
        if !place.is_current() || stamps(process) != seen {
            end_for_other_code(here.inside);
        }
    }
}

fn another_serves(place: Option<Place>) -> bool {
    place.is_some_and(|place| place.another_serves())
}

/// Whether the child is to end, or its configuration has ended.
fn is_over(place: Option<Place>) -> bool {
    is_asked_to_end() || place.is_some_and(|place| place.in_force.is_over())
}

/// What tells two versions of a file apart: number, size, and when it was changed, in whatever way.
pub(crate) type Stamp = (PathBuf, Option<[i64; 4]>);

/// That of the file with this name now.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok().map(|found| {
        let number = |number: u64| number.cast_signed();
        [
            number(found.ino()),
            number(found.size()),
            found
                .mtime()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(found.mtime_nsec()),
            changed(&found),
        ]
    });
    (path.to_path_buf(), found)
}

/// When a file was changed last, as Unix time in nanoseconds. Nobody can set it back, as the time of the contents.
pub(crate) fn changed(found: &fs::Metadata) -> i64 {
    found
        .ctime()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(found.ctime_nsec())
}

fn stamps(process: &Process) -> Vec<Stamp> {
    let scripts = process.ahead().into_iter();
    scripts
        .map(|script| stamp(Path::new(std::ffi::OsStr::from_bytes(&script.script))))
        .collect()
}
