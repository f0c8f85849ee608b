//! `wsgictl`: serves a WSGI application with httpd and `mod_wsgi_rs`, from one command line, and inspects servers.
//!
//! [`cli`] defines the command line. Each command has a file in [`commands`]. `serve` makes a complete configuration
//! with [`launch`] and keeps httpd running as long as `wsgictl` itself runs. `status`, `top` and `metrics` show the
//! numbers in a server's [`segment`]; `reload` asks there for new code, and `stack` for the stacks of a child's
//! threads. `explain` shows the meaning of a log message. [`system`] knows users, paths and folders; [`output`] prints.
//! Imports go down this list only: `commands`, `launch` and `segment`, `system`, `output`.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod launch;
mod output;
mod segment;
mod system;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::commands::{explain, reload, restart, serve, stack, status, top};
use crate::launch::tether;
use crate::output::messages;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Status(args) => status::status(&args),
        Command::Top(args) => top::top(&args),
        Command::Metrics(args) => status::metrics(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Restart(args) => restart::restart(&args),
        Command::Stack(args) => stack::stack(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Tether(args) => tether::become_httpd(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            messages::failure(&failure);
            ExitCode::FAILURE
        }
    }
}
