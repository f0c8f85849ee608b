//! The processes of a process group, and requests for new ones.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::board::{ReloadTicket, RetireReason};
use wsgi_telemetry::catalogue::{EXIT, Id, value};
use wsgi_telemetry::{Child, Role, Segment, Snapshot, status};

use crate::output::failure::{Failure, Outcome};
use crate::output::terminal::tell;
use crate::segment::find;
use crate::segment::server::Server;

/// How long to wait between two looks.
const STEP: Duration = Duration::from_millis(50);

/// New processes of a process group, which were asked for.
pub(crate) struct Replacement {
    name: String,
    segment: Segment,
    /// The processes that take requests now.
    old: BTreeSet<u32>,
    /// How many processes of the group had been killed or had crashed.
    killed: u128,
    ticket: ReloadTicket,
    begun: Instant,
}

impl Replacement {
    /// Asks for successors of all processes of a group. `command` is the command that asks.
    pub(crate) fn ask(server: &Server, name: &str, command: &str) -> Outcome<Self> {
        let segment = find::memory_of_group(&server.group_to_ask(name)?)?;
        let begun = Instant::now();
        let snapshot = segment.snapshot();
        let old = in_service(&snapshot).map(|child| child.pid).collect();
        let what = format!("wsgictl {command} asked for it");
        let asked = segment
            .board()
            .request_reload(None, RetireReason::Api, &what);
        let ticket = asked.ok_or_else(|| {
            Failure::new(format!(
                "too many requests for new processes are waiting in process group '{name}'."
            ))
            .remedy("See with wsgictl status what it does, and ask again.")
        })?;
        Ok(Self {
            name: name.to_owned(),
            segment,
            old,
            killed: killed(&snapshot),
            ticket,
            begun,
        })
    }

    /// Waits until the successors take the requests, and tells how many there are.
    pub(crate) fn follow(&self, server: &Server, timeout: Duration) -> Outcome<()> {
        let name = &self.name;
        let all = self.old.len();
        loop {
            let is_taken = !self.segment.board().is_open(self.ticket);
            let snapshot = self.segment.snapshot();
            let (kept, new): (Vec<Child>, Vec<Child>) =
                in_service(&snapshot).partition(|child| self.old.contains(&child.pid));
            let ready = new.iter().filter(|child| child.state == Role::Ready);
            if is_taken && kept.is_empty() && ready.count() >= all {
                let time = status::duration(self.begun.elapsed().as_secs_f64());
                tell(&match all {
                    0 => format!("Process group '{name}' had no process to replace."),
                    1 => format!("Done: 1 process of group '{name}' replaced in {time}."),
                    all => format!("Done: {all} processes of group '{name}' replaced in {time}."),
                });
                return Ok(());
            }
            if is_taken && new.is_empty() && killed(&snapshot) > self.killed {
                let rest = match kept.len() {
                    0 => "no process takes requests",
                    _ => "the old processes go on",
                };
                return Err(Failure::new(format!(
                    "a successor of process group '{name}' ended before it could take requests; {rest}."
                ))
                .remedy("The error log says why. The server tries again, after longer and longer pauses."));
            }
            if self.begun.elapsed() >= timeout {
                let seconds = timeout.as_secs();
                return Err(Failure::new(format!(
                    "{} of {all} processes of group '{name}' were not replaced within {seconds} s; the server goes on \
                     with it.",
                    kept.len()
                ))
                .remedy(
                    "wsgictl status shows the processes, and the error log says what keeps them.",
                ));
            }
            server.check_running()?;
            thread::sleep(STEP);
        }
    }
}

/// Returns the processes that do not drain.
fn in_service(snapshot: &Snapshot) -> impl Iterator<Item = Child> {
    let children = snapshot.children.iter().copied();
    children.filter(|child| child.state != Role::Draining)
}

fn killed(snapshot: &Snapshot) -> u128 {
    snapshot
        .header
        .counter(Id::ChildrenExited, value(EXIT, "killed"))
}
