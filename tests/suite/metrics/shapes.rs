//! HTTP/2, forks, threads, one process, more children than configured: numbers stay exact.

use std::process::Command;

use harness::{
    Connection, Mpm, Server, embedded_only, eventually, http2_get_all, kill, mpm_tests, ours_only,
};

use super::start;

mpm_tests! {
    fn http2(mpm) {
        ours_only!("mod_wsgi does not count");
        if mpm == Mpm::Prefork {
            // mod_http2 refuses to run under prefork.
            return;
        }
        let server = Server::builder(mpm)
            .metrics()
            .modules(&["http2"])
            .conf("Protocols h2c http/1.1")
            .app("/m", "measured.wsgi")
            .start();
        // Several streams at once, which mod_http2's own threads run.
        for round in 0..4 {
            let paths: Vec<String> = (0..10).map(|number| format!("/m/ok?{round}.{number}")).collect();
            assert_eq!(http2_get_all(server.address(), &paths), [true; 10]);
        }
        let post = Command::new("curl")
            .args(["--http2-prior-knowledge", "--silent", "--max-time", "20", "--data-binary", "0123456789"])
            .arg(format!("http://127.0.0.1:{}/m/echo", server.port()))
            .output()
            .expect("curl can be run");
        assert_eq!(post.stdout, b"0123456789");
        server.expect_count("wsgi_requests_total", &[("app", "/m"), ("code", "2xx")], 41);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_request_duration_seconds_count", &[("app", "/m")]), 41.0);
        assert_eq!(page.sum("wsgi_response_body_bytes_total", &[("app", "/m")]), 90.0);
        assert_eq!(page.sum("wsgi_request_body_bytes_total", &[("app", "/m")]), 10.0);
        assert_eq!(page.sum("wsgi_requests_in_flight", &[]), 0.0);
        server.graceful_restart();
        server.get("/m/ok").expect(200);
        server.expect_count("wsgi_requests_total", &[("app", "/m"), ("code", "2xx")], 42);
    }

    fn an_application_that_forks(mpm) {
        ours_only!("mod_wsgi does not count");
        // Python forks only in its main interpreter.
        let server = Server::builder(mpm)
            .metrics()
            .conf("WSGIScriptAlias /m ${APPS}/measured.wsgi application-group=%{GLOBAL}")
            .start();
        for _ in 0..5 {
            server.get("/m/fork").expect(200);
            assert_eq!(server.get("/m/parallel").expect(200).text(), "3");
        }
        server.expect_count("wsgi_requests_total", &[], 10);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_log_lines_total", &[("stream", "errors")]), 5.0);
        // The lines of the copies are in the log, and count nowhere.
        assert_eq!(page.sum("wsgi_log_lines_total", &[("stream", "stderr")]), 0.0);
        assert_eq!(page.sum("wsgi_requests_in_flight", &[]), 0.0);
        assert_eq!(page.sum("wsgi_children_exited_total", &[]), 0.0);
        assert_eq!(server.count_log("^in the fork$"), 25);
        server.allow_log("^in the fork$|^before the fork$");
    }

    fn threads_of_the_application(mpm) {
        ours_only!("mod_wsgi does not count");
        let server = start(mpm);
        for _ in 0..6 {
            server.get("/m/threads").expect(200);
        }
        server.expect_count("wsgi_requests_total", &[], 6);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_log_lines_total", &[("app", "/m"), ("stream", "stderr")]), 30.0);
        assert!(page.sum("wsgi_python_gc_pause_seconds_count", &[("app", "/m"), ("generation", "2")]) >= 30.0);
        // Threads that have ended leave their arenas to later threads.
        let used = page.sum("wsgi_metrics_arenas", &[("state", "used")]);
        for _ in 0..6 {
            server.get("/m/threads").expect(200);
        }
        let after = server.metrics().sum("wsgi_metrics_arenas", &[("state", "used")]);
        // Five threads at a time in each child that had not served the page before, and the child's own two.
        let children = server.children().len() as f64;
        assert!(after <= used + 7.0 * children && after <= 7.0 * children * 4.0, "{used} {after}");
        assert_eq!(server.metrics().sum("wsgi_metrics_overflows_total", &[]), 0.0);
        server.allow_log("^in a thread$");
    }

    fn one_process(mpm) {
        ours_only!("mod_wsgi does not count");
        let server = Server::builder(mpm).single_process().metrics_listener().app("/m", "measured.wsgi").start();
        for _ in 0..5 {
            server.get("/m/ok").expect(200);
        }
        server.get("/m/status/404").expect(404);
        server.expect_count("wsgi_requests_total", &[], 6);
        let page = server.scrape();
        assert_eq!(page.sum("wsgi_requests_total", &[("code", "2xx")]), 5.0);
        assert_eq!(page.sum("wsgi_children", &[]), 1.0);
        assert_eq!(page.sum("wsgi_children_started_total", &[]), 1.0);
        assert!(page.sum("wsgi_children_resident_memory_bytes", &[]) > 1e6);
        assert_eq!(server.status()["totals"]["requests"]["requests"], 6);
    }

    fn more_threads_than_arenas(mpm) {
        ours_only!("mod_wsgi does not count");
        // There are arenas for one and a half as many threads as workers, and a few more; this test has many more
        // threads.
        let server = Server::builder(mpm).one_child().metrics().app("/m", "measured.wsgi")
            .conf("WSGIScriptAlias /many ${ROOT}/htdocs/many.wsgi")
            .file("htdocs/many.wsgi", MANY_THREADS)
            .start();
        for _ in 0..3 {
            server.get("/many").expect(200);
        }
        server.expect_count("wsgi_requests_total", &[("app", "/many")], 3);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_log_lines_total", &[("app", "/many"), ("stream", "stderr")]), 600.0);
        assert!(page.sum("wsgi_metrics_overflows_total", &[("kind", "arena")]) > 0.0);
        harness::promtool_is_silent(&server.get("/metrics").text());
        server.allow_log("^line of a thread$");
    }

    fn killed_inside_a_request(mpm) {
        ours_only!("mod_wsgi does not count");
        embedded_only!("an httpd child with the request and its interpreter is killed");
        let server = start(mpm);
        server.get("/m/ok").expect(200);
        server.expect_count("wsgi_requests_total", &[], 1);
        let _inside = server.ask("/m/block");
        let pid = eventually("it runs", || {
            let status = server.status();
            let running = status["running"].as_array()?.first()?;
            running["pid"].as_i64().filter(|_| running["phase"] == "in the application")
        });
        kill(i32::try_from(pid).unwrap());
        server.expect_count("wsgi_children_exited_total", &[("how", "killed")], 1);
        eventually("nothing runs there any more", || {
            (server.metrics().sum("wsgi_requests_in_flight", &[]) == 0.0).then_some(())
        });
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_oldest_request_age_seconds", &[]), 0.0);
        assert_eq!(page.sum("wsgi_requests_total", &[]), 1.0);
        // Its interpreter stopped with it.
        assert!(page.sum("wsgi_interpreter_stops_total", &[("reason", "child_exit")]) >= 1.0);
        let living = page.sum("wsgi_interpreters", &[("state", "ready")]);
        let (starts, stops) = (page.sum("wsgi_interpreter_starts_total", &[]), page.sum("wsgi_interpreter_stops_total", &[]));
        assert_eq!(starts - stops, living);
    }

    fn restarts_in_mid_request(mpm) {
        ours_only!("mod_wsgi does not count");
        embedded_only!("it counts httpd's children");
        // Each restart leaves an old child with a request in it; worker soon has more of them than ServerLimit.
        let server = Server::builder(mpm)
            .pool(2, 4)
            .metrics_listener()
            .app("/m", "measured.wsgi")
            .conf(if mpm.threaded() { "ServerLimit 2" } else { "ServerLimit 8" })
            .conf("SetEnv test.gate ${ROOT}/gate")
            .start();
        let mut inside: Vec<Connection> = Vec::new();
        let rounds: u32 = if mpm == Mpm::Worker { 3 } else { 2 };
        for round in 1..=rounds {
            let connection = server.ask("/m/block");
            inside.push(connection);
            eventually("it runs", || {
                (server.scrape().sum("wsgi_requests_in_flight", &[]) == f64::from(round)).then_some(())
            });
            if round < rounds {
                let before = server.children();
                harness::graceful(server.pid());
                eventually("a new child is there and ready", || {
                    let (now, page) = (server.children(), server.scrape());
                    let ready = page.sum("wsgi_children", &[("state", "ready")]) >= 1.0;
                    (ready && now.iter().any(|pid| !before.contains(pid))).then_some(())
                });
            }
        }
        // Whether the old children say that they are ending depends on the MPM; all of them must be there.
        let page = eventually("each child has its arena", || {
            let page = server.scrape();
            (page.sum("wsgi_children", &[]) == server.children().len() as f64).then_some(page)
        });
        if mpm == Mpm::Worker {
            assert!(server.children().len() > 2, "{:?}", server.children());
        }
        assert!(page.sum("wsgi_config_generation", &[]) >= 1.0);
        server.write("gate", "open");
        for mut connection in inside {
            assert_eq!(connection.read_response("GET").unwrap().status(), 200);
        }
        server.expect_count("wsgi_requests_total", &[("app", "/m"), ("code", "2xx")], u64::from(rounds));
        eventually("the children of before have gone", || {
            let page = server.scrape();
            (page.sum("wsgi_children_exited_total", &[("how", "clean")]) >= f64::from(rounds) - 1.0).then_some(())
        });
        assert_eq!(server.scrape().sum("wsgi_children_exited_total", &[("how", "killed")]), 0.0);
        assert_eq!(server.metrics().sum("wsgi_requests_total", &[]), f64::from(rounds));
        server.allow_log("AH00288|scoreboard is full");
    }

    fn scripts_without_an_alias(mpm) {
        ours_only!("mod_wsgi does not count");
        // Children enter these applications when they first serve them; the configuration does not name them.
        let server = Server::builder(mpm)
            .metrics()
            .file("htdocs/a.wsgi", include_str!("../../apps/hello.wsgi"))
            .conf("<Directory ${ROOT}/htdocs>
                Options ExecCGI
                AddHandler wsgi-script .wsgi
            </Directory>")
            .start();
        for total in 1..=4 {
            server.get("/a.wsgi").expect(200);
            server.expect_count("wsgi_requests_total", &[], total);
            if total % 2 == 0 { server.graceful_restart() } else { server.restart_now() }
        }
        server.get("/a.wsgi").expect(200);
        server.expect_count("wsgi_requests_total", &[], 5);
        let page = server.metrics();
        let labels = [("method", "GET"), ("code", "2xx")];
        let sample = page.select("wsgi_requests_total", &labels).next().unwrap();
        assert!(sample.labels["app"].ends_with("htdocs/a.wsgi"), "{sample:?}");
    }

    fn another_configuration(mpm) {
        ours_only!("mod_wsgi does not count");
        let server = Server::builder(mpm)
            .metrics()
            .conf("Include ${ROOT}/apps.conf")
            .file("apps.conf", "WSGIScriptAlias /a ${APPS}/hello.wsgi\nWSGIScriptAlias /b ${APPS}/hello.wsgi\n")
            .start();
        for target in ["/a", "/b", "/b"] {
            server.get(target).expect(200);
        }
        server.expect_count("wsgi_requests_total", &[], 3);
        server.write("apps.conf", "WSGIScriptAlias /b ${APPS}/hello.wsgi\nWSGIScriptAlias /c ${APPS}/hello.wsgi\n");
        server.graceful_restart();
        for (target, status) in [("/a", 404), ("/b", 200), ("/c", 200)] {
            server.get(target).expect(status);
        }
        server.expect_count("wsgi_requests_total", &[("app", "/b")], 3);
        server.expect_count("wsgi_requests_total", &[("app", "/c")], 1);
        // An application that is gone may be hidden, but its numbers must not decrease.
        let gone = server.metrics();
        assert!(gone.select("wsgi_requests_total", &[("app", "/a"), ("code", "2xx")]).all(|sample| sample.value == 1.0));
        server.write("apps.conf", "WSGIScriptAlias /a ${APPS}/hello.wsgi\n");
        server.restart_now();
        server.get("/a").expect(200);
        server.expect_count("wsgi_requests_total", &[("app", "/a"), ("code", "2xx")], 2);
        // The server runs without metrics for a while: the counts stay.
        server.write("apps.conf", "WSGIScriptAlias /a ${APPS}/hello.wsgi\nWSGIMetrics Off\n");
        server.graceful_restart();
        server.get("/a").expect(200);
        server.write("apps.conf", "WSGIScriptAlias /a ${APPS}/hello.wsgi\n");
        server.graceful_restart();
        server.get("/a").expect(200);
        server.expect_count("wsgi_requests_total", &[("app", "/a")], 3);
    }
}

/// Two hundred threads that are alive at the same time; each writes a line to the log.
const MANY_THREADS: &str = "
import sys, threading

def application(environ, start_response):
    everybody = threading.Barrier(200)
    def work():
        everybody.wait()
        print('line of a thread', file=sys.stderr)
        everybody.wait()
    threads = [threading.Thread(target=work) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start_response('200 OK', [])
    return [b'done']
";
