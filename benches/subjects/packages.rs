//! The servers behind mod_proxy, from the Python package index, in a virtual environment of the Python that the modules
//! run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// A virtual environment. Each package is installed when it is first asked for, so that one that cannot be installed
/// does not exclude the others.
pub(crate) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Makes the environment in a folder below `above`, unless it is there and its Python has not changed.
    pub(crate) fn make(interpreter: &Path, above: &Path) -> Result<Self> {
        let python = output(Command::new(interpreter).args(["-c", DESCRIBE]))?;
        let (tag, version) = python.split_once('\n').context("no version of Python")?;
        let folder = above.join(format!("servers-{tag}"));
        let made_from = folder.join("made-from");
        if !fs::read_to_string(&made_from).is_ok_and(|found| found == version) {
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            output(Command::new(interpreter).args(["-m", "venv"]).arg(&folder))?;
            fs::write(made_from, version)?;
        }
        // The first lines of its programs name its Python by the path that is given here.
        let folder = folder.canonicalize()?;
        Ok(Self { folder })
    }

    /// Returns the program of a package, which has the name of the package; installs it unless it is there in the
    /// version of the requirements.
    pub(crate) fn program(&self, package: &str) -> Result<PathBuf> {
        let requirement = requirement(REQUIREMENTS, package)
            .with_context(|| format!("{package} is not in the requirements"))?;
        let program = self.folder.join("bin").join(package);
        let stamp = self.folder.join(format!("{package}.installed"));
        let is_there = fs::read_to_string(&stamp).is_ok_and(|found| found == requirement);
        if !is_there || !program.exists() {
            eprintln!("wsgi-bench: installing {requirement} from the Python package index");
            // A package index that cannot be reached can hang instead of failing. uWSGI is built from its source; the
            // pip of Python 3.11 does that by PEP 517 only with this option.
            output(
                Command::new("timeout")
                    .arg(TIMEOUT_SECONDS)
                    .arg(self.folder.join("bin/python"))
                    .args(["-m", "pip", "install", "--quiet", "--use-pep517"])
                    .args(["--disable-pip-version-check", requirement]),
            )?;
            fs::write(stamp, requirement)?;
        }
        Ok(program)
    }
}

/// Runs a command and returns its output; the error of a command that fails is one line of its output.
fn output(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{status}: {}", reason(&stderr));
    Ok(String::from_utf8(stdout)?.trim().to_owned())
}

/// Returns the line that says best why a command failed: the last error of pip, else the last line.
fn reason(stderr: &str) -> &str {
    let lines = || stderr.lines().map(str::trim);
    let error = lines().rfind(|line| line.starts_with("ERROR"));
    let last = || lines().rfind(|line| !line.is_empty());
    error.or_else(last).unwrap_or("no output")
}

/// Returns the line of a package, with its version.
fn requirement<'r>(requirements: &'r str, package: &str) -> Option<&'r str> {
    let mut lines = requirements.lines().map(str::trim);
    lines.find(|line| {
        line.split_once("==")
            .is_some_and(|(name, _)| name == package)
    })
}

const REQUIREMENTS: &str = include_str!("../requirements-servers.txt");
/// Prints the name of the folder of this Python, and what changes when the Python changes.
const DESCRIBE: &str =
    "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.version, sys.base_prefix)";
const TIMEOUT_SECONDS: &str = "600";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_have_an_exact_version() {
        for package in ["gunicorn", "uwsgi"] {
            assert!(requirement(REQUIREMENTS, package).is_some(), "{package}");
        }
        let text = "# a==0\nother==1\n a==2\n";
        assert_eq!(requirement(text, "a"), Some("a==2"));
        assert_eq!(requirement(text, "b"), None);
    }

    #[test]
    fn a_failure_has_one_line() {
        let pip =
            "  error: subprocess-exited-with-error\n  ERROR: Failed to build uwsgi\nnote: a hint\n";
        assert_eq!(reason(pip), "ERROR: Failed to build uwsgi");
        assert_eq!(
            reason("a\nno module named venv\n\n"),
            "no module named venv"
        );
        assert_eq!(reason(""), "no output");
        let failure = output(Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]));
        let message = failure.err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), Some("exit status: 3: b"));
    }
}
