//! Tests of how configuration lines of several scopes are merged.

use std::time::Duration;

use wsgi_core::config::deadline::Deadline;
use wsgi_core::config::{
    DirConfig, ProcessGroup, ServerConfig, Settings, WrittenGroup, group_problems, preloads,
    unknown_groups,
};
use wsgi_core::directives::{Target, find};
use wsgi_core::messages::Message;
use wsgi_core::request::environ::MapHead;
use wsgi_core::request::subnet::Subnet;

/// Returns the configuration that these lines make.
fn server(lines: &[&str]) -> ServerConfig {
    let mut server = ServerConfig::default();
    for line in lines {
        let (name, args) = line.split_once(' ').unwrap_or((line, ""));
        let set = find(name).map(|directive| directive.set(args, &mut Target::Server(&mut server)));
        assert_eq!(set, Some(Ok(())), "{line}");
    }
    server
}

fn dir(lines: &[&str]) -> DirConfig {
    server(lines).dir
}

#[test]
fn without_a_directive_the_defaults_hold() {
    let (dir, server) = Default::default();
    let settings = Settings::resolve(&dir, &server);
    assert_eq!(settings.application_group, "%{RESOURCE}");
    assert_eq!(settings.process_group, "%{GLOBAL}");
    assert_eq!(settings.restrict_process, None);
    assert_eq!(settings.callable_object, "application");
    assert!(settings.script_reloading && settings.case_sensitive);
    assert!(!settings.pass_authorization && !settings.pass_apache_request);
    assert!(!settings.chunked_request && !settings.error_override && !settings.enable_sendfile);
    assert!(!settings.restrict_embedded && !settings.ignore_activity);
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
    let dir = dir(&[
        "WSGIApplicationGroup directory",
        "WSGIScriptReloading On",
        "WSGITrustedProxyHeaders X-Unknown",
    ]);
    let settings = Settings::resolve(&dir, &server);
    assert_eq!(settings.application_group, "directory");
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
    let server = server(&["WSGIRequestTimeout 30 grace=5", "WSGISlowRequestStack 2"]);
    let off = dir(&["WSGIRequestTimeout Off", "WSGISlowRequestStack Off"]);
    let other = dir(&["WSGIRequestTimeout 1.5"]);
    let seconds = Duration::from_secs_f64;
    let deadline = |limit, grace| {
        let (limit, grace) = (seconds(limit), seconds(grace));
        Some(Deadline { limit, grace })
    };
    let of = |dir: &DirConfig| {
        let settings = Settings::resolve(dir, &server);
        (settings.request_timeout, settings.slow_request)
    };
    let nothing = DirConfig::default();
    assert_eq!(of(&nothing), (deadline(30.0, 5.0), Some(seconds(2.0))));
    assert_eq!(of(&off), (None, None));
    let expected = (deadline(1.5, 1.0), Some(seconds(2.0)));
    assert_eq!(of(&other), expected, "a line is one value with its grace");
    let merged = DirConfig::merge(&off, &other);
    assert_eq!(of(&merged), (deadline(1.5, 1.0), None));
}

#[test]
fn deadlines_of_a_process_group_hold_where_none_is_written() {
    let group = |request_timeout| ProcessGroup {
        request_timeout,
        ..ProcessGroup::default()
    };
    let ten = Some(Duration::from_secs(10));
    let of = |server: &[&str], inner: &[&str], limit| {
        let (server, inner) = (self::server(server), dir(inner));
        let settings = Settings::resolve(&inner, &server);
        settings
            .deadline_in(&group(limit))
            .map(|deadline| deadline.limit.as_secs())
    };
    assert_eq!(of(&[], &[], None), None);
    assert_eq!(of(&[], &[], ten), Some(10));
    assert_eq!(of(&["WSGIRequestTimeout 30"], &[], ten), Some(30));
    assert_eq!(of(&["WSGIRequestTimeout Off"], &[], ten), None);
    let lines = &["WSGIRequestTimeout 30"];
    assert_eq!(of(lines, &["WSGIRequestTimeout Off"], ten), None);
    assert_eq!(of(&[], &["WSGIRequestTimeout 5"], ten), Some(5));
    assert_eq!(of(lines, &[], None), Some(30));
}

#[test]
fn inner_values_replace_outer_ones() {
    let outer = dir(&[
        "WSGIApplicationGroup outer",
        "WSGIProcessGroup outer",
        "WSGIPassAuthorization On",
        "WSGIRestrictProcess a b",
        "WSGITrustedProxies 10.0.0.1",
        "WSGITrustedProxies 10.0.0.2",
    ]);
    let inner = dir(&[
        "WSGIApplicationGroup inner",
        "WSGIPassAuthorization Off",
        "WSGITrustedProxies 10.0.0.3",
    ]);
    let merged = DirConfig::merge(&outer, &inner);
    assert_eq!(merged.application_group.as_deref(), Some("inner"));
    assert_eq!(merged.process_group.as_deref(), Some("outer"));
    assert_eq!(merged.pass_authorization, Some(false));
    assert_eq!(merged.restrict_process, Some(vec!["a".into(), "b".into()]));
    let server = server(&["WSGIRestrictProcess c"]);
    for (dir, expected) in [(&merged, &["a", "b"][..]), (&inner, &["c"])] {
        let permitted = Settings::resolve(dir, &server).restrict_process;
        assert_eq!(permitted.map(|names| names == expected), Some(true));
    }
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
    let config = dir(&[
        "WSGIApplicationGroup x",
        "WSGIHandlerScript h /h",
        "WSGIAccessScript /a",
        "WSGIDispatchScript /d",
    ]);
    assert_eq!(DirConfig::merge(&DirConfig::default(), &config), config);
    assert_eq!(DirConfig::merge(&config, &DirConfig::default()), config);
}

#[test]
fn handler_scripts_are_one_mapping() {
    let outer = server(&[
        "WSGIHandlerScript a /outer/a",
        "WSGIHandlerScript b /outer/b",
    ]);
    let inner = dir(&[
        "WSGIHandlerScript b /old/b",
        "WSGIHandlerScript b /inner/b",
        "WSGIHandlerScript c /inner/c",
    ]);
    let merged = DirConfig::merge(&outer.dir, &inner);
    for dir in [&merged, &inner] {
        let settings = Settings::resolve(dir, &outer);
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
        "WSGISocketPrefix /run/wsgi",
        "WSGISocketRotation Off",
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
    assert_eq!(merged.sockets, main.sockets);
    assert_eq!(merged.sockets.prefix.as_deref(), Some("/run/wsgi"));
    let dir = DirConfig::default();
    let settings = Settings::resolve(&dir, &merged);
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
    for (process_group, expected) in [
        (None, &[("/one", ""), ("/two", "app"), ("/two", "app2")][..]),
        (Some(""), &[("/one", "")]),
        (Some("daemon"), &[("/two", "app")]),
        (Some("other"), &[("/two", "app"), ("/two", "app2")]),
        (Some("Other"), &[]),
    ] {
        let preloads = preloads([&main, &merged, &main], process_group);
        let shown: Vec<_> = preloads
            .iter()
            .map(|load| (load.script.as_str(), load.application_group.as_str()))
            .collect();
        assert_eq!(shown, expected, "{process_group:?}");
    }
}

#[test]
fn process_groups_are_defined_once_and_imports_name_defined_ones() {
    let main = server(&[
        "WSGIDaemonProcess a threads=5",
        "WSGIScriptAlias / /s process-group=a application-group=x",
    ]);
    let good = ServerConfig::merge(&main, &server(&["WSGIDaemonProcess b"]));
    assert_eq!(group_problems([&main, &good, &main]), Vec::<String>::new());
    let names = |server: &ServerConfig| -> Vec<String> {
        let groups = server.process_groups.iter();
        groups.map(|group| group.name.clone()).collect()
    };
    assert_eq!(names(&main), ["a"]);
    assert_eq!(
        names(&good),
        ["b"],
        "a virtual host has its own groups only"
    );
    let mut bad = server(&[
        "WSGIDaemonProcess a",
        "WSGIImportScript /s process-group=c application-group=x",
    ]);
    bad.locate("site.conf:7");
    bad.locate("site.conf:9");
    assert_eq!(
        group_problems([&main, &ServerConfig::merge(&main, &bad)]),
        [
            "site.conf:7: WSGIDaemonProcess: 'a' is defined twice; a name may stand only once in all servers",
            "site.conf:7: no WSGIDaemonProcess defines process group 'c', into which '/s' would be loaded",
        ]
    );
}

#[test]
fn process_groups_that_requests_choose_and_nothing_defines_are_told_once() {
    let main = server(&[
        "WSGIDaemonProcess a",
        "WSGIProcessGroup lost",
        "WSGIScriptAlias /good /s process-group=b",
        "WSGIScriptAlias /global /s process-group=%{GLOBAL}",
        "WSGIScriptAlias /env /s process-group=%{ENV:GROUP}",
        "WSGIScriptAlias /case /s process-group=A",
        "WSGIScriptAliasMatch ^/x/(.*) /s process-group=c",
        // A mistake that `group_problems` finds.
        "WSGIScriptAlias /import /s process-group=d application-group=x",
    ]);
    let own = server(&[
        "WSGIDaemonProcess b",
        "WSGIProcessGroup a",
        "WSGIHandlerScript markdown /s process-group=e",
        "WSGIHandlerScript text /s process-group=a",
    ]);
    let merged = ServerConfig::merge(&main, &own);
    let section = |name, location| WrittenGroup { name, location };
    let sections = [
        section("f", "site.conf:7"),
        section("f", "site.conf:9"),
        section("a", "site.conf:8"),
        section("%{HOST}", "site.conf:8"),
        section("", "site.conf:8"),
    ];
    let found = unknown_groups([&main, &merged, &main], sections);
    let expected = [
        ("WSGIProcessGroup", "lost"),
        ("WSGIScriptAlias /case", "A"),
        ("WSGIScriptAliasMatch ^/x/(.*)", "c"),
        ("WSGIHandlerScript markdown", "e"),
        ("site.conf:7", "f"),
        ("site.conf:9", "f"),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(place, name)| {
            let line =
                format!("WSGI1146: {place}: no WSGIDaemonProcess defines process group '{name}'");
            (Message::ProcessGroupUnknown, line)
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(unknown_groups([&ServerConfig::default()], []), []);
}
