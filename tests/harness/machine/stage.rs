//! A folder that every user may read, with the module under test, its engines and the test applications in it.
//!
//! If root starts httpd, the children become another user, which often may not enter the checkout (a home directory is
//! closed to others). So the suite always works on copies, made once for each run of the test program, in a folder
//! named after its process. The next run removes the folders of runs that were killed, and ends their servers.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::machine::account::is_root;
use crate::machine::process;

/// Returns the root of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace")
}

/// Returns the folder with the test applications, readable by httpd's children.
pub fn apps() -> &'static Path {
    static APPS: OnceLock<PathBuf> = OnceLock::new();
    APPS.get_or_init(|| {
        let copy = folder().join("apps");
        copy_tree(&workspace().join("tests/apps"), &copy);
        copy
    })
}

/// Where `scripts/setup tests` puts a virtual environment: for root outside of the checkout, which other users often cannot
/// enter.
fn environment(name: &str) -> PathBuf {
    let folder = if is_root() {
        PathBuf::from("/var/tmp/mod_wsgi_rs-tests-0")
    } else {
        target().join("tests")
    };
    folder.join(name)
}

/// Returns the virtual environment with Django, Flask and httpbin, readable by httpd's children.
pub fn venv() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let path = env::var_os("WSGI_TEST_VENV").map_or_else(|| environment("venv"), PathBuf::from);
        assert!(
            path.join("pyvenv.cfg").exists(),
            "no virtual environment at {}: scripts/setup tests makes it, WSGI_TEST_VENV says where another one is",
            path.display()
        );
        readable(&path, "venv")
    })
}

/// Returns a virtual environment like [`venv`] of another minor version of Python, and that version, if there is one and the
/// module under test has an engine for it.
pub fn another_venv() -> Option<(PathBuf, [u32; 2])> {
    static FOUND: OnceLock<Option<(PathBuf, [u32; 2])>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        ["venv-second", "venv"].into_iter().find_map(|name| {
            let path = environment(name);
            let version = version_of(&path)?;
            let [major, minor] = version;
            let engine = module().with_file_name(format!("wsgi_engine_cp{major}{minor}.so"));
            let is_another = Some(version) != version_of(venv());
            (is_another && engine.exists()).then(|| (readable(&path, name), version))
        })
    });
    found.clone()
}

/// Returns the minor version of a virtual environment's Python.
fn version_of(venv: &Path) -> Option<[u32; 2]> {
    let text = fs::read_to_string(venv.join("pyvenv.cfg")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("version = "))?;
    let mut numbers = line.split('.').map_while(|part| part.parse().ok());
    Some([numbers.next()?, numbers.next()?])
}

/// Returns the virtual environment with numpy and similar packages, if all of them have wheels for this Python.
pub fn packages() -> Option<PathBuf> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| {
        let path = env::var_os("WSGI_TEST_PACKAGES").filter(|value| !value.is_empty());
        if path.is_none() {
            eprintln!(
                "WSGI_TEST_PACKAGES is not set: the tests with compiled packages are left out"
            );
        }
        path.map(|path| readable(Path::new(&path), "packages"))
    });
    packages.clone()
}

/// Returns the Python to run everything with, if the environment names one.
pub fn python_home() -> Option<&'static Path> {
    static HOME: OnceLock<Option<PathBuf>> = OnceLock::new();
    HOME.get_or_init(|| {
        let path =
            PathBuf::from(env::var_os("WSGI_TEST_PYTHON").filter(|value| !value.is_empty())?);
        if path.join("pyvenv.cfg").exists() {
            return Some(readable(&path, "python"));
        }
        assert!(
            !is_root() || open_to_all(&path),
            "WSGI_TEST_PYTHON={} cannot be entered by httpd's user",
            path.display()
        );
        Some(path)
    })
    .as_deref()
}

/// Returns the copy of the module under test.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let original = original_module();
        assert!(
            original.exists(),
            "no module to test at {}: `make build` makes it, WSGI_TEST_MODULE names another one",
            original.display()
        );
        let copies = folder().join("modules");
        open_folder(&copies);
        let name = original.file_name().expect("the module is a file");
        let beside = fs::read_dir(original.parent().expect("a file lies in a folder")).unwrap();
        for file in beside.map(|entry| entry.unwrap().path()) {
            let file_name = file.file_name().unwrap_or_default();
            if file_name == name || is_engine(&file_name.to_string_lossy()) {
                let copy = copies.join(file_name);
                fs::copy(&file, &copy).unwrap();
                chmod(&copy, 0o755);
            }
        }
        copies.join(name)
    })
}

/// Returns the wsgictl that was built with the module under test.
pub fn wsgictl() -> PathBuf {
    let beside = original_module().with_file_name("wsgictl");
    assert!(
        beside.exists(),
        "no wsgictl at {}: `make build` makes it",
        beside.display()
    );
    beside
}

fn original_module() -> PathBuf {
    env::var_os("WSGI_TEST_MODULE")
        .map_or_else(|| target().join("release/mod_wsgi_rs.so"), PathBuf::from)
}

/// Returns a new, empty server root.
pub(crate) fn server_root(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let root = folder().join(format!("{number}-{name}"));
    open_folder(&root);
    root
}

/// Makes a folder that every user may enter and read, whatever the umask says.
pub(crate) fn open_folder(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    chmod(path, 0o755);
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a folder with its content, readable for all users.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    open_folder(to);
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "__pycache__" {
                copy_tree(&entry.path(), &target);
            }
        } else {
            fs::copy(entry.path(), &target).unwrap();
            let executable = entry.metadata().unwrap().permissions().mode() & 0o111;
            chmod(&target, 0o644 | executable);
        }
    }
}

fn target() -> PathBuf {
    workspace().join("target")
}

fn is_engine(name: &str) -> bool {
    name.starts_with("wsgi_engine") && name.ends_with(".so")
}

/// Returns the path itself if every user may enter it, else a copy in the stage.
fn readable(path: &Path, name: &str) -> PathBuf {
    let path = fs::canonicalize(path).unwrap();
    if !is_root() || open_to_all(&path) {
        return path;
    }
    let copy = folder().join(name);
    // `cp` keeps the symbolic links, of which a virtual environment consists.
    let status = Command::new("cp")
        .arg("-R")
        .arg("-P")
        .arg(&path)
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success(), "copying {} failed", path.display());
    let status = Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success(), "opening {} failed", copy.display());
    copy
}

fn open_to_all(path: &Path) -> bool {
    path.ancestors()
        .all(|part| fs::metadata(part).is_ok_and(|data| data.mode() & 0o001 != 0))
}

/// Returns the folder of this run. Its name contains the process number, and the first use removes the folders of dead
/// runs.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        sweep();
        let made = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir()
            .expect("the temporary folder can be written");
        let path = made.keep();
        chmod(&path, 0o755);
        path
    })
}

/// Removes the folders of runs whose process has ended, and first ends the servers that such a run left behind.
fn sweep() {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let Some(owner) = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok())
        else {
            continue;
        };
        if process::is_alive(owner) || entry.metadata().map_or(true, |data| data.uid() != me) {
            continue;
        }
        for root in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            end_stray_server(&root.path());
        }
        let _ = fs::remove_dir_all(entry.path());
    }
}

fn end_stray_server(root: &Path) {
    let Some(pid) = fs::read_to_string(root.join("httpd.pid"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
    else {
        return;
    };
    // The number may belong to another process now: the command line must name this server root.
    if process::was_started_with(pid, &root.to_string_lossy()) {
        process::terminate(pid);
    }
}

const PREFIX: &str = "wsgi-tests-";
