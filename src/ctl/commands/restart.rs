//! `wsgictl restart`: asks for new processes of a process group, and waits until they have taken over.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::RestartArgs;
use crate::output::failure::Outcome;
use crate::output::terminal::tell;
use crate::segment::find;
use crate::segment::group::Replacement;

/// Asks for new processes, and waits until they take the requests.
pub(crate) fn restart(args: &RestartArgs) -> Outcome<ExitCode> {
    let server = find::open(args.segment.segment.as_deref())?;
    server.check_running()?;
    let asked = Replacement::ask(&server, &args.group, "restart")?;
    if args.no_wait {
        tell("The process group was asked to replace its processes.");
    } else {
        asked.follow(&server, Duration::from_secs(args.timeout.into()))?;
    }
    Ok(ExitCode::SUCCESS)
}
