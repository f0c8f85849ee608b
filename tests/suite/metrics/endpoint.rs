//! `SetHandler wsgi-metrics`: formats, methods, access, and the check by promtool.

use harness::{Exposition, Mpm, Request, Server, mpm_tests, ours_only, promtool_is_silent};

mpm_tests! {
    fn formats(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = Server::builder(mpm).metrics().app("/hello", "hello.wsgi").start();
        server.get("/hello").expect(200);
        for (accept, content_type) in [
            (None, TEXT),
            (Some("*/*"), TEXT),
            (Some("text/plain;version=0.0.4;q=0.5, */*;q=0.1"), TEXT),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), TEXT),
            (Some(PROMETHEUS_2), OPEN_METRICS),
            (Some(PROMETHEUS_2_WITH_PROTOBUF), OPEN_METRICS),
            (Some(PROMETHEUS_3), OPEN_METRICS),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.7"), TEXT),
            (Some("application/openmetrics-text;q=0"), TEXT),
        ] {
            let mut request = Request::get("/metrics");
            if let Some(accept) = accept {
                request = request.header("Accept", accept);
            }
            let response = server.send(&request).expect(200);
            assert_eq!(response.header("Content-Type"), Some(content_type), "{accept:?}");
            assert_eq!(response.header("Cache-Control"), Some("no-store"));
            assert!(response.is_complete());
            let text = response.text();
            assert_eq!(text.ends_with("# EOF\n"), content_type == OPEN_METRICS, "{accept:?}");
            if content_type == OPEN_METRICS {
                assert!(text.contains("# TYPE wsgi_requests counter\n"), "{text}");
                assert!(text.contains("# TYPE wsgi_build info\n"), "{text}");
            } else {
                Exposition::parse(&text).unwrap();
            }
        }
    }

    fn methods(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = Server::builder(mpm).metrics().start();
        for target in ["/metrics", "/wsgi-status", "/wsgi-status?format=json"] {
            let response = server.send(&Request::new("HEAD", target)).expect(200);
            assert!(response.body.is_empty());
            let length: usize = response.header("Content-Length").unwrap().parse().unwrap();
            assert!(length > 1000, "{target}: {length}");
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
                let response = server.send(&Request::new(method, target).body("x")).expect(405);
                let mut allowed: Vec<_> = response.header("Allow").unwrap().split(',').map(str::trim).collect();
                // httpd itself answers TRACE, and adds it to the list.
                allowed.retain(|allowed| *allowed != "TRACE");
                allowed.sort_unstable();
                assert_eq!(allowed, ["GET", "HEAD"], "{method}");
            }
        }
        server.allow_log("");
    }

    fn access(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = Server::builder(mpm)
            .modules(&["authz_host", "remoteip"])
            .metrics()
            .conf("RemoteIPHeader X-Real
                <Location /anyone>
                    SetHandler wsgi-metrics
                    Require all granted
                </Location>
                <Location /nobody>
                    SetHandler wsgi-metrics
                    Require all denied
                </Location>
                <Location /others>
                    SetHandler wsgi-metrics
                    <RequireAll>
                        Require not ip 127.0.0.1
                        Require all granted
                    </RequireAll>
                </Location>")
            .start();
        let from = |target: &str, header: Option<(&str, &str)>| {
            let mut request = Request::get(target);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            server.send(&request).status()
        };
        let elsewhere = [("X-Real", "192.0.2.7"), ("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")];
        for target in ["/metrics", "/wsgi-status"] {
            assert_eq!(from(target, None), 200);
            for header in elsewhere {
                assert_eq!(from(target, Some(header)), 403, "{header:?}");
            }
        }
        for header in elsewhere {
            assert_eq!(from("/anyone", Some(header)), 200, "{header:?}");
        }
        assert_eq!(from("/nobody", None), 403);
        assert_eq!(from("/others", None), 403);
        server.allow_log("is shown to clients on this machine only|AH01630: client denied");
    }

    fn an_htaccess_opens_nothing(mpm) {
        ours_only!("mod_wsgi has no such page");
        // A section elsewhere that guards its own pages does not apply to pages that a site's owner adds. As httpd does
        // not tell which folder a pattern means, a <Directory> with a pattern opens nothing at all.
        let server = Server::builder(mpm)
            .modules(&["authz_host", "remoteip"])
            .metrics()
            .file("htdocs/site/.htaccess", "SetHandler wsgi-metrics\n")
            .file("htdocs/private/index.html", "private")
            .conf("RemoteIPHeader X-Real
                <Directory ${ROOT}/htdocs/site>
                    AllowOverride FileInfo
                </Directory>
                <Directory ${ROOT}/h*/private>
                    SetHandler wsgi-metrics
                    Require ip 192.0.2.0/24
                </Directory>")
            .start();
        let elsewhere = |target: &str| {
            let request = Request::get(target).header("X-Real", "192.0.2.7");
            server.send(&request).status()
        };
        assert_eq!(elsewhere("/site/"), 403);
        assert_eq!(server.get("/site/").status(), 200);
        server.allow_log("is shown to clients on this machine only");
    }

    fn metrics_off(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = Server::builder(mpm).metrics().conf("WSGIMetrics Off").app("/hello", "hello.wsgi").start();
        for _ in 0..5 {
            assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
        }
        for target in ["/metrics", "/wsgi-status"] {
            server.get(target).expect(404);
        }
        // The file then holds only the board, by which children are replaced.
        let size = std::fs::metadata(server.segment()).unwrap().len();
        assert!(size < 1 << 20, "{size} bytes");
        server.allow_log("is not answered, as nothing is measured");
    }

    fn a_fresh_server(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = Server::builder(mpm).metrics().app("/hello", "hello.wsgi").start();
        let text = server.get("/metrics").expect(200).text();
        promtool_is_silent(&text);
        let page = Exposition::parse(&text).unwrap();
        // These series exist before the first request, so that there is a rate before the first error.
        for code in ["2xx", "5xx"] {
            let labels = [("app", "/hello"), ("method", "GET"), ("code", code)];
            assert_eq!(page.select("wsgi_requests_total", &labels).count(), 1, "{code}");
        }
        assert_eq!(page.sum("wsgi_requests_total", &[]), 0.0);
        assert!(!text.contains("_other"), "{text}");
    }

    fn a_busy_server(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = Server::builder(mpm)
            .metrics_listener()
            .conf("LimitRequestBody 100000\nWSGISlowRequests 0.05\nWSGIChunkedRequest On")
            .app("/m", "measured.wsgi")
            .app("/quotes\"and\\", "measured.wsgi")
            .start();
        for path in ["ok", "status/404", "status/503", "call", "iterate", "close", "protocol", "log", "slow", "collect"] {
            let _ = server.try_send(&Request::get(&format!("/m/{path}")));
        }
        server.send(&Request::post("/m/echo", [b'x'; 5000])).expect(200);
        server.send(&Request::post("/m/echo", vec![b'x'; 200_000])).expect(413);
        server.send(&Request::new("BREW", "/m/ok")).expect(200);
        server.get("/quotes%22and%5C/ok").expect(200);
        let mut gone = server.ask("/m/large");
        gone.read_head().unwrap();
        gone.abort();
        for response in [server.get("/metrics"), server.ask_helper(&Request::get("/metrics")).unwrap()] {
            let text = response.expect(200).text();
            promtool_is_silent(&text);
            Exposition::parse(&text).unwrap();
        }
        server.allow_log("");
    }

    fn more_applications_than_fit(mpm) {
        ours_only!("mod_wsgi has no such page");
        let mut builder = Server::builder(mpm).metrics().conf("
            <Directory ${ROOT}/htdocs/many>
                Options ExecCGI
                SetHandler wsgi-script
            </Directory>");
        let many = 60;
        for number in 0..many {
            builder = builder.file(&format!("htdocs/many/{number}.wsgi"), include_str!("../../apps/hello.wsgi"));
        }
        let server = builder.start();
        for number in 0..many {
            server.get(&format!("/many/{number}.wsgi")).expect(200);
        }
        server.expect_count("wsgi_requests_total", &[], many);
        let response = server.get("/metrics").expect(200);
        promtool_is_silent(&response.text());
        let page = server.metrics();
        let others = page.sum("wsgi_requests_total", &[("app", "_other")]);
        assert!(others > 0.0 && others < many as f64, "{others}");
        // Each of the other applications counts, possibly in several children.
        assert!(page.sum("wsgi_metrics_overflows_total", &[("kind", "application")]) >= others);
        // Files that do not exist make no entries: any client could request them.
        server.get("/many/none.wsgi").expect(404);
        let labels = page.select("wsgi_requests_total", &[("method", "GET"), ("code", "2xx")]).count();
        assert!(labels >= 16, "{labels}");
        server.allow_log("File does not exist|script not found|not found");
    }
}

/// httpd's own `Require local` would do the same, and must go on working.
#[test]
fn require_local() {
    ours_only!("mod_wsgi has no such page");
    let server = Server::builder(Mpm::Event)
        .modules(&["authz_host"])
        .metrics()
        .conf("<Location /metrics>\nRequire local\n</Location>")
        .start();
    server.get("/metrics").expect(200);
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const PROMETHEUS_2_WITH_PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
    encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
