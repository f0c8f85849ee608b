//! Virtual environments, a second Python and a Prometheus for the tests.

use super::pythons::{self, Python, SYSTEM};
use crate::system::{
    Project, as_root, beside, has_program, is_program, is_root, output, own_folder, remove_folder,
    run, say, succeeds,
};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prepares what the tests need besides the system's packages.
pub(crate) fn for_tests(project: &Project) -> Result<()> {
    let state = project.state("tests");
    own_folder(&state)?;
    make(
        &state.join("venv"),
        Path::new(SYSTEM),
        &project.root.join("tests/requirements.txt"),
    )?;
    packages(project, &state.join("venv-packages"), Path::new(SYSTEM))?;
    prometheus(&state)?;
    second_python(project, &state)
}

/// Makes a virtual environment, unless it exists and its Python and requirements have not changed.
pub(crate) fn make(folder: &Path, python: &Path, requirements: &Path) -> Result<()> {
    let version = output(
        Command::new(python).args(["-c", "import sys; print(sys.version, sys.base_prefix)"]),
    )?;
    let wanted =
        fs::read_to_string(requirements).with_context(|| requirements.display().to_string())?;
    let stamp = format!("{version}\n{}\n", wanted.trim_end());
    let made_from = folder.join(MADE_FROM);
    if fs::read_to_string(&made_from).is_ok_and(|found| found == stamp) {
        return Ok(());
    }
    let name = requirements
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    say(format!(
        "making a virtual environment in {} with {name} (from the Python package index)",
        folder.display()
    ));
    remove_folder(folder)?;
    run(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    // A package index that cannot be reached can hang instead of failing. Packages without a wheel are built by PEP
    // 517; the pip of Python 3.11 does that only with this option, and warns otherwise.
    let mut pip = Command::new("timeout");
    pip.arg("600").arg(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--use-pep517",
        "-r",
    ])
    .arg(requirements);
    run(&mut pip)?;
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder))?;
    fs::write(made_from, stamp)?;
    Ok(())
}

/// A file in a complete virtual environment, which names what it was made from.
const MADE_FROM: &str = "made-from";

/// Whether a virtual environment exists and is complete.
pub(crate) fn is_made(folder: &Path) -> bool {
    folder.join(MADE_FROM).exists()
}

/// Makes an environment with big compiled packages, only for the tests that import them. If an index has no wheels for
/// this Python, these tests report that they are left out.
fn packages(project: &Project, folder: &Path, python: &Path) -> Result<()> {
    let Err(error) = make(
        folder,
        python,
        &project.root.join("tests/requirements-packages.txt"),
    ) else {
        return Ok(());
    };
    say(format!("{error:#}"));
    let python = python.display();
    say(format!(
        "not all packages of tests/requirements-packages.txt for {python}: the tests with them are left out"
    ));
    remove_folder(folder)
}

/// Provides the programs prometheus and promtool. Installing the system's package would also make a user and start a
/// service, so the package is only unpacked.
fn prometheus(state: &Path) -> Result<()> {
    let folder = state.join("prometheus");
    let programs = ["prometheus", "promtool"];
    if programs.into_iter().all(has_program)
        || programs.iter().all(|name| is_program(&folder.join(name)))
    {
        return Ok(());
    }
    if !has_program("apt-get") {
        say(
            "no prometheus and promtool on the PATH: the tests of metrics and dashboards will fail until they are there \
             (https://prometheus.io/download)",
        );
        return Ok(());
    }
    say(format!(
        "unpacking prometheus and promtool from the system's package into {}; nothing is installed or started",
        folder.display()
    ));
    let new = beside(&folder);
    remove_folder(&new)?;
    fs::create_dir(&new)?;
    let download = |package: &str| {
        run(Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(&new))
    };
    if download("prometheus").is_err() {
        // The package lists of a fresh system are empty or old.
        run(as_root("apt-get")?.args(["-q", "update"]))?;
        download("prometheus").context("please put prometheus and promtool on the PATH")?;
    }
    // From Debian 14 on, promtool is a separate package.
    if succeeds(Command::new("apt-cache").args(["show", "promtool"])) {
        download("promtool")?;
    }
    for archive in pythons::entries(&new, "prom") {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(new.join("unpacked")))?;
    }
    for name in programs {
        fs::rename(new.join("unpacked/usr/bin").join(name), new.join(name))
            .context("not in the package")?;
    }
    if !succeeds(Command::new(new.join("promtool")).arg("--version")) {
        bail!("promtool does not run here; please put another one on the PATH");
    }
    remove_folder(&new.join("unpacked"))?;
    remove_folder(&folder)?;
    fs::rename(&new, &folder)?;
    Ok(())
}

/// Provides a Python of another minor version for the tests, in a folder that httpd's user can read, with its own
/// environments.
fn second_python(project: &Project, state: &Path) -> Result<()> {
    let mut python = another_python();
    if python.is_none() && copy_from_pyenv()? {
        python = another_python();
    }
    let Some(python) = python else {
        say("no second Python (3.12 or 3.13) here: the tests will run on the distribution's only");
        return Ok(());
    };
    make(
        &state.join("venv-second"),
        &python.program,
        &project.root.join("tests/requirements.txt"),
    )?;
    packages(
        project,
        &state.join("venv-packages-second"),
        &python.program,
    )
}

/// Returns an installed 3.13 or 3.12 that is not of the distribution's minor version.
fn another_python() -> Option<Python> {
    let mut installed = pythons::installed();
    let system = pythons::system().map(|python| python.tag);
    installed.retain(|python| {
        ["cp312", "cp313"].contains(&python.tag.as_str()) && Some(&python.tag) != system.as_ref()
    });
    installed
        .into_iter()
        .max_by_key(|python| python.tag.clone())
}

/// Copies pyenv's newest Python to /opt if root runs the tests: pyenv installs into a home folder, which httpd's user
/// often cannot enter.
fn copy_from_pyenv() -> Result<bool> {
    if !is_root() {
        return Ok(false);
    }
    let has_library =
        |minor: &str, folder: &Path| folder.join(format!("lib/libpython{minor}.so.1.0")).exists();
    let found = ["3.13", "3.12"].into_iter().find_map(|minor| {
        let mut folders = pythons::entries(&pythons::pyenv_versions(), &format!("{minor}."));
        folders.retain(|folder| has_library(minor, folder));
        folders.pop().map(|folder| (minor, folder))
    });
    let Some((minor, from)) = found else {
        return Ok(false);
    };
    let to = PathBuf::from(format!(
        "/opt/python-{}",
        from.file_name().unwrap_or_default().to_string_lossy()
    ));
    if to.exists() {
        return Ok(true);
    }
    say(format!(
        "copying {} to {}, where the server's user can read it",
        from.display(),
        to.display()
    ));
    if !has_program("patchelf") {
        if !has_program("apt-get") {
            say("no patchelf here, so the copy would not find its libpython: left out");
            return Ok(false);
        }
        say("missing for 'tests': patchelf; installing with the system's package manager");
        let mut apt = as_root("apt-get")?;
        run(apt
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y", "install", "patchelf"]))?;
    }
    let new = beside(&to);
    run(Command::new("cp").arg("-a").arg(&from).arg(&new))?;
    // The Python has its old path in the path of its libpython, in its build data, and in the first lines of its
    // scripts.
    for file in [
        format!("bin/python{minor}"),
        format!("lib/libpython{minor}.so.1.0"),
    ] {
        run(Command::new("patchelf")
            .args(["--set-rpath", "$ORIGIN/../lib"])
            .arg(new.join(file)))?;
    }
    let library = new.join("lib");
    for folder in [
        library.join(format!("python{minor}")),
        library.join("pkgconfig"),
    ] {
        for file in pythons::entries(&folder, "") {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("_sysconfigdata") && name.ends_with(".py") || name.ends_with(".pc")
            {
                let text = fs::read_to_string(&file)?;
                fs::write(
                    &file,
                    text.replace(&*from.to_string_lossy(), &to.to_string_lossy()),
                )?;
            }
        }
        for file in pythons::entries(&folder.join("__pycache__"), "_sysconfigdata") {
            fs::remove_file(file)?;
        }
    }
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&new))?;
    fs::rename(&new, &to)?;
    Ok(true)
}
