//! Which Python a `WSGIPythonHome` holds, and whether this process may use it.
//!
//! CPython itself answers a wrong home with a fatal error, which would end one child after the other. So what it
//! needs is looked at first, as the user that will need it, and whatever is wrong is said with the remedy.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What Python has to be told to be the one of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonHome {
    /// "3.11".
    pub version: String,
    /// The interpreter's program, from whose place CPython works out its paths: `<venv>/bin/python` or
    /// `<prefix>/bin/python3.11`. Under a prefix it need not exist.
    pub program_name: PathBuf,
    /// `PyConfig.home`; `None` for a virtual environment, which CPython finds through `program_name`.
    pub home: Option<PathBuf>,
    /// The installation: the home itself, or the one that the virtual environment was made from.
    pub base_prefix: PathBuf,
    /// The shared library of that installation; `None` where it has none.
    pub libpython: Option<PathBuf>,
}

/// Why a home cannot be used. The display says what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeProblem {
    /// Nothing is there.
    Missing(PathBuf),
    /// Something else than a directory is there.
    NotADirectory(PathBuf),
    /// This user may not look into it.
    Forbidden {
        /// What was to be read.
        path: PathBuf,
        /// The first directory (or file) on the way that refuses.
        at: PathBuf,
    },
    /// It cannot be read for another reason.
    Unreadable(PathBuf, String),
    /// There is no `lib/python3.*` in it.
    NoPython(PathBuf),
    /// The `pyvenv.cfg` does not say which Python it is for.
    BadVenv(PathBuf),
    /// The Python that a virtual environment was made from is gone.
    BaseGone {
        /// The virtual environment.
        venv: PathBuf,
        /// Where its Python was.
        base: PathBuf,
    },
    /// Part of the standard library is missing.
    BrokenLibrary {
        /// The installation.
        prefix: PathBuf,
        /// The file that is not there.
        file: PathBuf,
    },
}

/// Finds out which Python `home` is: a virtual environment where it has a `pyvenv.cfg`, else a prefix.
/// `default_version`, such as "3.11", decides where a prefix holds several and its `python3` does not.
pub fn inspect(home: &Path, default_version: &str) -> Result<PythonHome, HomeProblem> {
    check_directory(home)?;
    let settings = home.join("pyvenv.cfg");
    match fs::read_to_string(&settings) {
        Ok(text) => virtual_environment(home, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => prefix(home, default_version),
        Err(error) => Err(problem(&settings, &error)),
    }
}

/// Whether the standard library of `version` under `base_prefix` is there and may be read.
pub fn check_stdlib(base_prefix: &Path, version: &str) -> Result<(), HomeProblem> {
    // The two that CPython imports before anything could be reported.
    for name in ["os.py", "encodings/__init__.py"] {
        let mut missing = None;
        for directory in library_directories(base_prefix, version) {
            let file = directory.join(name);
            match fs::File::open(&file) {
                Ok(_) => {
                    missing = None;
                    break;
                }
                Err(error) => match problem(&file, &error) {
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
    let mut minors: Vec<u32> = Vec::new();
    for lib in LIBRARIES {
        let directory = prefix.join(lib);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => match problem(&directory, &error) {
                HomeProblem::Missing(_) | HomeProblem::NotADirectory(_) => continue,
                other => return Err(other),
            },
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let minor = name.to_str().and_then(|name| name.strip_prefix("python3."));
            minors.extend(minor.and_then(|minor| minor.parse::<u32>().ok()));
        }
    }
    minors.sort_unstable();
    minors.dedup();
    let versions = minors.into_iter().map(|minor| format!("3.{minor}"));
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
                Err(error) => matches!(problem(&path, &error), HomeProblem::Forbidden { .. }),
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

/// "3.11" of "3.11", "3.11.2" and "3.11.2.final.0".
fn minor_version(version: &str) -> Option<String> {
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
            .map_err(|error| problem(path, &error)),
        Err(error) => Err(problem(path, &error)),
    }
}

fn problem(path: &Path, error: &io::Error) -> HomeProblem {
    match error.kind() {
        io::ErrorKind::NotFound => HomeProblem::Missing(path.into()),
        io::ErrorKind::NotADirectory => HomeProblem::NotADirectory(path.into()),
        io::ErrorKind::PermissionDenied => HomeProblem::Forbidden {
            path: path.into(),
            at: first_refusal(path),
        },
        _ => HomeProblem::Unreadable(path.into(), error.to_string()),
    }
}

/// The directory on the way to `path`, from the root, that may not be searched; `path` itself where all may.
fn first_refusal(path: &Path) -> PathBuf {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    let refused = ways.windows(2).find(|way| {
        fs::symlink_metadata(way[1])
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    refused.map_or(path, |way| way[0]).into()
}

impl fmt::Display for HomeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HomeProblem::Missing(path) => {
                write!(f, "'{}' does not exist; correct the path", path.display())
            }
            HomeProblem::NotADirectory(path) => write!(
                f,
                "'{}' is not a directory; name the prefix of a Python or a virtual environment, not its program",
                path.display()
            ),
            HomeProblem::Forbidden { path, at } if path == at => write!(
                f,
                "'{}' may not be read by the user that httpd runs as; give it the permission (chmod o+rX), or move \
                 the Python elsewhere",
                path.display()
            ),
            HomeProblem::Forbidden { path, at } => write!(
                f,
                "'{}' cannot be reached, because the user that httpd runs as may not search '{}'; give it the \
                 permission (chmod o+x), or move the Python elsewhere",
                path.display(),
                at.display()
            ),
            HomeProblem::Unreadable(path, error) => {
                write!(f, "'{}' cannot be read: {error}", path.display())
            }
            HomeProblem::NoPython(path) => write!(
                f,
                "there is no Python in '{}' (no lib/python3.*); name the prefix of a Python or a virtual environment",
                path.display()
            ),
            HomeProblem::BadVenv(path) => write!(
                f,
                "'{}' lacks 'home' or 'version', so it does not say which Python it is for; make the virtual \
                 environment anew",
                path.display()
            ),
            HomeProblem::BaseGone { venv, base } => write!(
                f,
                "the Python of the virtual environment '{}' is gone: there is no '{}'; make the virtual environment anew",
                venv.display(),
                base.display()
            ),
            HomeProblem::BrokenLibrary { prefix, file } => write!(
                f,
                "the standard library of the Python in '{}' is broken: '{}' is missing; install that Python anew",
                prefix.display(),
                file.display()
            ),
        }
    }
}

impl std::error::Error for HomeProblem {}

/// Where the library of a prefix may be.
const LIBRARIES: [&str; 2] = ["lib", "lib64"];
