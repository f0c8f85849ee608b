//! Which Python a `WSGIPythonHome` holds, and whether this process may use it.
//!
//! CPython itself answers a wrong home with a fatal error, which would end one child after the other. So what it
//! needs is looked at first, as the user that will need it, and whatever is wrong is said with the remedy.

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

/// What Python has to be told to be the one of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonHome {
    /// "3.11", or "3.14t" for a free-threaded build.
    pub version: String,
    /// The interpreter's program, from whose place CPython works out its paths: `<venv>/bin/python` or
    /// `<prefix>/bin/python3.11`. Under a prefix it need not exist.
    pub program_name: PathBuf,
    /// `PyConfig.home`; `None` for a virtual environment, which CPython finds through `program_name`.
    pub home: Option<PathBuf>,
    /// The installation: the home itself, or the one that the virtual environment was made from.
    pub base_prefix: PathBuf,
    /// The shared library in the `lib` or `lib64` of that installation; `None` where it is elsewhere, or where the
    /// program holds it.
    pub libpython: Option<PathBuf>,
}

/// Finds out which Python `home` is: a virtual environment where it has a `pyvenv.cfg`, else a prefix.
/// `default_version`, such as "3.11", decides where a prefix holds several and its `python3` does not.
pub fn inspect(home: &Path, default_version: &str) -> Result<PythonHome, HomeProblem> {
    check_directory(home)?;
    let settings = home.join("pyvenv.cfg");
    match read_regular_text(&settings, LONGEST_SETTINGS).map_err(io::Error::from) {
        Ok(text) => virtual_environment(home, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => prefix(home, default_version),
        Err(error) => Err(HomeProblem::of(&settings, &error)),
    }
}

/// Whether the standard library of `version` under `base_prefix` is there and may be read.
pub fn check_stdlib(base_prefix: &Path, version: &str) -> Result<(), HomeProblem> {
    // The two that CPython imports before anything could be reported.
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
    // "version" is venv's own, "version_info" that of virtualenv and uv.
    let version = setting("version")
        .or_else(|| setting("version_info"))
        .and_then(minor_version);
    let (Some(base_bin), Some(version)) = (setting("home"), version) else {
        return Err(HomeProblem::BadVenv(venv.join("pyvenv.cfg")));
    };
    // No setting says so, but the folder for packages has the name.
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

/// The versions whose libraries a prefix holds, ascending.
fn versions(prefix: &Path) -> Result<Vec<String>, HomeProblem> {
    // The ordinary build of a version comes after the free-threaded one.
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

/// Whether at least part of the standard library is there; a directory alone may be one for added packages. What
/// may not be looked at counts, so that this is what gets reported.
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

/// "3.11" of "3.11", "3.11.2" and "3.11.2.final.0"; "3.14t" of "3.14t".
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
        // Looking up "." needs the permission to search; asking beats working it out of the mode, as access lists
        // and security modules have a say.
        Ok(_) => fs::metadata(path.join("."))
            .map(drop)
            .map_err(|error| HomeProblem::of(path, &error)),
        Err(error) => Err(HomeProblem::of(path, &error)),
    }
}

/// Where the library of a prefix may be.
const LIBRARIES: [&str; 2] = ["lib", "lib64"];
