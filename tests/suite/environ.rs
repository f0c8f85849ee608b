//! Every key of the environ, with its type and its encoding.

use harness::{Mpm, Request, Response, Server, mpm_tests, process_group};
use serde_json::{Value, json};

mpm_tests! {
    fn cgi_keys(mpm) {
        let server = start(mpm);
        let port = server.port().to_string();
        let request = Request::new("PUT", "/app/pa%20th;x?q=%C3%A4&b=1")
            .header("Content-Type", "text/x-test; charset=utf-8")
            .header("Host", "wsgi.example:8123")
            .body("hello");
        let environ = server.send(&request).expect(200).json();
        for (key, value) in [
            ("REQUEST_METHOD", "PUT"),
            ("SCRIPT_NAME", "/app"),
            ("PATH_INFO", "/pa th;x"),
            ("QUERY_STRING", "q=%C3%A4&b=1"),
            ("REQUEST_URI", "/app/pa%20th;x?q=%C3%A4&b=1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "wsgi.example"),
            ("HTTP_HOST", "wsgi.example:8123"),
            ("SERVER_ADDR", "127.0.0.1"),
            ("SERVER_ADMIN", "admin@wsgi.test"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REQUEST_SCHEME", "http"),
            ("CONTENT_TYPE", "text/x-test; charset=utf-8"),
            ("CONTENT_LENGTH", "5"),
            ("FROM_SETENV", "set"),
            ("FROM_SETENVIF", "matched"),
            ("FROM_REWRITE", "rewritten"),
            ("CONTEXT_PREFIX", ""),
            // A computed value wins over SetEnv of the same name.
            ("REQUEST_METHOD", "PUT"),
        ] {
            assert_eq!(environ[key], json!(["str", value]), "{key}");
        }
        let text = |key: &str| environ[key][1].as_str().unwrap_or_else(|| panic!("no {key}"));
        assert!(text("SERVER_SOFTWARE").starts_with("Apache/2.4"), "{}", text("SERVER_SOFTWARE"));
        assert!(text("SERVER_PORT") == "8123" || text("SERVER_PORT") == port, "{}", text("SERVER_PORT"));
        assert!(text("REMOTE_PORT").parse::<u16>().is_ok());
        assert!(text("SCRIPT_FILENAME").ends_with("/apps/environ.wsgi"));
        assert!(text("DOCUMENT_ROOT").ends_with("/htdocs"));
        assert!(text("CONTEXT_DOCUMENT_ROOT").ends_with("/htdocs"));
        for key in ABSENT {
            assert!(environ.get(key).is_none(), "{key} = {}", environ[key]);
        }
        for (key, value) in environ.as_object().unwrap() {
            let expected = TYPES.iter().find(|(typed, _)| typed == key).map_or("str", |(_, kind)| kind);
            assert_eq!(value[0], expected, "{key}");
        }
    }

    fn plain_request(mpm) {
        let server = start(mpm);
        let environ = server.get("/app").expect(200).json();
        for (key, value) in [("PATH_INFO", ""), ("QUERY_STRING", ""), ("SCRIPT_NAME", "/app")] {
            assert_eq!(environ[key], json!(["str", value]), "{key}");
        }
        for key in ["CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_USER", "AUTH_TYPE"] {
            assert!(environ.get(key).is_none(), "{key}");
        }
        let environ = server.send(&Request::get("/app").http10()).expect(200).json();
        assert_eq!(environ["SERVER_PROTOCOL"][1], "HTTP/1.0");
        let absolute = Request::get("http://wsgi.example/app/x?y");
        let environ = server.send(&absolute).expect(200).json();
        // REQUEST_URI is as on the request line; mod_wsgi and httpd's CGI show all of it, too.
        assert!(environ["REQUEST_URI"][1].as_str().unwrap().ends_with("/app/x?y"));
        assert_eq!(environ["PATH_INFO"][1], "/x");
        let other = server.send(&Request::new("PROPFIND", "/app")).expect(200).json();
        assert_eq!(other["REQUEST_METHOD"][1], "PROPFIND");
    }

    fn wsgi_keys(mpm) {
        let server = start(mpm);
        let environ = server.get("/app").expect(200).json();
        let group = process_group();
        let threaded = mpm.threaded() || group.is_some();
        for (key, value) in [
            ("wsgi.version", json!([1, 0])),
            ("wsgi.url_scheme", json!("http")),
            ("wsgi.multithread", json!(threaded)),
            ("wsgi.multiprocess", json!(true)),
            ("wsgi.run_once", json!(false)),
            ("wsgi.input_terminated", json!(true)),
            ("mod_wsgi.process_group", json!(group.unwrap_or(""))),
            ("mod_wsgi.application_group", json!("the group")),
            ("mod_wsgi.callable_object", json!("application")),
            ("mod_wsgi.request_handler", json!("wsgi-script")),
            ("mod_wsgi.handler_script", json!("")),
            ("mod_wsgi.script_name", json!("/app")),
            ("mod_wsgi.path_info", json!("")),
            ("mod_wsgi.listener_port", json!(server.port().to_string())),
        ] {
            assert_eq!(environ[key][1], value, "{key}");
        }
        assert!(environ.get("mod_wsgi.mount_point").is_none());
        let started = environ["mod_wsgi.request_start"][1].as_f64().unwrap();
        let called = environ["mod_wsgi.application_start"][1].as_f64().unwrap();
        assert!(started > 1.6e9 && called >= started && called < started + 20.0, "{started} {called}");
        let [queued, taken] = ["mod_wsgi.queue_start", "mod_wsgi.daemon_start"].map(|key| environ[key][1].as_f64().unwrap());
        if group.is_some() {
            assert!(started <= queued && queued <= taken && taken <= called, "{started} {queued} {taken} {called}");
        } else {
            assert_eq!((queued, taken), (0.0, 0.0));
        }
        assert_eq!(environ["apache.version"][1][0], 2);
        let pid: i32 = environ["mod_wsgi.server_pid"][1].as_str().unwrap().parse().unwrap();
        assert!(server.children().contains(&pid));
        let hidden = environ.as_object().unwrap().keys().find(|key| key.starts_with("mod_wsgi.x-"));
        assert_eq!(hidden, None);
        assert!(!environ["mod_wsgi.request_id"][1].as_str().unwrap().is_empty());
        assert!(environ.get("apache.request_rec").is_none());
        let passed = server.get("/passed").expect(200).json();
        // Another process has no request_rec.
        assert_eq!(passed["apache.request_rec"][0], if group.is_some() { Value::Null } else { json!("PyCapsule") });
    }

    fn headers(mpm) {
        let server = start(mpm);
        let request = Request::get("/app")
            .header("X-Simple", "value")
            .header("x-LOWER-and-9", "9")
            .header("X-Twice", "one")
            .header("X-Twice", "two")
            .header("X-Latin", b"caf\xe9 \xc3\xa9")
            .header("X_Under", "no")
            .header("X.Dot", "no")
            .header("Proxy", "http://evil.example/")
            .header("Authorization", "Basic dTpw")
            .header("Proxy-Authorization", "Basic dTpw")
            .header("Cookie", "a=1; b=2");
        let environ = server.send(&request).expect(200).json();
        for (key, value) in [
            ("HTTP_X_SIMPLE", "value"),
            ("HTTP_X_LOWER_AND_9", "9"),
            ("HTTP_X_TWICE", "one, two"),
            ("HTTP_X_LATIN", "caf\u{e9} \u{c3}\u{a9}"),
            ("HTTP_COOKIE", "a=1; b=2"),
        ] {
            assert_eq!(environ[key], json!(["str", value]), "{key}");
        }
        for key in ["HTTP_X_UNDER", "HTTP_X.DOT", "HTTP_X_DOT", "HTTP_PROXY", "HTTP_AUTHORIZATION",
            "HTTP_PROXY_AUTHORIZATION", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"]
        {
            assert!(environ.get(key).is_none(), "{key} = {}", environ[key]);
        }
    }

    fn authorization(mpm) {
        let server = Server::builder(mpm)
            .conf("WSGIScriptAlias /off ${APPS}/environ.wsgi
                WSGIScriptAlias /on ${APPS}/environ.wsgi
                WSGIScriptAlias /option-on ${APPS}/environ.wsgi pass-authorization=On
                WSGIScriptAlias /option-off ${APPS}/environ.wsgi pass-authorization=Off
                WSGIScriptAlias /cgi ${APPS}/environ.wsgi
                <LocationMatch ^/(on|option-off)>
                    WSGIPassAuthorization On
                </LocationMatch>
                <Location /cgi>
                    CGIPassAuth On
                </Location>")
            .start();
        for (url, passed) in
            [("/off", false), ("/on", true), ("/option-on", true), ("/option-off", false), ("/cgi", true)]
        {
            let request = Request::get(url).header("Authorization", "Bearer t0ken");
            let environ = server.send(&request).expect(200).json();
            let expected = if passed { json!(["str", "Bearer t0ken"]) } else { Value::Null };
            assert_eq!(environ.get("HTTP_AUTHORIZATION").unwrap_or(&Value::Null), &expected, "{url}");
        }
    }

    fn https_is_a_scheme(mpm) {
        let server = start(mpm);
        for (value, scheme) in [("on", "https"), ("On", "https"), ("1", "https"), ("off", "http"), ("0", "http")] {
            let environ = server.send(&Request::get("/scheme").header("X-Https-Is", value)).expect(200).json();
            assert_eq!(environ["wsgi.url_scheme"][1], scheme, "HTTPS={value}");
            assert!(environ.get("HTTPS").is_none());
        }
    }

    fn paths(mpm) {
        let server = Server::builder(mpm)
            .file("htdocs/index.wsgi", include_str!("../apps/environ.wsgi"))
            .file("htdocs/caf\u{e9}.wsgi", include_str!("../apps/environ.wsgi"))
            .conf("MergeSlashes Off
                WSGIScriptAlias /m ${APPS}/environ.wsgi
                AddHandler wsgi-script .wsgi
                DirectoryIndex index.wsgi
                RewriteEngine On
                RewriteRule ^/old/(.*)$ /m/new/$1 [PT]
                <Directory ${ROOT}/htdocs>
                    Options ExecCGI FollowSymLinks
                    RewriteEngine On
                    RewriteRule ^front/(.*)$ index.wsgi/$1 [L]
                </Directory>")
            .start();
        for (url, script_name, path_info) in [
            ("/m/x//y", "/m", "/x/y"),
            ("/m//", "/m", "/"),
            ("/old/page", "/m", "/new/page"),
            ("/", "/index.wsgi", ""),
            ("/index.wsgi/a//b", "/index.wsgi", "/a/b"),
            ("/front/page", "/index.wsgi", "/page"),
        ] {
            let environ = server.get(url).expect(200).json();
            assert_eq!(environ["SCRIPT_NAME"][1], script_name, "{url}");
            assert_eq!(environ["PATH_INFO"][1], path_info, "{url}");
            assert_eq!(environ["REQUEST_URI"][1], url);
        }
        let redirected = server.get("/front/page?a=b").expect(200).json();
        assert_eq!(redirected["REDIRECT_QUERY_STRING"][1], "a=b");
        assert_eq!(redirected["REDIRECT_URL"][1], "/front/page");
        // Parts of the URL are latin-1; the name of the file is in the file system's encoding.
        let accent = server.get("/caf%C3%A9.wsgi").expect(200).json();
        assert_eq!(accent["SCRIPT_NAME"][1], "/caf\u{c3}\u{a9}.wsgi");
        let file = accent["SCRIPT_FILENAME"][1].as_str().unwrap();
        assert!(file.ends_with("caf\u{e9}.wsgi"), "{file}");
    }

    fn user_of_basic_auth(mpm) {
        // The password is "secret", made by `htpasswd -nbs`.
        let server = Server::builder(mpm)
            .modules(&["auth_basic", "authn_core", "authn_file", "authz_user"])
            .file("users", "tom:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
            .app("/app", "environ.wsgi")
            .conf("<Location /app>
                    AuthType Basic
                    AuthName test
                    AuthUserFile ${ROOT}/users
                    Require valid-user
                </Location>")
            .start();
        server.get("/app").expect(401);
        let request = Request::get("/app").header("Authorization", "Basic dG9tOnNlY3JldA==");
        let environ = server.send(&request).expect(200).json();
        assert_eq!(environ["REMOTE_USER"], json!(["str", "tom"]));
        assert_eq!(environ["AUTH_TYPE"], json!(["str", "Basic"]));
        assert!(environ.get("HTTP_AUTHORIZATION").is_none());
    }

    fn head_becomes_get(mpm) {
        let server = Server::builder(mpm)
            .modules(&["deflate", "filter"])
            .conf("WSGIScriptAlias /auto-filtered ${APPS}/method.wsgi
                WSGIScriptAlias /auto ${APPS}/method.wsgi
                WSGIScriptAlias /on ${APPS}/method.wsgi
                WSGIScriptAlias /off ${APPS}/method.wsgi
                <Location /on>
                    WSGIMapHEADToGET On
                </Location>
                <Location /off>
                    WSGIMapHEADToGET Off
                    SetOutputFilter DEFLATE
                </Location>
                <Location /auto-filtered>
                    WSGIMapHEADToGET Auto
                    SetOutputFilter DEFLATE
                </Location>")
            .start();
        for (url, seen) in [("/auto", "HEAD"), ("/auto-filtered", "GET"), ("/on", "GET"), ("/off", "HEAD")] {
            let response = server.send(&Request::new("HEAD", url)).expect(200);
            assert_eq!(method(&response), seen, "{url}");
            assert!(response.body.is_empty());
            assert_eq!(method(&server.get(url).expect(200)), "GET", "{url}");
        }
    }
}

fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .conf(
            "ServerAdmin admin@wsgi.test
            SetEnv FROM_SETENV set
            SetEnv REQUEST_METHOD overridden
            SetEnv PATH /overridden
            SetEnv wsgi.url_scheme https
            SetEnv wsgi.multithread zero
            SetEnv SERVER_SOFTWARE overridden
            SetEnvIf Host . FROM_SETENVIF=matched
            SetEnvIf X-Https-Is (.*) HTTPS=$1
            RewriteEngine On
            RewriteRule . - [E=FROM_REWRITE:rewritten]
            WSGIScriptAlias /app ${APPS}/environ.wsgi
            WSGIScriptAlias /scheme ${APPS}/environ.wsgi
            WSGIScriptAlias /passed ${APPS}/environ.wsgi
            WSGIApplicationGroup \"the group\"
            <Location /passed>
                WSGIPassApacheRequest On
            </Location>",
        )
        .pool(2, 4)
        .start()
}

fn method(response: &Response) -> &str {
    response.header("X-Method").unwrap()
}

const ABSENT: [&str; 13] = [
    "PATH",
    "PATH_TRANSLATED",
    "GATEWAY_INTERFACE",
    "REMOTE_HOST",
    "REMOTE_IDENT",
    "SERVER_SIGNATURE",
    "HTTPS",
    "HTTP_CONTENT_TYPE",
    "HTTP_CONTENT_LENGTH",
    "LD_LIBRARY_PATH",
    "REDIRECT_URL",
    "mod_wsgi.mount_point",
    "REMOTE_USER",
];

const TYPES: [(&str, &str); 16] = [
    ("wsgi.version", "tuple"),
    ("wsgi.multithread", "bool"),
    ("wsgi.multiprocess", "bool"),
    ("wsgi.run_once", "bool"),
    ("wsgi.input_terminated", "bool"),
    ("wsgi.input", "mod_wsgi.Input"),
    ("wsgi.errors", "_io.TextIOWrapper"),
    ("wsgi.file_wrapper", "type"),
    ("apache.version", "tuple"),
    ("mod_wsgi.version", "tuple"),
    ("mod_wsgi.thread_id", "int"),
    ("mod_wsgi.request_start", "float"),
    ("mod_wsgi.queue_start", "float"),
    ("mod_wsgi.daemon_start", "float"),
    ("mod_wsgi.application_start", "float"),
    ("apache.request_rec", "PyCapsule"),
];
