//! What this machine offers: httpd, its modules, the user its children become, the module under test.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::stage;

/// The facts of this machine, found once.
pub(crate) struct Site {
    pub(crate) httpd: PathBuf,
    pub(crate) modules: PathBuf,
    /// Modules compiled into httpd, by file name without `mod_` and `.c`.
    pub(crate) compiled_in: HashSet<String>,
    /// User and group that the children become where httpd is started by root.
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

    /// The file of one of httpd's own modules; none when it is compiled in.
    pub(crate) fn module_file(&self, name: &str) -> Option<PathBuf> {
        if self.compiled_in.contains(name) {
            return None;
        }
        Some(self.modules.join(format!("mod_{name}.so")))
    }
}

/// Whether httpd has a module of its own, or of its distribution's, of that name.
pub fn has_module(name: &str) -> bool {
    let file = Site::get().module_file(name);
    file.is_none_or(|file| file.is_file())
}

/// Whether the module under test is mod_wsgi_rs, and not the one it replaces.
pub fn ours() -> bool {
    static OURS: OnceLock<bool> = OnceLock::new();
    *OURS.get_or_init(|| {
        let bytes = fs::read(stage::module()).unwrap();
        bytes.windows(11).any(|window| window == b"mod_wsgi_rs")
    })
}

/// Whether the long form of the tests was asked for.
pub fn long() -> bool {
    env::var_os("WSGI_TEST_LONG").is_some_and(|value| value == "1")
}

/// The executor that servers get whose test names none, if the whole suite is to run with one.
pub fn executor() -> Option<&'static str> {
    static EXECUTOR: OnceLock<Option<&'static str>> = OnceLock::new();
    *EXECUTOR.get_or_init(|| {
        let name = env::var("WSGI_TEST_EXECUTOR")
            .ok()
            .filter(|name| !name.is_empty())?;
        let known = EXECUTORS.iter().find(|known| **known == name);
        let known =
            known.unwrap_or_else(|| panic!("WSGI_TEST_EXECUTOR={name} is none of {EXECUTORS:?}"));
        Some(*known).filter(|_| ours())
    })
}

/// The words of `WSGIExecutor` that name a strategy.
const EXECUTORS: [&str; 3] = ["direct", "delegate", "pool"];

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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

/// httpd's usual account of this system, with that account's own group.
fn child_user() -> (String, String) {
    let users = fs::read_to_string("/etc/passwd").expect("the system has a user list");
    let groups = fs::read_to_string("/etc/group").expect("the system has a group list");
    for name in ["www-data", "apache", "nobody"] {
        let Some(user) = users.lines().map(fields).find(|user| user[0] == name) else {
            continue;
        };
        let group = groups
            .lines()
            .map(fields)
            .find(|group| group[2] == user[3])
            .expect("the user's group exists");
        return (name.to_owned(), group[0].to_owned());
    }
    panic!("the system has none of the users www-data, apache, nobody");
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}
