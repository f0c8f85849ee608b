//! The project's own tools: what is more than a few lines of shell. `cargo xtask help` lists them.

mod layout;

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about, long_about = None)]
enum Command {
    /// Check how the sources are laid out, named and cited; `make lint` runs it.
    Layout(layout::Options),
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Layout(options) => layout::run(&checkout(), &options),
    }
}

/// The root of the checkout: the folder above this crate's.
fn checkout() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
