//! What may be written for a server, main or virtual, and what follows for all servers together.

use std::collections::HashSet;

use super::directory::DirConfig;
use super::interpreter_options::InterpreterOptions;
use super::python::PythonConfig;
use super::recycle::Recycle;
use super::reload::Reload;
use super::telemetry::TelemetryConfig;
use crate::request::alias::ScriptAlias;

/// What may be said of a server, main or virtual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerConfig {
    /// What holds for every directory of the server.
    pub dir: DirConfig,
    /// Aliases in the order of matching.
    pub aliases: Vec<ScriptAlias>,
    /// Scripts to be loaded when a child starts, those of aliases among them, that this very server wrote.
    pub import_scripts: Vec<ImportScript>,
    /// Daemon process groups that this very server wrote.
    pub daemon_processes: Vec<DaemonProcess>,
    /// What concerns Python as a whole.
    pub python: PythonConfig,
    /// `<WSGIInterpreterOptions>`, in the order written; only ever in the main server.
    pub interpreter_options: Vec<InterpreterOptions>,
    /// What is measured and who may ask; only ever written in the main server.
    pub telemetry: TelemetryConfig,
    /// `WSGIReload`; only ever written in the main server.
    pub reload: Reload,
    /// `WSGIRecycle`; only ever written in the main server.
    pub recycle: Recycle,
    /// `WSGIWarmup`: URL paths that this very server wrote.
    pub warmups: Vec<String>,
}

/// A script to be loaded when a child starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportScript {
    /// Path.
    pub script: String,
    /// Name of the process group, literally; "" for `%{GLOBAL}`. Every group is served in the httpd children.
    pub process_group: String,
    /// Name of the application group, literally; "" for the main interpreter.
    pub application_group: String,
    /// Where it is written: "file:line".
    pub location: String,
}

/// A `WSGIDaemonProcess` whose options were found valid. Its requests are served in the httpd children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonProcess {
    /// Name of the group.
    pub name: String,
    /// Where it is written: "file:line".
    pub location: String,
}

impl ServerConfig {
    /// A virtual host (`inner`) within the main server (`outer`): aliases of the virtual host come first, what
    /// concerns the process as a whole is the main server's.
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

    /// Says of what was read last where it is written, "file:line".
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

    /// Adds an alias, and with it the loading of its script ahead of the first request where 2.4 asks for it.
    pub(crate) fn add_alias(&mut self, alias: ScriptAlias) {
        if let Some((process_group, application_group)) = alias.fixed_groups() {
            self.import_scripts.push(ImportScript {
                script: alias.target.clone(),
                process_group: process_group.into(),
                application_group: application_group.into(),
                location: String::new(),
            });
        }
        // Of thousands of virtual hosts most have one.
        if self.aliases.is_empty() {
            self.aliases.reserve_exact(1);
        }
        self.aliases.push(alias);
    }
}

/// What every child loads when it starts: the scripts of all `servers` (each main or merged), in order, whatever
/// their process group, each once per application group.
pub fn preloads<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<ImportScript> {
    let mut seen = HashSet::new();
    distinct(servers)
        .into_iter()
        .flat_map(|server| &server.import_scripts)
        .filter(|import| seen.insert((&import.script, &import.application_group)))
        .cloned()
        .collect()
}

/// What is wrong with the daemon process groups of all `servers` (each main or merged): names written twice, and
/// imports into a group that is nowhere defined. Groups that only requests name are not looked at, as their names
/// may be expansions.
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
                "{}: process group '{}', into which '{}' is to be loaded, is defined by no WSGIDaemonProcess",
                import.location, import.process_group, import.script
            ));
        }
    }
    problems
}

/// httpd gives a virtual host without a directive of ours the very configuration of the main server.
fn distinct<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<&'a ServerConfig> {
    let mut seen: HashSet<*const ServerConfig> = HashSet::new();
    let servers = servers.into_iter();
    servers.filter(|server| seen.insert(*server)).collect()
}
