//! Prepares what the benches compare with, and runs them: the bare handler, and the rival for each Python.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::environments;
use super::pythons;
use crate::system::{Project, has_program, output, run, say};

/// The commands that measure with one Python only. The others also need one of 3.13 or later, with several interpreters.
const NEED_ONE_PYTHON: [&str; 6] = [
    "cpu",
    "daemon",
    "metrics",
    "executors",
    "admission",
    "profile",
];

/// Runs the benches with these arguments, in place of this process.
pub(crate) fn bench(project: &Project, arguments: &[String]) -> Result<()> {
    let out = project.target.join("bench");
    fs::create_dir_all(&out)?;
    if let Err(error) = bare_handler(project, &out) {
        say(format!("the bare handler is left out: {error:#}"));
    }
    run(project
        .cargo()
        .args(["build", "--quiet", "--release", "-p", "wsgi-benches"]))?;
    let mut bench = project.command(project.release().join("wsgi-bench"));
    let mut set = |name: &str, value: OsString| {
        bench.env(name, env::var_os(name).unwrap_or(value));
    };
    let module = project.release().join("mod_wsgi_rs.so");
    let python = python_of(arguments);
    set("WSGI_BENCH_INTERPRETER", python.clone().into());
    set("WSGI_BENCH_FLOOR", out.join("mod_floor.so").into());
    set("WSGI_BENCH_RIVAL", rival(project, &python, &out).into());
    let is_of_one = |argument: &String| NEED_ONE_PYTHON.contains(&argument.as_str());
    let folder = env::var_os("WSGI_BENCH_MODULE").map_or_else(|| module.clone(), PathBuf::from);
    set("WSGI_BENCH_MODULE", module.into());
    if !arguments.iter().any(is_of_one)
        && let Some(newest) = newest(&folder)
    {
        let prefix = output(Command::new(&newest).args(["-c", "import sys; print(sys.prefix)"]))?;
        set("WSGI_BENCH_NEWEST", prefix.into());
        set(
            "WSGI_BENCH_NEWEST_RIVAL",
            rival(project, &newest, &out).into(),
        );
    }
    bench.arg("--out").arg(&out).args(arguments);
    Err(bench.exec()).context("cannot start the benches")
}

/// The Python that both modules run: that of `--python PREFIX`, else `PYTHON`, else the distribution's.
fn python_of(arguments: &[String]) -> PathBuf {
    let mut prefix = None;
    for (at, argument) in arguments.iter().enumerate() {
        if argument == "--python" {
            prefix = arguments.get(at + 1).map(String::as_str);
        } else if let Some(value) = argument.strip_prefix("--python=") {
            prefix = Some(value);
        }
    }
    match (prefix, env::var_os("PYTHON").filter(|set| !set.is_empty())) {
        (Some(prefix), _) => Path::new(prefix).join("bin/python3"),
        (None, Some(python)) => python.into(),
        (None, None) => pythons::SYSTEM.into(),
    }
}

/// The newest Python of 3.13 or later for which an engine lies beside the module.
fn newest(module: &Path) -> Option<PathBuf> {
    let mut found = pythons::installed();
    found.retain(|python| {
        let engine = format!("wsgi_engine_{}.so", python.tag);
        !["cp310", "cp311", "cp312"].contains(&python.tag.as_str())
            && module.with_file_name(engine).exists()
    });
    let newest = found.into_iter().max_by(|a, b| a.tag.cmp(&b.tag));
    newest.map(|python| python.program)
}

/// Builds the bare handler, unless it is newer than its source.
fn bare_handler(project: &Project, out: &Path) -> Result<()> {
    let source = project.root.join("benches/floor/mod_floor.c");
    let built = out.join("mod_floor.so");
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    if let Ok(built) = time(&built)
        && built > time(&source)?
    {
        return Ok(());
    }
    say("building the bare handler");
    // apxs writes its files beside the source, so it gets a copy.
    let folder = out.join("floor");
    fs::create_dir_all(&folder)?;
    fs::copy(&source, folder.join("mod_floor.c"))?;
    let apxs = if has_program("apxs") { "apxs" } else { "apxs2" };
    output(
        Command::new(apxs)
            .current_dir(&folder)
            .args(["-c", "mod_floor.c"]),
    )?;
    fs::copy(folder.join(".libs/mod_floor.so"), built)?;
    Ok(())
}

/// Builds the rival for a Python, unless it is there. Returns where its module is, or would be; the benches say if a file is
/// missing.
fn rival(project: &Project, python: &Path, out: &Path) -> PathBuf {
    build_rival(project, python, out).unwrap_or_else(|error| {
        say(format!("the rival is left out: {error:#}"));
        out.join("mod_wsgi.so")
    })
}

fn build_rival(project: &Project, python: &Path, out: &Path) -> Result<PathBuf> {
    let describe =
        "import sys; print('%d.%d%s' % (*sys.version_info[:2], getattr(sys, 'abiflags', '')))";
    let tag = output(Command::new(python).args(["-c", describe]))?;
    // Each Python has its own virtual environment, so that the rival is built once for each.
    let venv = project.target.join("rival").join(&tag);
    if let Some(above) = venv.parent() {
        fs::create_dir_all(above)?;
    }
    environments::make(
        &venv,
        python,
        &project.root.join("benches/requirements.txt"),
    )?;
    let module = output(Command::new(venv.join("bin/mod_wsgi-express")).arg("module-location"))?;
    let copy = out.join(format!("mod_wsgi-{tag}.so"));
    fs::copy(&module, &copy).with_context(|| module.clone())?;
    Ok(copy)
}
