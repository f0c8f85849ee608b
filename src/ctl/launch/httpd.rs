//! Finds httpd, its modules, and `mod_wsgi_rs.so`.
//!
//! Distributions use different names and places: Debian has `/usr/sbin/apache2` with `/usr/lib/apache2/modules`, Fedora
//! `/usr/sbin/httpd` with `/usr/lib64/httpd/modules`, and a build from source its own prefix, which its `apxs` knows.
//! The modules that are compiled into httpd differ as well.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::Mpm;
use crate::output::failure::{Failure, Outcome};

/// An installed httpd.
#[derive(Debug)]
pub(crate) struct Httpd {
    pub(crate) program: PathBuf,
    modules: PathBuf,
    /// Names as in the file names of modules: `log_config`, `mpm_event`.
    compiled_in: Vec<String>,
    /// `HTTPD_ROOT`, where a build from source keeps `conf/mime.types`.
    home: Option<PathBuf>,
}

impl Httpd {
    /// Finds the named httpd, else that of `apxs`, else the first on the PATH.
    pub(crate) fn find(given: Option<&Path>) -> Outcome<Httpd> {
        let apxs = Apxs::find(given)?;
        let program = match given {
            Some(given) => crate::system::paths::file(given, "--httpd")?,
            None => match &apxs {
                Some(apxs) if apxs.program.is_file() => apxs.program.clone(),
                _ => on_path(&PROGRAMS).ok_or_else(missing)?,
            },
        };
        let listing = ask(&program, &["-l"]).ok_or_else(|| {
            Failure::new(format!(
                "{} does not answer like httpd (-l).",
                program.display()
            ))
        })?;
        let home = ask(&program, &["-V"]).and_then(|answer| home(&answer));
        let libexec = apxs
            .filter(|apxs| same_file(&apxs.program, &program))
            .map(|apxs| apxs.libexec);
        let beside = home.as_ref().map(|home| home.join("modules"));
        let modules = libexec
            .into_iter()
            .chain(beside)
            .chain(MODULE_FOLDERS.iter().map(PathBuf::from))
            .find(|dir| {
                dir.join("mod_authz_core.so").is_file() || dir.join("mod_mime.so").is_file()
            });
        Ok(Httpd {
            program,
            modules: modules.unwrap_or_default(),
            compiled_in: compiled_in(&listing),
            home,
        })
    }

    /// Returns the file to load for the module `name`, or `None` if it is compiled in.
    pub(crate) fn load(&self, name: &str) -> Outcome<Option<PathBuf>> {
        if self.compiled_in.iter().any(|known| known == name) {
            return Ok(None);
        }
        let file = self.modules.join(format!("mod_{name}.so"));
        if file.is_file() {
            return Ok(Some(file));
        }
        let program = self.program.display();
        Err(Failure::new(format!(
            "{program} needs its module mod_{name}.so, which is not in {}.",
            self.modules.display()
        ))
        .remedy(install_line()))
    }

    /// Fails if this httpd cannot use the MPM.
    pub(crate) fn check_mpm(&self, wanted: Mpm) -> Outcome<()> {
        let built_in = self
            .compiled_in
            .iter()
            .find_map(|name| name.strip_prefix("mpm_"));
        match built_in {
            Some(built_in) if built_in != wanted.name() => Err(Failure::new(format!(
                "--mpm {}: {} was built with the {built_in} MPM and has no other.",
                wanted.name(),
                self.program.display()
            ))
            .remedy(format!(
                "Use --mpm {built_in}, or another httpd: --httpd PATH"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the table of MIME types, if there is one.
    pub(crate) fn mime_types(&self) -> Option<PathBuf> {
        let own = self.home.as_ref().map(|home| home.join("conf/mime.types"));
        own.into_iter()
            .chain([PathBuf::from("/etc/mime.types")])
            .find(|path| path.is_file())
    }

    /// Finds `mod_wsgi_rs.so`: as named, beside `wsgictl`, or among httpd's modules.
    pub(crate) fn wsgi_module(&self, given: Option<&Path>) -> Outcome<PathBuf> {
        if let Some(given) = given {
            return crate::system::paths::file(given, "--module");
        }
        let wsgictl = env::current_exe()
            .and_then(|exe| exe.canonicalize())
            .unwrap_or_default();
        let beside = wsgictl.parent().unwrap_or(Path::new("/")).join(MODULE);
        let installed = self.modules.join(MODULE);
        [&beside, &installed].into_iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
            Failure::new(format!("found no {MODULE}: not {}, nor {}.", beside.display(), installed.display()))
                .remedy("Build it with 'make build', install it with 'make install', or name it: --module PATH")
        })
    }
}

/// What the build tool `apxs` reports about an httpd.
struct Apxs {
    program: PathBuf,
    libexec: PathBuf,
}

impl Apxs {
    /// Finds `apxs` beside the named httpd, else in `$APXS`, else on the PATH.
    fn find(httpd: Option<&Path>) -> Outcome<Option<Apxs>> {
        if let Some(bin) = httpd.and_then(Path::parent) {
            let beside = [bin.join("apxs"), bin.join("../bin/apxs")];
            if let Some(apxs) = beside.iter().find_map(|tool| Apxs::ask(tool)) {
                return Ok(Some(apxs));
            }
        }
        match env::var_os("APXS").filter(|tool| !tool.is_empty()) {
            Some(tool) => match Apxs::ask(Path::new(&tool)) {
                Some(apxs) => Ok(Some(apxs)),
                None => Err(Failure::new(format!(
                    "APXS={}: this does not answer like apxs.",
                    tool.display()
                ))),
            },
            None => Ok(on_path(&["apxs", "apxs2"]).and_then(|tool| Apxs::ask(&tool))),
        }
    }

    fn ask(tool: &Path) -> Option<Apxs> {
        let query = |name| ask(tool, &["-q", name]).filter(|answer| !answer.is_empty());
        Some(Apxs {
            program: Path::new(&query("SBINDIR")?).join(query("PROGNAME")?),
            libexec: query("LIBEXECDIR")?.into(),
        })
    }
}

/// Returns the names of the modules in the output of `httpd -l`.
fn compiled_in(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.trim().strip_suffix(".c"))
        .map(|name| match name.strip_prefix("mod_").unwrap_or(name) {
            mpm @ ("event" | "worker" | "prefork") => format!("mpm_{mpm}"),
            name => name.to_owned(),
        })
        .collect()
}

/// Returns `HTTPD_ROOT` from the output of `httpd -V`.
fn home(answer: &str) -> Option<PathBuf> {
    let line = answer
        .lines()
        .find_map(|line| line.trim().strip_prefix("-D HTTPD_ROOT="))?;
    Some(line.trim_matches('"').into())
}

fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the first of `names` on the PATH, or in the folders for servers that an ordinary user's PATH leaves out.
fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(PROGRAM_FOLDERS.iter().map(PathBuf::from))
        .collect();
    names.iter().find_map(|name| {
        folders
            .iter()
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    })
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn missing() -> Failure {
    Failure::new("found no httpd: neither apache2 nor httpd is installed here.")
        .remedy(install_line())
}

fn install_line() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let sudo = if rustix::process::getuid().is_root() {
        ""
    } else {
        "sudo "
    };
    match install_command(&release) {
        Some(command) => format!("Install it: {sudo}{command}"),
        None => "Install Apache httpd 2.4, or name one: --httpd PATH".to_owned(),
    }
}

/// Returns how the distribution of this os-release file installs httpd.
fn install_command(release: &str) -> Option<&'static str> {
    let names: Vec<&str> = release
        .lines()
        .filter_map(|line| {
            line.strip_prefix("ID=")
                .or_else(|| line.strip_prefix("ID_LIKE="))
        })
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect();
    let table = [
        ("debian", "apt-get install apache2-bin"),
        ("ubuntu", "apt-get install apache2-bin"),
        ("fedora", "dnf install httpd"),
        ("rhel", "dnf install httpd"),
        ("suse", "zypper install apache2"),
        ("alpine", "apk add apache2"),
        ("arch", "pacman -S apache"),
    ];
    table
        .iter()
        .find(|(name, _)| names.contains(name))
        .map(|(_, command)| *command)
}

const MODULE: &str = "mod_wsgi_rs.so";
const PROGRAMS: [&str; 2] = ["apache2", "httpd"];
const PROGRAM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/apache2/bin"];
const MODULE_FOLDERS: [&str; 4] = [
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib/httpd/modules",
    "/usr/lib64/apache2",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn compiled_in_modules_are_known_by_the_names_of_their_files() {
        let listing = "Compiled in modules:\n  core.c\n  mod_so.c\n  event.c\n  mod_log_config.c\n";
        assert_eq!(
            compiled_in(listing),
            ["core", "so", "mpm_event", "log_config"]
        );
    }

    #[test]
    fn the_home_of_httpd_is_read() {
        assert_eq!(
            home(" -D X\n -D HTTPD_ROOT=\"/etc/httpd\"\n"),
            Some("/etc/httpd".into())
        );
    }

    #[test]
    fn the_command_to_type_fits_the_distribution() {
        let command = |release| install_command(release);
        assert_eq!(
            command("NAME=x\nID=debian\n"),
            Some("apt-get install apache2-bin")
        );
        assert_eq!(
            command("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"),
            Some("apt-get install apache2-bin")
        );
        assert_eq!(
            command("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"),
            Some("dnf install httpd")
        );
        assert_eq!(command("ID=plan9\n"), None);
    }

    /// Returns a prefix with a fake httpd of the worker MPM, and its apxs.
    fn prefix() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path();
        let program = |name: &str, text: String| {
            let file = path.join("bin").join(name);
            fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("a program");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
            // For an instant, a fork of another test may still hold the file open for writing.
            while Command::new(&file).output().is_err() {
                std::thread::yield_now();
            }
        };
        fs::create_dir(path.join("bin")).expect("a folder");
        fs::create_dir(path.join("modules")).expect("a folder");
        for module in ["mod_mime.so", MODULE] {
            fs::write(path.join("modules").join(module), "").expect("a module");
        }
        program(
            "httpd",
            "[ $1 = -l ] && printf '  core.c\\n  worker.c\\n  mod_unixd.c\\n'; exit 0".into(),
        );
        let at = path.display();
        program(
            "apxs",
            format!(
                "case $2 in SBINDIR) echo {at}/bin;; PROGNAME) echo httpd;; *) echo {at}/modules;; esac"
            ),
        );
        dir
    }

    #[test]
    fn a_prefix_is_found_through_its_apxs() {
        let dir = prefix();
        let httpd = Httpd::find(Some(&dir.path().join("bin/httpd"))).expect("found");
        assert_eq!(httpd.load("unixd"), Ok(None));
        assert_eq!(
            httpd.load("mime"),
            Ok(Some(dir.path().join("modules/mod_mime.so")))
        );
        assert!(httpd.load("alias").is_err());
        assert_eq!(
            httpd.wsgi_module(None),
            Ok(dir.path().join("modules").join(MODULE))
        );
    }

    #[test]
    fn a_compiled_in_mpm_must_be_the_one_that_is_wanted() {
        let dir = prefix();
        let httpd = Httpd::find(Some(&dir.path().join("bin/httpd"))).expect("found");
        assert_eq!(httpd.check_mpm(Mpm::Worker), Ok(()));
        let failure = httpd
            .check_mpm(Mpm::Event)
            .expect_err("refused")
            .to_string();
        assert!(
            failure.contains("was built with the worker MPM")
                && failure.contains("Use --mpm worker"),
            "{failure}"
        );
    }
}
