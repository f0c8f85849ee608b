//! `WSGIMetricsListen`: the process that answers even if no child does.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Connection, Exposition, Mpm, Over, Request, Server, eventually, kill, mpm_tests, ours_only,
};

mpm_tests! {
    fn all_workers_blocked(mpm) {
        ours_only!("mod_wsgi has no such process");
        let server = start(mpm);
        server.get("/m/ok").expect(200);
        let enter = || {
            server.ask("/m/block")
        };
        let mut inside: Vec<Connection> = (0..WORKERS).map(|_| enter()).collect();
        let labels = [("app", "/m")];
        let mut asked = Instant::now();
        eventually("all workers are in the application", || {
            let page = server.scrape();
            let limit = page.sum("wsgi_mpm_workers_limit", &[]);
            assert_eq!(limit, WORKERS as f64);
            // A child of the event MPM may take one connection more than it has workers for, while another child has
            // free workers.
            if asked.elapsed() > Duration::from_secs(2) {
                inside.push(enter());
                asked = Instant::now();
            }
            (page.sum("wsgi_requests_in_flight", &labels) == limit).then_some(())
        });
        let first = server.scrape().sum("wsgi_oldest_request_age_seconds", &labels);
        report("all workers blocked", mpm, times(&server));
        let later = server.scrape();
        assert!(later.sum("wsgi_oldest_request_age_seconds", &labels) > first);
        assert_eq!(later.sum("wsgi_requests_in_flight", &labels), WORKERS as f64);
        let status = server.ask_helper(&Request::get("/wsgi-status?format=json")).unwrap().expect(200).json();
        assert_eq!(status["running_count"], WORKERS);
        assert_ne!(status["health"]["level"], "ok", "{}", status["health"]);
        let page = server.ask_helper(&Request::get("/wsgi-status")).unwrap().expect(200).text();
        assert!(page.contains("/m/block"), "{page}");
        server.write("gate", "open");
        let all = inside.len() as u64 + 1;
        for mut connection in inside {
            assert_eq!(connection.read_response("GET").unwrap().status(), 200);
        }
        server.expect_count("wsgi_requests_total", &labels, all);
    }

    fn a_gil_that_is_never_released(mpm) {
        ours_only!("mod_wsgi has no such process");
        // In a pool of three threads, one of the four requests would wait for a thread and not for the GIL.
        let builder = Server::builder(mpm).own_executor().one_child();
        let server = builder.metrics_listener().app("/m", "measured.wsgi").start();
        server.get("/m/ok").expect(200);
        let holder = server.ask("/m/hold?3000");
        // One thread has the GIL when the others cannot get it.
        eventually("the GIL is kept", || {
            let page = server.scrape();
            (page.sum("wsgi_oldest_request_age_seconds", &[]) > 0.2).then_some(())
        });
        let mut others: Vec<Connection> = Vec::new();
        if mpm.threaded() {
            for _ in 0..3 {
                let connection = server.ask("/m/ok");
                others.push(connection);
            }
            eventually("the others wait", || {
                let status = server.ask_helper(&Request::get("/wsgi-status?format=json")).unwrap().json();
                let running = status["running"].as_array().unwrap();
                let waiting = running.iter().filter(|request| request["phase"] == "waiting for the GIL").count();
                (waiting == 3).then_some(())
            });
        }
        report("GIL kept by C code", mpm, times(&server));
        for mut connection in others.into_iter().chain([holder]) {
            assert_eq!(connection.read_response("GET").unwrap().status(), 200);
        }
        if mpm.threaded() {
            let page = server.metrics();
            let long = page.sum("wsgi_gil_wait_seconds_count", &[]) - page.at_most("wsgi_gil_wait_seconds", "0.25", &[]);
            assert!(long >= 3.0, "{long}");
        }
    }

    fn killed_and_restarted(mpm) {
        ours_only!("mod_wsgi has no such process");
        let server = start(mpm);
        server.get("/m/ok").expect(200);
        let before = server.helper().expect("there is a helper");
        kill(before);
        let after = eventually("another helper answers", || {
            server.ask_helper(&Request::get("/metrics")).ok()?;
            server.helper().filter(|pid| *pid != before)
        });
        assert_eq!(server.scrape().sum("wsgi_requests_total", &[]), 1.0);
        // The helper is not a child of the MPM, and does not count as one.
        let page = server.scrape();
        assert_eq!(page.sum("wsgi_children_exited_total", &[]), 0.0);
        server.expect_log("the process \\d+ that answers for WSGIMetricsListen ended by signal 9");
        kill(after);
        eventually("one that died young is replaced, too", || {
            server.helper().filter(|pid| *pid != after)
        });
        // Restarts keep the port: a scraper that asks during a restart waits.
        for _ in 0..3 {
            let over = Over::default();
            thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    let mut pages = 0;
                    while !over.is_over() {
                        server.ask_helper(&Request::get("/metrics")).unwrap().expect(200);
                        pages += 1;
                    }
                    pages
                });
                let end = over.at_end();
                server.graceful_restart();
                drop(end);
                assert!(asking.join().unwrap() > 0);
            });
        }
        assert_eq!(server.scrape().sum("wsgi_requests_total", &[]), 1.0);
        let helper = server.helper().unwrap();
        server.stop();
        assert!(!harness::is_alive(helper));
    }

    fn unprivileged(mpm) {
        ours_only!("mod_wsgi has no such process");
        let server = start(mpm);
        server.get("/m/ok").expect(200);
        let status = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let (helper, child) = (status(server.helper().unwrap()), status(server.children()[0]));
        for name in ["Uid:", "Gid:", "Groups:"] {
            assert_eq!(line(&helper, name), line(&child, name));
        }
        assert_eq!(line(&helper, "Threads:"), "Threads:\t1");
        assert!(!harness::maps(server.helper().unwrap()).contains("libpython"));
        // The helper has neither the server's socket nor its logs.
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.helper().unwrap())).unwrap().count();
        assert!(open <= 6, "{open} open files");
    }
}

#[test]
fn hostile_clients() {
    ours_only!("mod_wsgi has no such process");
    let server = start(Mpm::Event);
    server.get("/m/ok").expect(200);
    let connect = || Connection::open(server.metrics_address()).unwrap();
    let good = || {
        let begin = Instant::now();
        let response = server.ask_helper(&Request::get("/metrics")).unwrap();
        Exposition::parse(&response.expect(200).text()).unwrap();
        begin.elapsed()
    };
    // Clients that begin a request and do not go on take half of its slots.
    let mut slow: Vec<Connection> = (0..8).map(|_| connect()).collect();
    for (number, connection) in slow.iter_mut().enumerate() {
        connection.send(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n"[..number * 4]);
    }
    assert!(good() < Duration::from_secs(4));
    for (sent, expected) in [
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (b"\x00\xff\x16\x03\x01\r\n\r\n".to_vec(), 400),
        (b"GET /metrics HTTP/9.9\r\n\r\n".to_vec(), 400),
        (b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 404),
        (
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            404,
        ),
        (
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            405,
        ),
        (
            [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat(),
            431,
        ),
        (
            [
                b"GET /metrics HTTP/1.1\r\n".to_vec(),
                b"X: y\r\n".repeat(100),
                b"\r\n".to_vec(),
            ]
            .concat(),
            431,
        ),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 200),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            200,
        ),
    ] {
        let mut connection = connect();
        // The helper may close the connection before it has read everything.
        let _ = connection.try_send(&sent);
        let method = if sent.starts_with(b"HEAD") {
            "HEAD"
        } else {
            "GET"
        };
        let response = connection.read_response(method).unwrap();
        let shown = String::from_utf8_lossy(&sent);
        assert_eq!(response.status(), expected, "{shown}");
        // Each response ends its connection.
        assert!(connection.read_response("GET").is_err(), "{shown}");
        assert!(good() < Duration::from_secs(4));
    }
    // There are more clients than slots: the next one waits until the slow ones are dropped.
    slow.extend((0..40).map(|_| connect()));
    let waited = good();
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    drop(slow);
    assert!(good() < Duration::from_secs(6));
    // A scraper that leaves in the middle of a response does not disturb the others.
    for _ in 0..20 {
        let mut connection = connect();
        connection.send(Request::get("/metrics").to_bytes());
        connection.abort();
    }
    good();
    assert!(server.helper().is_some());
}

/// Sixteen connections have a slot. Clients that hold a slot without a request keep no other client out, and as many of
/// them stay as there are free slots.
#[test]
fn half_sent_requests_give_way() {
    ours_only!("mod_wsgi has no such process");
    let server = start(Mpm::Event);
    server.get("/m/ok").expect(200);
    for held in [15, 16, 17, 145] {
        // The helper drops them after five seconds in any case, so a slower machine proves nothing.
        eventually(&format!("{held} half-sent requests, in time"), || {
            alone(&server);
            let begin = Instant::now();
            let mut half_sent: Vec<Connection> = (0..held)
                .map(|_| {
                    let mut connection = Connection::open(server.metrics_address()).unwrap();
                    connection.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n");
                    connection
                })
                .collect();
            let response = server.ask_helper(&Request::get("/metrics")).unwrap();
            Exposition::parse(&response.expect(200).text()).unwrap();
            bounded(&server);
            let answered = begin.elapsed();
            // The helper drops them in order, so the last ones stay.
            let mut stay = 0;
            for connection in half_sent.iter_mut().rev() {
                let sent = connection.try_send(b"Connection: close\r\n\r\n");
                let answer = sent.is_ok().then(|| connection.read_response("GET"));
                stay += usize::from(
                    answer.is_some_and(|answer| answer.is_ok_and(|answer| answer.status() == 200)),
                );
            }
            if begin.elapsed() > Duration::from_secs(4) {
                return None;
            }
            assert!(answered < Duration::from_secs(4), "{held}: {answered:?}");
            assert_eq!(stay, 15.min(held), "of {held}");
            Some(())
        });
    }
}

/// The same for clients that send a request and do not read the response.
#[test]
fn slow_readers_give_way() {
    ours_only!("mod_wsgi has no such process");
    let server = start(Mpm::Worker);
    server.get("/m/ok").expect(200);
    let asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(400);
    for held in [15, 16, 17, 145] {
        alone(&server);
        let readers: Vec<Connection> = (0..held)
            .map(|_| {
                let mut connection = Connection::open(server.metrics_address()).unwrap();
                // The helper may have closed the connection in the middle.
                let _ = connection.try_send(&asked);
                connection
            })
            .collect();
        let begin = Instant::now();
        let response = server.ask_helper(&Request::get("/metrics")).unwrap();
        Exposition::parse(&response.expect(200).text()).unwrap();
        let waited = begin.elapsed();
        // It would take nine times five seconds if the helper waited for each of them.
        assert!(waited < Duration::from_secs(20), "{held}: {waited:?}");
        bounded(&server);
        drop(readers);
    }
}

/// Waits until the helper has no connection.
fn alone(server: &Server) {
    eventually("no scraper is connected", || {
        (threads(server.helper()?) == 1).then_some(())
    });
}

fn threads(pid: harness::Pid) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Checks that the helper has a thread and a descriptor for each slot, and no more.
#[track_caller]
fn bounded(server: &Server) {
    let helper = server.helper().unwrap();
    // A thread returns its slot just before it ends.
    eventually("threads are few", || (threads(helper) <= 18).then_some(()));
    let open = harness::descriptors(helper);
    assert!(open <= 6 + 18, "{open} open files");
}

#[test]
fn a_unix_socket() {
    ours_only!("mod_wsgi has no such process");
    let server = Server::builder(Mpm::Worker)
        .app("/m", "measured.wsgi")
        .conf("WSGIMetricsListen unix:${ROOT}/metrics.sock")
        .start();
    server.get("/m/ok").expect(200);
    let path = server.root().join("metrics.sock");
    for restart in [false, true] {
        if restart {
            server.graceful_restart();
        }
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let page = Exposition::parse(body).unwrap();
        assert_eq!(page.sum("wsgi_requests_total", &[("app", "/m")]), 1.0);
    }
    let metadata = std::fs::metadata(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    assert_eq!(mode & 0o007, 0, "{mode:o}");
    server.stop();
}

fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .pool(2, 3)
        .metrics_listener()
        .app("/m", "measured.wsgi")
        .conf("SetEnv test.gate ${ROOT}/gate")
        .start()
}

/// The workers in the pools of these tests.
const WORKERS: usize = 6;

/// Returns the durations of several scrapes, shortest first.
fn times(server: &Server) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..11)
        .map(|_| {
            let begin = Instant::now();
            server.scrape();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

/// The target is 100 ms. On a machine that is not quiet, the test requires only a second.
fn report(what: &str, mpm: Mpm, times: Vec<Duration>) {
    let median = times[times.len() / 2];
    eprintln!(
        "{what}, {mpm}: a scrape takes {median:?}, {:?} at most",
        times[times.len() - 1]
    );
    assert!(median < Duration::from_secs(1), "{times:?}");
}
