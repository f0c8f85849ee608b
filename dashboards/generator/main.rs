//! Writes the dashboards, rules and runbook.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use std::fs;
use std::path::PathBuf;
use wsgi_dashboards::parameters::Parameters;

/// Writes the Grafana dashboards, the rules of Prometheus with their tests, and the runbook.
///
/// Thresholds are in generator/parameters.rs.
#[derive(Parser)]
struct Arguments {
    /// The folder to write to [default: where they are checked in]
    #[arg(long)]
    out: Option<PathBuf>,
    /// The job under which Prometheus scrapes the servers
    #[arg(long, default_value_t = Parameters::default().job)]
    job: String,
    /// The address of runbook.md, for the links in panels and alerts
    #[arg(long, default_value_t = Parameters::default().runbook)]
    runbook: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let out = arguments
        .out
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let parameters = Parameters {
        job: arguments.job,
        runbook: arguments.runbook,
        ..Parameters::default()
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for (name, text) in wsgi_dashboards::files(&parameters) {
        let file = out.join(&name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
