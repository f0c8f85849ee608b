//! `wsgictl restart`: asks for new processes of a process group, and waits until they have taken over.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::board::RetireReason;
use wsgi_telemetry::{Child, Role, Segment, status};

use crate::cli::RestartArgs;
use crate::output::failure::{Failure, Outcome};
use crate::output::terminal::tell;
use crate::segment::find;

/// How long to wait between two looks.
const STEP: Duration = Duration::from_millis(50);

/// Asks for new processes, and waits until they take the requests.
pub(crate) fn restart(args: &RestartArgs) -> Outcome<ExitCode> {
    let (server, segment) = find::open_group_to_ask(args.segment.segment.as_deref(), &args.group)?;
    let begun = Instant::now();
    let old: BTreeSet<u32> = in_service(segment).map(|child| child.pid).collect();
    let asked =
        segment
            .board()
            .request_reload(None, RetireReason::Api, "wsgictl restart asked for it");
    let asked = asked.ok_or_else(|| {
        Failure::new("too many requests for new processes are waiting in this group.")
            .remedy("See with wsgictl status what it does, and ask again.")
    })?;
    if args.no_wait {
        tell("The process group was asked to replace its processes.");
        return Ok(ExitCode::SUCCESS);
    }
    let timeout = Duration::from_secs(args.timeout.into());
    loop {
        let is_taken = !segment.board().is_open(asked);
        let (kept, new): (Vec<Child>, Vec<Child>) =
            in_service(segment).partition(|child| old.contains(&child.pid));
        let ready = new.iter().filter(|child| child.state == Role::Ready);
        if is_taken && kept.is_empty() && ready.count() >= old.len() {
            let time = status::duration(begun.elapsed().as_secs_f64());
            tell(&match old.len() {
                0 => format!("Done in {time}: the group had no process."),
                1 => format!("Done: 1 process replaced in {time}."),
                count => format!("Done: {count} processes replaced in {time}."),
            });
            return Ok(ExitCode::SUCCESS);
        }
        if begun.elapsed() >= timeout {
            let seconds = timeout.as_secs();
            return Err(Failure::new(format!(
                "{} of {} processes were not replaced within {seconds} s; the server goes on with it.",
                kept.len(),
                old.len()
            ))
            .remedy("wsgictl status shows the processes, and the error log says what keeps them."));
        }
        server.check_running()?;
        thread::sleep(STEP);
    }
}

/// Returns the processes of the group that do not drain.
fn in_service(segment: Segment) -> impl Iterator<Item = Child> {
    let children = segment.snapshot().children.into_iter();
    children.filter(|child| child.state != Role::Draining)
}
