//! Runs all tests: the crates by themselves, wsgictl, the example configurations, then real servers on the
//! distribution's Python, and again on a second version if one is installed. `make test` has prepared and built
//! everything.
//!
//! The module under test is the release build; the tests themselves are built without optimization. Arguments go to the
//! last two runs: `cargo xtask test streaming` runs the tests of real servers with `streaming` in their name.

use super::environments::is_made;
use super::pythons;
use crate::system::{Project, output, run, say};
use anyhow::Result;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// Tests of httpd's side and of the segment, which do not involve Python: they are not repeated with the second Python.
const WITHOUT_PYTHON: &[&str] = &[
    "config",
    "deaths",
    "files",
    "filters",
    "foreign_files",
    "large",
    "mapping",
    "plan",
    "proxies",
    "rolls",
    "stalls",
    "metrics::kills",
    "metrics::listener",
    "metrics::hostile",
    "metrics::endpoint",
];

pub(crate) fn test(project: &Project, arguments: &[String]) -> Result<()> {
    let state = project.state("tests");
    let python = pythons::preferred()?;
    let cargo = || {
        let mut cargo = project.cargo();
        cargo.env("WSGI_TEST_MODULE", project.release().join("mod_wsgi_rs.so"));
        cargo
            .env("WSGI_TEST_VENV", state.join("venv"))
            .env("WSGI_TEST_PACKAGES", whole(state.join("venv-packages")));
        cargo
            .env("PYO3_PYTHON", &python.program)
            .env("PATH", path(&state));
        // The tests spend half of their time waiting.
        let threads = std::thread::available_parallelism().map_or(2, usize::from) * 3 / 2;
        for (name, value) in [
            ("RUST_TEST_THREADS", threads.to_string()),
            ("RUST_BACKTRACE", "1".into()),
        ] {
            if env::var_os(name).is_none() {
                cargo.env(name, value);
            }
        }
        cargo.arg("test");
        cargo
    };

    say("1/4 the crates without a server");
    run(cargo().args([
        "-p",
        "wsgi-abi",
        "-p",
        "wsgi-core",
        "-p",
        "wsgi-wire",
        "-p",
        "wsgi-telemetry",
        "-p",
        "wsgi-dashboards",
        "-p",
        "xtask",
    ]))?;
    say(format!(
        "2/4 Python without a server ({})",
        python.program.display()
    ));
    let engine = project.target.join("engines").join(&python.tag);
    let mut own = cargo();
    own.env("LD_LIBRARY_PATH", &python.library)
        .env("CARGO_TARGET_DIR", engine);
    run(own.args(["-p", "wsgi-python"]))?;
    say("3/4 wsgictl and the example configurations");
    run(cargo().args(["-p", "wsgictl"]))?;
    say(format!("4/4 real servers, on {}", python.program.display()));
    run(cargo().args(["-p", "wsgi-tests", "--"]).args(arguments))?;

    let second = state.join("venv-second");
    if !second.join("pyvenv.cfg").exists() {
        say("no second Python: that run is left out");
        return Ok(());
    }
    let version = output(Command::new(second.join("bin/python")).arg("--version"))?;
    say(format!("and again on {version}"));
    let mut again = cargo();
    again
        .env("WSGI_TEST_PYTHON", &second)
        .env("WSGI_TEST_VENV", &second);
    again.env(
        "WSGI_TEST_PACKAGES",
        whole(state.join("venv-packages-second")),
    );
    again.args(["-p", "wsgi-tests", "--"]).args(arguments);
    if arguments.is_empty() {
        for name in WITHOUT_PYTHON {
            again.args(["--skip", &format!("{name}::")]);
        }
    }
    run(&mut again)
}

/// An environment that is incomplete, because there were no wheels for it, is left out; then so are the tests that need
/// it.
fn whole(folder: PathBuf) -> OsString {
    if is_made(&folder) {
        folder.into()
    } else {
        OsString::new()
    }
}

/// Returns the PATH, with the folder where prometheus and promtool were unpacked, unless the system has them.
pub(crate) fn path(state: &std::path::Path) -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(state.join("prometheus"));
    path
}
