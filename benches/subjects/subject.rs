//! The subjects: the modules that they load, and the few lines of configuration in which they differ.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

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
}

impl Contender {
    /// The subjects compared side by side, in the order of every table.
    pub(crate) const ALL: [Self; 4] = [Self::Floor, Self::Ours, Self::Unmeasured, Self::Rival];
    /// The interpreters that can hold an application alone; the first is the reference.
    pub(crate) const PLACES: [Self; 3] = [Self::Main, Self::Sub, Self::Own];
    /// The builds and executors that let requests into Python; the first is the reference.
    pub(crate) const ADMITTING: [Self; 3] = [Self::Baseline, Self::Direct, Self::Delegate];

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
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Floor | Self::Rival => "benches/run builds it",
            Self::Baseline => "--baseline names it",
            _ => "`make build` makes it",
        }
    }

    /// Whether the module is ours, and so needs its engines.
    const fn is_ours(self) -> bool {
        !matches!(self, Self::Floor | Self::Rival)
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
    /// Sets the module file. If it is missing, prints a message and leaves this subject out.
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

    /// Copies the module, and for ours its engines, to a folder that the children's user can read. Returns the lines of
    /// configuration.
    ///
    /// They are copied because a checkout is often in a home folder that no other user may enter.
    pub(crate) fn install(&self, root: &Path) -> Result<String> {
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
