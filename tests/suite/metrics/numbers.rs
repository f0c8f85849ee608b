//! Each family against known traffic.

use std::time::Duration;

use harness::{
    Connection, Request, Server, embedded_only, eventually, kill, mpm_tests, ours_only,
    process_group,
};

mpm_tests! {
    fn requests_by_method_and_class(mpm) {
        ours_only!("mod_wsgi counts otherwise");
        let server = start(mpm);
        let traffic = [
            ("GET", "ok", "GET", "2xx", 5),
            ("HEAD", "ok", "HEAD", "2xx", 4),
            ("POST", "echo", "POST", "2xx", 3),
            ("PUT", "echo", "PUT", "2xx", 2),
            ("DELETE", "ok", "DELETE", "2xx", 2),
            ("PATCH", "ok", "PATCH", "2xx", 1),
            ("OPTIONS", "ok", "OPTIONS", "2xx", 3),
            ("BREW", "ok", "_OTHER", "2xx", 2),
            ("PROPFIND", "status/404", "_OTHER", "4xx", 1),
            ("GET", "status/204", "GET", "2xx", 2),
            ("GET", "status/304", "GET", "3xx", 3),
            ("GET", "status/302", "GET", "3xx", 1),
            ("GET", "status/404", "GET", "4xx", 4),
            ("POST", "status/418", "POST", "4xx", 1),
            ("GET", "status/503", "GET", "5xx", 2),
            ("GET", "call", "GET", "5xx", 1),
        ];
        let mut all = 0;
        for (method, path, _, _, count) in traffic {
            for _ in 0..count {
                server.send(&Request::new(method, &format!("/m/{path}")));
            }
            all += count;
        }
        // httpd's own responses belong to no application.
        server.get("/static.txt").expect(200);
        server.get("/nothing").expect(404);
        server.expect_count("wsgi_requests_total", &[], all);
        let page = server.metrics();
        let mut expected = std::collections::BTreeMap::new();
        for (_, _, method, code, count) in traffic {
            *expected.entry((method, code)).or_insert(0) += count;
        }
        for ((method, code), count) in expected {
            let found = page.sum("wsgi_requests_total", &[("app", "/m"), ("method", method), ("code", code)]);
            assert_eq!(found, count as f64, "{method} {code}");
        }
        for code in ["2xx", "3xx", "4xx", "5xx"] {
            let requests = page.sum("wsgi_requests_total", &[("code", code)]);
            let durations = page.sum("wsgi_request_duration_seconds_count", &[("app", "/m"), ("code", code)]);
            assert_eq!(durations, requests, "{code}");
        }
        for histogram in ["wsgi_application_duration_seconds", "wsgi_queue_wait_seconds"] {
            assert_eq!(page.sum(&format!("{histogram}_count"), &[]), all as f64, "{histogram}");
        }
        // A response without a body has no first byte: HEAD, 204, 304, the error page of httpd.
        let bodies = page.sum("wsgi_time_to_first_byte_seconds_count", &[]);
        assert!(bodies >= 20.0 && bodies < all as f64, "{bodies}");
        server.allow_log("RuntimeError|exception raised");
    }

    fn bodies(mpm) {
        ours_only!("mod_wsgi counts otherwise");
        let server = start(mpm);
        for size in [0, 1, 1000, 70_000] {
            let response = server.send(&Request::post("/m/echo", vec![b'x'; size])).expect(200);
            assert_eq!(response.body.len(), size);
        }
        server.send(&Request::new("POST", "/m/echo").chunked(&[b"12345", b"67890"])).expect(200);
        // The application neither reads nor sends this body.
        server.send(&Request::post("/m/ok", [b'x'; 500])).expect(200);
        server.expect_count("wsgi_requests_total", &[], 6);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_request_body_bytes_total", &[("app", "/m")]), 71_011.0);
        assert_eq!(page.sum("wsgi_response_body_bytes_total", &[("app", "/m")]), 71_013.0);
        assert!(page.sum("wsgi_input_read_seconds_total", &[]) > 0.0);
        assert!(page.sum("wsgi_output_write_seconds_total", &[]) > 0.0);
    }

    fn failures(mpm) {
        ours_only!("mod_wsgi counts otherwise");
        let server = start(mpm);
        for (path, count) in [("call", 3), ("iterate", 2), ("close", 1), ("protocol", 2)] {
            for _ in 0..count {
                let _ = server.try_send(&Request::get(&format!("/m/{path}")));
            }
        }
        server.expect_count("wsgi_requests_total", &[], 8);
        let page = server.metrics();
        // A body of a wrong type also ends in an exception, the one that reports it.
        for (phase, count) in [("call", 3.0), ("iterate", 4.0), ("close", 1.0)] {
            assert_eq!(page.sum("wsgi_exceptions_total", &[("app", "/m"), ("phase", phase)]), count, "{phase}");
        }
        assert_eq!(page.sum("wsgi_protocol_errors_total", &[("app", "/m")]), 2.0);
        server.allow_log("");
    }

    fn clients_that_go(mpm) {
        ours_only!("mod_wsgi counts otherwise");
        let server = start(mpm);
        for _ in 0..2 {
            let mut connection = server.ask("/m/large");
            connection.read_head().unwrap();
            connection.abort();
        }
        for _ in 0..3 {
            let mut connection = server.connect();
            connection.send(Request::post("/m/swallow", [b'x'; 5000]).head_bytes());
            connection.send([b'x'; 50]);
            eventually("the application reads", || {
                let status = server.status();
                let running = status["running"].as_array()?;
                running.iter().any(|request| request["phase"] == "reading the body").then_some(())
            });
            connection.abort();
        }
        server.expect_count("wsgi_requests_total", &[], 5);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_client_aborts_total", &[("app", "/m"), ("phase", "write")]), 2.0);
        assert_eq!(page.sum("wsgi_client_aborts_total", &[("app", "/m"), ("phase", "read")]), 3.0);
        server.allow_log("");
    }

    fn refusals(mpm) {
        ours_only!("mod_wsgi counts otherwise");
        let server = builder(mpm)
            .conf("WSGIScriptAlias /broken ${ROOT}/htdocs/broken.wsgi\nLimitRequestBody 1000")
            .file("htdocs/broken.wsgi", "import time\nif not __import__('os').path.exists('/'):\n    pass\nraise ImportError('broken')\n")
            .start();
        for _ in 0..2 {
            server.send(&Request::post("/m/echo", [b'x'; 2000])).expect(413);
        }
        server.get("/broken").expect(500);
        server.expect_count("wsgi_requests_total", &[], 3);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_requests_rejected_total", &[("app", "/m"), ("reason", "body_too_large")]), 2.0);
        assert_eq!(page.sum("wsgi_requests_total", &[("app", "/m"), ("code", "4xx")]), 2.0);
        assert_eq!(page.sum("wsgi_application_loads_total", &[("app", "/broken"), ("result", "error")]), 1.0);
        assert_eq!(page.sum("wsgi_requests_total", &[("app", "/broken"), ("code", "5xx")]), 1.0);
        let events = server.status()["events"].clone();
        let kinds: Vec<_> = events.as_array().unwrap().iter().map(|event| (&event["kind"], &event["detail"])).collect();
        assert_eq!(kinds.len(), 2, "{events}");
        assert!(kinds.iter().all(|kind| *kind.0 == "rejected" && *kind.1 == "body_too_large"), "{events}");
        server.allow_log("LimitRequestBody|larger than|broken|cannot be loaded|Failed|exec");
    }

    fn not_loaded(mpm) {
        ours_only!("mod_wsgi waits without end");
        // The second request waits for the import of the first one, longer than allowed.
        let server = builder(mpm)
            .one_child()
            .conf("Timeout 1\nSetEnv test.gate ${ROOT}/gate\nWSGIScriptAlias /late ${ROOT}/htdocs/late.wsgi")
            .file("htdocs/late.wsgi", LATE)
            .start();
        if !mpm.threaded() {
            // With one thread no request can wait for another.
            return;
        }
        let gate = server.root().join("htdocs/late.gate");
        std::thread::scope(|scope| {
            let first = scope.spawn(|| server.get("/late").status());
            server.expect_log("Loading WSGI script '.*late.wsgi'");
            let second = server.get("/late").status();
            assert_eq!(second, 503);
            std::fs::write(&gate, "").unwrap();
            assert_eq!(first.join().unwrap(), 200);
        });
        server.expect_count("wsgi_requests_total", &[("app", "/late")], 2);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_requests_rejected_total", &[("app", "/late"), ("reason", "not_loaded")]), 1.0);
        server.allow_log("");
    }

    fn timeouts(mpm) {
        ours_only!("mod_wsgi counts otherwise");
        let server = builder(mpm).conf("Timeout 1").start();
        let mut connection = server.connect();
        connection.send(Request::post("/m/swallow", [b'x'; 5000]).head_bytes());
        connection.send([b'x'; 50]);
        let _ = connection.read_response("POST");
        server.expect_count("wsgi_request_timeouts_total", &[("app", "/m"), ("stage", "read")], 1);
        let deaf = server.ask("/m/large");
        server.expect_count("wsgi_request_timeouts_total", &[("app", "/m"), ("stage", "write")], 1);
        drop(deaf);
        server.expect_count("wsgi_requests_total", &[], 2);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_request_timeouts_total", &[]), 2.0);
        assert_eq!(page.sum("wsgi_client_aborts_total", &[]), 0.0);
        let status = server.status();
        let stages: Vec<_> = status["events"].as_array().unwrap().iter().map(|event| event["detail"].clone()).collect();
        assert_eq!(stages, ["write", "read"]);
        server.allow_log("");
    }

    fn slow_requests(mpm) {
        ours_only!("mod_wsgi reports them elsewhere");
        let server = builder(mpm).conf("WSGISlowRequests 0.05").start();
        server.get("/m/ok").expect(200);
        for _ in 0..2 {
            server.get("/m/slow?secret=1").expect(200);
        }
        server.expect_count("wsgi_requests_total", &[], 3);
        let slow = server.metrics().sum("wsgi_slow_requests_total", &[("app", "/m")]);
        assert!((2.0..=3.0).contains(&slow), "{slow}");
        let status = server.status();
        let events = status["events"].as_array().unwrap();
        let event = events.iter().find(|event| event["path"] == "/m/slow").expect("it is listed");
        assert_eq!((&event["kind"], &event["method"], &event["status"]), (&"slow".into(), &"GET".into(), &200.into()));
        assert_eq!(event["application"], "/m");
        let seconds = |name: &str| event[name].as_f64().unwrap();
        assert!(seconds("total_seconds") >= 0.05 && seconds("application_seconds") >= 0.05, "{event}");
        assert!(seconds("application_seconds") <= seconds("total_seconds"), "{event}");
        assert!(!server.get("/wsgi-status").text().contains("secret"));
    }

    fn log_lines(mpm) {
        ours_only!("mod_wsgi does not count them");
        let server = start(mpm);
        for _ in 0..2 {
            server.get("/m/log").expect(200);
        }
        server.expect_count("wsgi_requests_total", &[], 2);
        let page = server.metrics();
        for (stream, count) in [("errors", 6.0), ("stderr", 4.0), ("stdout", 2.0)] {
            assert_eq!(page.sum("wsgi_log_lines_total", &[("app", "/m"), ("stream", stream)]), count, "{stream}");
        }
        server.allow_log("^to (errors|stderr|stdout)$");
    }

    fn loads_and_reloads(mpm) {
        ours_only!("mod_wsgi does not count them");
        let server = builder(mpm)
            .one_child()
            .file("htdocs/edited.wsgi", include_str!("../../apps/hello.wsgi"))
            .conf("WSGIScriptAlias /edited ${ROOT}/htdocs/edited.wsgi")
            .start();
        server.get("/edited").expect(200);
        server.expect_count("wsgi_application_loads_total", &[("app", "/edited"), ("result", "ok")], 1);
        assert_eq!(server.metrics().sum("wsgi_application_reloads_total", &[]), 0.0);
        let script = server.root().join("htdocs/edited.wsgi");
        let touch = |seconds| {
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            std::fs::File::options().append(true).open(&script).unwrap().set_modified(time).unwrap();
        };
        for (round, seconds) in [(1, 1_000_000_000), (2, 1_000_000_100)] {
            let before = server.only_process();
            touch(seconds);
            server.get("/edited").expect(200);
            if process_group().is_some() {
                // A successor loads it when it has its first request.
                eventually("a successor serves", || {
                    server.get("/edited").expect(200);
                    (server.app_processes() != [before]).then_some(())
                });
                server.only_process();
                server.get("/edited").expect(200);
            }
            server.expect_count("wsgi_application_loads_total", &[("app", "/edited"), ("result", "ok")], 1 + round);
            server.expect_count("wsgi_application_reloads_total", &[("trigger", "script_changed")], round);
        }
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_application_load_seconds_count", &[("app", "/edited")]), 3.0);
        assert_eq!(page.sum("wsgi_application_loads_total", &[("result", "error")]), 0.0);
    }

    fn interpreters(mpm) {
        ours_only!("mod_wsgi does not count them");
        let server = builder(mpm)
            .one_child()
            .conf("WSGIScriptAlias /a ${APPS}/measured.wsgi application-group=a
                WSGIScriptAlias /b ${APPS}/measured.wsgi application-group=b")
            .start();
        for app in ["/a", "/b"] {
            let before = server.metrics();
            assert_eq!(before.sum("wsgi_interpreters", &[("app", app)]), 0.0);
            assert_eq!(before.select("wsgi_interpreter_newest_start_timestamp_seconds", &[("app", app)]).count(), 0);
            server.get(&format!("{app}/collect")).expect(200);
            server.expect_count("wsgi_interpreters", &[("app", app), ("state", "ready")], 1);
            server.expect_count("wsgi_interpreter_starts_total", &[("app", app)], 1);
        }
        let page = server.metrics();
        for app in ["/a", "/b"] {
            let oldest = page.sum("wsgi_interpreter_oldest_start_timestamp_seconds", &[("app", app)]);
            let newest = page.sum("wsgi_interpreter_newest_start_timestamp_seconds", &[("app", app)]);
            let start = page.sum("wsgi_server_start_timestamp_seconds", &[]);
            assert!(start <= oldest && oldest <= newest, "{start} {oldest} {newest}");
            // This interpreter has its own collections.
            let collections = page.sum("wsgi_python_gc_pause_seconds_count", &[("app", app), ("generation", "2")]);
            assert!(collections >= 3.0, "{app}: {collections}");
            assert!(page.sum("wsgi_python_gc_collected_objects_total", &[("app", app), ("generation", "2")]) >= 3.0);
            assert_eq!(page.sum("wsgi_python_gc_uncollectable_objects_total", &[("app", app)]), 0.0);
            assert!(page.sum("wsgi_python_allocated_blocks", &[("app", app)]) > 1000.0);
            assert!(page.sum("wsgi_python_threads", &[("app", app)]) >= 1.0);
            let labels = [("app", app)];
            let info = page.select("wsgi_application_info", &labels).next().unwrap();
            assert_eq!(info.labels["mount"], app);
            assert_eq!(info.labels["interpreter"], app[1..]);
            assert!(info.labels["script"].ends_with("measured.wsgi"));
        }
        server.restart_now();
        // A restart ends interpreters; their counts stay.
        server.expect_count("wsgi_interpreter_stops_total", &[("reason", "child_exit"), ("app", "/a")], 1);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_interpreters", &[]), 0.0);
        assert!(page.sum("wsgi_python_gc_pause_seconds_count", &[("app", "/a")]) >= 3.0);
        assert_eq!(page.sum("wsgi_python_allocated_blocks", &[("app", "/a")]), 0.0);
    }

    fn children(mpm) {
        ours_only!("mod_wsgi does not count them");
        embedded_only!("it counts httpd's children");
        let server = builder(mpm).pool(2, 2).start();
        server.get("/m/ok").expect(200);
        eventually("all children are ready", || {
            let (page, living) = (server.metrics(), server.children().len() as f64);
            (page.sum("wsgi_children", &[("state", "ready")]) == living).then_some(())
        });
        // Prefork may start more of them at any time.
        let living = server.children().len() as f64;
        eventually("all children that live are counted", || {
            (server.metrics().sum("wsgi_children_started_total", &[]) >= living).then_some(())
        });
        assert_eq!(server.metrics().sum("wsgi_children_exited_total", &[]), 0.0);
        kill(server.children()[0]);
        server.expect_count("wsgi_children_exited_total", &[("how", "killed")], 1);
        server.expect_count("wsgi_children_exited_total", &[("how", "clean")], 0);
        let before = server.metrics().sum("wsgi_config_generation", &[]);
        server.graceful_restart();
        eventually("the children of before are counted", || {
            (server.metrics().sum("wsgi_children_exited_total", &[("how", "clean")]) >= 1.0).then_some(())
        });
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_children_exited_total", &[("how", "killed")]), 1.0);
        assert_eq!(page.sum("wsgi_config_generation", &[]), before + 1.0);
        assert!(page.sum("wsgi_config_load_timestamp_seconds", &[]) > page.sum("wsgi_server_start_timestamp_seconds", &[]));
        let living = server.children();
        let memory = page.sum("wsgi_children_resident_memory_bytes", &[]);
        let largest = page.sum("wsgi_child_resident_memory_max_bytes", &[]);
        assert!(largest > 1e6 && memory >= largest, "{memory} {largest}");
        assert!(memory <= largest * (living.len() + 1) as f64);
        eventually("CPU time is counted", || {
            server.get("/m/collect").expect(200);
            (server.metrics().sum("wsgi_children_cpu_seconds_total", &[("mode", "user")]) > 0.0).then_some(())
        });
    }

    fn a_request_that_stays(mpm) {
        ours_only!("mod_wsgi does not count them");
        let server = builder(mpm).conf("SetEnv test.gate ${ROOT}/gate").pool(2, 4).start();
        assert_eq!(server.metrics().sum("wsgi_oldest_request_age_seconds", &[("app", "/m")]), 0.0);
        let mut inside: Vec<Connection> = Vec::new();
        for count in 1..=2 {
            let connection = server.ask("/m/block");
            inside.push(connection);
            server.expect_count("wsgi_requests_in_flight", &[("app", "/m")], count);
        }
        let age = || server.metrics().sum("wsgi_oldest_request_age_seconds", &[("app", "/m")]);
        let first = age();
        assert!(first > 0.0);
        eventually("it becomes older", || (age() > first + 0.1).then_some(()));
        // The scrape is a request of httpd, not of Python.
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_requests_total", &[]), 0.0);
        assert!(page.sum("wsgi_mpm_workers", &[("state", "writing")]) >= 2.0);
        server.write("gate", "open");
        for mut connection in inside {
            assert_eq!(connection.read_response("GET").unwrap().status(), 200);
        }
        server.expect_count("wsgi_requests_total", &[], 2);
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_requests_in_flight", &[]), 0.0);
        assert_eq!(page.sum("wsgi_oldest_request_age_seconds", &[]), 0.0);
    }

    fn facts(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = builder(mpm).pool(2, 4).start();
        server.get("/m/ok").expect(200);
        let page = server.metrics();
        let (children, threads) = if mpm.threaded() { (6.0, 4.0) } else { (8.0, 1.0) };
        assert_eq!(page.sum("wsgi_mpm_workers_limit", &[]), 8.0);
        assert_eq!(page.sum("wsgi_mpm_children_limit", &[]), children);
        assert_eq!(page.sum("wsgi_mpm_threads_per_child", &[]), threads);
        let threaded = mpm.threaded().to_string();
        let labels = [("mpm", &*mpm.to_string()), ("threaded", &threaded), ("forked", "true")];
        assert_eq!(page.sum("wsgi_mpm_info", &labels), 1.0);
        let workers = page.sum("wsgi_mpm_workers", &[]);
        assert_eq!(workers, 8.0, "of all states");
        let connections = page.select("wsgi_mpm_connections", &[]).count();
        assert_eq!(connections, if mpm == harness::Mpm::Event { 4 } else { 0 });
        let label = |name: &'static str, label: &str| {
            let sample = page.select(name, &[]).next().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(sample.value, 1.0);
            sample.labels[label].clone()
        };
        assert!(label("wsgi_python_info", "version").starts_with("3."));
        assert_eq!(label("wsgi_python_info", "implementation"), "cpython");
        assert_eq!(label("wsgi_python_info", "gil"), "enabled");
        assert_eq!(label("wsgi_build_info", "version"), env!("CARGO_PKG_VERSION"));
        assert!(label("wsgi_build_info", "httpd").starts_with("Apache/2.4"));
        assert!(label("wsgi_build_info", "rustc").contains("1."));
        assert!(!label("wsgi_build_info", "revision").is_empty());
        let arenas = |state| page.sum("wsgi_metrics_arenas", &[("state", state)]);
        assert!(arenas("used") >= 2.0 && arenas("free") > 0.0);
        let bytes = |kind| page.sum("wsgi_metrics_segment_bytes", &[("kind", kind)]);
        assert!(bytes("mapped") >= bytes("resident") && bytes("resident") > 0.0);
        assert!(page.sum("wsgi_metrics_series_limit", &[]) > 0.0);
        assert!(server.metrics().sum("wsgi_metrics_last_scrape_seconds", &[]) > 0.0);
        // The page has all families of the catalogue, and no others with our prefix.
        for family in wsgi_telemetry::catalogue::FAMILIES {
            assert!(page.types.contains_key(family.name) || family.name == "wsgi_mpm_connections", "{}", family.name);
        }
    }
}

fn builder(mpm: harness::Mpm) -> harness::Builder {
    Server::builder(mpm)
        .metrics()
        .app("/m", "measured.wsgi")
        .conf("WSGIChunkedRequest On")
}

fn start(mpm: harness::Mpm) -> Server {
    builder(mpm).start()
}

/// An import that waits for a file beside the script.
const LATE: &str = "
import os, time
gate = __file__.replace('.wsgi', '.gate')
deadline = time.monotonic() + 20
while not os.path.exists(gate) and time.monotonic() < deadline:
    time.sleep(0.005)

def application(environ, start_response):
    start_response('200 OK', [])
    return [b'late']
";
