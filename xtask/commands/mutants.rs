//! Checks that the tests notice wrong metrics. It builds a module in which one rule of the shared segment is broken on
//! request (src/telemetry/faults.rs), and runs the tests that kill children, without a server and on one. Without a
//! fault they must pass; with each fault they must fail, and for the right reason. Takes some minutes.

use super::test::path;
use crate::system::{Project, copy_engines, put, run, say};
use anyhow::{Context, Result, bail};
use regex::Regex;
use std::fs;
use std::process::Output;

/// The text that the test prints if it has seen wrong numbers, and in no other case.
const NOTICED: &str = "the numbers are wrong";

pub(crate) fn mutants(project: &Project) -> Result<()> {
    let state = project.state("tests");
    let folder = project.target.join("mutants");
    fs::create_dir_all(&folder)?;
    let source = fs::read_to_string(project.root.join("src/telemetry/faults.rs"))?;
    let faults: Vec<&str> = Regex::new(r#"(?m)^ *\("([a-z-]*)", Fault::"#)?
        .captures_iter(&source)
        .filter_map(|found| found.get(1))
        .map(|name| name.as_str())
        .collect();
    if faults.is_empty() {
        bail!("no faults in src/telemetry/faults.rs");
    }

    let mut missed = Vec::new();
    say("without a server");
    let mut process = project.cargo();
    process.env("PATH", path(&state)).args([
        "test",
        "-p",
        "wsgi-telemetry",
        "--features",
        "faults",
        "--test",
        "process",
    ]);
    if run(&mut process).is_err() {
        missed.push("without a server");
    }

    say("building the module that can be broken");
    let mut build = project.cargo();
    build.env("CARGO_TARGET_DIR", &folder);
    run(build.args([
        "build",
        "--release",
        "-p",
        "mod_wsgi_rs",
        "--features",
        "faults",
    ]))?;
    let module = folder.join("mod_wsgi_rs.so");
    put(&folder.join("release/libmod_wsgi_rs.so"), &module)?;
    copy_engines(&project.release(), &folder)?;
    put(&project.release().join("wsgictl"), &folder.join("wsgictl"))?;
    run(project
        .cargo()
        .args(["test", "-p", "wsgi-tests", "--no-run"]))?;

    // Runs the kill test with a fault, or without one.
    let kills = |fault: Option<&str>| -> Result<Output> {
        let mut test = project.cargo();
        test.args([
            "test",
            "-q",
            "-p",
            "wsgi-tests",
            "--",
            "--exact",
            "metrics::kills::metrics_survive_kills::worker",
        ]);
        test.env("WSGI_TEST_MODULE", &module)
            .env("WSGI_TEST_VENV", state.join("venv"))
            .env("PATH", path(&state));
        if let Some(fault) = fault {
            test.env("WSGI_FAULT", fault);
        }
        test.output().context("cannot start cargo")
    };
    let text = |output: &Output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    say("on a server, nothing broken");
    let sound = kills(None)?;
    if !sound.status.success() {
        eprint!("{}", text(&sound));
        bail!("the test fails although nothing is broken");
    }
    for fault in faults {
        let output = kills(Some(fault))?;
        let log = text(&output);
        match log
            .lines()
            .skip_while(|line| !line.contains(NOTICED))
            .nth(1)
        {
            Some(line) if !output.status.success() => {
                say(format!("on a server, {fault}: noticed: {line:.120}"))
            }
            _ => {
                let file = folder.join(format!("{fault}.log"));
                fs::write(&file, &log)?;
                say(format!(
                    "on a server, {fault}: NOT noticed; its log is in {}",
                    file.display()
                ));
                missed.push(fault);
            }
        }
    }
    if !missed.is_empty() {
        bail!("not noticed: {}", missed.join(" "));
    }
    Ok(())
}
