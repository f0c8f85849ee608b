//! The project's own tools, as far as they need more than a few lines of shell. `cargo xtask help` lists them.
//!
//! Each is called by a target of the Makefile, which first installs what the command needs (`scripts/setup`).

mod commands;
mod layout;
mod system;

use anyhow::Result;
use clap::Parser;
use commands::{bench, build, environments, lint, mutants, pythons, reference, serve, test};
use std::process::ExitCode;
use system::Project;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own tools", long_about = None)]
enum Command {
    /// Build the module, wsgictl, and an engine for every Python found, into target/release.
    Build,
    /// Run all tests; arguments select tests of real servers by name.
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Make the virtual environments, a second Python and a Prometheus for the tests.
    TestEnvironment,
    /// Serve the bundled Django example; arguments go to `wsgictl serve`.
    Serve {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build what the benches compare with, and run them; arguments go to the benches.
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check format, layout, clippy and documentation.
    Lint,
    /// Check the layout, names, sentences and citations of the sources.
    Layout(layout::Options),
    /// List the Pythons for which engines are built: tag, program and folder of libpython, separated by tabs.
    Pythons,
    /// Break rules of the metrics in a copy of the module, and check that the tests notice.
    Mutants,
    /// Write docs/directives.md and docs/messages.md from the tables in src/core/.
    Reference,
}

fn main() -> Result<ExitCode> {
    let project = Project::find();
    match Command::parse() {
        Command::Build => build::build(&project)?,
        Command::Test { arguments } => test::test(&project, &arguments)?,
        Command::TestEnvironment => environments::for_tests(&project)?,
        Command::Serve { arguments } => serve::serve(&project, &arguments)?,
        Command::Bench { arguments } => bench::bench(&project, &arguments)?,
        Command::Lint => lint::lint(&project)?,
        Command::Layout(options) => return layout::run(&project.root, &options),
        Command::Pythons => {
            for python in pythons::find()? {
                println!(
                    "{}\t{}\t{}",
                    python.tag,
                    python.program.display(),
                    python.library.display()
                );
            }
        }
        Command::Mutants => mutants::mutants(&project)?,
        Command::Reference => reference::run(&project.root)?,
    }
    Ok(ExitCode::SUCCESS)
}
