//! Builds the module, wsgictl, and an engine for each Python. Afterwards target/release contains:
//!
//! | file | content |
//! |---|---|
//! | `mod_wsgi_rs.so` | the module |
//! | `wsgi_engine_cp311.so` | an engine for each minor version of Python |
//! | `wsgi_engine.so` | a link to the default one: the distribution's Python, else the first that was built |
//! | `wsgictl` | the program |
//!
//! Engines of an earlier build are removed, because module and engines must come from the same source.

use super::pythons;
use crate::system::{Project, engines, put, put_link, run, say};
use anyhow::Result;
use std::fs;

pub(crate) fn build(project: &Project) -> Result<()> {
    let release = project.release();
    let pythons = pythons::find()?;
    say("building the module and wsgictl");
    run(project
        .cargo()
        .args(["build", "--release", "-p", "mod_wsgi_rs", "-p", "wsgictl"]))?;
    put(
        &release.join("libmod_wsgi_rs.so"),
        &release.join("mod_wsgi_rs.so"),
    )?;

    for python in &pythons {
        say(format!(
            "building the engine for {} ({})",
            python.program.display(),
            python.tag
        ));
        // Each Python has its own folder; otherwise cargo would rebuild every crate above pyo3 at each change of
        // Python.
        let folder = project.target.join("engines").join(&python.tag);
        let mut cargo = project.cargo();
        cargo
            .env("PYO3_PYTHON", &python.program)
            .env("CARGO_TARGET_DIR", &folder);
        run(cargo.args(["build", "--release", "-p", "wsgi-engine"]))?;
        let engine = release.join(format!("wsgi_engine_{}.so", python.tag));
        put(&folder.join("release/libwsgi_engine.so"), &engine)?;
    }
    let is_built = |tag: &str| pythons.iter().any(|python| python.tag == tag);
    for (tag, engine) in engines(&release)? {
        if !is_built(&tag) {
            fs::remove_file(engine)?;
        }
    }

    let default = pythons::system()
        .map(|python| python.tag)
        .filter(|tag| is_built(tag))
        .unwrap_or_else(|| pythons[0].tag.clone());
    put_link(
        &format!("wsgi_engine_{default}.so"),
        &release.join("wsgi_engine.so"),
    )?;
    let tags: Vec<&str> = pythons.iter().map(|python| python.tag.as_str()).collect();
    let module = release.join("mod_wsgi_rs.so");
    say(format!(
        "done: {} with engines for {} (default {default})",
        module.display(),
        tags.join(" ")
    ));
    Ok(())
}
