//! A folder that httpd's user can read, with the module, its engines, and an application in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The files of one test, removed when dropped.
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let folder = tempfile::Builder::new()
            .prefix("wsgictl-tests-")
            .tempdir()
            .expect("a folder");
        let stage = Stage { folder };
        open(stage.path());
        fs::create_dir(stage.path().join("module")).expect("a folder");
        open(&stage.path().join("module"));
        let original = module_under_test();
        for entry in
            fs::read_dir(original.parent().expect("a file has a folder")).expect("a folder")
        {
            let file = entry.expect("an entry").path();
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if file == original || (name.starts_with("wsgi_engine") && name.ends_with(".so")) {
                let copy = stage.path().join("module").join(name);
                // The target of the link to the default engine names the Python version.
                if let Ok(target) = fs::read_link(&file) {
                    symlink(target, copy).expect("a link");
                    continue;
                }
                fs::copy(&file, &copy).expect("a copy");
                open(&copy);
            }
        }
        stage
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn module(&self) -> PathBuf {
        self.path()
            .join("module")
            .join(module_under_test().file_name().expect("a file"))
    }

    /// Writes a file and its folders, readable for everyone.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let parent = path.parent().expect("a file has a folder");
        fs::create_dir_all(parent).expect("a folder");
        for folder in parent
            .ancestors()
            .take_while(|folder| *folder != self.path())
        {
            open(folder);
        }
        fs::write(&path, text).expect("a file");
        open(&path);
        path
    }

    /// Copies a folder of the source tree.
    pub(crate) fn copy_tree(&self, from: &Path, to: &str) -> PathBuf {
        for entry in fs::read_dir(from).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = format!(
                "{to}/{}",
                path.file_name().unwrap_or_default().to_string_lossy()
            );
            if path.is_dir() {
                self.copy_tree(&path, &name);
            } else {
                self.file(&name, &fs::read_to_string(&path).expect("text"));
            }
        }
        self.path().join(to)
    }
}

/// Returns the root of the source tree.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("src/ctl lies in the workspace")
}

/// Returns the output of `apxs -q name`.
pub(crate) fn apxs(name: &str) -> String {
    let tool = std::env::var("APXS").unwrap_or_else(|_| "apxs".into());
    let output = Command::new(tool)
        .args(["-q", name])
        .output()
        .expect("apxs is installed");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

fn module_under_test() -> PathBuf {
    let path = std::env::var_os("WSGI_TEST_MODULE").map_or_else(
        || workspace().join("target/release/mod_wsgi_rs.so"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "no module to test at {}: `make build` makes it",
        path.display()
    );
    path
}

fn open(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}
