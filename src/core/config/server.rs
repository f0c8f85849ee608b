//! The configuration of a server, main or virtual, as written, and what follows for all servers together.

use std::collections::HashSet;

use super::directory::DirConfig;
use super::interpreter_options::InterpreterOptions;
use super::process_group::{ProcessGroup, SocketConfig};
use super::python::PythonConfig;
use super::recycle::Recycle;
use super::reload::Reload;
use super::telemetry::TelemetryConfig;
use crate::messages::Message;
use crate::request::alias::ScriptAlias;

/// The directives of a server, main or virtual, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerConfig {
    /// The directives for every directory of the server.
    pub dir: DirConfig,
    /// Aliases in the order of matching.
    pub aliases: Vec<ScriptAlias>,
    /// Scripts that processes load when they start, including those of aliases; only those written in this server.
    pub import_scripts: Vec<ImportScript>,
    /// Process groups; only those written in this server.
    pub process_groups: Vec<ProcessGroup>,
    /// Where the sockets of process groups are; main server only.
    pub sockets: SocketConfig,
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

/// A script that the processes of a process group, or httpd's children, load when they start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportScript {
    /// Path of the script.
    pub script: String,
    /// Name of the process group, not expanded; "" for `%{GLOBAL}`, httpd's children.
    pub process_group: String,
    /// Name of the application group, not expanded; "" for the main interpreter.
    pub application_group: String,
    /// Where it is written: "file:line".
    pub location: String,
}

/// The name of a process group in `WSGIProcessGroup` or `process-group=` of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenGroup<'a> {
    /// The name, not expanded.
    pub name: &'a str,
    /// Where it is written: "file:line".
    pub location: &'a str,
}

impl ServerConfig {
    /// Merges a virtual host (`inner`) with the main server (`outer`): the aliases of the virtual host come first;
    /// directives for the whole process are the main server's.
    pub fn merge(outer: &Self, inner: &Self) -> Self {
        ServerConfig {
            dir: DirConfig::merge(&outer.dir, &inner.dir),
            aliases: [&inner.aliases[..], &outer.aliases].concat(),
            import_scripts: inner.import_scripts.clone(),
            process_groups: inner.process_groups.clone(),
            sockets: outer.sockets.clone(),
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
        let groups = self
            .process_groups
            .iter_mut()
            .map(|group| &mut group.location);
        for empty in imports.chain(groups).filter(|known| known.is_empty()) {
            *empty = location.into();
        }
    }

    /// Adds an alias, and its script to the scripts that processes load when they start, if
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

/// Returns the scripts of all `servers` (each main or merged), in order, that a process of `process_group` loads when it
/// starts, each once per application group. The group "" is that of httpd's children, and `None` stands for all groups.
pub fn preloads<'a>(
    servers: impl IntoIterator<Item = &'a ServerConfig>,
    process_group: Option<&str>,
) -> Vec<ImportScript> {
    let mut seen = HashSet::new();
    distinct(servers)
        .into_iter()
        .flat_map(|server| &server.import_scripts)
        .filter(|import| process_group.is_none_or(|group| group == import.process_group))
        .filter(|import| seen.insert((&import.script, &import.application_group)))
        .cloned()
        .collect()
}

/// Returns the mistakes in the process groups of all `servers` (each main or merged): names defined twice, and imports
/// into an undefined group. [`unknown_groups`] finds undefined groups of requests.
pub fn group_problems<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<String> {
    let servers = distinct(servers);
    let mut problems = Vec::new();
    let mut names: HashSet<&str> = HashSet::new();
    for group in servers.iter().flat_map(|server| &server.process_groups) {
        if !names.insert(&group.name) {
            problems.push(format!(
                "{}: WSGIDaemonProcess: '{}' is defined twice; a name may stand only once in all servers",
                group.location, group.name
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

/// Returns the process groups of all `servers` (each main or merged).
pub fn process_groups<'a>(
    servers: impl IntoIterator<Item = &'a ServerConfig>,
) -> impl Iterator<Item = &'a ProcessGroup> {
    let servers = distinct(servers).into_iter();
    servers.flat_map(|server| &server.process_groups)
}

/// Returns a message for each process group that requests choose and no `WSGIDaemonProcess` defines: those of
/// `WSGIProcessGroup` and `process-group=` in all `servers` (each main or merged), and in `sections`.
///
/// Names that begin with `%` are not checked, as each request expands them. Neither are aliases with both groups, which
/// are imports for [`group_problems`].
pub fn unknown_groups<'a>(
    servers: impl IntoIterator<Item = &'a ServerConfig>,
    sections: impl IntoIterator<Item = WrittenGroup<'a>>,
) -> Vec<(Message, String)> {
    let servers = distinct(servers);
    let defined: HashSet<&str> = servers
        .iter()
        .flat_map(|server| &server.process_groups)
        .map(|group| group.name.as_str())
        .collect();
    let is_unknown =
        |name: &str| !name.is_empty() && !name.starts_with('%') && !defined.contains(name);
    let mut lines = Vec::new();
    let mut seen = HashSet::new();
    let mut check = |name: &str, directive: &str, of: &str| {
        if is_unknown(name) {
            let place = format!("{directive} {of}");
            let line = Message::ProcessGroupUnknown.line(&[&place.trim(), &name]);
            // A virtual host has the aliases of the main server, too.
            if seen.insert(line.clone()) {
                lines.push((Message::ProcessGroupUnknown, line));
            }
        }
    };
    for server in &servers {
        if let Some(name) = &server.dir.process_group {
            check(name, "WSGIProcessGroup", "");
        }
        for alias in &server.aliases {
            if let (Some(name), None) = (&alias.options.process_group, alias.fixed_groups()) {
                check(name, alias.directive(), &alias.location);
            }
        }
        for script in &server.dir.handler_scripts {
            if let Some(name) = &script.options.process_group {
                check(name, "WSGIHandlerScript", &script.handler);
            }
        }
    }
    for section in sections {
        check(section.name, section.location, "");
    }
    lines
}

/// Returns each configuration once: httpd gives a virtual host without our directives the same configuration as the
/// main server.
fn distinct<'a>(servers: impl IntoIterator<Item = &'a ServerConfig>) -> Vec<&'a ServerConfig> {
    let mut seen: HashSet<*const ServerConfig> = HashSet::new();
    let servers = servers.into_iter();
    servers.filter(|server| seen.insert(*server)).collect()
}
