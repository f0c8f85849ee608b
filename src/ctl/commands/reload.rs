//! `wsgictl reload`: asks for new code, and tells how the server takes it up.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::board::{Board, ReloadTicket, RetireReason, Roll, RollPhase};
use wsgi_telemetry::{Segment, clock, status};

use crate::cli::ReloadArgs;
use crate::output::failure::{Failure, Outcome};
use crate::output::{messages, terminal};
use crate::segment::find;
use crate::segment::server::Server;

/// Asks, and waits for what comes of it.
pub(crate) fn reload(args: &ReloadArgs) -> Outcome<ExitCode> {
    let (server, segment) = find::open_to_ask(args.segment.segment.as_deref())?;
    let group = args.group.as_deref().map(named);
    if let Some(group) = group
        && let Err(failure) = check_known(&segment, group)
    {
        messages::failure(&failure);
        return Ok(ExitCode::from(USAGE));
    }
    let board = segment.board();
    await_steward(board)?;
    let asked = Asked::ask(server, segment, group)?;
    if args.no_wait {
        tell("The server was asked to take up new code.");
        return Ok(ExitCode::SUCCESS);
    }
    asked.follow(Duration::from_secs(args.timeout.into()))
}

/// A group as the board has it: the main interpreter has none.
fn named(group: &str) -> &str {
    match group {
        "main" | GLOBAL => "",
        named => named,
    }
}

/// A group as people call it.
fn shown(group: &str) -> &str {
    if group.is_empty() { "main" } else { group }
}

/// Whether a group of this name can exist, as far as the server has told.
fn check_known(segment: &Segment, group: &str) -> Outcome<()> {
    let snapshot = segment.snapshot();
    let configured = snapshot.applications.iter();
    let configured = configured.filter(|app| app.application.label != "_other");
    let running = snapshot.running.iter().map(|running| running.group.clone());
    let seen = snapshot.board.groups.iter().map(|group| group.name.clone());
    let known: BTreeSet<String> = configured
        .map(|app| named(&app.application.group).to_owned())
        .chain(running)
        .chain(seen)
        .collect();
    // Where names are made up of requests, or nothing is known yet, the server has to say.
    if known.contains(group) || known.is_empty() || known.iter().any(|name| name.contains("%{")) {
        return Ok(());
    }
    let names: Vec<&str> = known.iter().map(|name| shown(name)).collect();
    let what = format!("the server has no application group {}.", shown(group));
    Err(Failure::new(what).remedy(format!("It has: {}.", names.join(", "))))
}

/// A server that has just been started has no steward yet.
fn await_steward(board: Board) -> Outcome<()> {
    let end = Instant::now() + Duration::from_secs(2);
    while board.steward().is_none() {
        if Instant::now() >= end {
            return Err(Failure::new(
                "nobody replaces children in this server: it runs as one process (httpd -X), or is about to end.",
            )
            .remedy("Restart it instead: apachectl graceful"));
        }
        thread::sleep(STEP);
    }
    Ok(())
}

/// A reload that was asked for.
struct Asked {
    server: Server,
    segment: Segment,
    ticket: ReloadTicket,
    /// The revision before.
    revision: u64,
    generation: u64,
    begun: Instant,
    /// Unix time, nanoseconds.
    at: u64,
}

impl Asked {
    fn ask(server: Server, segment: Segment, group: Option<&str>) -> Outcome<Self> {
        let board = segment.board();
        let what = match group {
            None => String::from("wsgictl reload asked for it"),
            Some(group) => format!("wsgictl reload asked for it ({})", shown(group)),
        };
        let (revision, generation, at) = (board.revision(), segment.generation(), clock::unix());
        let ticket = board.request_reload(group, RetireReason::Api, &what);
        let ticket = ticket.ok_or_else(|| {
            Failure::new("too many others have asked this server to take up new code.")
                .remedy("See with wsgictl status whether it does, and ask again.")
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

    /// Tells each step until the last.
    fn follow(&self, timeout: Duration) -> Outcome<ExitCode> {
        let mut told = Told::default();
        let mut wanted = None;
        loop {
            if self.segment.generation() != self.generation {
                tell("The server was restarted meanwhile, so that all of its children are new.");
                return Ok(ExitCode::SUCCESS);
            }
            let roll = self.roll(&mut wanted)?;
            if let Some(roll) = &roll {
                told.step(roll);
                match roll.phase {
                    RollPhase::Done => {
                        let time = status::duration(self.begun.elapsed().as_secs_f64());
                        tell(&match roll.done {
                            0 => format!("Done in {time}: there was no child of older code."),
                            1 => format!("Done: 1 child replaced in {time}."),
                            done => format!("Done: {done} children replaced in {time}."),
                        });
                        return Ok(if is_tried(roll) {
                            ExitCode::SUCCESS
                        } else {
                            ExitCode::from(UNTRIED)
                        });
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

    /// The roll that was asked for, or a later one; `None` while there is none yet. `wanted` is the revision that it is
    /// to bring, as soon as that is known.
    fn roll(&self, wanted: &mut Option<u64>) -> Outcome<Option<Roll>> {
        let board = self.segment.board();
        if wanted.is_none() && board.is_open(self.ticket) {
            return Ok(None);
        }
        // Raised before the request was settled.
        let wanted = *wanted.get_or_insert_with(|| board.revision());
        let roll = board.roll();
        if wanted != self.revision {
            return Ok((roll.revision >= wanted).then_some(roll));
        }
        if roll.phase == RollPhase::Stopped && roll.ended >= self.at {
            return Ok(Some(roll));
        }
        Err(Failure::new("the server has done nothing about it.").remedy("Its error log says why."))
    }
}

/// What was told so far.
#[derive(Default)]
struct Told {
    trial: bool,
    of: Option<u32>,
    done: u32,
}

impl Told {
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

/// Whether all of the new code was tried before children were replaced.
fn is_tried(roll: &Roll) -> bool {
    roll.tried > 0 && roll.untried == 0
}

/// What the trial says of the new code.
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
            "Nothing could be tried, as only requests name the scripts or their application groups",
        ),
        _ => format!(
            "The new code of {scripts} works; {places} only requests name the script or its application group, and \
             nothing was tried"
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
            "{done} of {} children were replaced before, the others go on.",
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

/// One line; nobody has to read it.
fn tell(line: &str) {
    let _ = terminal::write(&format!("{line}\n"));
}

const GLOBAL: &str = "%{GLOBAL}";
/// Exit status of a wrong command line, as that of [`clap`].
const USAGE: u8 = 2;
/// Exit status where children were replaced, and not all of the new code could be tried before.
const UNTRIED: u8 = 3;
const STEP: Duration = Duration::from_millis(50);
