//! Directives: all directives of mod_wsgi are accepted, bad values are refused at start, and `.htaccess` may use the
//! directives that are allowed there.

use std::fs;

use wsgi_core::directives::DIRECTIVES;

use harness::{
    Mpm, Request, Server, another_venv, embedded_only, maps, mpm_tests, ours, ours_only, venv,
    workspace,
};

#[test]
fn every_directive_is_accepted() {
    let check = Server::builder(Mpm::Event)
        .modules(&["auth_basic", "authn_core", "authz_user", "authz_host"])
        .conf(SERVER_LEVEL)
        .conf(&format!(
            "<VirtualHost *:80>\nServerName inner.test\n{VIRTUAL_HOST_LEVEL}\n</VirtualHost>"
        ))
        .conf(&format!("<Directory />\n{DIRECTORY_LEVEL}\n</Directory>"))
        .conf(&format!(
            "<Location /other>\n{DIRECTORY_LEVEL}\n</Location>"
        ))
        .check();
    assert!(check.accepted, "{}", check.output);
}

/// Every example in docs/directives.md can be copied from there.
#[test]
fn each_example_of_a_directive_is_accepted() {
    ours_only!("the examples use directives of our own");
    let refused: Vec<String> = DIRECTIVES
        .iter()
        .filter_map(|row| {
            let check = Server::builder(Mpm::Event)
                .modules(&["mime"])
                .conf(row.example)
                .check();
            (!check.accepted).then(|| format!("{}: {}", row.name, check.output))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn existing_conditions_find_the_module() {
    for condition in ["<IfModule mod_wsgi.c>", "<IfModule wsgi_module>"] {
        let check = Server::builder(Mpm::Event)
            .conf(&format!("{condition}\nNoSuchDirective\n</IfModule>"))
            .check();
        assert!(
            !check.accepted && check.output.contains("NoSuchDirective"),
            "{condition}: {}",
            check.output
        );
    }
}

#[test]
fn bad_values_are_refused_with_their_place() {
    for line in BAD {
        let check = Server::builder(Mpm::Event).conf(line).check();
        let name = line
            .split_whitespace()
            .next()
            .unwrap()
            .trim_start_matches('<');
        assert!(!check.accepted, "accepted: {line}");
        let place = format!("on line {} of", check.line_of(line));
        assert!(
            check.output.contains(&place) || ours(),
            "{line}: {}",
            check.output
        );
        if ours() {
            let number = check.line_of(line).to_string();
            assert!(
                check.output.contains("httpd.conf") && check.output.contains(&number),
                "{line}: {}",
                check.output
            );
            assert!(check.output.contains(name), "{line}: {}", check.output);
        }
    }
}

#[test]
fn places_where_a_directive_may_not_stand() {
    for line in [
        "<VirtualHost *:80>\nWSGIPythonHome /usr\n</VirtualHost>",
        "<VirtualHost *:80>\nWSGIRestrictEmbedded On\n</VirtualHost>",
        "<Directory />\nWSGIScriptAlias /a /b\n</Directory>",
        "<Directory />\nWSGIPythonPath /a\n</Directory>",
        "<Location />\nWSGIDaemonProcess a\n</Location>",
    ] {
        let check = Server::builder(Mpm::Event).conf(line).check();
        assert!(!check.accepted, "accepted: {line}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    ours_only!("httpd stops at the first mistake");
    let lines = [
        "WSGIScriptReloading Perhaps",
        "WSGIMapHEADToGET Sometimes",
        "WSGISwitchInterval -1",
    ];
    let check = Server::builder(Mpm::Event).conf(&lines.join("\n")).check();
    assert!(!check.accepted);
    for line in lines {
        let (name, _) = line.split_once(' ').unwrap();
        assert!(check.output.contains(name), "{name}: {}", check.output);
        assert!(
            check.output.contains(&check.line_of(line).to_string()),
            "{name}: {}",
            check.output
        );
    }
}

#[test]
fn the_examples_serve() {
    let folder = workspace().join("config-examples");
    let mut served = 0;
    for file in fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if file.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let of_ours = [
            "daemon.conf",
            "metrics.conf",
            "pools.conf",
            "reload.conf",
            "replicas.conf",
            "two-sites-two-pythons.conf",
        ];
        let is_of_ours = of_ours.contains(&name.as_str());
        if is_of_ours && !ours() {
            continue;
        }
        let server = Server::builder(Mpm::Event).example(&file).start();
        let told = server.get("/").expect(200).text();
        assert!(
            told.contains("Hello") || told.contains("Python"),
            "{name}: {told}"
        );
        match name.as_str() {
            "several-applications.conf" => {
                assert!(server.get("/second").expect(200).text().contains("second"));
                assert!(
                    server
                        .get("/hello/again")
                        .expect(200)
                        .text()
                        .contains("again")
                );
            }
            "pools.conf" => {
                assert!(server.get("/reports").expect(200).text().contains("second"));
                for plan in [
                    "group 'site': delegate, 1 to 25 of 25 threads inside, .*, queue of 50 for 10 s, share 20, reserve 2$",
                    "group 'reports': pool of 4 threads, .*, queue of 8 for 30 s, share 12, reserve 2$",
                ] {
                    server.expect_log(plan);
                }
            }
            "metrics.conf" => {
                let metrics = server.get("/metrics").expect(200).text();
                assert!(metrics.contains("wsgi_requests_total"), "{metrics}");
                let status = server.get("/wsgi-status").expect(200).text();
                assert!(status.contains("WSGI status"), "{status}");
            }
            "static-files.conf" => {
                assert!(server.get("/static/style.css").expect(200).is_complete())
            }
            "virtualenv.conf" => assert!(told.contains(&venv().display().to_string()), "{told}"),
            // A Python before 3.14 causes these messages.
            "replicas.conf" => drop(server.allow_log("WSGI1023|WSGI1024")),
            "daemon.conf" => {
                assert_eq!(server.group_processes().len(), 2);
                let children = server.children();
                let without = children.iter().all(|pid| !maps(*pid).contains("libpython"));
                assert!(without, "httpd's children have Python");
            }
            "two-sites-two-pythons.conf" => {
                // Without root, there is one user.
                server.allow_log("WSGI1148");
                let pages =
                    ["one.example.com", "two.example.com"].map(|host| page(&server, host, "/"));
                assert!(
                    pages[0].contains(&venv().display().to_string()),
                    "{}",
                    pages[0]
                );
                if let Some((another, [major, minor])) = another_venv() {
                    let expected = format!("Python {major}.{minor} in {}", another.display());
                    assert!(pages[1].contains(&expected), "{}", pages[1]);
                }
                assert_eq!(server.group_processes().len(), 3);
            }
            "from-mod_wsgi.conf" => {
                server.allow_log("WSGI1148");
                let venv = venv().display().to_string();
                for (host, url, expected) in [
                    (
                        "django.example.com",
                        "/",
                        format!("My site, with the Python in {venv}"),
                    ),
                    ("django.example.com", "/static/style.css", "color".into()),
                    ("django.example.com", "/robots.txt", "User-agent".into()),
                    (
                        "trac.example.com",
                        "/trac/wiki",
                        "Hello from the group ''".into(),
                    ),
                    ("path.example.com", "/", venv.clone()),
                    (
                        "user.example.com",
                        "/",
                        "Hello from the group 'user.example.com".into(),
                    ),
                    ("numbers.example.com", "/", "Hello from the group ''".into()),
                ] {
                    let told = page(&server, host, url);
                    assert!(told.contains(&expected), "{host}{url}: {told}");
                }
                if ours() {
                    let unwanted = server.count_log("WSGI100[78]|WSGI1146");
                    assert_eq!(unwanted, 0, "every line has its effect");
                }
            }
            _ => {}
        }
        if !ours() {
            // mod_wsgi's children sometimes crash while they end.
            server.allow_log("exit signal Segmentation fault");
        }
        served += 1;
    }
    assert!(served >= 6, "{served} examples in {}", folder.display());
}

mpm_tests! {
    fn what_comes_later_says_so(mpm) {
        ours_only!("mod_wsgi has all of them");
        let server = Server::builder(mpm)
            .app("/hello", "hello.wsgi")
            .conf("WSGITelemetryService unix:/run/none.sock
                WSGIServerMetrics On")
            .start();
        assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
        for name in ["WSGITelemetryService", "WSGIServerMetrics"] {
            let record = server.expect_log(name);
            assert_eq!(record.level, "warn", "{record:?}");
        }
        server.graceful_restart();
        server.get("/hello").expect(200);
        for name in ["WSGITelemetryService", "WSGIServerMetrics"] {
            // The message comes once at the start and once at the restart, never once for each child or request.
            let said = server.count_log(name);
            assert!(said <= 2, "{name}: {said} times");
        }
    }

    fn htaccess(mpm) {
        let server = Server::builder(mpm)
            .file("htdocs/free/app.wsgi", APP)
            .file("htdocs/free/.htaccess", HTACCESS)
            .file("htdocs/deaf/app.wsgi", APP)
            .file("htdocs/deaf/.htaccess", HTACCESS)
            .file("htdocs/strict/app.wsgi", APP)
            .file("htdocs/strict/.htaccess", HTACCESS)
            .conf("AddHandler wsgi-script .wsgi
                <Directory ${ROOT}/htdocs>
                    Options ExecCGI
                </Directory>
                <Directory ${ROOT}/htdocs/free>
                    AllowOverride FileInfo
                </Directory>
                <Directory ${ROOT}/htdocs/strict>
                    AllowOverride AuthConfig
                </Directory>")
            .start();
        assert_eq!(server.get("/free/app.wsgi").expect(200).text(), "other");
        assert_eq!(server.get("/deaf/app.wsgi").expect(200).text(), "application");
        server.get("/strict/app.wsgi").expect(500);
        server.expect_log("WSGICallableObject not allowed here");
    }

    fn restricted_embedded(mpm) {
        let server = Server::builder(mpm)
            .app("/hello", "hello.wsgi")
            .conf("WSGIRestrictEmbedded On")
            .start();
        server.get("/hello").expect(500);
        server.expect_log("(?i)embedded");
        server.get("/static.txt").expect(200);
    }

    fn python_settings(mpm) {
        embedded_only!("WSGIPythonPath, WSGIPythonEggs and WSGISwitchInterval are for httpd's children");
        let server = Server::builder(mpm)
            .app("/python", "python.wsgi")
            .file("lib/extra_module.py", "NAME = 'found on the path'\n")
            .conf("WSGIPythonPath ${ROOT}/lib
                WSGIPythonOptimize 2
                WSGIPythonWarnings ignore::DeprecationWarning
                WSGIPythonWarnings error::UserWarning
                WSGIDontWriteBytecode On
                WSGIPythonHashSeed 17
                WSGISwitchInterval 0.012
                WSGIPythonEggs ${ROOT}/eggs
                WSGIRestrictStdin On
                WSGIRestrictStdout On
                WSGIRestrictSignal On")
            .conf("WSGIApplicationGroup %{GLOBAL}")
            .start();
        let told = server.get("/python").expect(200).json();
        assert_eq!(told["extra"], "found on the path");
        assert_eq!(told["optimize"], 2);
        assert_eq!(told["dont_write_bytecode"], true);
        assert_eq!(told["hash_randomization"], true);
        assert_eq!(told["interval"], 0.012);
        assert!(told["eggs"].as_str().unwrap().ends_with("/eggs"));
        assert_eq!(told["argv"], serde_json::json!(["mod_wsgi"]));
        assert_eq!(told["warnoptions"][0], "ignore::DeprecationWarning");
        for stream in ["stdin", "stdout"] {
            assert!(told[stream].as_str().unwrap().starts_with("OSError"), "{stream}: {}", told[stream]);
        }
        assert_eq!(told["signal"], "SIG_DFL unchanged");
        assert_eq!(told["threads_per_process"], if mpm.threaded() { 4 } else { 1 });
        assert!(told["path_first"].as_str().unwrap().ends_with("/lib"), "{}", told["path_first"]);
        assert_eq!(told["version"], told["environ_version"]);
        if !ours() {
            // Python flushes sys.stdout when it ends, and mod_wsgi's restriction refuses that.
            server.allow_log("mod_wsgi.Restricted|sys.stdout access restricted");
        }
    }
}

/// Returns a page of a virtual host.
fn page(server: &Server, host: &str, url: &str) -> String {
    let request = Request::get(url).header("Host", host);
    server.send(&request).expect(200).text()
}

const APP: &str = "def application(environ, start_response):
    start_response('200 OK', [])
    return [b'application']

def other(environ, start_response):
    start_response('200 OK', [])
    return [b'other']
";

const HTACCESS: &str = "WSGICallableObject other
WSGIScriptReloading On
WSGIPassAuthorization On
WSGIChunkedRequest On
WSGIMapHEADToGET Auto
WSGIErrorOverride Off
WSGIEnableSendfile On
WSGIIgnoreActivity On
WSGITrustedProxyHeaders X-Forwarded-For
WSGITrustedProxies 10.0.0.1
";

const SERVER_LEVEL: &str = r#"
WSGIDaemonProcess workers user=#65534 processes=2 threads=5 display-name=%{GROUP}
WSGIScriptAlias /a ${APPS}/hello.wsgi process-group=workers application-group=%{GLOBAL}
WSGIScriptAlias "/b c" "${APPS}/hello.wsgi" callable-object=application pass-authorization=On
WSGIScriptAliasMatch ^/x/([a-z]+) ${APPS}/$1.wsgi application-group=%{RESOURCE}
WSGIHandlerScript one ${APPS}/handler.wsgi process-group=%{GLOBAL} application-group=%{SERVER} pass-authorization=Off
WSGIImportScript ${APPS}/hello.wsgi process-group=workers application-group=%{GLOBAL}
WSGIRestrictEmbedded Off
WSGIPythonPath ${ROOT}/htdocs:${ROOT}
WSGIPythonEggs ${ROOT}
WSGIPythonOptimize 1
WSGIPythonWarnings default
WSGIPythonHashSeed random
WSGIDontWriteBytecode on
WSGISwitchInterval 0.005
WSGIDestroyInterpreter Off
WSGIPerInterpreterGIL Off
WSGIFreeThreading Off
WSGIRestrictStdin Off
WSGIRestrictStdout Off
WSGIRestrictSignal Off
WSGICaseSensitivity On
WSGIVerboseDebugging Off
WSGISocketPrefix ${ROOT}/sock
WSGISocketRotation On
WSGIAcceptMutex default
WSGIServerMetrics On
WSGITelemetryService unix:/run/none.sock interval=2
WSGISlowRequests 5
WSGITelemetryOptions +CaptureUserAgent
<WSGIInterpreterOptions application-group=one>
    WSGIPythonPath ${ROOT}
    WSGISwitchInterval 0.01
    WSGIRestrictStdin On
    WSGIRestrictStdout On
    WSGIRestrictSignal On
    WSGIPerInterpreterGIL Off
</WSGIInterpreterOptions>
<WSGIInterpreterOptions process-group=%{GLOBAL}>
    WSGIFreeThreading Off
</WSGIInterpreterOptions>
"#;

const VIRTUAL_HOST_LEVEL: &str = "
WSGIScriptAlias / ${APPS}/hello.wsgi
WSGIProcessGroup %{GLOBAL}
WSGIApplicationGroup %{GLOBAL}
WSGICallableObject application
WSGIRestrictProcess one two
WSGIScriptReloading Off
WSGIPassApacheRequest Off
";

const DIRECTORY_LEVEL: &str = "
WSGIDispatchScript ${APPS}/dispatch.wsgi application-group=%{GLOBAL}
WSGIProcessGroup %{GLOBAL}
WSGIApplicationGroup group
WSGICallableObject application
WSGIRestrictProcess one two
WSGIScriptReloading On
WSGIPassAuthorization On
WSGIPassApacheRequest On
WSGIChunkedRequest On
WSGIMapHEADToGET On
WSGIErrorOverride On
WSGIEnableSendfile On
WSGIIgnoreActivity On
WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Proto
WSGITrustedProxies 10.0.0.0/8 ::1 fe80::/10
WSGIHandlerScript two ${APPS}/handler.wsgi
WSGIAccessScript ${APPS}/access.wsgi application-group=%{SERVER}
WSGIAuthUserScript ${APPS}/auth.wsgi
WSGIAuthGroupScript ${APPS}/auth.wsgi
WSGIGroupAuthoritative Off
";

const BAD: [&str; 31] = [
    "WSGIScriptAlias /only-one",
    "WSGIScriptAlias /a /b no-such-option=1",
    "WSGIScriptAlias /a /b application-group=",
    "WSGIScriptAlias /a /b callable-object=",
    "WSGIScriptAlias /a /b process-group=",
    "WSGIScriptAlias /a /b pass-authorization=Maybe",
    "WSGIScriptAliasMatch ([a-z /b",
    "WSGIHandlerScript only-a-name",
    "WSGIHandlerScript name /script no-such-option=1",
    "WSGIImportScript /script",
    "WSGIImportScript /script process-group=%{GLOBAL}",
    "WSGIImportScript /script application-group=%{GLOBAL}",
    "WSGIDispatchScript /script no-such-option=1",
    "WSGIAccessScript /script no-such-option=1",
    "WSGIScriptReloading Perhaps",
    "WSGIPassAuthorization 1",
    "WSGIPassApacheRequest Perhaps",
    "WSGIChunkedRequest Perhaps",
    "WSGIMapHEADToGET Sometimes",
    "WSGIErrorOverride Perhaps",
    "WSGIEnableSendfile Perhaps",
    "WSGITrustedProxies not-an-address",
    "WSGITrustedProxies 10.0.0.0/99",
    "WSGIPythonHashSeed 4294967296",
    "WSGIPythonHashSeed often",
    "WSGIDontWriteBytecode Perhaps",
    "WSGISwitchInterval 0",
    "WSGISwitchInterval soon",
    "WSGIRestrictStdin Perhaps",
    "WSGISlowRequests -1",
    "WSGIDaemonProcess a no-such-option=1",
];
