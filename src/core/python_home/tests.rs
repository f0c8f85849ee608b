#![allow(clippy::unwrap_used)]
use super::*;
use std::fmt;
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

/// Makes an installation of these versions in `root`.
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
    // Beside the ordinary build, the free-threaded one must be named.
    installation(root.path(), "lib", &["3.14"]);
    let version = |default| inspect(root.path(), default).unwrap().version;
    assert_eq!(version("3.13"), "3.14");
    assert_eq!(version("3.14t"), "3.14t");
    symlink("python3.14t", root.path().join("bin/python3")).unwrap();
    assert_eq!(version("3.13"), "3.14t");
    // In a virtual environment, the package directory names the free-threaded build.
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
fn a_path_that_is_no_file_is_refused_at_once() {
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
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
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

/// Runs one test in another process as an unprivileged user, as root ignores permissions.
fn again_as_nobody(test: &str) {
    // A copy of the program, as other users may have no access to the build directory.
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
