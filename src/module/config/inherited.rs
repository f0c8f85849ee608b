//! What the parent resolves once, when the configuration is valid, and its children inherit.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use wsgi_abi::GilMode;
use wsgi_core::config::interpreter_options::{self, GroupOptions, InterpreterOptions};
use wsgi_core::config::interpreters::Placement;
use wsgi_core::config::recycle::Recycle;
use wsgi_core::config::reload::Reload;
use wsgi_core::config::{ProcessGroup, PythonConfig};
use wsgi_core::directives::Effect;
use wsgi_core::messages::Message;
use wsgi_core::plan::mpm_plan::MpmPlan;
use wsgi_core::request::group;
use wsgi_httpd::module::ServerName;

use super::placement::{AliasGroups, Known, Script};
use super::read::{Server, groups_of_sections, used_directives, written_groups};
use super::single_process;
use crate::log::{log_info, log_message};

/// The settings that all children share, or all processes of a process group.
#[derive(Debug)]
pub(crate) struct Process {
    /// The name of the process group; empty for httpd's children.
    pub(crate) process_group: String,
    /// How long the end of Python may take; less than the time until the process is killed.
    pub(crate) exit_timeout: Duration,
    pub(crate) python: PythonConfig,
    /// What sets the home of Python, for messages.
    pub(crate) home_setting: String,
    pub(crate) interpreter_options: Vec<InterpreterOptions>,
    /// `WSGIPrometheusClient`
    pub(crate) prometheus_client: bool,
    /// The scripts and groups that are known before the first request.
    pub(crate) known: Known,
    /// Whether children are replaced to take up new code, and how new code is noticed.
    pub(crate) reload: Reload,
    /// The limits of `WSGIRecycle`.
    pub(crate) recycle: Recycle,
    pub(crate) plan: MpmPlan,
    /// The application groups that are known before the first request.
    pub(crate) groups: BTreeSet<Vec<u8>>,
    /// The known groups, and if hosts name groups, also the names and aliases of the servers; each without its port.
    named: HashSet<Vec<u8>>,
}

/// The longest time that the end of Python may take in a child; less than the time that httpd gives to a child that it
/// stops.
const EXIT_TIMEOUT: Duration = Duration::from_secs(8);

/// The groups of the aliases of each server.
pub(crate) type ServerGroups<'s> = Vec<(&'s Server, AliasGroups)>;

/// Highest number of interpreters of a child besides the main one; CPython and the engine support no more.
const MOST_INTERPRETERS: u32 = 255;

impl Process {
    /// Resolves the settings of httpd's children, or of the processes of a `group`, for the servers of a configuration.
    /// Also returns the groups of those aliases whose requests they run. Returns `None` if there is no server.
    pub(crate) fn new<'s>(
        servers: &[(&'s Server, ServerName<'_>)],
        plan: MpmPlan,
        group: Option<&ProcessGroup>,
    ) -> Option<(Self, ServerGroups<'s>)> {
        let (main, _) = servers.first()?;
        let name = group.map_or("", |group| &group.name);
        // The only process of httpd -X runs the requests of all groups.
        let (known, of_servers) = Known::new(servers, (!single_process::is_on()).then_some(name));
        let groups = known_groups(&known, &of_servers);
        let config = &main.config;
        let process = Process {
            process_group: name.into(),
            exit_timeout: group.map_or(EXIT_TIMEOUT, ProcessGroup::shutdown_timeout),
            python: group.map_or_else(
                || config.python.clone(),
                |group| group.python(&config.python),
            ),
            home_setting: match group.filter(|group| group.python_home.is_some()) {
                Some(group) => format!("python-home= of process group '{}'", group.name),
                None => String::from("WSGIPythonHome"),
            },
            interpreter_options: config.interpreter_options.clone(),
            prometheus_client: config.telemetry.prometheus_client,
            known,
            reload: config.reload.clone(),
            recycle: group.map_or(config.recycle, |group| group.recycle(config.recycle)),
            plan,
            named: named(&groups, servers),
            groups,
        };
        let ahead = process.ahead();
        let ahead: HashSet<&[u8]> = ahead.iter().map(|script| &script.group[..]).collect();
        let of_servers = of_servers.into_iter().map(|(server, groups)| {
            let groups = groups.into_iter();
            let groups =
                groups.map(|group| group.filter(|group| process.is_one_for_all(&ahead, group)));
            (server, groups.collect())
        });
        let of_servers = of_servers.collect();
        Some((process, of_servers))
    }

    /// Makes this the configuration in force, in this process and in those that are forked from it.
    pub(crate) fn put_in_force(process: Arc<Self>) {
        *PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    /// Returns the options of an application group.
    pub(crate) fn group_options(&self, group: &str) -> GroupOptions {
        let options = &self.interpreter_options;
        interpreter_options::group_options(options, &self.python, &self.process_group, group)
    }

    /// Returns the highest number of interpreters for groups that the configuration does not name; unlimited if it
    /// names this group.
    pub(crate) fn most_unnamed(&self, group: &[u8]) -> u32 {
        if group.is_empty() || self.named.contains(&group::without_port(group)) {
            return u32::MAX;
        }
        let named = u32::try_from(self.named.len()).unwrap_or(u32::MAX);
        group::most_unnamed(self.python.group_limit, MOST_INTERPRETERS, named)
    }

    /// Returns whether a group runs in the main interpreter, unless it has replicas.
    pub(crate) fn is_main(&self, group: &[u8], placement: Placement) -> bool {
        match placement {
            Placement::Main => true,
            Placement::Sub => group.is_empty(),
            Placement::Auto => group.is_empty() || self.known.only_group.as_deref() == Some(group),
        }
    }

    /// Returns whether all requests of an alias share this group: it is the only group, or a group that is loaded
    /// `ahead`. Otherwise the port in the request may be part of the name, as in mod_wsgi.
    fn is_one_for_all(&self, ahead: &HashSet<&[u8]>, group: &[u8]) -> bool {
        self.known.only_group.as_deref() == Some(group) || ahead.contains(group)
    }

    /// Returns the group that the main interpreter serves: the only group of the server, if it runs there.
    pub(crate) fn main_group(&self) -> &[u8] {
        let only = self.known.only_group.as_deref().unwrap_or_default();
        let options = self.group_options(&String::from_utf8_lossy(only));
        match options.interpreters.placement {
            Placement::Sub => b"",
            Placement::Auto | Placement::Main => only,
        }
    }

    /// Returns what a child loads when it starts. It loads all known scripts if children are replaced for new code or
    /// `WSGIWarmup` is used. Otherwise it loads those that the configuration names, and those of groups that may have a
    /// GIL per interpreter.
    pub(crate) fn ahead(&self) -> Vec<&Script> {
        let all = self.reload.replaces_children() || !self.known.warmups.is_empty();
        let has_replicas = |script: &&Script| {
            let group = String::from_utf8_lossy(&script.group);
            self.group_options(&group).interpreters.gil != GilMode::Shared
        };
        let aliased = self.known.aliased.iter();
        let aliased = aliased.filter(|script| all || has_replicas(script));
        each_once(self.known.imports.iter().chain(aliased))
    }

    /// Returns all known scripts that a child would serve, for the trial of new code.
    pub(crate) fn everything(&self) -> Vec<&Script> {
        each_once(self.known.imports.iter().chain(&self.known.aliased))
    }
}

fn each_once<'a>(scripts: impl Iterator<Item = &'a Script>) -> Vec<&'a Script> {
    let mut seen = HashSet::new();
    scripts.filter(|script| seen.insert(*script)).collect()
}

/// Notes for each alias which application group its requests have, if all of them have the same. `all` has the groups of
/// httpd's children and of each process group.
pub(crate) fn set_alias_groups(all: Vec<ServerGroups<'_>>) {
    let mut all = all.into_iter();
    let Some(mut first) = all.next() else { return };
    for others in all {
        // The servers and their aliases have the same order everywhere.
        for ((_, groups), (_, others)) in first.iter_mut().zip(others) {
            for (group, other) in groups.iter_mut().zip(others) {
                if group.is_none() {
                    *group = other;
                }
            }
        }
    }
    for (server, groups) in first {
        // `server.groups` is first read after this configuration was read, so it is still empty.
        server.groups.get_or_init(|| groups);
    }
}

/// Set in the parent, read in the children; never read while a request is served.
static PROCESS: RwLock<Option<Arc<Process>>> = RwLock::new(None);

/// Returns the settings of the configuration in force; `None` if there is none.
pub(crate) fn current() -> Option<Arc<Process>> {
    PROCESS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Returns the groups that the configuration names. If a value of `WSGIApplicationGroup` or `application-group=` makes
/// groups from hosts, the names and aliases of the servers are among them.
fn named(groups: &BTreeSet<Vec<u8>>, servers: &[(&Server, ServerName<'_>)]) -> HashSet<Vec<u8>> {
    let mut named: HashSet<Vec<u8>> = groups
        .iter()
        .filter(|group| !group.is_empty())
        .map(|group| group::without_port(group))
        .collect();
    let by_host = |written: &str| written == "%{HOST}" || written.starts_with("%{ENV:");
    let of_server = |server: &Server| {
        let config = &server.config;
        let aliases = config.aliases.iter();
        aliases
            .filter_map(|alias| alias.options.application_group.as_deref())
            .chain(config.dir.application_group.as_deref())
            .any(by_host)
    };
    let in_sections = written_groups().iter().any(|written| by_host(written));
    for (server, name) in servers {
        if in_sections || of_server(server) {
            let names = std::iter::once(name.name).chain(name.aliases());
            named.extend(names.map(<[u8]>::to_ascii_lowercase));
        }
    }
    named
}

/// Returns the groups of scripts that are loaded ahead, of aliases, and of sections.
fn known_groups(known: &Known, of_servers: &[(&Server, AliasGroups)]) -> BTreeSet<Vec<u8>> {
    let scripts = known.imports.iter().chain(&known.aliased);
    let of_aliases = of_servers.iter().flat_map(|(_, groups)| groups);
    let of_places = groups_of_sections().into_iter().flatten();
    scripts
        .map(|script| script.group.clone())
        .chain(of_aliases.flatten().cloned())
        .chain(of_places)
        .collect()
}

/// Warns of settings for interpreters that cannot be fulfilled.
pub(crate) fn warn_of_interpreters(process: &Process) {
    if interpreter_options::free_in_containers(&process.interpreter_options) {
        log_message(Message::FreeThreadingInContainer, &[]);
    }
    let server = interpreter_options::group_options(&[], &process.python, "", "");
    if let Some(count) = server.interpreters.in_vain {
        log_message(Message::OneInterpreter, &[&count]);
    }
    let scripts = process.known.aliased.iter().chain(&process.known.imports);
    let groups: BTreeSet<&[u8]> = scripts.map(|script| &script.group[..]).collect();
    for group in groups {
        let name = String::from_utf8_lossy(group);
        let options = process.group_options(&name).interpreters;
        let shown = if group.is_empty() {
            "%{GLOBAL}".into()
        } else {
            format!("'{name}'")
        };
        if options.is_overruled || group.is_empty() && options.gil != GilMode::Shared {
            log_message(Message::MainHasNoReplicas, &[&shown]);
        }
    }
    for url in &process.known.lost_warmups {
        log_message(Message::WarmupLost, &[url]);
    }
}

/// Logs each used directive that has no effect in this release, once.
pub(crate) fn warn_of_directives_without_effect() {
    for directive in used_directives() {
        let name = directive.shown_name();
        match directive.effect {
            Effect::Now => {}
            Effect::Later(why) => log_message(Message::NoEffectYet, &[&name, &why]),
            Effect::ManyProcesses if !single_process::is_on() => {}
            Effect::ManyProcesses => log_message(Message::DaemonServedEmbedded, &[&name]),
            Effect::Nothing(why) => log_info(&format!("{name} has no effect: {why}")),
        }
    }
}
