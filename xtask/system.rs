//! Folders, copies and programs: helpers that several commands use.

use anyhow::{Context, Result, bail};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The checkout, and the folder into which cargo and the commands build.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Project {
    pub(crate) fn find() -> Self {
        // The checkout is the folder above this crate's.
        let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        root.pop();
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |set| root.join(set));
        Self { root, target }
    }

    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Returns a program that runs in the checkout.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    pub(crate) fn cargo(&self) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Returns the folder for the files of the tests or of the demo. Servers that root starts run as another user,
    /// which often may not enter the checkout; so for root the folder is under /var/tmp.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        if is_root() {
            PathBuf::from(format!("/var/tmp/mod_wsgi_rs-{name}-0"))
        } else {
            self.target.join(name)
        }
    }
}

/// Prints a line for the person at the terminal or the log of CI.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("mod_wsgi_rs: {}", text.as_ref());
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the user that httpd's children become if root starts it: the first that exists, in the same order as in
/// wsgictl.
pub(crate) fn server_user() -> Result<&'static str> {
    let exists = |user: &&str| succeeds(Command::new("id").args(["-u", user]));
    let user = ["www-data", "apache", "nobody"].into_iter().find(exists);
    user.context("none of the users www-data, apache and nobody exists")
}

/// Whether every user may enter all folders on the way to `path`, and read it.
pub(crate) fn is_open_to_all(path: &Path) -> bool {
    let allows =
        |path: &Path, bit: u32| fs::metadata(path).is_ok_and(|found| found.mode() & bit == bit);
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    allows(&path, 0o004) && path.ancestors().skip(1).all(|folder| allows(folder, 0o001))
}

/// Runs a program; the error names the program if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Whether a program succeeds; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Returns the output of a program, without the last line end.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", name(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a program is on the PATH.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(name)))
}

pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// Returns a command that runs as root.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !has_program("sudo") {
        bail!("{program} needs root, and there is no sudo");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// Makes a folder that all users may read, and refuses one that another user may have put there.
pub(crate) fn own_folder(path: &Path) -> Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).context(path.display().to_string());
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        bail!(
            "{} is not a folder; remove it and try again",
            path.display()
        );
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        bail!(
            "{} belongs to another user; remove it and try again",
            path.display()
        );
    }
    set_mode(path, 0o755)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| path.display().to_string())
}

/// Copies a file in one step, because a running server may have the old one mapped.
pub(crate) fn put(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| from.display().to_string())?;
    let is_same = !to.is_symlink() && fs::read(to).is_ok_and(|old| old == content);
    if !is_same {
        let new = beside(to);
        fs::write(&new, &content).with_context(|| new.display().to_string())?;
        set_mode(&new, 0o755)?;
        fs::rename(&new, to).with_context(|| to.display().to_string())?;
    }
    set_mode(to, 0o755)
}

/// Makes a link, or changes its target, in one step.
pub(crate) fn put_link(target: &str, link: &Path) -> Result<()> {
    let new = beside(link);
    symlink(target, &new).with_context(|| new.display().to_string())?;
    fs::rename(&new, link).with_context(|| link.display().to_string())
}

/// Removes a folder with its content, if it exists.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(path.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Returns the name of a temporary file, which is renamed to `path` when it is complete.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    name.into()
}

/// Returns the engines in a folder, each with its tag (`cp311`).
pub(crate) fn engines(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(tag) = name
            .strip_prefix("wsgi_engine_")
            .and_then(|rest| rest.strip_suffix(".so"))
        {
            found.push((tag.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// Copies the engines of a build into another folder, with the link to the default one, and removes other engines
/// there.
pub(crate) fn copy_engines(from: &Path, to: &Path) -> Result<()> {
    for (_, old) in engines(to)? {
        fs::remove_file(&old)?;
    }
    for (tag, engine) in engines(from)? {
        put(&engine, &to.join(format!("wsgi_engine_{tag}.so")))?;
    }
    let default =
        fs::read_link(from.join("wsgi_engine.so")).context("nothing is built: make build")?;
    put_link(&default.to_string_lossy(), &to.join("wsgi_engine.so"))
}
