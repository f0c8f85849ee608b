//! The application that a request counts for: the values of the label `app`.
//!
//! The parent enters an application for each alias of each server. An application that is reached in another way is
//! entered when a child first meets its script.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use arc_swap::ArcSwap;
use wsgi_core::config::telemetry::application_name;
use wsgi_core::config::{DirConfig, HandlerScript, Settings};
use wsgi_core::request::alias::mount_of;
use wsgi_httpd::module::ServerName;
use wsgi_telemetry::{App, Owner, Segment, label_of, writer};

use super::segment;
use crate::config::read::Server;

/// An application of an alias.
pub(crate) struct Planned {
    label: String,
    mount: String,
    script: String,
    group: String,
}

/// The applications of the aliases of all servers. Servers with the same aliases share an entry here, as they share
/// their configuration.
#[derive(Default)]
pub(crate) struct Plan<'s> {
    applications: Vec<Planned>,
    /// The index of each label in `applications`.
    by_label: HashMap<String, usize>,
    /// Each server, with an index into `applications` for each of its aliases.
    servers: Vec<(&'s Server, Vec<usize>)>,
}

impl<'s> Plan<'s> {
    /// Gives a label to each alias of each server.
    pub(crate) fn new(servers: &[(&'s Server, ServerName<'_>)]) -> Self {
        let mut plan = Self::default();
        let mut seen: HashSet<*const Server> = HashSet::new();
        for &(server, name) in servers {
            if !seen.insert(server) {
                continue;
            }
            let host = String::from_utf8_lossy(name.name);
            let host = name.is_virtual.then_some((&*host, name.port));
            let dir = DirConfig::default();
            let default_group = Settings::resolve(&dir, &server.config).application_group;
            let numbers = server.config.aliases.iter().map(|alias| {
                let mount = mount_of(alias);
                let written = alias.options.application_group.as_deref();
                let named = if mount.is_empty() {
                    &alias.location
                } else {
                    &mount
                };
                plan.enter(Planned {
                    label: label_of(&application_name(host, named)),
                    mount,
                    script: alias.target.clone(),
                    group: written.unwrap_or(default_group).into(),
                })
            });
            let numbers = numbers.collect();
            plan.servers.push((server, numbers));
        }
        plan
    }

    /// Returns the number of applications.
    pub(crate) fn len(&self) -> usize {
        self.applications.len()
    }

    /// Returns the index of an application. If another script has its label, its script becomes a part of the label.
    fn enter(&mut self, mut new: Planned) -> usize {
        let mut known = self.by_label.get(&new.label).copied();
        if let Some(at) = known
            && self.applications[at].script != new.script
        {
            new.label = label_of(&format!("{}:{}", new.label, new.script));
            known = self.by_label.get(&new.label).copied();
        }
        known.unwrap_or_else(|| {
            let at = self.applications.len();
            self.by_label.insert(new.label.clone(), at);
            self.applications.push(new);
            at
        })
    }

    /// Enters all applications into the segment.
    pub(crate) fn register(&self, segment: Segment, owner: Owner) {
        let named = self.applications.iter().map(|planned| {
            let texts = [&*planned.mount, &*planned.script, &*planned.group];
            (&*planned.label, texts)
        });
        let apps = segment.applications_named(named, owner);
        let mut by_script = HashMap::new();
        for (planned, &app) in self.applications.iter().zip(&apps) {
            by_script
                .entry(planned.script.clone().into_bytes())
                .or_insert(app);
        }
        *OF_SCRIPTS.write().unwrap_or_else(PoisonError::into_inner) = by_script;
        for (server, numbers) in &self.servers {
            // `server.apps` is first read after this configuration was read, so it is still empty.
            server
                .apps
                .get_or_init(|| numbers.iter().map(|&at| apps[at]).collect());
        }
    }
}

/// The application of the first alias that leads to each script. Set by the parent.
static OF_SCRIPTS: LazyLock<RwLock<HashMap<Vec<u8>, App>>> = LazyLock::new(RwLock::default);

/// Applications without an alias, by name of the handler and script, or by script alone.
static MET: LazyLock<ArcSwap<HashMap<Vec<u8>, App>>> = LazyLock::new(Default::default);

/// Highest number of applications in [`MET`]; all others count as `_other`.
const MOST_MET: usize = 4096;

/// Returns the application that a request counts for: that of its alias, of its `WSGIHandlerScript`, or of the script
/// that the URL was mapped to.
pub(crate) fn app_of(
    server: &Server,
    alias: Option<usize>,
    handler_script: Option<&HandlerScript>,
    filename: &[u8],
) -> App {
    match handler_script {
        None => {
            let aliased = alias.and_then(|alias| server.apps.get()?.get(alias).copied());
            aliased.unwrap_or_else(|| met(filename, || label_of(&shown(filename)), filename))
        }
        Some(HandlerScript {
            handler, script, ..
        }) => {
            let key = [handler.as_bytes(), script.as_bytes()].join(&0);
            met(
                &key,
                || label_of(&format!("handler:{handler}")),
                script.as_bytes(),
            )
        }
    }
}

/// Returns the application of a script that is loaded before its first request: that of an alias that leads to the
/// script, if there is one.
pub(crate) fn app_of_script(script: &[u8]) -> App {
    if segment::current().is_none() {
        return App::OTHER;
    }
    let aliased = OF_SCRIPTS.read().unwrap_or_else(PoisonError::into_inner);
    let aliased = aliased.get(script).copied();
    aliased.unwrap_or_else(|| met(script, || label_of(&shown(script)), script))
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Returns the application of `key`, and enters it as `label` if it is new.
fn met(key: &[u8], label: impl FnOnce() -> String, script: &[u8]) -> App {
    let known = MET.load();
    if let Some(app) = known.get(key) {
        return *app;
    }
    let (Some(segment), Some(owner)) = (segment::current(), writer::owner()) else {
        return App::OTHER;
    };
    if known.len() >= MOST_MET {
        return App::OTHER;
    }
    drop(known);
    let app = segment.application_named(&label(), ["", &shown(script), ""], owner);
    for group in segment::groups().iter() {
        group.segment.copy_application(segment, app);
    }
    MET.rcu(|known| {
        let mut known = HashMap::clone(known);
        known.insert(key.to_vec(), app);
        Arc::new(known)
    });
    app
}
