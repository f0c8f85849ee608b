//! Finds the Python in a `WSGIPythonHome`, and checks that this process may use it.
//!
//! CPython treats a wrong home as a fatal error, which would end one child after the other. So the files that it needs
//! are checked first, as the user that will read them, and each problem is reported with its remedy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod problem;
#[cfg(test)]
mod tests;

pub use problem::HomeProblem;

use crate::files::{open_regular, read_regular_text};

/// Most bytes of a `pyvenv.cfg`.
const LONGEST_SETTINGS: u64 = 1 << 20;

/// The Python of a home, and the settings with which CPython starts as that Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonHome {
    /// Version: "3.11", or "3.14t" for a free-threaded build.
    pub version: String,
    /// Path of the interpreter's program, from which CPython derives its other paths: `<venv>/bin/python` or
    /// `<prefix>/bin/python3.11`. Under a prefix the program need not exist.
    pub program_name: PathBuf,
    /// `PyConfig.home`; `None` for a virtual environment, which CPython finds through `program_name`.
    pub home: Option<PathBuf>,
    /// Prefix of the installation: the home itself, or the one from which the virtual environment was made.
    pub base_prefix: PathBuf,
    /// The shared library in `lib` or `lib64` of that installation; `None` if it is elsewhere, or linked into the
    /// program.
    pub libpython: Option<PathBuf>,
}

/// Returns the Python of `home`: a virtual environment if it has a `pyvenv.cfg`, else a prefix. If a prefix has several
/// versions, its `python3` decides, else `default_version`, such as "3.11", else the highest one.
pub fn inspect(home: &Path, default_version: &str) -> Result<PythonHome, HomeProblem> {
    check_directory(home)?;
    let settings = home.join("pyvenv.cfg");
    match read_regular_text(&settings, LONGEST_SETTINGS).map_err(io::Error::from) {
        Ok(text) => virtual_environment(home, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => prefix(home, default_version),
        Err(error) => Err(HomeProblem::of(&settings, &error)),
    }
}

/// Checks that the standard library of `version` under `base_prefix` exists and may be read.
pub fn check_stdlib(base_prefix: &Path, version: &str) -> Result<(), HomeProblem> {
    // CPython imports these two before it could report anything.
    for name in ["os.py", "encodings/__init__.py"] {
        let mut missing = None;
        for directory in library_directories(base_prefix, version) {
            let file = directory.join(name);
            match open_regular(&file).map_err(io::Error::from) {
                Ok(_) => {
                    missing = None;
                    break;
                }
                Err(error) => match HomeProblem::of(&file, &error) {
                    HomeProblem::Missing(file) => missing = missing.or(Some(file)),
                    other => return Err(other),
                },
            }
        }
        if let Some(file) = missing {
            return Err(HomeProblem::BrokenLibrary {
                prefix: base_prefix.into(),
                file,
            });
        }
    }
    Ok(())
}

fn virtual_environment(venv: &Path, settings: &str) -> Result<PythonHome, HomeProblem> {
    let setting = |name: &str| {
        settings.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    // venv writes "version", virtualenv and uv write "version_info".
    let version = setting("version")
        .or_else(|| setting("version_info"))
        .and_then(minor_version);
    let (Some(base_bin), Some(version)) = (setting("home"), version) else {
        return Err(HomeProblem::BadVenv(venv.join("pyvenv.cfg")));
    };
    // No setting says that the build is free-threaded, but the name of the package directory does.
    let free_threaded = format!("{version}t");
    let named_so = library_directories(venv, &free_threaded).any(|path| path.is_dir());
    let version = if named_so { free_threaded } else { version };
    let base_bin = Path::new(base_bin);
    let base_prefix = base_bin.parent().unwrap_or(base_bin).to_path_buf();
    let gone = |problem| match problem {
        HomeProblem::Missing(_) | HomeProblem::NotADirectory(_) => HomeProblem::BaseGone {
            venv: venv.into(),
            base: base_bin.into(),
        },
        other => other,
    };
    check_directory(base_bin).map_err(gone)?;
    if !holds_version(&base_prefix, &version) {
        return Err(HomeProblem::BaseGone {
            venv: venv.into(),
            base: base_bin.join(format!("python{version}")),
        });
    }
    check_stdlib(&base_prefix, &version)?;
    Ok(PythonHome {
        program_name: venv.join("bin/python"),
        home: None,
        libpython: libpython(&base_prefix, &version),
        base_prefix,
        version,
    })
}

fn prefix(prefix: &Path, default_version: &str) -> Result<PythonHome, HomeProblem> {
    let versions = versions(prefix)?;
    let linked = || {
        let program = fs::canonicalize(prefix.join("bin/python3")).ok()?;
        minor_version(program.file_name()?.to_str()?.strip_prefix("python")?)
    };
    let preferred = [linked(), Some(default_version.to_string())];
    let version = preferred
        .into_iter()
        .flatten()
        .find(|version| versions.contains(version))
        .or_else(|| versions.last().cloned())
        .ok_or_else(|| HomeProblem::NoPython(prefix.into()))?;
    check_stdlib(prefix, &version)?;
    Ok(PythonHome {
        program_name: prefix.join(format!("bin/python{version}")),
        home: Some(prefix.into()),
        base_prefix: prefix.into(),
        libpython: libpython(prefix, &version),
        version,
    })
}

/// Returns the versions that have a standard library in a prefix, ascending.
fn versions(prefix: &Path) -> Result<Vec<String>, HomeProblem> {
    // Sorts the ordinary build of a version after the free-threaded one.
    let mut minors: Vec<(u32, bool)> = Vec::new();
    for lib in LIBRARIES {
        let directory = prefix.join(lib);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => match HomeProblem::of(&directory, &error) {
                HomeProblem::Missing(_) | HomeProblem::NotADirectory(_) => continue,
                other => return Err(other),
            },
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let minor = name.to_str().and_then(|name| name.strip_prefix("python3."));
            minors.extend(minor.and_then(|minor| {
                let ordinary = minor.strip_suffix('t').is_none();
                let number = minor.strip_suffix('t').unwrap_or(minor);
                Some((number.parse::<u32>().ok()?, ordinary))
            }));
        }
    }
    minors.sort_unstable();
    minors.dedup();
    let versions = minors.into_iter().map(|(minor, ordinary)| {
        let abi = if ordinary { "" } else { "t" };
        format!("3.{minor}{abi}")
    });
    Ok(versions
        .filter(|version| holds_version(prefix, version))
        .collect())
}

/// Returns whether at least a part of the standard library exists; the directory alone may be one for added packages. A
/// forbidden path counts as existing, so that the missing permission gets reported.
fn holds_version(prefix: &Path, version: &str) -> bool {
    library_directories(prefix, version).any(|directory| {
        ["os.py", "encodings"].iter().any(|name| {
            let path = directory.join(name);
            match fs::metadata(&path) {
                Ok(_) => true,
                Err(error) => matches!(
                    HomeProblem::of(&path, &error),
                    HomeProblem::Forbidden { .. }
                ),
            }
        })
    })
}

fn library_directories(prefix: &Path, version: &str) -> impl Iterator<Item = PathBuf> {
    LIBRARIES
        .iter()
        .map(move |lib| prefix.join(lib).join(format!("python{version}")))
}

fn libpython(prefix: &Path, version: &str) -> Option<PathBuf> {
    let name = format!("libpython{version}.so.1.0");
    LIBRARIES
        .iter()
        .map(|lib| prefix.join(lib).join(&name))
        .find(|path| path.is_file())
}

/// Returns "3.11" for "3.11", "3.11.2" and "3.11.2.final.0"; "3.14t" for "3.14t".
fn minor_version(version: &str) -> Option<String> {
    if let Some(ordinary) = version.strip_suffix('t') {
        return minor_version(ordinary).map(|version| format!("{version}t"));
    }
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(major) && number(minor)).then(|| format!("{major}.{minor}"))
}

fn check_directory(path: &Path) -> Result<(), HomeProblem> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => Err(HomeProblem::NotADirectory(path.into())),
        // Looking up "." needs the permission to search. Trying it is better than reading the mode, as access lists and
        // security modules also decide.
        Ok(_) => fs::metadata(path.join("."))
            .map(drop)
            .map_err(|error| HomeProblem::of(path, &error)),
        Err(error) => Err(HomeProblem::of(path, &error)),
    }
}

/// Directories of a prefix that may contain the standard library.
const LIBRARIES: [&str; 2] = ["lib", "lib64"];
