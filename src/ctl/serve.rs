//! `wsgictl serve`: from the command line as written to a running server.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::getuid;

use crate::account::Account;
use crate::app::{self, App};
use crate::cli::ServeArgs;
use crate::conf::{self, Conf, Static};
use crate::failure::{Failure, Outcome};
use crate::httpd::Httpd;
use crate::size::Size;
use crate::{folder, paths, readable, run, say};

/// Serves until told to stop, or prints the configuration.
pub(crate) fn serve(args: &ServeArgs) -> Outcome<ExitCode> {
    let plan = Plan::resolve(args)?;
    if args.print_config {
        return plan.print();
    }
    plan.check()?;
    plan.write()?;
    let conf = plan.conf_file();
    let program = paths::text(&plan.httpd.program)?;
    let arguments = [
        "-d",
        &plan.conf.root,
        "-f",
        &paths::text(&conf)?,
        "-DFOREGROUND",
    ];
    run::foreground(&program, &arguments, || plan.announce())
}

/// All that the command line means on this machine.
struct Plan {
    app: App,
    httpd: Httpd,
    account: Option<Account>,
    root: PathBuf,
    /// Whether the folder above `root` is ours as well.
    default_root: bool,
    conf: Conf,
    /// What the server's user has to reach, and what it is.
    needed: Vec<(PathBuf, &'static str)>,
}

impl Plan {
    fn resolve(args: &ServeArgs) -> Outcome<Plan> {
        let app = App::parse(&args.app)?;
        let size = Size::new(args.mpm, args.processes, args.threads)?;
        let listen = SocketAddr::new(address(&args.host, args.port)?, args.port);
        let httpd = Httpd::find(args.httpd.as_deref())?;
        httpd.check_mpm(args.mpm)?;
        let account = account(args)?;
        let root = match &args.server_root {
            Some(root) => paths::absolute(root, "--server-root")?,
            None => folder::default_root(listen.ip(), listen.port()),
        };
        let mut needed = Vec::new();
        let mut need = |path: &Path, what| {
            needed.push((path.to_owned(), what));
            paths::text(path)
        };

        let statics = args
            .statics
            .iter()
            .map(|word| static_mapping(word))
            .collect::<Outcome<Vec<_>>>()?;
        for mapping in &statics {
            need(Path::new(&mapping.path), "the static files in")?;
        }
        let document_root = match &args.document_root {
            Some(dir) => Some(need(&document_root(dir)?, "the document root")?),
            None => None,
        };
        let python = match python_home(args)? {
            Some(home) => {
                if let Some(base) = base_of_environment(&home) {
                    need(&base, "the Python that the virtual environment is made of,")?;
                }
                Some(need(&home, "the Python in")?)
            }
            None => None,
        };
        let python_path = match python_path(args, &app)? {
            Some(dir) => Some(need(&dir, "the folder for Python's path,")?),
            None => None,
        };
        let module = httpd.wsgi_module(args.module.as_deref())?;
        for engine in engines_beside(&module) {
            need(&engine, "the module's engine")?;
        }
        need(&module, "the module")?;
        let (script, callable) = match &app {
            App::Script(script) => (
                need(script, "the script")?,
                args.callable
                    .clone()
                    .unwrap_or_else(|| "application".into()),
            ),
            App::Import { .. } if args.callable.is_some() => {
                return Err(Failure::new(
                    "--callable is for a script file; MODULE:CALLABLE names it already.",
                ));
            }
            App::Import { .. } => (paths::text(&root.join("app.wsgi"))?, "application".into()),
        };

        let conf = Conf {
            root: paths::text(&root)?,
            listen,
            size,
            modules: modules(args, &httpd, &module)?,
            account: account
                .as_ref()
                .map(|account| (account.user.clone(), account.group.clone())),
            mime_types: httpd
                .mime_types()
                .map(|path| paths::text(&path))
                .transpose()?,
            python,
            python_path,
            script,
            callable,
            application_group: args.application_group.clone(),
            reload: args.reloads(),
            mount_point: mount_point(&args.mount_point)?,
            statics,
            document_root,
            limit_request_body: args.limit_request_body,
            setenv: args
                .setenv
                .iter()
                .map(|word| variable(word))
                .collect::<Outcome<_>>()?,
            access_log: access_log(args)?,
            log_level: log_level(&args.log_level)?,
            include: args
                .include
                .iter()
                .map(|file| paths::text(&paths::file(file, "--include")?))
                .collect::<Outcome<_>>()?,
        };
        for text in [&conf.callable, &conf.application_group] {
            paths::writable(text, text)?;
        }
        Ok(Plan {
            app,
            httpd,
            account,
            root,
            default_root: args.server_root.is_none(),
            conf,
            needed,
        })
    }

    /// What would otherwise fail later, with a message of httpd's or Python's that says less.
    fn check(&self) -> Outcome<()> {
        if let Some(account) = &self.account {
            for (path, what) in &self.needed {
                readable::require(account, path, what)?;
            }
        } else {
            for (path, what) in self.needed.iter().filter(|(path, _)| path.is_file()) {
                std::fs::File::open(path).map_err(|error| {
                    Failure::new(format!("cannot read {what} {}: {error}", path.display()))
                })?;
            }
        }
        free(self.conf.listen)
    }

    fn write(&self) -> Outcome<()> {
        let account = self.account.as_ref();
        folder::prepare(&self.root, account, self.default_root)?;
        if let App::Import { module, callable } = &self.app {
            folder::write(
                Path::new(&self.conf.script),
                &app::import_script(module, callable),
                account,
            )?;
        }
        if let Some(account) = account {
            readable::require(account, &self.root, "its own folder")?;
        }
        let preamble = ["Written by 'wsgictl serve'; the next start writes it again.".to_owned()];
        folder::write(&self.conf_file(), &self.conf.render(&preamble), account)
    }

    fn print(&self) -> Outcome<ExitCode> {
        let program = self.httpd.program.display();
        let mut preamble = vec![
            "Made by 'wsgictl serve --print-config'. Save it, edit it, and start it with"
                .to_owned(),
            format!(
                "    mkdir -p {} && {program} -f /path/to/this/file -DFOREGROUND",
                self.conf.root
            ),
        ];
        if let App::Import { module, callable } = &self.app {
            preamble.push(format!(
                "after writing {} with these lines in it:",
                self.conf.script
            ));
            preamble.push(String::new());
            preamble.extend(
                app::import_script(module, callable)
                    .lines()
                    .map(|line| format!("    {line}")),
            );
        }
        // Whoever closes the pipe has read enough.
        let _ = std::io::stdout().write_all(self.conf.render(&preamble).as_bytes());
        Ok(ExitCode::SUCCESS)
    }

    fn announce(&self) {
        let url = conf::url(self.conf.listen, &self.conf.mount_point);
        let app = match &self.app {
            App::Script(script) => format!("{} in {}", self.conf.callable, script.display()),
            App::Import { module, callable } => format!("{callable} in the module {module}"),
        };
        let access = match self.conf.access_log.as_deref() {
            None => "no access log".to_owned(),
            Some(STDOUT) => "requests on standard output".to_owned(),
            Some(file) => format!("requests in {file}"),
        };
        let mut rows = vec![("Application", app), ("Server", self.conf.size.to_string())];
        if let Some(python) = &self.conf.python {
            rows.push(("Python", python.clone()));
        }
        if let Some((user, group)) = &self.conf.account {
            rows.push(("Runs as", format!("user {user}, group {group}")));
        }
        rows.extend([
            (
                "Configuration",
                format!(
                    "{} (add --print-config to keep one)",
                    self.conf_file().display()
                ),
            ),
            ("Logs", format!("errors on standard error, {access}")),
            ("Try", format!("curl -i {url}")),
            ("Stop", "Ctrl-C".to_owned()),
        ]);
        say::summary(&format!("Serving {url}"), &rows);
    }

    fn conf_file(&self) -> PathBuf {
        self.root.join("httpd.conf")
    }
}

/// As root the children need a user of their own; an ordinary user's server runs as that user.
fn account(args: &ServeArgs) -> Outcome<Option<Account>> {
    if getuid().is_root() {
        return Account::find(args.user.as_deref(), args.group.as_deref()).map(Some);
    }
    if args.user.is_some() || args.group.is_some() {
        return Err(Failure::new(
            "only root can serve as another user: leave out --user and --group, or use sudo.",
        ));
    }
    Ok(None)
}

/// The address to bind; a name may stand for several, of which IPv4 is the least surprising.
fn address(host: &str, port: u16) -> Outcome<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(ip);
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

/// Whether httpd will be able to listen there.
fn free(listen: SocketAddr) -> Outcome<()> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) => {
            let port = listen.port();
            let failure = Failure::new(match error.kind() {
                ErrorKind::AddrInUse => format!(
                    "port {port} on {} is in use by another program.",
                    listen.ip()
                ),
                ErrorKind::PermissionDenied => format!("only root may listen on port {port}."),
                ErrorKind::AddrNotAvailable => {
                    format!("{} is no address of this machine.", listen.ip())
                }
                _ => format!("cannot listen on {listen}: {error}."),
            });
            Err(match error.kind() {
                ErrorKind::AddrInUse => {
                    failure.remedy(format!("Choose another: --port {}", other_port(port)))
                }
                ErrorKind::PermissionDenied => {
                    failure.remedy("Choose one from 1024 up, for example --port 8000")
                }
                _ => failure,
            })
        }
    }
}

fn other_port(port: u16) -> u16 {
    if (1024..u16::MAX).contains(&port) {
        port + 1
    } else {
        8000
    }
}

/// Everything that the configuration uses, and nothing more.
fn modules(args: &ServeArgs, httpd: &Httpd, wsgi: &Path) -> Outcome<Vec<(&'static str, String)>> {
    let mpm = match args.mpm {
        crate::cli::Mpm::Event => "mpm_event",
        crate::cli::Mpm::Worker => "mpm_worker",
        crate::cli::Mpm::Prefork => "mpm_prefork",
    };
    let mut names = vec![
        mpm,
        "unixd",
        "authz_core",
        "log_config",
        "mime",
        "dir",
        "alias",
    ];
    if !args.setenv.is_empty() {
        names.push("env");
    }
    if args.document_root.is_some() {
        names.push("rewrite");
    }
    let mut modules = Vec::new();
    for name in names {
        if let Some(file) = httpd.load(name)? {
            modules.push((name, paths::text(&file)?));
        }
    }
    modules.push(("wsgi", paths::text(wsgi)?));
    Ok(modules)
}

/// The engines are opened by the children, not by root, so their folder has to be open to them.
fn engines_beside(module: &Path) -> Vec<PathBuf> {
    let Some(Ok(entries)) = module.parent().map(std::fs::read_dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "so"))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("wsgi_engine"))
        })
        .collect()
}

/// The named Python, else the virtual environment that is active in this shell.
fn python_home(args: &ServeArgs) -> Outcome<Option<PathBuf>> {
    let active = std::env::var_os("VIRTUAL_ENV")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    let (home, option) = match (&args.python, active) {
        (Some(home), _) => (home.clone(), "--python"),
        (None, Some(home)) => (home, "VIRTUAL_ENV"),
        (None, None) => return Ok(None),
    };
    let home = paths::absolute(&home, option)?;
    // PREFIX/bin/python is a natural thing to type.
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

/// Where the Python of a virtual environment comes from.
fn base_of_environment(home: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(home.join("pyvenv.cfg")).ok()?;
    let base = text
        .lines()
        .find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "home"))?
        .1;
    Some(PathBuf::from(base.trim())).filter(|base| base.is_dir())
}

/// A module is looked for in the current folder, as `python -m` does; a script finds its own modules.
fn python_path(args: &ServeArgs, app: &App) -> Outcome<Option<PathBuf>> {
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

/// `/url=path`.
fn static_mapping(word: &str) -> Outcome<Static> {
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

fn document_root(dir: &Path) -> Outcome<PathBuf> {
    let dir = paths::folder(dir, "--document-root")?;
    if dir.to_string_lossy().contains(['"', '\\']) {
        let shown = dir.display();
        return Err(Failure::new(format!(
            "--document-root {shown}: httpd's rewriting takes no quote or backslash."
        )));
    }
    Ok(dir)
}

fn mount_point(path: &str) -> Outcome<String> {
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

fn variable(word: &str) -> Outcome<(String, String)> {
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

fn access_log(args: &ServeArgs) -> Outcome<Option<String>> {
    match &args.access_log {
        _ if args.no_access_log => Ok(None),
        None => Ok(Some(STDOUT.to_owned())),
        Some(file) => Ok(Some(paths::text(&paths::absolute(file, "--access-log")?)?)),
    }
}

fn log_level(level: &str) -> Outcome<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_:. ".contains(c);
    if level.is_empty() || !level.chars().all(fits) {
        return Err(
            Failure::new(format!("--log-level {level}: httpd has no such level."))
                .remedy("For example: info, or \"warn wsgi:debug\""),
        );
    }
    Ok(level.to_owned())
}

const STDOUT: &str = "/dev/stdout";

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
    fn a_port_in_use_is_named_with_another_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let failure = free(address).expect_err("refused").to_string();
        assert!(
            failure.contains(&format!("port {} on 127.0.0.1 is in use", address.port())),
            "{failure}"
        );
        assert!(failure.contains("--port"), "{failure}");
        drop(listener);
        assert_eq!(free(address), Ok(()));
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
