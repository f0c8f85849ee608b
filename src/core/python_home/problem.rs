//! Why a home cannot be used, with the remedy.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a home cannot be used. `Display` writes what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeProblem {
    /// The path does not exist.
    Missing(PathBuf),
    /// The path is not a directory.
    NotADirectory(PathBuf),
    /// The user of this process may not read it.
    Forbidden {
        /// The path that could not be read.
        path: PathBuf,
        /// The first directory (or file) on this path that refuses access.
        at: PathBuf,
    },
    /// The path cannot be read for another reason.
    Unreadable(PathBuf, String),
    /// The prefix has no `lib/python3.*`.
    NoPython(PathBuf),
    /// The `pyvenv.cfg` does not say which Python it is for.
    BadVenv(PathBuf),
    /// The Python that a virtual environment was made from is gone.
    BaseGone {
        /// The virtual environment.
        venv: PathBuf,
        /// Where the Python of the virtual environment was.
        base: PathBuf,
    },
    /// Part of the standard library is missing.
    BrokenLibrary {
        /// The prefix of the installation.
        prefix: PathBuf,
        /// The missing file.
        file: PathBuf,
    },
}

impl HomeProblem {
    /// Returns why `path` could not be read.
    pub(super) fn of(path: &Path, error: &io::Error) -> HomeProblem {
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
}

/// Returns the first directory on `path`, from the root, that may not be searched; `path` itself if all may.
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
                "'{}' may not be entered or read by the user that httpd runs as; give it the permission (chmod o+rX), or move \
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
