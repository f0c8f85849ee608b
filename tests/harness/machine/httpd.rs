//! The httpd of this machine: the program, its modules, and the user that its children become.

use std::collections::HashSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::machine::account::child_user;

/// The facts of this machine, found once.
pub(crate) struct Site {
    pub(crate) httpd: PathBuf,
    pub(crate) modules: PathBuf,
    /// Modules compiled into httpd, by file name without `mod_` and `.c`.
    pub(crate) compiled_in: HashSet<String>,
    /// User and group that the children become if root starts httpd.
    pub(crate) user: (String, String),
}

impl Site {
    pub(crate) fn get() -> &'static Site {
        static SITE: OnceLock<Site> = OnceLock::new();
        SITE.get_or_init(|| {
            let httpd = find_httpd();
            Site {
                modules: find_modules(&httpd),
                compiled_in: compiled_in(&httpd),
                user: child_user(),
                httpd,
            }
        })
    }

    /// Returns the file of one of httpd's own modules; `None` if the module is compiled in.
    pub(crate) fn module_file(&self, name: &str) -> Option<PathBuf> {
        if self.compiled_in.contains(name) {
            return None;
        }
        Some(self.modules.join(format!("mod_{name}.so")))
    }
}

/// Whether httpd or its distribution has a module of this name.
pub fn has_module(name: &str) -> bool {
    let file = Site::get().module_file(name);
    file.is_none_or(|file| file.is_file())
}

fn find_httpd() -> PathBuf {
    if let Some(path) = env::var_os("WSGI_TEST_HTTPD") {
        return path.into();
    }
    let asked = apxs("SBINDIR")
        .zip(apxs("PROGNAME"))
        .map(|(folder, name)| Path::new(&folder).join(name));
    let usual = [
        "/usr/sbin/apache2",
        "/usr/sbin/httpd",
        "/usr/local/apache2/bin/httpd",
    ]
    .map(PathBuf::from);
    asked
        .into_iter()
        .chain(usual)
        .find(|path| path.exists())
        .expect("no httpd found; WSGI_TEST_HTTPD says where it is")
}

fn find_modules(httpd: &Path) -> PathBuf {
    if let Some(path) = env::var_os("WSGI_TEST_MODULES") {
        return path.into();
    }
    let beside = httpd
        .parent()
        .and_then(Path::parent)
        .map(|prefix| prefix.join("modules"));
    let usual = [
        "/usr/lib/apache2/modules",
        "/usr/lib64/httpd/modules",
        "/usr/lib/httpd/modules",
    ]
    .map(PathBuf::from);
    apxs("LIBEXECDIR")
        .map(PathBuf::from)
        .into_iter()
        .chain(usual)
        .chain(beside)
        .find(|path| path.join("mod_env.so").exists())
        .expect("httpd's modules not found; WSGI_TEST_MODULES says where they are")
}

fn apxs(what: &str) -> Option<String> {
    let output = Command::new("apxs").args(["-q", what]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn compiled_in(httpd: &Path) -> HashSet<String> {
    let output = Command::new(httpd)
        .arg("-l")
        .output()
        .expect("httpd -l runs");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            Some(
                line.trim()
                    .strip_suffix(".c")?
                    .trim_start_matches("mod_")
                    .to_owned(),
            )
        })
        .collect()
}
