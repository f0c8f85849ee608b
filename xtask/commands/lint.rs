//! Checks format, clippy, documentation, and the project's own rules. Warnings are errors.

use super::pythons;
use crate::layout;
use crate::system::{Project, has_program, run, say};
use anyhow::{Result, bail};

pub(crate) fn lint(project: &Project) -> Result<()> {
    let python = pythons::preferred()?.program;
    say("format");
    run(project.cargo().args(["fmt", "--all", "--check"]))?;
    say("layout, names, sentences and citations");
    if !layout::check(&project.root)? {
        bail!(
            "the sources break rules of the project; `cargo xtask layout --help` says which there are"
        );
    }
    say("clippy");
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run(project.cargo().env("PYO3_PYTHON", &python).args(clippy))?;
    say("documentation");
    let mut doc = project.cargo();
    doc.env("PYO3_PYTHON", &python)
        .env("RUSTDOCFLAGS", "-Dwarnings");
    run(doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]))?;
    if has_program("cargo-deny") {
        say("licences and advisories of dependencies");
        run(project.cargo().args(["deny", "check"]))?;
    } else {
        say(
            "no cargo-deny here: licences and advisories are not checked (cargo install cargo-deny)",
        );
    }
    Ok(())
}
