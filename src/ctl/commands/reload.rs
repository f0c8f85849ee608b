//! `wsgictl reload`: asks httpd's children and the process groups for new code, and shows their progress.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::board::{Board, ReloadTicket, RetireReason, Roll, RollPhase};
use wsgi_telemetry::{Segment, Snapshot, clock, status};

use crate::cli::ReloadArgs;
use crate::output::failure::{Failure, Outcome};
use crate::output::messages;
use crate::output::terminal::tell;
use crate::segment::find;
use crate::segment::group::Replacement;
use crate::segment::server::Server;

/// Asks for new code, and waits until the server runs it.
pub(crate) fn reload(args: &ReloadArgs) -> Outcome<ExitCode> {
    let (server, segment) = find::open_to_ask(args.segment.segment.as_deref())?;
    let group = args.group.as_deref().map(named);
    let parts = match Parts::of(&server, segment, group) {
        Ok(parts) => parts,
        Err(Refusal::Unknown(failure)) => {
            messages::failure(&failure);
            return Ok(ExitCode::from(USAGE));
        }
        Err(Refusal::Other(failure)) => return Err(failure),
    };
    let children = match parts.children {
        true => {
            await_reloader(segment.board())?;
            Some(ReloadRequest::ask(&server, segment, group)?)
        }
        false => None,
    };
    // All parts are asked before the first one is waited for.
    let groups = parts.process_groups.iter();
    let groups = groups.map(|name| Replacement::ask(&server, name, "reload"));
    let groups: Vec<Outcome<Replacement>> = groups.collect();
    let timeout = Duration::from_secs(args.timeout.into());
    let mut status = 0;
    let mut note = |outcome: Outcome<u8>| match outcome {
        Ok(other) => status = if status == 0 { other } else { status },
        Err(failure) => {
            messages::failure(&failure);
            status = FAILED;
        }
    };
    let follow = |asked: Replacement| match args.no_wait {
        true => Ok(0),
        false => asked.follow(&server, timeout).map(|()| 0),
    };
    if let Some(asked) = children.filter(|_| !args.no_wait) {
        note(asked.follow(timeout));
    }
    for asked in groups {
        note(asked.and_then(follow));
    }
    if args.no_wait {
        tell("The server was asked to take up new code.");
    }
    Ok(ExitCode::from(status))
}

/// The parts of a server that must take up new code.
struct Parts {
    /// httpd's children.
    children: bool,
    /// Process groups, all of whose processes are replaced.
    process_groups: Vec<String>,
}

/// Why there is nothing to reload.
enum Refusal {
    /// The server certainly has no such group.
    Unknown(Failure),
    Other(Failure),
}

impl Parts {
    /// Finds the parts that have the application group of this name, or all that run applications.
    fn of(server: &Server, segment: Segment, group: Option<&str>) -> Result<Self, Refusal> {
        // Without the process groups, so that it shows what children have loaded.
        let snapshot = segment.snapshot();
        let mut known = known_to_children(&snapshot);
        let is_of_children = |name: &str| {
            let mut groups = snapshot.board.groups.iter().map(|group| &group.name);
            let mut running = snapshot.running.iter().map(|running| &running.group);
            groups.any(|known| known == name) || running.any(|known| known == name)
        };
        let mut process_groups = Vec::new();
        for name in server.group_names() {
            let open = || find::memory_of_group(&server.group_to_ask(name)?);
            let board = open().map_err(Refusal::Other)?.board();
            let of_board: Vec<String> = board.groups().into_iter().map(|one| one.name).collect();
            if group.is_none_or(|group| of_board.iter().any(|one| one == group)) {
                process_groups.push(name.to_owned());
            }
            known.extend(of_board);
        }
        if let Some(group) = group {
            check_known(&known, group).map_err(Refusal::Unknown)?;
        }
        let children = match group {
            _ if server.group_names().next().is_none() => true,
            _ if !have_applications(&snapshot) => process_groups.is_empty(),
            None => true,
            Some(group) => is_of_children(group) || process_groups.is_empty(),
        };
        Ok(Self {
            children,
            process_groups,
        })
    }
}

/// Returns whether a child of httpd has loaded an application, or may have: a server that measures nothing does not tell.
fn have_applications(snapshot: &Snapshot) -> bool {
    !snapshot.records || snapshot.has_application()
}

/// Converts the name of a group to its name on the board, where the main interpreter's group is empty.
fn named(group: &str) -> &str {
    match group {
        "main" | GLOBAL => "",
        named => named,
    }
}

/// Converts a group's name on the board to its display name.
fn shown(group: &str) -> &str {
    if group.is_empty() { "main" } else { group }
}

/// Returns the application groups of the configuration and of httpd's children.
fn known_to_children(snapshot: &Snapshot) -> BTreeSet<String> {
    let configured = snapshot.applications.iter();
    let configured = configured.filter(|app| app.application.label != "_other");
    let running = snapshot.running.iter().map(|running| running.group.clone());
    let seen = snapshot.board.groups.iter().map(|group| group.name.clone());
    configured
        .map(|app| named(&app.application.group).to_owned())
        .chain(running)
        .chain(seen)
        .collect()
}

/// Fails for a group that the server certainly does not have.
fn check_known(known: &BTreeSet<String>, group: &str) -> Outcome<()> {
    // If names depend on requests, or no group is known yet, only the server can tell.
    if known.contains(group) || known.is_empty() || known.iter().any(|name| name.contains("%{")) {
        return Ok(());
    }
    let names: Vec<&str> = known.iter().map(|name| shown(name)).collect();
    let what = format!("the server has no application group {}.", shown(group));
    Err(Failure::new(what).remedy(format!("It has: {}.", names.join(", "))))
}

/// Waits for the reloader: a server that has just started has none yet.
fn await_reloader(board: Board) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(2);
    while board.reloader().is_none() {
        if Instant::now() >= end {
            return Err(Failure::new(
                "this server cannot replace children: it runs as one process (httpd -X), or is about to end.",
            )
            .remedy("Restart it instead: apachectl graceful"));
        }
        thread::sleep(STEP);
    }
    Ok(())
}

/// A request for a roll.
struct ReloadRequest<'s> {
    server: &'s Server,
    segment: Segment,
    ticket: ReloadTicket,
    /// Revision before the request.
    revision: u64,
    generation: u64,
    begun: Instant,
    /// Unix time of the request, nanoseconds.
    at: u64,
}

impl<'s> ReloadRequest<'s> {
    fn ask(server: &'s Server, segment: Segment, group: Option<&str>) -> Outcome<Self> {
        let board = segment.board();
        let what = match group {
            None => String::from("wsgictl reload asked for it"),
            Some(group) => format!("wsgictl reload asked for it ({})", shown(group)),
        };
        let (revision, generation, at) = (board.revision(), segment.generation(), clock::unix());
        let ticket = board.request_reload(group, RetireReason::Api, &what);
        let ticket = ticket.ok_or_else(|| {
            Failure::new("too many requests for new code are waiting in this server.")
                .remedy("See with wsgictl status what it does, and ask again.")
        })?;
        Ok(Self {
            server,
            segment,
            ticket,
            revision,
            generation,
            begun: Instant::now(),
            at,
        })
    }

    /// Prints each step until the roll ends.
    fn follow(&self, timeout: Duration) -> Outcome<u8> {
        let mut progress = Progress::default();
        let mut wanted = None;
        loop {
            if self.segment.generation() != self.generation {
                tell(
                    "The server was restarted meanwhile, so all of its children run the new code.",
                );
                return Ok(0);
            }
            let roll = self.roll(&mut wanted)?;
            if let Some(roll) = &roll {
                progress.step(roll);
                match roll.phase {
                    RollPhase::Done => {
                        let time = status::duration(self.begun.elapsed().as_secs_f64());
                        tell(&match roll.done {
                            0 => format!("Done in {time}: there was no child of older code."),
                            1 => format!("Done: 1 child replaced in {time}."),
                            done => format!("Done: {done} children replaced in {time}."),
                        });
                        return Ok(if is_tried(roll) { 0 } else { UNTRIED });
                    }
                    RollPhase::Stopped => return Err(stopped(roll)),
                    RollPhase::Idle | RollPhase::Trial | RollPhase::Rolling => {}
                }
            }
            if self.begun.elapsed() >= timeout {
                return Err(late(roll.as_ref(), timeout));
            }
            self.server.check_running()?;
            thread::sleep(STEP);
        }
    }

    /// Returns the requested roll, or a later one; `None` while there is none yet. Sets `wanted` to the revision of
    /// that roll as soon as it is known.
    fn roll(&self, wanted: &mut Option<u64>) -> Outcome<Option<Roll>> {
        let board = self.segment.board();
        if wanted.is_none() && board.is_open(self.ticket) {
            return Ok(None);
        }
        // The server raises the revision before it settles the request.
        let wanted = *wanted.get_or_insert_with(|| board.revision());
        let roll = board.roll();
        if wanted != self.revision {
            return Ok((roll.revision >= wanted).then_some(roll));
        }
        if roll.phase == RollPhase::Stopped && roll.ended >= self.at {
            return Ok(Some(roll));
        }
        Err(Failure::new("the server did not start a roll.").remedy("Its error log says why."))
    }
}

/// The steps printed so far.
#[derive(Default)]
struct Progress {
    trial: bool,
    of: Option<u32>,
    done: u32,
}

impl Progress {
    fn step(&mut self, roll: &Roll) {
        if roll.phase == RollPhase::Trial && !self.trial {
            self.trial = true;
            tell("Trying the new code ...");
        }
        let replaces = matches!(roll.phase, RollPhase::Rolling | RollPhase::Done) && roll.of > 0;
        if replaces && self.of.is_none() {
            let children = if roll.of == 1 { "child" } else { "children" };
            tell(&format!(
                "{}; replacing {} {children} ...",
                verdict(roll),
                roll.of
            ));
        }
        if replaces {
            self.of = Some(roll.of);
            if roll.done > self.done {
                self.done = roll.done;
                tell(&format!("{} of {} replaced", roll.done, roll.of));
            }
        }
    }
}

/// Returns whether the trial loaded all of the new code before children were replaced.
fn is_tried(roll: &Roll) -> bool {
    roll.tried > 0 && roll.untried == 0
}

/// Returns the result of the trial in words.
fn verdict(roll: &Roll) -> String {
    let scripts = match roll.tried {
        1 => String::from("1 script"),
        tried => format!("{tried} scripts"),
    };
    let places = match roll.untried {
        1 => String::from("at 1 place of the configuration"),
        untried => format!("at {untried} places of the configuration"),
    };
    match (roll.tried, roll.untried) {
        (_, 0) if roll.tried > 0 => String::from("The new code works"),
        (0, _) => String::from(
            "Nothing could be tried, because only requests name the scripts or their application groups",
        ),
        _ => format!(
            "The new code of {scripts} works; {places} nothing was tried, because only requests name the script or its \
             application group"
        ),
    }
}

fn stopped(roll: &Roll) -> Failure {
    let problem = match roll.problem.trim_end_matches('.') {
        "" => "its error log says why",
        problem => problem,
    };
    let what = format!("the server has stopped: {problem}.");
    Failure::new(what).remedy(match roll.done {
        0 => String::from("The old code goes on."),
        done => format!(
            "{done} of {} children were replaced before; the others keep the old code.",
            roll.of
        ),
    })
}

fn late(roll: Option<&Roll>, timeout: Duration) -> Failure {
    let how = match roll.map(|roll| (roll.phase, roll)) {
        Some((RollPhase::Trial, _)) => String::from("the new code is still being tried"),
        Some((RollPhase::Rolling, roll)) => {
            format!("{} of {} children are replaced", roll.done, roll.of)
        }
        _ => String::from("it has not begun"),
    };
    let time = timeout.as_secs();
    Failure::new(format!("not done within {time} s: {how}."))
        .remedy("The server goes on with it; wsgictl status shows how.")
}

const GLOBAL: &str = "%{GLOBAL}";
/// Exit status if something was not replaced.
const FAILED: u8 = 1;
/// Exit status for a wrong command line, as in [`clap`].
const USAGE: u8 = 2;
/// Exit status if children were replaced, but some of the new code could not be tried before.
const UNTRIED: u8 = 3;
const STEP: Duration = Duration::from_millis(50);
