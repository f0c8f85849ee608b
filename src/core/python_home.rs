//! Which Python a `WSGIPythonHome` holds, and whether this process may use it.
//!
//! CPython itself answers a wrong home with a fatal error, which would end one child after the other. So what it
//! needs is looked at first, as the user that will need it, and whatever is wrong is said with the remedy.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    match read_regular_text(&settings, LONGEST_SETTINGS).map_err(io::Error::from) {
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
            match open_regular(&file).map_err(io::Error::from) {
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
            Err(error) => match problem(&directory, &error) {
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

/// Where the library of a prefix may be.
const LIBRARIES: [&str; 2] = ["lib", "lib64"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use tempfile::TempDir;

    fn touch(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    /// An installation of these versions in `root`.
    fn installation(root: &Path, lib: &str, versions: &[&str]) {
        for version in versions {
            touch(
                root,
                &[
                    &format!("bin/python{version}"),
                    &format!("{lib}/python{version}/os.py"),
                    &format!("{lib}/python{version}/encodings/__init__.py"),
                ],
            );
        }
    }

    fn venv(root: &Path, settings: &str) -> PathBuf {
        let venv = root.join("venv");
        touch(&venv, &["bin/python"]);
        fs::write(venv.join("pyvenv.cfg"), settings).unwrap();
        venv
    }

    fn says(result: Result<impl fmt::Debug, HomeProblem>, parts: &[&str]) {
        let text = result.unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_its_own_home() {
        let root = TempDir::new().unwrap();
        installation(root.path(), "lib", &["3.11"]);
        touch(root.path(), &["lib/libpython3.11.so.1.0"]);
        assert_eq!(
            inspect(root.path(), "3.13"),
            Ok(PythonHome {
                version: "3.11".into(),
                program_name: root.path().join("bin/python3.11"),
                home: Some(root.path().into()),
                base_prefix: root.path().into(),
                libpython: Some(root.path().join("lib/libpython3.11.so.1.0")),
            })
        );
    }

    #[test]
    fn the_library_may_be_in_lib64() {
        let root = TempDir::new().unwrap();
        installation(root.path(), "lib64", &["3.9"]);
        touch(
            root.path(),
            &[
                "lib64/libpython3.9.so.1.0",
                "lib/python3.9/site-packages/x.py",
            ],
        );
        let home = inspect(root.path(), "3.13").unwrap();
        assert_eq!(home.version, "3.9");
        assert_eq!(
            home.libpython,
            Some(root.path().join("lib64/libpython3.9.so.1.0"))
        );
    }

    #[test]
    fn of_several_versions_python3_decides_then_the_default_then_the_highest() {
        let root = TempDir::new().unwrap();
        installation(root.path(), "lib", &["3.9", "3.10", "3.11"]);
        let version = |default| inspect(root.path(), default).unwrap().version;
        assert_eq!(version("3.10"), "3.10");
        assert_eq!(version("3.14"), "3.11", "as a number, not as a text");
        symlink("python3.9", root.path().join("bin/python3")).unwrap();
        assert_eq!(version("3.10"), "3.9");
    }

    #[test]
    fn a_free_threaded_build_is_another_version() {
        let root = TempDir::new().unwrap();
        installation(root.path(), "lib", &["3.14t"]);
        touch(root.path(), &["lib/libpython3.14t.so.1.0"]);
        let home = inspect(root.path(), "3.13").unwrap();
        assert_eq!(home.version, "3.14t");
        assert_eq!(home.program_name, root.path().join("bin/python3.14t"));
        assert_eq!(
            home.libpython,
            Some(root.path().join("lib/libpython3.14t.so.1.0"))
        );
        // Beside the ordinary one it has to be asked for.
        installation(root.path(), "lib", &["3.14"]);
        let version = |default| inspect(root.path(), default).unwrap().version;
        assert_eq!(version("3.13"), "3.14");
        assert_eq!(version("3.14t"), "3.14t");
        symlink("python3.14t", root.path().join("bin/python3")).unwrap();
        assert_eq!(version("3.13"), "3.14t");
        // Of a virtual environment the folder for packages says so.
        let bin = root.path().join("bin");
        let venv = venv(
            root.path(),
            &format!("home = {}\nversion = 3.14.8\n", bin.display()),
        );
        assert_eq!(inspect(&venv, "3.13").unwrap().version, "3.14");
        touch(&venv, &["lib/python3.14t/site-packages/x.py"]);
        assert_eq!(inspect(&venv, "3.13").unwrap().version, "3.14t");
    }

    #[test]
    fn what_is_no_file_keeps_nobody_waiting() {
        let fifo = |path: &Path| {
            let kind = rustix::fs::FileType::Fifo;
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        };
        let root = TempDir::new().unwrap();
        fifo(&root.path().join("pyvenv.cfg"));
        says(inspect(root.path(), "3.11"), &["pyvenv.cfg", "a FIFO"]);
        let root = TempDir::new().unwrap();
        installation(root.path(), "lib", &["3.11"]);
        let library = root.path().join("lib/python3.11/os.py");
        fs::remove_file(&library).unwrap();
        fifo(&library);
        says(check_stdlib(root.path(), "3.11"), &["os.py", "a FIFO"]);
    }

    #[test]
    fn a_virtual_environment_names_its_base() {
        let root = TempDir::new().unwrap();
        let base = root.path().join("base");
        installation(&base, "lib", &["3.11", "3.12"]);
        let bin = base.join("bin").display().to_string();
        for settings in [
            format!("home = {bin}\ninclude-system-site-packages = false\nversion = 3.12.1\n"),
            format!("home={bin}\nimplementation = CPython\nversion_info = 3.12.1.final.0\n"),
            format!("HOME = {bin}\r\nuv = 0.5\nversion_info = 3.12\n"),
        ] {
            let venv = venv(root.path(), &settings);
            let home = inspect(&venv, "3.11").unwrap();
            assert_eq!(home.version, "3.12");
            assert_eq!(home.program_name, venv.join("bin/python"));
            assert_eq!(
                (home.home, home.base_prefix, home.libpython),
                (None, base.clone(), None)
            );
        }
    }

    #[test]
    fn a_virtual_environment_without_base_is_explained() {
        let root = TempDir::new().unwrap();
        let base = root.path().join("base");
        let settings = format!("home = {}\nversion = 3.12.1\n", base.join("bin").display());
        let again = &["is gone", "make the virtual environment anew"];
        says(inspect(&venv(root.path(), &settings), "3.11"), again);
        installation(&base, "lib", &["3.11"]);
        says(inspect(&venv(root.path(), &settings), "3.11"), again);
        for settings in [
            "version = 3.12",
            "home = /usr/bin",
            "home = /usr/bin\nversion = new",
            "",
        ] {
            says(
                inspect(&venv(root.path(), settings), "3.11"),
                &["pyvenv.cfg", "anew"],
            );
        }
    }

    #[test]
    fn what_is_no_home_is_explained() {
        let root = TempDir::new().unwrap();
        touch(
            root.path(),
            &[
                "file",
                "empty/x",
                "packages/lib/python3.11/dist-packages/x.py",
            ],
        );
        says(
            inspect(&root.path().join("none"), "3.11"),
            &["none' does not exist"],
        );
        says(
            inspect(&root.path().join("file"), "3.11"),
            &["is not a directory"],
        );
        says(
            inspect(&root.path().join("file/below"), "3.11"),
            &["is not a directory"],
        );
        says(
            inspect(&root.path().join("empty"), "3.11"),
            &["there is no Python in"],
        );
        says(
            inspect(&root.path().join("packages"), "3.11"),
            &["there is no Python in"],
        );
    }

    #[test]
    fn a_broken_library_is_named() {
        let root = TempDir::new().unwrap();
        installation(root.path(), "lib", &["3.11"]);
        assert_eq!(check_stdlib(root.path(), "3.11"), Ok(()));
        fs::remove_file(root.path().join("lib/python3.11/os.py")).unwrap();
        says(
            inspect(root.path(), "3.11"),
            &["broken", "lib/python3.11/os.py' is missing"],
        );
        installation(root.path(), "lib", &["3.11"]);
        fs::remove_dir_all(root.path().join("lib/python3.11/encodings")).unwrap();
        says(
            inspect(root.path(), "3.11"),
            &[
                "encodings/__init__.py' is missing",
                "install that Python anew",
            ],
        );
        says(
            check_stdlib(root.path(), "3.12"),
            &["lib/python3.12/os.py' is missing"],
        );
    }

    #[test]
    fn the_directory_that_refuses_is_named() {
        let root = TempDir::new().unwrap();
        let home = root.path().join("closed/python");
        installation(&home, "lib", &["3.11"]);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
        };
        mode(&root.path().join("closed"), 0o600);
        if fs::metadata(&home).is_ok() {
            return again_as_nobody("python_home::tests::the_directory_that_refuses_is_named");
        }
        let closed = format!("may not search '{}'", root.path().join("closed").display());
        says(
            inspect(&home, "3.11"),
            &["python' cannot be reached", &closed, "chmod o+x"],
        );
        let settings = format!("home = {}\nversion = 3.11.2", home.join("bin").display());
        says(
            inspect(&venv(root.path(), &settings), "3.11"),
            &["python/bin' cannot be reached", &closed],
        );

        mode(&root.path().join("closed"), 0o700);
        mode(&home, 0o600);
        says(
            inspect(&home, "3.11"),
            &["closed/python' may not be entered or read", "chmod o+rX"],
        );
        mode(&home, 0o711);
        assert!(
            inspect(&home, "3.11").is_ok(),
            "to list the home itself is not needed"
        );
        mode(&home.join("lib/python3.11"), 0o000);
        says(
            inspect(&home, "3.11"),
            &[
                "os.py' cannot be reached",
                "may not search",
                "lib/python3.11'",
            ],
        );
        mode(&home.join("lib/python3.11"), 0o755);
        mode(&home.join("lib/python3.11/os.py"), 0o000);
        says(
            inspect(&home, "3.11"),
            &["os.py' may not be entered or read"],
        );
    }

    /// Runs one test in another process: what root may do tells nothing about permissions.
    fn again_as_nobody(test: &str) {
        // A copy, as the directory of the build may be closed to others.
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = root.path().join("tests");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let output = Command::new(program)
            .args(["--exact", test])
            .current_dir("/")
            .uid(65534)
            .gid(65534)
            .output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }
}
