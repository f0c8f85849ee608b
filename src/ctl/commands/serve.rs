//! `wsgictl serve`: from the command line to a running server.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::getuid;
use wsgi_core::files::open_regular;

use crate::cli::ServeArgs;
use crate::launch::app::{self, App};
use crate::launch::conf::{self, Conf, Group};
use crate::launch::httpd::Httpd;
use crate::launch::size::{GroupSize, Size};
use crate::launch::{foreground, options};
use crate::output::failure::{Failure, Outcome};
use crate::output::messages;
use crate::segment::find;
use crate::system::account::Account;
use crate::system::private_folder::{self, Guests};
use crate::system::{paths, readable};

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
    foreground::foreground(&program, &arguments, || plan.announce())
}

/// The command line, resolved on this machine.
struct Plan {
    app: App,
    httpd: Httpd,
    /// The account of httpd's children, if root starts the server.
    account: Option<Account>,
    /// The account of the application, if it is another one.
    own_account: Option<Account>,
    root: PathBuf,
    /// Whether `wsgictl` also makes the folder above `root`.
    default_root: bool,
    conf: Conf,
    /// Paths that httpd's user must be able to reach, each with its description.
    needed: Vec<(PathBuf, &'static str)>,
    /// The same for the user of the application.
    needed_by_app: Vec<(PathBuf, &'static str)>,
}

impl Plan {
    fn resolve(args: &ServeArgs) -> Outcome<Plan> {
        let app = App::parse(&args.app)?;
        let (size, group_size) = if args.daemon {
            let group = GroupSize::new(args.processes, args.threads);
            (Size::beside(args.mpm, group)?, Some(group))
        } else {
            (Size::new(args.mpm, args.processes, args.threads)?, None)
        };
        let listen = SocketAddr::new(options::address(&args.host, args.port)?, args.port);
        let httpd = Httpd::find(args.httpd.as_deref())?;
        httpd.check_mpm(args.mpm)?;
        let (account, own_account) = accounts(args)?;
        let root = match &args.server_root {
            Some(root) => paths::absolute(root, "--server-root")?,
            None => private_folder::default_root(listen.ip(), listen.port()),
        };
        let (mut needed, mut needed_by_app) = (Vec::new(), Vec::new());
        let mut need = |path: &Path, what| {
            needed.push((path.to_owned(), what));
            paths::text(path)
        };
        let mut app_needs = |path: &Path, what| {
            needed_by_app.push((path.to_owned(), what));
            paths::text(path)
        };

        let statics = args
            .statics
            .iter()
            .map(|word| options::static_mapping(word))
            .collect::<Outcome<Vec<_>>>()?;
        for mapping in &statics {
            need(Path::new(&mapping.path), "the static files in")?;
        }
        let document_root = match &args.document_root {
            Some(dir) => Some(need(&options::document_root(dir)?, "the document root")?),
            None => None,
        };
        let python = match options::python_home(args)? {
            Some(home) => {
                if let Some(base) = options::base_of_environment(&home) {
                    app_needs(&base, "the Python that the virtual environment is made of,")?;
                }
                Some(app_needs(&home, "the Python in")?)
            }
            None => None,
        };
        let python_path = match options::python_path(args, &app)? {
            Some(dir) => Some(app_needs(&dir, "the folder for Python's path,")?),
            None => None,
        };
        let module = httpd.wsgi_module(args.module.as_deref())?;
        for engine in engines_beside(&module) {
            app_needs(&engine, "the module's engine")?;
        }
        need(&module, "the module")?;
        let (script, callable) = match &app {
            App::Script(script) => {
                // httpd looks for the file before the application reads it.
                app_needs(script, "the script")?;
                let callable = args.callable.clone();
                (
                    need(script, "the script")?,
                    callable.unwrap_or_else(|| "application".into()),
                )
            }
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
            account: account.as_ref().map(Account::names),
            group: group_size.map(|size| Group {
                size,
                account: own_account.as_ref().map(Account::names),
            }),
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
            mount_point: options::mount_point(&args.mount_point)?,
            statics,
            document_root,
            metrics: args.metrics,
            limit_request_body: args.limit_request_body,
            setenv: args
                .setenv
                .iter()
                .map(|word| options::variable(word))
                .collect::<Outcome<_>>()?,
            access_log: options::access_log(args)?,
            log_level: options::log_level(&args.log_level)?,
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
            own_account,
            root,
            default_root: args.server_root.is_none(),
            conf,
            needed,
            needed_by_app,
        })
    }

    /// Finds problems now that would otherwise fail later, with a less helpful message of httpd or Python.
    fn check(&self) -> Outcome<()> {
        if let Some(account) = &self.account {
            for (path, what) in &self.needed {
                readable::require(account, path, what)?;
            }
            let account = self.own_account.as_ref().unwrap_or(account);
            for (path, what) in &self.needed_by_app {
                readable::require(account, path, what)?;
            }
        } else {
            let needed = self.needed.iter().chain(&self.needed_by_app);
            for (path, what) in needed.filter(|(path, _)| path.is_file()) {
                open_regular(path).map_err(|problem| {
                    Failure::new(format!("cannot read {what} {}: {problem}", path.display()))
                })?;
            }
        }
        free(self.conf.listen)
    }

    fn write(&self) -> Outcome<()> {
        let account = self.account.as_ref();
        let guests = match (account, &self.own_account) {
            (None, _) => Guests::Nobody,
            (Some(account), None) => Guests::Account(account),
            (Some(_), Some(_)) => Guests::Several,
        };
        private_folder::prepare(&self.root, guests, self.default_root)?;
        if let App::Import { module, callable } = &self.app {
            private_folder::write(
                Path::new(&self.conf.script),
                &app::import_script(module, callable),
                self.own_account.as_ref().or(account),
            )?;
        }
        for account in account.into_iter().chain(&self.own_account) {
            readable::require(account, &self.root, "its own folder")?;
        }
        let preamble = ["Written by 'wsgictl serve'; the next start writes it again.".to_owned()];
        private_folder::write(&self.conf_file(), &self.conf.render(&preamble), account)
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
        // A reader that closes the pipe has read enough.
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
            Some(options::STDOUT) => "requests on standard output".to_owned(),
            Some(file) => format!("requests in {file}"),
        };
        let mut rows = vec![("Application", app), ("Server", self.conf.size.to_string())];
        if let Some(group) = &self.conf.group {
            let (size, name) = (group.size, conf::GROUP);
            rows.push(("Processes", format!("{size}; wsgictl restart {name}")));
        }
        if let Some(python) = &self.conf.python {
            rows.push(("Python", python.clone()));
        }
        let of_app = self
            .conf
            .group
            .as_ref()
            .and_then(|group| group.account.as_ref());
        if let Some((user, group)) = of_app.or(self.conf.account.as_ref()) {
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
            (
                "Look",
                format!(
                    "wsgictl top --segment {}",
                    self.root.join(find::FILE).display()
                ),
            ),
        ]);
        if self.conf.metrics {
            let at = conf::url(self.conf.listen, "/");
            let at = at.trim_end_matches('/');
            let (metrics, status) = (conf::METRICS, conf::STATUS);
            rows.push((
                "Metrics",
                format!("{at}{metrics} for Prometheus, {at}{status} for people"),
            ));
        }
        rows.push(("Stop", "Ctrl-C".to_owned()));
        messages::summary(&format!("Serving {url}"), &rows);
    }

    fn conf_file(&self) -> PathBuf {
        self.root.join("httpd.conf")
    }
}

/// Returns the account of httpd's children, and that of the application if it is another one, if root starts the server;
/// otherwise neither, since the server runs as the caller.
fn accounts(args: &ServeArgs) -> Outcome<(Option<Account>, Option<Account>)> {
    if getuid().is_root() {
        let named = args.user.is_some() || args.group.is_some();
        let of_app = Account::find(args.user.as_deref(), args.group.as_deref())?;
        if args.daemon && named {
            return Ok((Some(Account::find(None, None)?), Some(of_app)));
        }
        return Ok((Some(of_app), None));
    }
    if args.user.is_some() || args.group.is_some() {
        return Err(Failure::new(
            "only root can serve as another user: leave out --user and --group, or use sudo.",
        ));
    }
    Ok((None, None))
}

/// Fails if httpd could not listen there.
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

/// Returns the modules that the configuration uses, and no others.
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
    if args.metrics {
        names.push("authz_host");
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

/// Returns the engines beside the module. Their folder must be open to the children, which open them, not to root.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
