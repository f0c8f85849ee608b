//! The Pythons of this machine for which an engine can be built.
//!
//! `PYTHON=/path/to/python3` names the only one. Otherwise CPython 3.10 to 3.14 is searched in the usual places: one
//! for each minor version, the distribution's first, and a free-threaded 3.14 (tag cp314t). Other implementations,
//! builds without a shared libpython, debug builds and older free-threaded builds are left out, and for root also
//! Pythons that httpd's unprivileged children could not read. `VERBOSE=1` prints the reasons.

use crate::system::{is_open_to_all, is_program, is_root, say};
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The script that each Python runs to describe itself.
const PROBE: &str = include_str!("probe.py");

/// A Python with a shared libpython.
pub(crate) struct Python {
    /// The tag in the name of its engine: `cp311`.
    pub(crate) tag: String,
    pub(crate) program: PathBuf,
    /// The folder of its libpython.
    pub(crate) library: PathBuf,
}

/// Returns all these Pythons, or the one that `PYTHON` names.
pub(crate) fn find() -> Result<Vec<Python>> {
    let found = match env::var_os("PYTHON").filter(|set| !set.is_empty()) {
        Some(program) => vec![named(program.into())?],
        None => installed(),
    };
    if found.is_empty() {
        bail!("found no Python 3.10 to 3.14 with a shared libpython; scripts/setup installs one");
    }
    Ok(found)
}

/// Returns the Python that `PYTHON` names, else the distribution's.
pub(crate) fn preferred() -> Result<Python> {
    named(
        env::var_os("PYTHON")
            .filter(|set| !set.is_empty())
            .unwrap_or_else(|| SYSTEM.into())
            .into(),
    )
}

/// The program of the distribution's Python.
pub(crate) const SYSTEM: &str = "/usr/bin/python3";

/// Returns the distribution's Python, if an engine can be built for it.
pub(crate) fn system() -> Option<Python> {
    probe(Path::new(SYSTEM)).ok()
}

fn named(program: PathBuf) -> Result<Python> {
    if !is_program(&program) {
        bail!("PYTHON={}: there is no such program", program.display());
    }
    match probe(&program) {
        Ok(python) => Ok(python),
        Err(reason) => bail!("PYTHON={}: {reason}", program.display()),
    }
}

/// Returns all Pythons that are installed in the usual places.
pub(crate) fn installed() -> Vec<Python> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for program in candidates()
        .into_iter()
        .filter(|program| is_program(program))
    {
        match probe(&program) {
            Ok(python) if seen.insert(python.tag.clone()) => found.push(python),
            Ok(_) => {}
            Err(reason) if env::var_os("VERBOSE").is_some() => {
                say(format!("passing over {}: {reason}", program.display()));
            }
            Err(_) => {}
        }
    }
    found
}

fn probe(program: &Path) -> Result<Python, String> {
    let output = Command::new(program)
        .args(["-I", "-c", PROBE])
        .output()
        .map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned();
    let words: Vec<&str> = answer.split('\t').collect();
    let [_, tag, program, library] = words[..] else {
        return Err(if output.status.success() {
            answer
        } else {
            "does not run".into()
        });
    };
    let library = PathBuf::from(library);
    if is_root() && !is_open_to_all(&library) {
        return Err(format!(
            "the server's user could not read {}",
            library.display()
        ));
    }
    Ok(Python {
        tag: tag.into(),
        program: program.into(),
        library,
    })
}

fn candidates() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(SYSTEM)];
    let versions = pyenv_versions();
    for name in ["3.14", "3.13", "3.12", "3.11", "3.10", "3.14t"] {
        let program = format!("python{name}");
        found.extend(["/usr/bin", "/usr/local/bin"].map(|folder| Path::new(folder).join(&program)));
        found.extend(
            entries(Path::new("/opt"), "python")
                .into_iter()
                .map(|folder| folder.join("bin").join(&program)),
        );
        // pyenv's folders have names such as 3.13.1 and 3.14.0t.
        let (minor, is_free) = name
            .strip_suffix('t')
            .map_or((name, false), |minor| (minor, true));
        let own = entries(&versions, &format!("{minor}.")).into_iter();
        let own = own.filter(|folder| folder.to_string_lossy().ends_with('t') == is_free);
        found.extend(own.map(|folder| folder.join("bin/python3")));
    }
    found
}

/// Returns the folder in which pyenv installs Pythons.
pub(crate) fn pyenv_versions() -> PathBuf {
    let home =
        || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| OsString::from("/"))).join(".pyenv");
    env::var_os("PYENV_ROOT")
        .map_or_else(home, PathBuf::from)
        .join("versions")
}

/// Returns the entries of a folder whose names begin with `prefix`, in order.
pub(crate) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let named = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(named)
        .collect();
    found.sort();
    found
}
