//! Tests of the rows, as a configuration uses them.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::Settings;
use crate::config::deadline::Deadline;
use crate::config::executor::Executor;
use crate::config::interpreter_options::{InterpreterOptions, free_threading, group_options};
use crate::config::interpreters::Replicas;
use crate::config::telemetry::TelemetryConfig;
use crate::config::{DirConfig, ServerConfig};
use crate::plan::mpm_plan::{Mpm, MpmPlan};
use crate::request::alias::ScriptOptions;
use wsgi_abi::GilMode;

/// Applies one configuration line to a server, a container or a directory.
fn set(target: &mut Target<'_>, line: &str) -> Result<(), String> {
    let (name, args) = line.split_once(' ').unwrap_or((line, ""));
    find(name)
        .unwrap_or_else(|| panic!("{name} is no directive"))
        .set(args, target)
}

fn server(line: &str) -> Result<ServerConfig, String> {
    let mut server = ServerConfig::default();
    set(&mut Target::Server(&mut server), line).map(|()| server)
}

#[test]
fn the_table_is_that_of_mod_wsgi_6_and_our_own() {
    use Context::*;
    // Name, context, and whether a container may hold it, as in tables 1.1 to 1.5.
    let expected = [
        ("WSGIScriptAlias", Server, false),
        ("WSGIScriptAliasMatch", Server, false),
        ("WSGIHandlerScript", Directory, false),
        ("WSGIImportScript", Server, false),
        ("WSGIDispatchScript", Directory, false),
        ("WSGIProcessGroup", Directory, false),
        ("WSGIApplicationGroup", Directory, false),
        ("WSGICallableObject", FileInfo, false),
        ("WSGIRestrictProcess", Directory, false),
        ("WSGIRestrictEmbedded", Global, false),
        ("WSGIScriptReloading", FileInfo, false),
        ("WSGIPassAuthorization", FileInfo, false),
        ("WSGIPassApacheRequest", Directory, false),
        ("WSGIChunkedRequest", FileInfo, false),
        ("WSGIMapHEADToGET", FileInfo, false),
        ("WSGIErrorOverride", FileInfo, false),
        ("WSGIEnableSendfile", FileInfo, false),
        ("WSGIIgnoreActivity", FileInfo, false),
        ("WSGITrustedProxyHeaders", FileInfo, false),
        ("WSGITrustedProxies", FileInfo, false),
        ("WSGIPythonHome", Global, false),
        ("WSGIPythonPath", Global, true),
        ("WSGIPythonEggs", Global, false),
        ("WSGIPythonOptimize", Global, false),
        ("WSGIPythonWarnings", Global, false),
        ("WSGIPythonHashSeed", Global, false),
        ("WSGIDontWriteBytecode", Global, false),
        ("WSGISwitchInterval", Global, true),
        ("<WSGIInterpreterOptions", Global, false),
        ("WSGIRestrictStdin", Global, true),
        ("WSGIRestrictStdout", Global, true),
        ("WSGIRestrictSignal", Global, true),
        ("WSGICaseSensitivity", Global, false),
        ("WSGIVerboseDebugging", Global, false),
        ("WSGIAccessScript", AuthConfig, false),
        ("WSGIAuthUserScript", AuthConfig, false),
        ("WSGIAuthGroupScript", AuthConfig, false),
        ("WSGIGroupAuthoritative", AuthConfig, false),
        ("WSGIDaemonProcess", Server, false),
        ("WSGISocketPrefix", Global, false),
        ("WSGISocketRotation", Global, false),
        ("WSGIAcceptMutex", Global, false),
        ("WSGIServerMetrics", Global, false),
        ("WSGITelemetryService", Global, false),
        ("WSGISlowRequests", Global, false),
        ("WSGITelemetryOptions", Global, false),
        // Only in mod_wsgi_rs.
        ("WSGIMetrics", Global, false),
        ("WSGIMetricsListen", Global, false),
        ("WSGIMetricsSeries", Global, false),
        ("WSGIPrometheusClient", Global, false),
        ("WSGIApplicationGroupLimit", Global, false),
        ("WSGIInterpreter", Global, true),
        ("WSGIGILMode", Global, true),
        ("WSGIInterpreters", Global, true),
        // In mod_wsgi, too.
        ("WSGIPerInterpreterGIL", Global, true),
        ("WSGIFreeThreading", Global, true),
        ("WSGIPrivateEnviron", Global, true),
        ("WSGIDestroyInterpreter", Global, false),
        ("WSGIReload", Global, false),
        ("WSGIRecycle", Global, false),
        ("WSGIWarmup", Server, false),
        ("WSGIExecutor", Global, true),
        ("WSGIThreadPool", Global, true),
        ("WSGIQueue", Global, true),
        ("WSGIThreadShare", Global, true),
        ("WSGIRequestTimeout", Directory, false),
        ("WSGISlowRequestStack", Directory, false),
        // The older name of `WSGISlowRequestStack`.
        ("WSGISlowRequest", Directory, false),
        ("WSGIDeadlockTimeout", Global, false),
        ("WSGIStartupTimeout", Global, true),
    ];
    let table: Vec<_> = DIRECTIVES
        .iter()
        .map(|row| (row.name, row.context, row.in_container))
        .collect();
    assert_eq!(table, expected);
}

#[test]
fn each_row_is_whole() {
    for row in DIRECTIVES {
        assert!(row.help.ends_with('.'), "{}", row.name);
        assert!(!row.syntax.is_empty(), "{}", row.name);
        assert!(row.example.contains(row.name), "{}", row.name);
        let is_sentence = row.difference.is_empty() || row.difference.ends_with('.');
        assert!(is_sentence, "{}", row.name);
        assert_eq!(row.container, row.name.starts_with('<'), "{}", row.name);
        if let Effect::Later(text) | Effect::Nothing(text) = row.effect {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}", row.name);
        }
    }
}

#[test]
fn the_older_name_of_a_directive_says_the_same() {
    for line in ["2.5", "Off"] {
        let [new, old] = ["WSGISlowRequestStack", "WSGISlowRequest"]
            .map(|name| server(&format!("{name} {line}")).unwrap().dir.slow_request);
        assert!(new.is_some() && new == old, "{line}");
    }
    let both = server_of(&["WSGISlowRequest 5", "WSGISlowRequestStack 9"]);
    let last = std::time::Duration::from_secs(9);
    assert_eq!(
        both.dir.slow_request,
        Some(Some(last)),
        "the last one holds"
    );
    assert_eq!(
        server("WSGISlowRequest now").err(),
        Some("WSGISlowRequest: 'now' is neither Off nor a number of seconds from 0.001 on".into())
    );
}

/// Returns a server with only these configuration lines.
fn server_of(lines: &[&str]) -> ServerConfig {
    let mut server = ServerConfig::default();
    for line in lines {
        assert_eq!(
            set(&mut Target::Server(&mut server), line),
            Ok(()),
            "{line}"
        );
    }
    server
}

/// Returns all resolved values of a server with these lines, as text.
fn effective(lines: &[&str]) -> String {
    let server = server_of(lines);
    let nowhere = DirConfig::EMPTY;
    let settings = Settings::resolve(&nowhere, &server);
    let Settings {
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
        ignore_activity,
        trusted_proxy_headers,
        trusted_proxies,
        case_sensitive,
        restrict_embedded,
        slow_requests,
        request_timeout,
        slow_request,
        ..
    } = settings;
    let of_request = (
        (application_group, process_group, callable_object),
        (
            script_reloading,
            pass_authorization,
            pass_apache_request,
            chunked_request,
        ),
        (
            map_head_to_get,
            error_override,
            enable_sendfile,
            ignore_activity,
        ),
        (trusted_proxy_headers, trusted_proxies),
        (case_sensitive, restrict_embedded, slow_requests),
        (request_timeout, slow_request),
    );
    let python = &server.python;
    let group = group_options(&[], python, "", "");
    let mut interpreters = group.interpreters;
    if interpreters.gil == GilMode::Shared {
        // The number of replicas has no meaning under a shared GIL.
        interpreters.replicas = Replicas::Count(1);
    }
    let plan = MpmPlan::new(Mpm::Event, 4, 25, 2);
    let of_python = (
        (
            python.optimize,
            python.hash_seed,
            python.dont_write_bytecode,
        ),
        (
            group.switch_interval,
            group.restrict_stdin,
            group.restrict_stdout,
            group.restrict_signal,
            group.startup_timeout,
        ),
        (
            group.private_environ,
            interpreters,
            free_threading(python),
            python.destroy,
        ),
        [true, false].map(|has_gil| plan.executor(&group.executor, has_gil)),
        (
            plan.reserve(python.thread_reserve),
            python.deadlock_timeout(),
        ),
    );
    let telemetry = &server.telemetry;
    let of_metrics = (
        (
            telemetry.metrics.unwrap_or(true),
            telemetry.prometheus_client,
        ),
        telemetry.series.unwrap_or(TelemetryConfig::SERIES),
    );
    let of_children = (&server.reload, server.recycle);
    format!("{of_request:#?}{of_python:#?}{of_metrics:#?}{of_children:#?}")
}

/// Returns the argument that stands for the default of a directive ("" for the row's own text), and another value.
fn written_default(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "WSGIProcessGroup" | "WSGIApplicationGroup" | "WSGICallableObject" => ("", "other"),
        "WSGIMapHEADToGET" => ("", "On"),
        "WSGIPythonOptimize" => ("", "2"),
        "WSGIPythonHashSeed" => ("", "7"),
        "WSGISlowRequests" | "WSGIDeadlockTimeout" => ("", "9"),
        "WSGIMetricsSeries" => ("", "64"),
        "WSGIInterpreter" => ("", "main"),
        "WSGIGILMode" => ("shared", "own"),
        "WSGIInterpreters" => ("1", "auto"),
        "WSGIReload" => ("", "modules"),
        "WSGIExecutor" => ("", "direct"),
        "WSGIQueue" => ("", "timeout=59"),
        "WSGIRequestTimeout"
        | "WSGISlowRequestStack"
        | "WSGISlowRequest"
        | "WSGIStartupTimeout" => ("", "9"),
        "WSGIFreeThreading" => ("", "On"),
        _ => return None,
    })
}

#[test]
fn what_stands_as_the_default_holds_where_nothing_is_written() {
    // Defaults that are descriptions, not arguments, or that another program sets.
    let in_words = [
        (
            "WSGIApplicationGroupLimit",
            "what the groups that the configuration names leave of 255, at least 63",
        ),
        ("WSGIDestroyInterpreter", "unset"),
        ("WSGIRecycle", "never"),
        ("WSGIThreadPool", "size=auto with WSGIExecutor pool"),
        ("WSGIThreadShare", "no limit, no reserve"),
        ("WSGISocketPrefix", "wsgi in the run-time directory"),
        // CPython's default.
        ("WSGISwitchInterval", "0.005"),
    ];
    let nothing = effective(&[]);
    for row in DIRECTIVES {
        let is_shown = row.effect == Effect::Now && !row.default.is_empty();
        if !is_shown || in_words.contains(&(row.name, row.default)) {
            continue;
        }
        let other_of_two = if row.default == "On" { "Off" } else { "On" };
        let (default, other) = written_default(row.name).unwrap_or(("", other_of_two));
        assert!(
            row.syntax == "On|Off" || written_default(row.name).is_some(),
            "{}: name another value than '{}' here",
            row.name,
            row.default
        );
        // The argument is the row's text, or the beginning of it.
        assert!(row.default.starts_with(default), "{}", row.name);
        let default = if default.is_empty() {
            row.default
        } else {
            default
        };
        let written = |value: &str| effective(&[&format!("{} {value}", row.name)]);
        assert_eq!(written(default), nothing, "{} {default}", row.name);
        assert_ne!(written(other), nothing, "{} {other}", row.name);
    }
    let plan = MpmPlan::new(Mpm::Event, 4, 25, 3);
    let executor = |lines: &[&str]| plan.executor(&server_of(lines).python.executor, true);
    assert_eq!(
        executor(&["WSGIExecutor pool"]),
        executor(&["WSGIExecutor pool", "WSGIThreadPool size=auto"])
    );
    let unlimited = executor(&[]);
    assert_eq!(
        (unlimited.share, unlimited.queue_depth, plan.reserve(None)),
        (Executor::NO_BOUND, Executor::NO_BOUND, 0)
    );
}

#[test]
fn numbers_in_help_texts_are_those_that_hold() {
    let plan = MpmPlan::new(Mpm::Event, 4, 25, 3);
    let delegate = {
        let mut server = ServerConfig::default();
        let line = "WSGIExecutor delegate";
        assert_eq!(set(&mut Target::Server(&mut server), line), Ok(()));
        plan.executor(&server.python.executor, true)
    };
    assert_eq!(delegate.most, plan.python_threads(), "ThreadsPerChild");
    // Every value in parentheses in a help text: directive, word before it, expected value.
    let known = [
        ("WSGIExecutor", "min", delegate.least.to_string()),
        ("WSGIExecutor", "max", "ThreadsPerChild".into()),
        (
            "WSGIRequestTimeout",
            "grace",
            Deadline::GRACE.as_secs_f64().to_string(),
        ),
        // These are not defaults, but an example, names of Python's options, and requirements.
        ("WSGIRecycle", "own", "512M".into()),
        ("WSGIPythonOptimize", "-O", "1".into()),
        ("WSGIPythonOptimize", "-OO", "2".into()),
        ("WSGIGILMode", "each", "Python 3.13 or later".into()),
        (
            "WSGIGILMode",
            "none",
            "a free-threaded build of 3.14 or later".into(),
        ),
    ];
    let mut found = Vec::new();
    for row in DIRECTIVES {
        for (at, _) in row.help.match_indices('(') {
            let before = row.help[..at].split_whitespace().next_back().unwrap();
            let inside = row.help[at + 1..].split(')').next().unwrap();
            if !inside.is_empty() {
                found.push((row.name, before, inside.to_owned()));
            }
        }
    }
    for entry in &found {
        assert!(
            known.contains(entry),
            "{entry:?} is not what holds, or not known here"
        );
    }
    for entry in &known {
        assert!(found.contains(entry), "{entry:?} is in no help text");
    }
}

#[test]
fn on_off_is_read_in_any_case_and_nothing_else_is() {
    for row in DIRECTIVES.iter().filter(|row| row.syntax == "On|Off") {
        for word in ["On", "off", "ON", "\"Off\""] {
            assert!(
                server(&format!("{} {word}", row.name)).is_ok(),
                "{} {word}",
                row.name
            );
        }
        let name = row.name;
        assert_eq!(
            server(&format!("{name} maybe")),
            Err(format!("{name}: 'maybe' is neither On nor Off"))
        );
        assert_eq!(
            server(&format!("{name} ")),
            Err(format!("{name}: takes one argument, and there is none"))
        );
        assert_eq!(
            server(&format!("{name} On Off")),
            Err(format!("{name}: takes one argument, not 2"))
        );
    }
}

#[test]
fn values_go_where_the_directive_stands() {
    for row in DIRECTIVES {
        let args = match row.syntax {
            "On|Off" => "On",
            "auto|main|sub" => "main",
            "shared|own|free|auto" => "own",
            "number|auto" => "2",
            "Off|On [require]" => "On",
            "off|script|modules|touch file" => "modules",
            "URL-path ..." => "/a /b",
            "[requests=number] [memory=size] [age=seconds] [jitter=percent]" => "memory=1G",
            "direct|delegate|pool|auto [min=number] [max=number]" => "delegate max=5",
            "size=number|auto" => "size=4",
            "[depth=number] [timeout=seconds]" => "depth=4 timeout=0.5",
            "[number|percent%] [reserve=number|percent%]" => "50%",
            "seconds|Off [grace=seconds]" => "30 grace=2",
            "seconds|Off" => "30",
            "Off|On|Auto" => "Auto",
            "seconds" => "1",
            "random|number" => "random",
            "number" => "64",
            "address|network ..." => "::1",
            "default|flock|fcntl|sysvsem|posixsem|pthread" => "flock",
            "address:port|unix:/path" => "127.0.0.1:9117",
            "unix:/path [interval=seconds]" => "unix:/s interval=0.5",
            "[+|-]CaptureUserAgent|None|All ..." => "+CaptureUserAgent",
            "[process-group=name] [application-group=name]" => ">",
            "script process-group=name application-group=name" => {
                "/s process-group=p application-group=a"
            }
            "name" | "name ..." | "name [option=value ...]" => "x",
            text if text.starts_with("URL")
                || text.starts_with("regex")
                || text.starts_with("handler") =>
            {
                "/a /b"
            }
            _ => "/x",
        };
        let line = format!("{} {args}", row.name);
        assert!(server(&line).is_ok(), "{line}: {:?}", server(&line));
        let in_place = set(&mut Target::Directory(&mut DirConfig::default()), &line);
        if !matches!(row.context, Context::Global | Context::Server) {
            assert_eq!(in_place, Ok(()), "{line}");
        }
        if row.in_container {
            let mut options = InterpreterOptions::default();
            assert_eq!(
                set(&mut Target::Options(&mut options), &line),
                Ok(()),
                "{line}"
            );
            if row.effect == Effect::Now {
                assert_ne!(options, InterpreterOptions::default(), "{line}");
            }
        }
    }
}

#[test]
fn a_value_in_the_wrong_place_is_refused() {
    let mut dir = DirConfig::default();
    let mut target = Target::Directory(&mut dir);
    assert_eq!(
        set(&mut target, "WSGIPythonHome /x"),
        Err("WSGIPythonHome: not allowed in a directory or location".into())
    );
    let mut options = InterpreterOptions::default();
    let mut target = Target::Options(&mut options);
    assert_eq!(
        set(&mut target, "WSGIScriptReloading On"),
        Err("WSGIScriptReloading: not allowed in <WSGIInterpreterOptions>".into())
    );
}

#[test]
fn an_alias_has_its_options() {
    let config = server(
        "WSGIScriptAlias /a \"/my scripts/a.wsgi\" process-group=%{GLOBAL} application-group='x y' \
         callable-object=%{ENV:C} pass-authorization=on",
    )
    .unwrap();
    let alias = &config.aliases[0];
    assert_eq!(
        (alias.location.as_str(), alias.target.as_str(), alias.regex),
        ("/a", "/my scripts/a.wsgi", false)
    );
    assert_eq!(
        alias.options,
        ScriptOptions {
            process_group: Some(String::new()),
            application_group: Some("x y".into()),
            callable_object: Some("%{ENV:C}".into()),
            pass_authorization: Some(true),
        }
    );
    assert!(
        server("WSGIScriptAliasMatch ^/(.*)$ /s/$1")
            .unwrap()
            .aliases[0]
            .regex
    );
}

#[test]
fn values_are_read() {
    let python = |line| server(line).unwrap().python;
    assert_eq!(
        python("WSGIPythonPath /a:/b::").path,
        Some(vec!["/a".into(), "/b".into()])
    );
    assert_eq!(
        python("WSGIPythonHashSeed 4294967295").hash_seed,
        Some(u32::MAX)
    );
    assert_eq!(python("WSGIPythonHashSeed random").hash_seed, None);
    assert_eq!(python("WSGIPythonOptimize 2").optimize, 2);
    assert_eq!(python("WSGIPythonOptimize two").optimize, 0);
    assert_eq!(
        python("WSGISwitchInterval 0.01").switch_interval,
        Some(0.01)
    );
    let dir = |line| server(line).unwrap().dir;
    assert_eq!(
        dir("WSGIRestrictProcess a %{GLOBAL}").restrict_process,
        Some(vec!["a".into(), String::new()])
    );
    let access = dir("WSGIAccessScript /s application-group=%{GLOBAL}")
        .access_script
        .unwrap();
    assert_eq!(
        (access.script.as_str(), access.application_group.as_deref()),
        ("/s", Some(""))
    );
}

#[test]
fn wrong_arguments_are_named() {
    for (line, expected) in [
        (
            "WSGIScriptAlias /a",
            "takes at least two arguments, the URL and the file",
        ),
        (
            "WSGIScriptAlias /a /b junk",
            "'junk' is not of the form option=value",
        ),
        (
            "WSGIScriptAlias /a /b threads=1",
            "'threads' is not an option here; permitted are process-group=, application-group=, callable-object=, \
             pass-authorization=",
        ),
        (
            "WSGIScriptAlias /a /b process-group=",
            "process-group= lacks a name",
        ),
        (
            "WSGIScriptAlias /a /b application-group=\"\"",
            "application-group= lacks a name",
        ),
        (
            "WSGIScriptAlias /a /b callable-object=",
            "callable-object= lacks a name",
        ),
        (
            "WSGIScriptAlias /a /b pass-authorization=yes",
            "pass-authorization: 'yes' is neither On nor Off",
        ),
        ("WSGIHandlerScript", "the name of the handler is missing"),
        ("WSGIHandlerScript h", "the path of the script is missing"),
        (
            "WSGIHandlerScript h /s callable-object=x",
            "'callable-object' is not an option here; permitted are process-group=, application-group=, \
             pass-authorization=",
        ),
        ("WSGIImportScript", "the path of the script is missing"),
        (
            "WSGIImportScript /s process-group=p",
            "application-group= is missing",
        ),
        (
            "WSGIImportScript /s application-group=a",
            "process-group= is missing",
        ),
        (
            "WSGIDispatchScript /s x=y",
            "'x' is not an option here; permitted are application-group=",
        ),
        ("WSGIAccessScript", "the path of the script is missing"),
        ("WSGIMapHEADToGET maybe", "'maybe' is none of Off, On, Auto"),
        (
            "WSGITrustedProxies 10.0.0.1 proxy",
            "unable to parse trusted proxy 'proxy': neither an IP address nor a network such as 10.0.0.0/8",
        ),
        (
            "WSGIPythonHashSeed -1",
            "'-1' is neither 'random' nor an integer from 0 to 4294967295",
        ),
        (
            "WSGIPythonHashSeed 4294967296",
            "'4294967296' is neither 'random' nor an integer from 0 to 4294967295",
        ),
        (
            "WSGISwitchInterval 0",
            "'0' is not a positive number of seconds",
        ),
        (
            "WSGISwitchInterval inf",
            "'inf' is not a positive number of seconds",
        ),
        (
            "WSGISlowRequests -1",
            "'-1' is not a non-negative number of seconds",
        ),
        (
            "WSGIMetricsListen 9117",
            "'9117' is neither address:port, as 127.0.0.1:9117 or [::1]:9117, nor unix:/path",
        ),
        ("WSGIMetricsListen 127.0.0.1:0", "'127.0.0.1:0' has no port"),
        (
            "WSGIMetricsSeries 63",
            "'63' is not an integer from 64 to 65536",
        ),
        (
            "WSGIApplicationGroupLimit 0",
            "'0' is not an integer from 1 to 255",
        ),
        (
            "WSGIApplicationGroupLimit 256",
            "'256' is not an integer from 1 to 255",
        ),
        ("WSGIInterpreter maim", "'maim' is none of auto, main, sub"),
        ("WSGIGILMode x", "'x' is none of shared, own, free, auto"),
        (
            "WSGIInterpreters 0",
            "'0' is neither auto nor an integer from 1 to 64",
        ),
        (
            "WSGIFreeThreading Off require",
            "'require' may not stand after Off",
        ),
        (
            "WSGIReload now",
            "'now' is none of off, script, modules, touch file",
        ),
        ("WSGIReload touch", "touch lacks the path of a file"),
        ("WSGIReload touch here", "'here' is not an absolute path"),
        ("WSGIReload off now", "'now' is one word too many"),
        ("WSGIWarmup", "the URL is missing"),
        ("WSGIWarmup /a b", "'b' is not a path that begins with /"),
        ("WSGIMetrics maybe", "'maybe' is neither On nor Off"),
        ("WSGITelemetryService /s", "'/s' does not begin with unix:/"),
        (
            "WSGITelemetryService unix:/s interval=0.1",
            "interval: '0.1' is not a number of seconds from 0.5",
        ),
        (
            "WSGITelemetryService unix:/s x=1",
            "'x' is not an option here; permitted are interval=",
        ),
        (
            "WSGITelemetryOptions All +CaptureUserAgent",
            "'+CaptureUserAgent': either all options have a + or -, or none has",
        ),
        ("WSGITelemetryOptions +None", "'+None': None takes no sign"),
        ("WSGITelemetryOptions +", "'+' lacks the name of an option"),
        (
            "WSGITelemetryOptions x",
            "'x' is not an option; permitted are CaptureUserAgent, None and All",
        ),
        (
            "WSGIAcceptMutex x",
            "'x' is none of default, flock, fcntl, sysvsem, posixsem, pthread",
        ),
        ("WSGISocketPrefix \"\"", "'' is not a path"),
        ("WSGIDaemonProcess", "the name of the group is missing"),
        (
            "WSGIDaemonProcess x foo=1",
            "'foo' is not an option of a daemon process",
        ),
        (
            "WSGIDaemonProcess x threads",
            "'threads' is not of the form option=value",
        ),
        (
            "WSGIDaemonProcess x processes=0",
            "processes: '0' is not an integer from 1 to 1000",
        ),
        (
            "WSGIDaemonProcess x threads=65534",
            "threads: '65534' is not an integer from 0 to 65533",
        ),
        (
            "WSGIDaemonProcess x umask=9",
            "umask: '9' is not an octal number",
        ),
        (
            "WSGIDaemonProcess x home=rel",
            "home: 'rel' is not an absolute path",
        ),
        ("WSGIDaemonProcess x user=", "user: '' is not a text"),
        (
            "WSGIDaemonProcess x server-metrics=1",
            "server-metrics: '1' is not On or Off",
        ),
        (
            "WSGIDaemonProcess x send-buffer-size=511",
            "send-buffer-size: '511' is not 0 or an integer from 512 on",
        ),
        (
            "WSGIDaemonProcess x switch-interval=0",
            "switch-interval: '0' is not a positive number",
        ),
        (
            "WSGIDaemonProcess x script-user=a script-group=b",
            "script-user and script-group exclude each other",
        ),
    ] {
        let name = line.split(' ').next().unwrap();
        assert_eq!(
            server(line).err(),
            Some(format!("{name}: {expected}")),
            "{line}"
        );
    }
    assert_eq!(
        server("<WSGIInterpreterOptions x=y>").err(),
        Some("<WSGIInterpreterOptions>: 'x' is neither process-group nor application-group".into())
    );
}
