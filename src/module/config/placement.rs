//! What is known about scripts and groups before the first request: which group is the only one of the server, which
//! scripts can be loaded ahead, and which of them answer the URLs of `WSGIWarmup`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use wsgi_core::config::{DirConfig, ImportScript, Settings, preloads};
use wsgi_core::plan::alias_group::{ServerIdentity, group_of_alias, only_group};
use wsgi_core::request::alias::{ScriptAlias, ScriptOptions};
use wsgi_httpd::module::ServerName;

use super::read::{self, Server};

/// A script in an application group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Script {
    /// The name of the group; empty for the main interpreter.
    pub(crate) group: Vec<u8>,
    pub(crate) script: Vec<u8>,
}

/// A URL of `WSGIWarmup`, and the application that answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warmup {
    /// The URL as written.
    pub(crate) url: String,
    pub(crate) server_name: Vec<u8>,
    pub(crate) port: u16,
    /// The part of the URL that the alias matched.
    pub(crate) script_name: String,
    pub(crate) path_info: String,
    pub(crate) query: String,
    pub(crate) callable: String,
    pub(crate) script: Script,
}

/// The scripts and groups that are known before the first request.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The group of all requests by aliases, if there is just one.
    pub(crate) only_group: Option<Vec<u8>>,
    /// The scripts that each child loads when it starts.
    pub(crate) imports: Vec<Script>,
    /// The scripts of aliases that lead to a single script, in a known group.
    pub(crate) aliased: Vec<Script>,
    /// The number of aliases and sections whose scripts or groups only requests name.
    pub(crate) unknown: usize,
    pub(crate) warmups: Vec<Warmup>,
    /// URLs of `WSGIWarmup` that no alias to a known script matches.
    pub(crate) lost_warmups: Vec<String>,
}

/// The group of each alias of a server, if it is known.
pub(crate) type AliasGroups = Vec<Option<Vec<u8>>>;

impl Known {
    /// Finds the known scripts and groups of a process group; its name is empty for httpd's children, and `None` stands
    /// for all. Also returns the groups of the aliases of each server.
    pub(crate) fn new<'s>(
        servers: &[(&'s Server, ServerName<'_>)],
        process_group: Option<&str>,
    ) -> (Self, Vec<(&'s Server, AliasGroups)>) {
        let configs = servers.iter().map(|(server, _)| &server.config);
        let imports = preloads(configs, process_group);
        let mut known = Known {
            imports: imports.iter().map(of_import).collect(),
            ..Known::default()
        };
        let mut groups: Vec<Option<Vec<u8>>> = imports
            .iter()
            .map(|import| Some(of_import(import).group))
            .collect();
        let of_places = read::groups_of_sections();
        let unknown_sections = of_places.iter().filter(|group| group.is_none()).count();
        groups.extend(of_places);
        let mut of_servers: Vec<(&Server, AliasGroups)> = Vec::new();
        let mut seen: HashSet<*const Server> = HashSet::new();
        let mut scripts = HashSet::new();
        let mut unknown = HashSet::new();
        let mut targets: HashMap<&str, bool> = HashMap::new();
        for &(server, name) in servers {
            if !seen.insert(server) {
                continue;
            }
            let mut of_aliases = AliasGroups::new();
            for alias in &server.config.aliases {
                let dir = DirConfig::default();
                let settings = Settings::resolve(&dir, &server.config);
                if !may_run_in(alias, &settings, process_group) {
                    of_aliases.push(None);
                    continue;
                }
                // The file system is asked once for each target, as there may be thousands of aliases.
                let is_folder = *targets
                    .entry(&alias.target)
                    .or_insert_with(|| Path::new(&alias.target).is_dir());
                let group = group_of(alias, is_folder, &settings, name);
                let leads_to_one = leads_to_one(alias, is_folder);
                if group.is_none() || !leads_to_one {
                    // A virtual host also has the aliases of the main server, which must count once.
                    unknown.insert((&alias.location, &alias.target));
                }
                if let Some(group) = &group
                    && leads_to_one
                {
                    let script = Script {
                        group: group.clone(),
                        script: alias.target.clone().into_bytes(),
                    };
                    if scripts.insert(script.clone()) {
                        known.aliased.push(script);
                    }
                }
                of_aliases.push(group);
            }
            groups.extend(of_aliases.iter().cloned());
            of_servers.push((server, of_aliases));
            for url in &server.config.warmups {
                match warmup(url, server, name, process_group) {
                    Resolved::Here(warmup) => known.warmups.push(warmup),
                    Resolved::Elsewhere => {}
                    Resolved::Nowhere => known.lost_warmups.push(url.clone()),
                }
            }
        }
        known.unknown = unknown.len() + unknown_sections;
        known.only_group = only_group(groups);
        (known, of_servers)
    }
}

fn of_import(import: &ImportScript) -> Script {
    Script {
        group: import.application_group.clone().into_bytes(),
        script: import.script.clone().into_bytes(),
    }
}

/// Returns whether the alias leads to the same script for every URL.
fn leads_to_one(alias: &ScriptAlias, is_folder: bool) -> bool {
    !(is_folder || alias.regex && alias.target.contains('$'))
}

fn group_of(
    alias: &ScriptAlias,
    is_folder: bool,
    settings: &Settings<'_>,
    name: ServerName<'_>,
) -> Option<Vec<u8>> {
    let written = written(alias, |options| options.application_group.as_ref())
        .unwrap_or(settings.application_group);
    let server = ServerIdentity {
        name: name.name,
        port: name.request_port,
        case_sensitive: settings.case_sensitive,
    };
    group_of_alias(written, alias, is_folder, server)
}

fn written(alias: &ScriptAlias, option: fn(&ScriptOptions) -> Option<&String>) -> Option<&str> {
    option(&alias.options).map(String::as_str)
}

/// Returns whether the requests of an alias may run in the process group. A name that requests complete may be any.
fn may_run_in(alias: &ScriptAlias, settings: &Settings<'_>, process_group: Option<&str>) -> bool {
    let Some(process_group) = process_group else {
        return true;
    };
    let of_alias = written(alias, |options| options.process_group.as_ref());
    match of_alias.unwrap_or(settings.process_group) {
        "%{GLOBAL}" => process_group.is_empty(),
        name => name == process_group || name.starts_with('%'),
    }
}

/// Where a URL of `WSGIWarmup` leads.
enum Resolved {
    /// To an application in this process group.
    Here(Warmup),
    /// To one in another process group.
    Elsewhere,
    /// To no script that is known.
    Nowhere,
}

/// Resolves the URL with the first alias that matches it, as for requests; patterns are not tried.
fn warmup(
    url: &str,
    server: &Server,
    name: ServerName<'_>,
    process_group: Option<&str>,
) -> Resolved {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let mut aliases = server.config.aliases.iter();
    let found = aliases.find_map(|alias| Some((alias, alias.consumes(path.as_bytes())?)));
    let Some((alias, consumed)) = found else {
        return Resolved::Nowhere;
    };
    let dir = DirConfig::default();
    let settings = Settings::resolve(&dir, &server.config);
    if !may_run_in(alias, &settings, process_group) {
        return Resolved::Elsewhere;
    }
    let is_folder = Path::new(&alias.target).is_dir();
    let group = group_of(alias, is_folder, &settings, name);
    let parts = path.get(..consumed).zip(path.get(consumed..));
    let (Some(group), Some((script_name, path_info)), true) =
        (group, parts, leads_to_one(alias, is_folder))
    else {
        return Resolved::Nowhere;
    };
    let callable = written(alias, |options| options.callable_object.as_ref())
        .unwrap_or(settings.callable_object);
    Resolved::Here(Warmup {
        url: url.into(),
        server_name: name.name.to_vec(),
        port: name.request_port,
        script_name: script_name.into(),
        path_info: path_info.into(),
        query: query.into(),
        callable: callable.into(),
        script: Script {
            group,
            script: alias.target.clone().into_bytes(),
        },
    })
}
