//! The subjects: the modules that they load, and the few lines of configuration in which they differ.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::subjects::backend::{self, Backend, PROCESSES, THREADS};
use crate::subjects::interrupt;

/// The application group of both modules.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Group {
    /// `%{GLOBAL}`: the main interpreter
    Global,
    /// `%{RESOURCE}`: mod_wsgi's default, a sub-interpreter
    Resource,
}

/// A subject of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Contender {
    /// The bare handler
    Floor,
    /// mod_wsgi_rs
    Ours,
    /// The same, with `WSGIMetrics Off`
    Unmeasured,
    /// mod_wsgi
    Rival,
    /// mod_wsgi_rs, in the main interpreter
    Main,
    /// The same, in a sub-interpreter under the GIL of the process
    Sub,
    /// The same, in one interpreter with its own GIL
    Own,
    /// The same, in two of these
    Replicas,
    /// mod_wsgi_rs of an earlier build
    Baseline,
    /// mod_wsgi_rs with `WSGIExecutor direct`
    Direct,
    /// The same, with `WSGIExecutor delegate`
    Delegate,
    /// mod_wsgi_rs with a process group
    Grouped,
    /// mod_wsgi in daemon mode
    RivalDaemon,
    /// mod_wsgi_rs without a process group, beside the two before
    Embedded,
    /// gunicorn behind mod_proxy_http
    Gunicorn,
    /// uWSGI behind mod_proxy_uwsgi
    Uwsgi,
}

impl Contender {
    /// The subjects compared side by side, in the order of every table.
    pub(crate) const ALL: [Self; 4] = [Self::Floor, Self::Ours, Self::Unmeasured, Self::Rival];
    /// The interpreters that can hold an application alone; the first is the reference.
    pub(crate) const PLACES: [Self; 3] = [Self::Main, Self::Sub, Self::Own];
    /// The builds and executors that let requests into Python; the first is the reference.
    pub(crate) const ADMITTING: [Self; 3] = [Self::Baseline, Self::Direct, Self::Delegate];
    /// Applications in processes of their own, and the embedded one for reference, in the order of every table.
    pub(crate) const DAEMONS: [Self; 5] = [
        Self::Grouped,
        Self::RivalDaemon,
        Self::Embedded,
        Self::Gunicorn,
        Self::Uwsgi,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor (no Python)",
            Self::Ours => "mod_wsgi_rs",
            Self::Unmeasured => "… without metrics",
            Self::Rival => "mod_wsgi 6.1.1",
            Self::Main => "main interpreter",
            Self::Sub => "sub-interpreter, shared GIL",
            Self::Own => "one replica, own GIL",
            Self::Replicas => "two replicas, own GILs",
            Self::Baseline => "baseline",
            Self::Direct => "direct",
            Self::Delegate => "delegate",
            Self::Grouped => "mod_wsgi_rs, process group",
            Self::RivalDaemon => "mod_wsgi 6.1.1, daemon mode",
            Self::Embedded => "mod_wsgi_rs, embedded",
            Self::Gunicorn => "gunicorn, mod_proxy_http",
            Self::Uwsgi => "uWSGI, mod_proxy_uwsgi",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Floor | Self::Rival | Self::RivalDaemon => "benches/run builds it",
            Self::Gunicorn | Self::Uwsgi => "benches/run installs it",
            Self::Baseline => "--baseline names it",
            _ => "`make build` makes it",
        }
    }

    /// Whether the module is ours, and so needs its engines.
    const fn is_ours(self) -> bool {
        !matches!(
            self,
            Self::Floor | Self::Rival | Self::RivalDaemon | Self::Gunicorn | Self::Uwsgi
        )
    }

    /// Returns the server to which httpd forwards the requests, for those that are no modules of httpd.
    const fn backend(self) -> Option<backend::Kind> {
        match self {
            Self::Gunicorn => Some(backend::Kind::Gunicorn),
            Self::Uwsgi => Some(backend::Kind::Uwsgi),
            _ => None,
        }
    }

    /// Returns the package on the Python package index, for those that are no modules of httpd.
    pub(crate) const fn package(self) -> Option<&'static str> {
        match self {
            Self::Gunicorn => Some("gunicorn"),
            Self::Uwsgi => Some("uwsgi"),
            _ => None,
        }
    }
}

/// The application that the servers of a measurement serve.
#[derive(Clone, Copy)]
pub(crate) enum Application {
    /// `app.wsgi`
    Hello,
    /// `work.wsgi`
    Work,
    /// `spin.wsgi`
    Spin,
}

/// A module file, and the configuration with which httpd uses it.
pub(crate) struct Subject {
    pub(crate) contender: Contender,
    /// The program, for a server to which httpd forwards requests
    module: PathBuf,
    lines: String,
}

/// Returns all subjects that are compared side by side, without their modules yet, in the order of [`Contender::ALL`].
pub(crate) fn all(python: Option<&Path>, group: Group) -> Vec<Subject> {
    let group = match group {
        Group::Global => "%{GLOBAL}",
        Group::Resource => "%{RESOURCE}",
    };
    let wsgi = serving(python, Application::Hello) + &format!("WSGIApplicationGroup {group}\n");
    Contender::ALL
        .into_iter()
        .map(|contender| Subject {
            contender,
            module: PathBuf::new(),
            lines: match contender {
                Contender::Floor => "<Location />\n  SetHandler floor\n</Location>\n".to_owned(),
                Contender::Unmeasured => format!("{wsgi}WSGIMetrics Off\n"),
                _ => wsgi.clone(),
            },
        })
        .collect()
}

/// `contender` with the application in the interpreters that the name says, without its module yet.
pub(crate) fn placed(contender: Contender, python: &Path, application: Application) -> Subject {
    let place = match contender {
        Contender::Sub => "WSGIApplicationGroup bench\nWSGIInterpreter sub\n",
        Contender::Own => "WSGIApplicationGroup bench\nWSGIGILMode own\nWSGIInterpreters 1\n",
        Contender::Replicas => "WSGIApplicationGroup bench\nWSGIGILMode own\nWSGIInterpreters 2\n",
        _ => "WSGIApplicationGroup %{GLOBAL}\n",
    };
    Subject {
        contender,
        module: PathBuf::new(),
        lines: serving(Some(python), application) + place,
    }
}

/// `contender` in the main interpreter with additional directives, without its module yet.
pub(crate) fn directed(
    contender: Contender,
    python: Option<&Path>,
    application: Application,
    directives: &str,
) -> Subject {
    Subject {
        contender,
        module: PathBuf::new(),
        lines: serving(python, application) + "WSGIApplicationGroup %{GLOBAL}\n" + directives,
    }
}

/// The options of a group whose processes start, serve and end fifty times slower than usual.
pub(crate) const UNDER_CALLGRIND: &str =
    "startup-timeout=600 connect-timeout=120 graceful-timeout=60 shutdown-timeout=60";

/// `contender` of [`Contender::DAEMONS`] with `app.wsgi`, without its module or program yet. `options` are further ones
/// of the group.
pub(crate) fn daemon(contender: Contender, python: Option<&Path>, options: &str) -> Subject {
    let wsgi = serving(python, Application::Hello) + "WSGIApplicationGroup %{GLOBAL}\n";
    let group = format!(
        "WSGISocketPrefix \"${{ROOT}}/wsgi\"\n\
         WSGIDaemonProcess site processes={PROCESSES} threads={THREADS} {options}\nWSGIProcessGroup site\n"
    );
    Subject {
        contender,
        module: PathBuf::new(),
        lines: match (contender, contender.backend()) {
            (_, Some(kind)) => kind.lines(),
            (Contender::Grouped | Contender::RivalDaemon, _) => group + &wsgi,
            _ => wsgi,
        },
    }
}

fn serving(python: Option<&Path>, application: Application) -> String {
    let home = python
        .map(|prefix| format!("WSGIPythonHome \"{}\"\n", prefix.display()))
        .unwrap_or_default();
    let script = match application {
        Application::Hello => "app.wsgi",
        Application::Work => "work.wsgi",
        Application::Spin => "spin.wsgi",
    };
    format!("{home}WSGIScriptAlias / \"${{APP}}/{script}\"\n")
}

impl Subject {
    /// Sets the file of the module or program. If it is missing, prints a message and leaves this subject out.
    pub(crate) fn with_module(mut self, file: &Path) -> Option<Self> {
        match file.canonicalize() {
            Ok(file) => {
                self.module = file;
                Some(self)
            }
            Err(error) => {
                eprintln!(
                    "wsgi-bench: {} is left out: {}: {error} ({})",
                    self.contender.name(),
                    file.display(),
                    self.contender.remedy()
                );
                None
            }
        }
    }

    /// Prints why this subject failed, so that the others go on without it; passes an interruption on.
    pub(crate) fn left_out(&self, failure: &anyhow::Error) -> Result<Contender> {
        interrupt::check()?;
        eprintln!(
            "wsgi-bench: {} is left out from here on: {failure:#}",
            self.contender.name()
        );
        Ok(self.contender)
    }

    /// Returns the modules of httpd that this subject needs besides its own.
    pub(crate) fn modules(&self) -> &'static [&'static str] {
        self.contender.backend().map_or(&[], backend::Kind::modules)
    }

    /// Starts the server to which httpd forwards the requests, if this subject has one.
    pub(crate) fn start_backend(&self, root: &Path) -> Result<Option<Backend>> {
        let start = |kind| Backend::start(kind, &self.module, root);
        self.contender.backend().map(start).transpose()
    }

    /// Copies the module, and for ours its engines, to a folder that the children's user can read. Returns the lines of
    /// configuration.
    ///
    /// They are copied because a checkout is often in a home folder that no other user may enter.
    pub(crate) fn install(&self, root: &Path) -> Result<String> {
        if self.contender.backend().is_some() {
            return Ok(self.lines.clone());
        }
        let folder = root.join("module");
        fs::create_dir(&folder)?;
        let copied = copy(&self.module, &folder)?;
        if self.contender.is_ours() {
            for engine in engines(&self.module)? {
                copy(&engine, &folder)?;
            }
        }
        let symbol = match self.contender {
            Contender::Floor => "floor_module",
            _ => "wsgi_module",
        };
        Ok(format!(
            "LoadModule {symbol} \"{}\"\n{}",
            copied.display(),
            self.lines
        ))
    }
}

fn engines(module: &Path) -> Result<Vec<PathBuf>> {
    let beside = module.parent().context("the module has no folder")?;
    let mut found = Vec::new();
    for entry in fs::read_dir(beside)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("wsgi_engine") && name.ends_with(".so") {
            found.push(path);
        }
    }
    Ok(found)
}

fn copy(file: &Path, folder: &Path) -> Result<PathBuf> {
    let target = folder.join(file.file_name().context("not a file")?);
    fs::copy(file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modules_have_the_same_group() {
        let lines = |contender| daemon(contender, None, "startup-timeout=9").lines;
        let ours = lines(Contender::Grouped);
        assert_eq!(ours, lines(Contender::RivalDaemon));
        assert!(ours.contains("WSGIDaemonProcess site processes=2 threads=5 startup-timeout=9\n"));
        assert!(!lines(Contender::Embedded).contains("WSGIProcessGroup"));
    }

    #[test]
    fn a_server_behind_mod_proxy_is_a_package_and_not_a_module() {
        for contender in Contender::DAEMONS {
            let subject = daemon(contender, None, "");
            let is_forwarded = contender.package().is_some();
            assert_eq!(is_forwarded, subject.lines.contains("ProxyPass"));
            assert_eq!(is_forwarded, !subject.modules().is_empty());
            assert!(!(is_forwarded && contender.is_ours()));
        }
    }
}
