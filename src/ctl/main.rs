//! `wsgictl`: serves a WSGI application with httpd and `mod_wsgi_rs`, from one command line, and looks at servers.
//!
//! [`cli`] is the command line as written, [`serve`] turns it into a complete [`conf::Conf`], and [`run`] keeps
//! httpd running for as long as `wsgictl` itself does.
//!
//! [`status`] and [`top`] show what a server counts in its [`segment`]; [`reload`] asks for new code there, and [`stack`]
//! for what the threads of a child run. [`explain`] shows what a message in the log means.

#![forbid(unsafe_code)]

mod account;
mod app;
mod cli;
mod conf;
mod explain;
mod failure;
mod folder;
mod httpd;
mod options;
mod paths;
mod readable;
mod reload;
mod run;
mod say;
mod segment;
mod serve;
mod size;
mod stack;
mod status;
mod terminal;
mod tether;
mod top;
mod visible;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::serve(&args),
        Command::Status(args) => status::status(&args),
        Command::Top(args) => top::top(&args),
        Command::Metrics(args) => status::metrics(&args),
        Command::Reload(args) => reload::reload(&args),
        Command::Stack(args) => stack::stack(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Tether(args) => tether::become_httpd(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            say::failure(&failure);
            ExitCode::FAILURE
        }
    }
}
