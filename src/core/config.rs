//! The configuration as written, where every value may be absent, and [`Settings`], where none is.
//!
//! Values are looked up directory, server, default (1.6). Merging is httpd's: an inner scope onto an outer one.

use std::collections::HashSet;
use std::time::Duration;

use crate::alias::{ScriptAlias, ScriptOptions};
use crate::deadline::Deadline;
use crate::environ::MapHead;
use crate::executor::{self, Share};
use crate::interpreter_options::InterpreterOptions;
use crate::interpreters::{FreeThreading, Written};
use crate::proxy::ProxyHeader;
use crate::recycle::Recycle;
use crate::reload::Reload;
use crate::subnet::Subnet;
use crate::telemetry::TelemetryConfig;

/// What may be said of a directory, a location or a whole server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaceConfig {
    /// `WSGIApplicationGroup`, to be expanded.
    pub application_group: Option<String>,
    /// `WSGIProcessGroup`, to be expanded.
    pub process_group: Option<String>,
    /// `WSGICallableObject`, to be expanded.
    pub callable_object: Option<String>,
    /// `WSGIScriptReloading`.
    pub script_reloading: Option<bool>,
    /// `WSGIPassAuthorization`.
    pub pass_authorization: Option<bool>,
    /// `WSGIPassApacheRequest`.
    pub pass_apache_request: Option<bool>,
    /// `WSGIChunkedRequest`.
    pub chunked_request: Option<bool>,
    /// `WSGIMapHEADToGET`.
    pub map_head_to_get: Option<MapHead>,
    /// `WSGIErrorOverride`.
    pub error_override: Option<bool>,
    /// `WSGIEnableSendfile`.
    pub enable_sendfile: Option<bool>,
    /// `WSGITrustedProxyHeaders`, in order; without the names that nobody knows.
    pub trusted_proxy_headers: Option<Vec<ProxyHeader>>,
    /// `WSGITrustedProxies`.
    pub trusted_proxies: Option<Vec<Subnet>>,
    /// `WSGIRestrictProcess`; "" stands for `%{GLOBAL}`.
    pub restrict_process: Option<Vec<String>>,
    /// `WSGIRequestTimeout`; the inner `None` is Off.
    pub request_timeout: Option<Option<Deadline>>,
    /// `WSGISlowRequest`; the inner `None` is Off.
    pub slow_request: Option<Option<Duration>>,
    /// `WSGIHandlerScript`, one per handler name.
    pub handler_scripts: Vec<HandlerScript>,
    /// `WSGIDispatchScript`.
    pub dispatch_script: Option<AuxiliaryScript>,
    /// `WSGIAccessScript`.
    pub access_script: Option<AuxiliaryScript>,
    /// `WSGIAuthUserScript`.
    pub auth_user_script: Option<AuxiliaryScript>,
    /// `WSGIAuthGroupScript`.
    pub auth_group_script: Option<AuxiliaryScript>,
}

/// A `WSGIHandlerScript`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerScript {
    /// Name for `SetHandler` and `AddHandler`.
    pub handler: String,
    /// The script whose `handle_request` serves.
    pub script: String,
    /// Its options; `callable_object` is never set.
    pub options: ScriptOptions,
}

/// A script beside the application: dispatch, access, authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuxiliaryScript {
    /// Path.
    pub script: String,
    /// `application-group=`; "" for `%{GLOBAL}`, which is also what `None` means to mod_wsgi.
    pub application_group: Option<String>,
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

/// What concerns Python as a whole; only ever written in the main server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PythonConfig {
    /// `WSGIPythonHome`: a prefix or a virtual environment.
    pub home: Option<String>,
    /// `WSGIPythonPath`, split at its colons.
    pub path: Option<Vec<String>>,
    /// `WSGIPythonEggs`.
    pub eggs: Option<String>,
    /// `WSGIPythonOptimize`; 0 leaves CPython's own level.
    pub optimize: u32,
    /// `WSGIPythonWarnings`, in order.
    pub warnings: Vec<String>,
    /// `WSGIPythonHashSeed`; `None` for `random`, which is also the default.
    pub hash_seed: Option<u32>,
    /// `WSGIDontWriteBytecode`; the default is Off.
    pub dont_write_bytecode: bool,
    /// `WSGISwitchInterval`, seconds, above 0.
    pub switch_interval: Option<f64>,
    /// `WSGIRestrictStdin`; the default is Off.
    pub restrict_stdin: Option<bool>,
    /// `WSGIRestrictStdout`; the default is Off.
    pub restrict_stdout: Option<bool>,
    /// `WSGIRestrictSignal`; the default is On.
    pub restrict_signal: Option<bool>,
    /// `WSGIRestrictEmbedded On`: no request may run Python in the httpd children, so all are answered with 500.
    pub restrict_embedded: bool,
    /// `WSGIApplicationGroupLimit`.
    pub group_limit: Option<u32>,
    /// `WSGICaseSensitivity`; the default is On, as file systems here tell cases apart.
    pub case_sensitivity: Option<bool>,
    /// `WSGIInterpreter`, `WSGIGILMode`, `WSGIPerInterpreterGIL`, `WSGIInterpreters`.
    pub interpreters: Written,
    /// `WSGIExecutor`, `WSGIThreadPool`, `WSGIQueue`, `WSGIThreadShare`.
    pub executor: executor::Written,
    /// `reserve=` of `WSGIThreadShare`.
    pub thread_reserve: Option<Share>,
    /// `WSGIDeadlockTimeout`; the inner `None` is Off.
    pub deadlock_timeout: Option<Option<Duration>>,
    /// `WSGIStartupTimeout`; the inner `None` is Off.
    pub startup_timeout: Option<Option<Duration>>,
    /// `WSGIFreeThreading`.
    pub free_threading: Option<FreeThreading>,
    /// `WSGIPrivateEnviron`; the default is On.
    pub private_environ: Option<bool>,
    /// `WSGIDestroyInterpreter`.
    pub destroy: Option<bool>,
}

/// What may be said of a server, main or virtual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerConfig {
    /// What holds for every place of the server.
    pub place: PlaceConfig,
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

/// `WSGIStartupTimeout` where none is written.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

impl PythonConfig {
    /// How long a GIL may be held before that is a deadlock; `None` where nobody looks.
    pub fn deadlock_timeout(&self) -> Option<Duration> {
        self.deadlock_timeout
            .unwrap_or(Some(Duration::from_secs(300)))
    }

    /// How long Python may take to start, and an application to load where its group has no limit of its own; `None`
    /// where there is no limit.
    pub fn startup_timeout(&self) -> Option<Duration> {
        self.startup_timeout.unwrap_or(Some(STARTUP_TIMEOUT))
    }
}

impl PlaceConfig {
    /// Nothing was written.
    pub const EMPTY: PlaceConfig = PlaceConfig {
        application_group: None,
        process_group: None,
        callable_object: None,
        script_reloading: None,
        pass_authorization: None,
        pass_apache_request: None,
        chunked_request: None,
        map_head_to_get: None,
        error_override: None,
        enable_sendfile: None,
        trusted_proxy_headers: None,
        trusted_proxies: None,
        restrict_process: None,
        request_timeout: None,
        slow_request: None,
        handler_scripts: Vec::new(),
        dispatch_script: None,
        access_script: None,
        auth_user_script: None,
        auth_group_script: None,
    };

    /// Values of `inner` where it has them, else those of `outer`. Lists replace each other as a whole, except
    /// handler scripts: those are one mapping, in which `inner` wins per name.
    pub fn merge(outer: &Self, inner: &Self) -> Self {
        macro_rules! inner_or_outer {
            ($($field:ident),+) => {
                PlaceConfig {
                    handler_scripts: merge_handlers(&outer.handler_scripts, &inner.handler_scripts),
                    $($field: inner.$field.clone().or_else(|| outer.$field.clone()),)+
                }
            };
        }
        inner_or_outer!(
            application_group,
            process_group,
            callable_object,
            script_reloading,
            pass_authorization,
            pass_apache_request,
            chunked_request,
            map_head_to_get,
            error_override,
            enable_sendfile,
            trusted_proxy_headers,
            trusted_proxies,
            restrict_process,
            request_timeout,
            slow_request,
            dispatch_script,
            access_script,
            auth_user_script,
            auth_group_script
        )
    }

    /// Adds a handler script, or puts it in the place of the one of that name.
    pub(crate) fn set_handler_script(&mut self, new: HandlerScript) {
        match self
            .handler_scripts
            .iter_mut()
            .find(|old| old.handler == new.handler)
        {
            Some(old) => *old = new,
            None => self.handler_scripts.push(new),
        }
    }
}

fn merge_handlers(outer: &[HandlerScript], inner: &[HandlerScript]) -> Vec<HandlerScript> {
    let hidden = |old: &&HandlerScript| inner.iter().any(|new| new.handler == old.handler);
    outer
        .iter()
        .filter(|old| !hidden(old))
        .chain(inner)
        .cloned()
        .collect()
}

impl ServerConfig {
    /// A virtual host (`inner`) within the main server (`outer`): aliases of the virtual host come first, what
    /// concerns the process as a whole is the main server's.
    pub fn merge(outer: &Self, inner: &Self) -> Self {
        ServerConfig {
            place: PlaceConfig::merge(&outer.place, &inner.place),
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

/// What holds for one request.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// To be expanded.
    pub application_group: &'a str,
    /// To be expanded; "" for embedded.
    pub process_group: &'a str,
    /// To be expanded.
    pub callable_object: &'a str,
    /// Whether a changed script is loaded again.
    pub script_reloading: bool,
    /// Whether the environ has `HTTP_AUTHORIZATION`; an alias or handler script may say otherwise.
    pub pass_authorization: bool,
    /// Whether the environ has `apache.request_rec`.
    pub pass_apache_request: bool,
    /// Whether a chunked request body is taken.
    pub chunked_request: bool,
    /// What `REQUEST_METHOD` is for HEAD.
    pub map_head_to_get: MapHead,
    /// Whether `ErrorDocument` replaces the application's own error pages.
    pub error_override: bool,
    /// Whether a file goes out with sendfile.
    pub enable_sendfile: bool,
    /// Headers by which a proxy may change the environ; `None` where that is switched off.
    pub trusted_proxy_headers: Option<&'a [ProxyHeader]>,
    /// Peers from which these headers are honoured; `None` for every peer.
    pub trusted_proxies: Option<&'a [Subnet]>,
    /// Whether script names and paths that differ in case are different.
    pub case_sensitive: bool,
    /// Whether Python may not run in the httpd children.
    pub restrict_embedded: bool,
    /// Nanoseconds after which a request is noted as slow; 0 for never.
    pub slow_requests: u64,
    /// How long a request may run, where that is limited.
    pub request_timeout: Option<Deadline>,
    /// After how long the stack of its thread is logged, where it is.
    pub slow_request: Option<Duration>,
    place: &'a PlaceConfig,
    server: &'a PlaceConfig,
}

impl<'a> Settings<'a> {
    /// Looks everything up; allocates nothing.
    pub fn resolve(place: &'a PlaceConfig, server: &'a ServerConfig) -> Settings<'a> {
        macro_rules! value {
            ($field:ident) => {
                place.$field.or(server.place.$field)
            };
            (&$field:ident) => {
                place.$field.as_deref().or(server.place.$field.as_deref())
            };
        }
        Settings {
            application_group: value!(&application_group).unwrap_or("%{RESOURCE}"),
            process_group: value!(&process_group).unwrap_or(""),
            callable_object: value!(&callable_object).unwrap_or("application"),
            script_reloading: server.reload == Reload::Script
                && value!(script_reloading).unwrap_or(true),
            pass_authorization: value!(pass_authorization).unwrap_or(false),
            pass_apache_request: value!(pass_apache_request).unwrap_or(false),
            chunked_request: value!(chunked_request).unwrap_or(false),
            map_head_to_get: value!(map_head_to_get).unwrap_or(MapHead::Auto),
            error_override: value!(error_override).unwrap_or(false),
            enable_sendfile: value!(enable_sendfile).unwrap_or(false),
            trusted_proxy_headers: value!(&trusted_proxy_headers),
            trusted_proxies: value!(&trusted_proxies),
            case_sensitive: server.python.case_sensitivity.unwrap_or(true),
            restrict_embedded: server.python.restrict_embedded,
            slow_requests: server.telemetry.slow_requests,
            request_timeout: value!(request_timeout).flatten(),
            slow_request: value!(slow_request).flatten(),
            place,
            server: &server.place,
        }
    }

    /// The script for the handler `name` (`r->handler`), if there is one; names are compared exactly.
    pub fn handler_script(&self, name: &[u8]) -> Option<&'a HandlerScript> {
        let named = |script: &&HandlerScript| script.handler.as_bytes() == name;
        self.place
            .handler_scripts
            .iter()
            .find(named)
            .or_else(|| self.server.handler_scripts.iter().find(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directive::{Target, find};

    /// The configuration that these lines make.
    fn server(lines: &[&str]) -> ServerConfig {
        let mut server = ServerConfig::default();
        for line in lines {
            let (name, args) = line.split_once(' ').unwrap_or((line, ""));
            let set =
                find(name).map(|directive| directive.set(args, &mut Target::Server(&mut server)));
            assert_eq!(set, Some(Ok(())), "{line}");
        }
        server
    }

    fn place(lines: &[&str]) -> PlaceConfig {
        server(lines).place
    }

    #[test]
    fn without_a_directive_the_defaults_hold() {
        let (place, server) = Default::default();
        let settings = Settings::resolve(&place, &server);
        assert_eq!(settings.application_group, "%{RESOURCE}");
        assert_eq!(settings.process_group, "");
        assert_eq!(settings.callable_object, "application");
        assert!(settings.script_reloading && settings.case_sensitive);
        assert!(!settings.pass_authorization && !settings.pass_apache_request);
        assert!(!settings.chunked_request && !settings.error_override && !settings.enable_sendfile);
        assert!(!settings.restrict_embedded);
        assert_eq!(settings.map_head_to_get, MapHead::Auto);
        assert_eq!(
            (settings.request_timeout, settings.slow_request),
            (None, None)
        );
        assert_eq!(
            (settings.trusted_proxy_headers, settings.trusted_proxies),
            (None, None)
        );
    }

    #[test]
    fn the_directory_wins_over_the_server() {
        let server = server(&[
            "WSGIApplicationGroup server",
            "WSGICallableObject server",
            "WSGIScriptReloading Off",
            "WSGIMapHEADToGET Off",
            "WSGITrustedProxyHeaders X-Forwarded-For",
            "WSGITrustedProxies 10.0.0.1",
        ]);
        let place = place(&[
            "WSGIApplicationGroup place",
            "WSGIScriptReloading On",
            "WSGITrustedProxyHeaders X-Unknown",
        ]);
        let settings = Settings::resolve(&place, &server);
        assert_eq!(settings.application_group, "place");
        assert_eq!(settings.callable_object, "server");
        assert!(settings.script_reloading);
        assert_eq!(settings.map_head_to_get, MapHead::Off);
        assert_eq!(
            settings.trusted_proxy_headers,
            Some(&[][..]),
            "a list without known names is a list"
        );
        assert_eq!(settings.trusted_proxies.map(<[Subnet]>::len), Some(1));
    }

    #[test]
    fn deadlines_are_those_of_the_innermost_place() {
        let server = server(&["WSGIRequestTimeout 30 grace=5", "WSGISlowRequest 2"]);
        let off = place(&["WSGIRequestTimeout Off", "WSGISlowRequest Off"]);
        let other = place(&["WSGIRequestTimeout 1.5"]);
        let seconds = Duration::from_secs_f64;
        let deadline = |limit, grace| {
            let (limit, grace) = (seconds(limit), seconds(grace));
            Some(Deadline { limit, grace })
        };
        let of = |place: &PlaceConfig| {
            let settings = Settings::resolve(place, &server);
            (settings.request_timeout, settings.slow_request)
        };
        let nothing = PlaceConfig::default();
        assert_eq!(of(&nothing), (deadline(30.0, 5.0), Some(seconds(2.0))));
        assert_eq!(of(&off), (None, None));
        let expected = (deadline(1.5, 1.0), Some(seconds(2.0)));
        assert_eq!(of(&other), expected, "a line is one value with its grace");
        let merged = PlaceConfig::merge(&off, &other);
        assert_eq!(of(&merged), (deadline(1.5, 1.0), None));
    }

    #[test]
    fn inner_values_replace_outer_ones() {
        let outer = place(&[
            "WSGIApplicationGroup outer",
            "WSGIProcessGroup outer",
            "WSGIPassAuthorization On",
            "WSGIRestrictProcess a b",
            "WSGITrustedProxies 10.0.0.1",
            "WSGITrustedProxies 10.0.0.2",
        ]);
        let inner = place(&[
            "WSGIApplicationGroup inner",
            "WSGIPassAuthorization Off",
            "WSGITrustedProxies 10.0.0.3",
        ]);
        let merged = PlaceConfig::merge(&outer, &inner);
        assert_eq!(merged.application_group.as_deref(), Some("inner"));
        assert_eq!(merged.process_group.as_deref(), Some("outer"));
        assert_eq!(merged.pass_authorization, Some(false));
        assert_eq!(merged.restrict_process, Some(vec!["a".into(), "b".into()]));
        assert_eq!(
            outer.trusted_proxies.as_ref().map(Vec::len),
            Some(2),
            "one scope adds up"
        );
        assert_eq!(
            merged.trusted_proxies, inner.trusted_proxies,
            "an inner scope replaces"
        );
    }

    #[test]
    fn merging_with_nothing_changes_nothing() {
        let config = place(&[
            "WSGIApplicationGroup x",
            "WSGIHandlerScript h /h",
            "WSGIAccessScript /a",
            "WSGIDispatchScript /d",
        ]);
        assert_eq!(PlaceConfig::merge(&PlaceConfig::default(), &config), config);
        assert_eq!(PlaceConfig::merge(&config, &PlaceConfig::default()), config);
    }

    #[test]
    fn handler_scripts_are_one_mapping() {
        let outer = server(&[
            "WSGIHandlerScript a /outer/a",
            "WSGIHandlerScript b /outer/b",
        ]);
        let inner = place(&[
            "WSGIHandlerScript b /old/b",
            "WSGIHandlerScript b /inner/b",
            "WSGIHandlerScript c /inner/c",
        ]);
        let merged = PlaceConfig::merge(&outer.place, &inner);
        for place in [&merged, &inner] {
            let settings = Settings::resolve(place, &outer);
            for (name, script) in [
                ("a", Some("/outer/a")),
                ("b", Some("/inner/b")),
                ("c", Some("/inner/c")),
                ("B", None),
            ] {
                let found = settings
                    .handler_script(name.as_bytes())
                    .map(|found| found.script.as_str());
                assert_eq!(found, script, "{name}");
            }
        }
    }

    #[test]
    fn a_virtual_host_has_its_aliases_first_and_pythons_of_the_main_server() {
        let main = server(&[
            "WSGIScriptAlias / /main",
            "WSGIPythonHome /venv",
            "WSGIRestrictEmbedded On",
            "WSGISlowRequests 2.5",
            "<WSGIInterpreterOptions application-group=x>",
        ]);
        let merged = ServerConfig::merge(
            &main,
            &server(&["WSGIScriptAlias /a /a", "WSGIScriptAlias /b /b"]),
        );
        let targets: Vec<&str> = merged
            .aliases
            .iter()
            .map(|alias| alias.target.as_str())
            .collect();
        assert_eq!(targets, ["/a", "/b", "/main"]);
        assert_eq!(merged.python, main.python);
        assert_eq!(merged.interpreter_options, main.interpreter_options);
        let place = PlaceConfig::default();
        let settings = Settings::resolve(&place, &merged);
        assert!(settings.restrict_embedded);
        assert_eq!(settings.slow_requests, 2_500_000_000);
    }

    #[test]
    fn every_server_preloads_its_own_scripts_once() {
        let main = server(&[
            "WSGIImportScript /one process-group=%{GLOBAL} application-group=%{GLOBAL}",
            "WSGIScriptAlias / /two process-group=daemon application-group=app",
            "WSGIScriptAlias /x /x application-group=app",
        ]);
        let own = server(&[
            "WSGIImportScript /two process-group=other application-group=app",
            "WSGIImportScript /two process-group=other application-group=app2",
        ]);
        let merged = ServerConfig::merge(&main, &own);
        let preloads = preloads([&main, &merged, &main]);
        let shown: Vec<_> = preloads
            .iter()
            .map(|load| (load.script.as_str(), load.application_group.as_str()))
            .collect();
        assert_eq!(shown, [("/one", ""), ("/two", "app"), ("/two", "app2")]);
    }

    #[test]
    fn daemon_groups_are_defined_once_and_before_use_in_imports() {
        let main = server(&[
            "WSGIDaemonProcess a threads=5",
            "WSGIScriptAlias / /s process-group=a application-group=x",
        ]);
        let good = ServerConfig::merge(&main, &server(&["WSGIDaemonProcess b"]));
        assert_eq!(daemon_problems([&main, &good, &main]), Vec::<String>::new());
        let mut bad = server(&[
            "WSGIDaemonProcess a",
            "WSGIImportScript /s process-group=c application-group=x",
        ]);
        bad.locate("site.conf:7");
        bad.locate("site.conf:9");
        assert_eq!(
            daemon_problems([&main, &ServerConfig::merge(&main, &bad)]),
            [
                "site.conf:7: WSGIDaemonProcess: 'a' is defined twice; a name may stand only once in all servers",
                "site.conf:7: process group 'c', into which '/s' is to be loaded, is defined by no WSGIDaemonProcess",
            ]
        );
    }
}
