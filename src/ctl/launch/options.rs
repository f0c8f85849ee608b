//! Conversion of single options to values for the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use wsgi_core::files::read_regular_text;

use crate::cli::ServeArgs;
use crate::launch::app::App;
use crate::launch::conf::Static;
use crate::output::failure::{Failure, Outcome};
use crate::system::paths;

/// Returns the address to bind. If a name stands for several, IPv4 is the least surprising.
pub(crate) fn address(host: &str, port: u16) -> Outcome<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(ip);
    }
    // Minimal systems have no /etc/hosts, and no resolver knows the name.
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| Failure::new(format!("--host {host}: {error}.")))?
        .collect();
    let first = found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first());
    first
        .map(SocketAddr::ip)
        .ok_or_else(|| Failure::new(format!("--host {host}: this name has no address.")))
}

/// Returns the named Python, else the virtual environment that is active in this shell.
pub(crate) fn python_home(args: &ServeArgs) -> Outcome<Option<PathBuf>> {
    let active = std::env::var_os("VIRTUAL_ENV")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    let (home, option) = match (&args.python, active) {
        (Some(home), _) => (home.clone(), "--python"),
        (None, Some(home)) => (home, "VIRTUAL_ENV"),
        (None, None) => return Ok(None),
    };
    let home = paths::absolute(&home, option)?;
    // `PREFIX/bin/python` is a natural thing to type.
    let home = if home.is_file() {
        home.ancestors().nth(2).unwrap_or(&home).to_owned()
    } else {
        home
    };
    let home = paths::folder(&home, option)?;
    let bin = home.join("bin");
    if home.join("pyvenv.cfg").is_file()
        || bin.join("python3").exists()
        || bin.join("python").exists()
    {
        return Ok(Some(home));
    }
    Err(Failure::new(format!("{option} {}: there is no Python here (no bin/python3).", home.display()))
        .remedy("Make a virtual environment: python3 -m venv DIR; or name an installation's prefix, such as /usr"))
}

/// Returns the folder of the Python that a virtual environment was made from.
pub(crate) fn base_of_environment(home: &Path) -> Option<PathBuf> {
    let text = read_regular_text(&home.join("pyvenv.cfg"), 1 << 20).ok()?;
    let base = text
        .lines()
        .find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "home"))?
        .1;
    Some(PathBuf::from(base.trim())).filter(|base| base.is_dir())
}

/// Returns the folder to add to Python's path: for a module the current folder, as `python -m` does. A script finds its
/// own modules.
pub(crate) fn python_path(args: &ServeArgs, app: &App) -> Outcome<Option<PathBuf>> {
    let dir = match (&args.working_directory, app) {
        (Some(dir), _) => paths::folder(dir, "--working-directory")?,
        (None, App::Import { .. }) => paths::folder(Path::new("."), "")?,
        (None, App::Script(_)) => return Ok(None),
    };
    if dir.to_string_lossy().contains(':') {
        return Err(Failure::new(format!(
            "{}: a colon cannot stand in a folder on Python's path.",
            dir.display()
        )));
    }
    Ok(Some(dir))
}

/// Parses `/url=path`.
pub(crate) fn static_mapping(word: &str) -> Outcome<Static> {
    let wrong = || {
        Failure::new(format!("--static {word}: this is not /URL=PATH."))
            .remedy("For example: --static /static=public/static")
    };
    let (url, path) = word
        .split_once('=')
        .filter(|(url, path)| url.starts_with('/') && !path.is_empty())
        .ok_or_else(wrong)?;
    let url = match url.trim_end_matches('/') {
        "" => {
            return Err(
                Failure::new(format!("--static {word}: this would hide the application."))
                    .remedy("For files at the top of the site: --document-root DIR"),
            );
        }
        url => url,
    };
    paths::writable(url, word)?;
    let path = paths::absolute(Path::new(path), "--static")?;
    let is_file = path.is_file();
    let path = if is_file {
        paths::file(&path, "--static")?
    } else {
        paths::folder(&path, "--static")?
    };
    Ok(Static {
        url: url.to_owned(),
        path: paths::text(&path)?,
        is_file,
    })
}

pub(crate) fn document_root(dir: &Path) -> Outcome<PathBuf> {
    let dir = paths::folder(dir, "--document-root")?;
    if dir.to_string_lossy().contains(['"', '\\']) {
        let shown = dir.display();
        return Err(Failure::new(format!(
            "--document-root {shown}: httpd's rewriting takes no quote or backslash."
        )));
    }
    Ok(dir)
}

pub(crate) fn mount_point(path: &str) -> Outcome<String> {
    if !path.starts_with('/') {
        return Err(Failure::new(format!(
            "--mount-point {path}: a URL path begins with a slash."
        )));
    }
    paths::writable(path, path)?;
    let path = path.trim_end_matches('/');
    Ok(if path.is_empty() {
        "/".to_owned()
    } else {
        path.to_owned()
    })
}

pub(crate) fn variable(word: &str) -> Outcome<(String, String)> {
    match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            paths::writable(word, word)?;
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Failure::new(format!(
            "--setenv {word}: this is not NAME=VALUE."
        ))),
    }
}

pub(crate) fn access_log(args: &ServeArgs) -> Outcome<Option<String>> {
    match &args.access_log {
        _ if args.no_access_log => Ok(None),
        None => Ok(Some(STDOUT.to_owned())),
        Some(file) => Ok(Some(paths::text(&paths::absolute(file, "--access-log")?)?)),
    }
}

pub(crate) fn log_level(level: &str) -> Outcome<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_:. ".contains(c);
    if level.is_empty() || !level.chars().all(fits) {
        return Err(
            Failure::new(format!("--log-level {level}: httpd has no such level."))
                .remedy("For example: info, or \"warn wsgi:debug\""),
        );
    }
    Ok(level.to_owned())
}

/// Default of the access log.
pub(crate) const STDOUT: &str = "/dev/stdout";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        let ip = |host| address(host, 80).map(|ip| ip.to_string());
        assert_eq!(ip("127.0.0.1").as_deref(), Ok("127.0.0.1"));
        assert_eq!(ip("localhost").as_deref(), Ok("127.0.0.1"));
        assert_eq!(ip("[::1]").as_deref(), Ok("::1"));
        assert!(address("no such host", 80).is_err());
    }

    #[test]
    fn static_mappings() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = dir.path().to_str().expect("text");
        std::fs::write(dir.path().join("favicon.ico"), "").expect("a file");
        assert_eq!(
            static_mapping(&format!("/static/={at}")),
            Ok(Static {
                url: "/static".into(),
                path: at.into(),
                is_file: false
            })
        );
        let icon = static_mapping(&format!("/favicon.ico={at}/favicon.ico")).expect("a file");
        assert!(icon.is_file);
        for word in ["static=x", "/static", "/static=", "/=x", "/static=/no/such"] {
            assert!(static_mapping(word).is_err(), "{word}");
        }
    }

    #[test]
    fn words_that_httpd_would_misread_are_refused() {
        assert!(log_level("warn wsgi:debug").is_ok());
        assert!(log_level("warn\nLoadModule x").is_err());
        assert!(variable("A=b=c").is_ok());
        assert!(variable("A").is_err());
        assert!(variable("A=${HOME}").is_err());
        assert_eq!(mount_point("/app/").as_deref(), Ok("/app"));
        assert_eq!(mount_point("//").as_deref(), Ok("/"));
        assert!(mount_point("app").is_err());
    }

    #[test]
    fn a_python_is_a_prefix_or_its_program() {
        let dir = tempfile::tempdir().expect("a folder");
        let args = |python: &Path| {
            let python = python.to_str().expect("text");
            let cli = <crate::cli::Cli as clap::Parser>::parse_from([
                "wsgictl", "serve", "a.wsgi", "--python", python,
            ]);
            let crate::cli::Command::Serve(args) = cli.command else {
                panic!("not serve")
            };
            python_home(&args)
        };
        assert!(
            args(dir.path())
                .expect_err("empty")
                .to_string()
                .contains("there is no Python here")
        );
        std::fs::create_dir(dir.path().join("bin")).expect("a folder");
        std::fs::write(dir.path().join("bin/python3"), "").expect("a file");
        assert_eq!(args(dir.path()), Ok(Some(dir.path().to_owned())));
        assert_eq!(
            args(&dir.path().join("bin/python3")),
            Ok(Some(dir.path().to_owned()))
        );
    }
}
