//! The hidden step between `wsgictl serve` and httpd: a process that asks the kernel for a signal when `wsgictl` ends,
//! and then becomes httpd. Without it, a killed `wsgictl` would leave httpd behind.
//!
//! The request survives `exec`. A change of user would cancel it, but httpd's parent never changes its user. A separate
//! step, instead of code between fork and exec, needs no unsafe code.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cli::{TetherArgs, tether_name};
use crate::output::failure::{Failure, Outcome};

/// Returns the command that runs `httpd` with `arguments`, tied to this process.
pub(crate) fn command(httpd: &str, arguments: &[&str]) -> Outcome<Command> {
    let wsgictl = std::env::current_exe().map_err(|error| {
        Failure::new(format!("cannot find the wsgictl program itself: {error}"))
    })?;
    let mut command = Command::new(wsgictl);
    command
        .arg(tether_name())
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(httpd)
        .args(arguments);
    Ok(command)
}

/// Becomes httpd; returns only if that fails.
pub(crate) fn become_httpd(args: &TetherArgs) -> Outcome<ExitCode> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::new(format!("cannot tie httpd to wsgictl: {error}")))?;
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(args.parent) {
        return Ok(ExitCode::FAILURE); // wsgictl ended before the kernel was asked.
    }
    let [program, arguments @ ..] = &args.command[..] else {
        return Err(Failure::new("nothing to run"));
    };
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::new(format!("cannot run {program}: {error}")))
}
