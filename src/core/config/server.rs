//! The configuration of a server, main or virtual, as written, and what follows for all servers together.

use std::collections::HashSet;

use super::directory::DirConfig;
use super::interpreter_options::InterpreterOptions;
use super::python::PythonConfig;
use super::recycle::Recycle;
use super::reload::Reload;
use super::telemetry::TelemetryConfig;
use crate::request::alias::ScriptAlias;

/// The directives of a server, main or virtual, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerConfig {
    /// The directives for every directory of the server.
    pub dir: DirConfig,
    /// Aliases in the order of matching.
    pub aliases: Vec<ScriptAlias>,
    /// Scripts that children load when they start, including those of aliases; only those written in this server.
    pub import_scripts: Vec<ImportScript>,
    /// Daemon process groups; only those written in this server.
    pub daemon_processes: Vec<DaemonProcess>,
    /// The directives for Python as a whole.
    pub python: PythonConfig,
    /// `<WSGIInterpreterOptions>`, in the order written; main server only.
    pub interpreter_options: Vec<InterpreterOptions>,
    /// What is measured, and where it is published; main server only.
    pub telemetry: TelemetryConfig,
    /// `WSGIReload`; main server only.
    pub reload: Reload,
    /// `WSGIRecycle`; main server only.
    pub recycle: Recycle,
    /// `WSGIWarmup`: URL paths; only those written in this server.
    pub warmups: Vec<String>,
}

/// A script that children load when they start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportScript {
    /// Path of the script.
    pub script: String,
    /// Name of the process group, not expanded; "" for `%{GLOBAL}`. Every group is served in the httpd children.
    pub process_group: String,
    /// Name of the application group, not expanded; "" for the main interpreter.
    pub application_group: String,
    /// Where it is written: "file:line".
    pub location: String,
}

/// A `WSGIDaemonProcess` with valid options. Its requests are served in the httpd children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonProcess {
    /// Name of the group.
    pub name: String,
    /// Where it is written: "file:line".
    pub location: String,
}

impl ServerConfig {
    /// Merges a virtual host (`inner`) with the main server (`outer`): the aliases of the virtual host come first;
    /// directives for the whole process are the main server's.
    pub fn merge(outer: &Self, inner: &Self) -> Self {
        ServerConfig {
            dir: DirConfig::merge(&outer.dir, &inner.dir),
            aliases: [&inner.aliases[..], &outer.aliases].concat(),
            import_scripts: inner.import_scripts.clone(),
            daemon_processes: inner.daemon_processes.clone(),
            python: outer.python.clone(),
            interpreter_options: outer.interpreter_options.clone(),
            telemetry: outer.telemetry.clone(),
            reload: outer.reload.clone(),
            recycle: outer.recycle,
            warmups: inner.warmups.clone(),
        }
    }

    /// Sets the location, "file:line", of the directives that were read last.
    pub fn locate(&mut self, location: &str) {
        let imports = self
            .import_scripts
            .iter_mut()
            .map(|import| &mut import.location);
        let daemons = self
            .daemon_processes
            .iter_mut()
            .map(|daemon| &mut daemon.location);
        for empty in imports.chain(daemons).filter(|known| known.is_empty()) {
            *empty = location.into();
        }
    }

    /// Adds an alias, and its script to the scripts that children load when they start, if
    /// [`ScriptAlias::fixed_groups`] says so.
    pub(crate) fn add_alias(&mut self, alias: ScriptAlias) {
        if let Some((process_group, application_group)) = alias.fixed_groups() {
            self.import_scripts.push(ImportScript {
                script: alias.target.clone(),
                process_group: process_group.into(),
                application_group: application_group.into(),
                location: String::new(),
            });
        }
        // There may be thousands of virtual hosts, and most have one alias.
        if self.aliases.is_empty() {
            self.aliases.reserve_exact(1);
        }
        self.aliases.push(alias);
    }
}

/// Returns the scripts that every child loads when it starts: those of all `servers` (each main or merged), in order,
/// whatever their process group, and each once per application group.
pub fn preloads<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<ImportScript> {
    let mut seen = HashSet::new();
    distinct(servers)
        .into_iter()
        .flat_map(|server| &server.import_scripts)
        .filter(|import| seen.insert((&import.script, &import.application_group)))
        .cloned()
        .collect()
}

/// Returns the problems of the daemon process groups of all `servers` (each main or merged): names defined twice, and
/// imports into an undefined group. Groups of aliases and directories are not checked, as their names may need
/// expansion.
pub fn daemon_problems<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<String> {
    let servers = distinct(servers);
    let mut problems = Vec::new();
    let mut names: HashSet<&str> = HashSet::new();
    for daemon in servers.iter().flat_map(|server| &server.daemon_processes) {
        if !names.insert(&daemon.name) {
            problems.push(format!(
                "{}: WSGIDaemonProcess: '{}' is defined twice; a name may stand only once in all servers",
                daemon.location, daemon.name
            ));
        }
    }
    for import in servers.iter().flat_map(|server| &server.import_scripts) {
        if !import.process_group.is_empty() && !names.contains(import.process_group.as_str()) {
            problems.push(format!(
                "{}: no WSGIDaemonProcess defines process group '{}', into which '{}' would be loaded",
                import.location, import.process_group, import.script
            ));
        }
    }
    problems
}

/// Returns each configuration once: httpd gives a virtual host without our directives the same configuration as the
/// main server.
fn distinct<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<&'a ServerConfig> {
    let mut seen: HashSet<*const ServerConfig> = HashSet::new();
    let servers = servers.into_iter();
    servers.filter(|server| seen.insert(*server)).collect()
}
