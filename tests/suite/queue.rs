//! The queue of requests that wait for a permit: requests run in the order in which they came, requests that find a
//! full queue or wait too long are refused soon, and other requests are not delayed. Throughput stays under overload.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Builder, Connection, Gate, Mpm, Pid, Request, Server, Visitor, eventually, listens, long,
    ours_only,
};

/// Makes a test of each function for each MPM with threads and each executor with a queue.
macro_rules! line_tests {
    ($($(#[$meta:meta])* fn $name:ident($mpm:ident, $one_place:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn run($mpm: Mpm, $one_place: &str) {
                ours_only!("mod_wsgi has no such line in its children");
                $body
            }

            #[test]
            fn pool_worker() {
                run(Mpm::Worker, POOL);
            }

            #[test]
            fn pool_event() {
                run(Mpm::Event, POOL);
            }

            #[test]
            fn delegate_worker() {
                run(Mpm::Worker, DELEGATE);
            }

            #[test]
            fn delegate_event() {
                run(Mpm::Event, DELEGATE);
            }
        }
    )*};
}

const POOL: &str = "WSGIThreadPool size=1";
const DELEGATE: &str = "WSGIExecutor delegate max=1";

line_tests! {
    fn first_come_first_served(mpm, one_place) {
        let gate = Gate::new();
        let server = start(mpm, &gate, one_place);
        let inside = enter(&server, &gate, "first");
        let names: Vec<String> = (1..=8).map(|number| format!("number-{number}")).collect();
        let mut waiting = Vec::new();
        for (at, name) in names.iter().enumerate() {
            waiting.push(ask(&server, name));
            server.wait_until_there("/app/", at + 2);
        }
        // Later requests do not change the order of those that wait.
        let mut served = Vec::new();
        answer(inside, "first");
        for _ in &names {
            let visitor = gate.next();
            served.push(visitor.name().to_owned());
            visitor.release();
        }
        assert_eq!(served, names);
        for (connection, name) in waiting.iter_mut().zip(&names) {
            assert_eq!(connection.read_response("GET").unwrap().expect(200).text(), *name);
        }
        server.expect_count("wsgi_requests_total", &[APP, ("code", "2xx")], 10);
        let waits = server.metrics();
        assert_eq!(waits.sum("wsgi_queue_wait_seconds_count", &[APP]), 10.0);
        // Only the request that loaded the script and the first one have not waited.
        let soon = waits.at_most("wsgi_queue_wait_seconds", "0.001", &[APP]);
        assert!(soon <= 2.0, "{soon}");
    }

    fn a_full_line_refuses(mpm, one_place) {
        let gate = Gate::new();
        for depth in [0, 2] {
            let server = start(mpm, &gate, &format!("{one_place}\nWSGIQueue depth={depth}"));
            let inside = enter(&server, &gate, "inside");
            let mut waiting: Vec<_> = (0..depth).map(|_| ask(&server, "waiting")).collect();
            server.wait_until_there("/app/", 1 + depth);
            for _ in 0..3 {
                let refused = server.get("/app/wait/refused").expect(503);
                assert_eq!(refused.header("Retry-After"), Some("1"));
            }
            let full = [APP, ("reason", "queue_full")];
            server.expect_count("wsgi_requests_rejected_total", &full, 3);
            answer(inside, "inside");
            waiting.iter().for_each(|_| gate.next().release());
            for connection in &mut waiting {
                assert_eq!(connection.read_response("GET").unwrap().expect(200).text(), "waiting");
            }
            assert_eq!(server.get("/app/now/again").expect(200).text(), "again");
            server.expect_count("wsgi_requests_total", &[APP, ("code", "2xx")], depth as u64 + 3);
            server.expect_count("wsgi_requests_total", &[APP, ("code", "5xx")], 3);
            server.expect_count("wsgi_requests_rejected_total", &[APP], 3);
        }
    }

    fn a_late_place_is_none(mpm, one_place) {
        let gate = Gate::new();
        let server = start(mpm, &gate, &format!("{one_place}\nWSGIQueue timeout=0.4"));
        let inside = enter(&server, &gate, "inside");
        for _ in 0..2 {
            let began = Instant::now();
            let late = server.get("/app/wait/late").expect(504);
            assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
            assert_eq!(late.header("Retry-After"), None);
        }
        server.expect_count("wsgi_requests_rejected_total", &[APP, ("reason", "queue_timeout")], 2);
        server.expect_count("wsgi_requests_rejected_total", &[APP], 2);
        server.expect_count("wsgi_requests_total", &[APP, ("code", "5xx")], 2);
        let waited = server.metrics().sum("wsgi_queue_wait_seconds_sum", &[APP]);
        assert!(waited >= 0.8, "{waited}");
        answer(inside, "inside");
        assert_eq!(server.get("/app/now/again").expect(200).text(), "again");
        server.expect_count("wsgi_queue_wait_seconds_count", &[APP], 5);
    }

    fn a_client_that_leaves_gives_its_place_in_the_queue_back(mpm, one_place) {
        let gate = Gate::new();
        let server = start(mpm, &gate, &format!("{one_place}\nWSGIQueue depth=1"));
        type Going = fn(Connection);
        for (round, go) in [drop as Going, Connection::abort].into_iter().enumerate() {
            let inside = enter(&server, &gate, "inside");
            let gone = ask(&server, "gone");
            server.wait_until_there("/app/", 2);
            server.get("/app/wait/refused").expect(503);
            go(gone);
            server.wait_until_there("/app/", 1);
            let mut waiting = ask(&server, "waiting");
            server.wait_until_there("/app/", 2);
            answer(inside, "inside");
            let visitor = gate.next();
            assert_eq!(visitor.name(), "waiting");
            visitor.release();
            assert_eq!(waiting.read_response("GET").unwrap().expect(200).text(), "waiting");
            let round = round as u64 + 1;
            server.expect_count("wsgi_client_aborts_total", &[APP, ("phase", "queue")], round);
            server.expect_count("wsgi_requests_rejected_total", &[APP, ("reason", "queue_full")], round);
            server.expect_count("wsgi_requests_total", &[APP, ("code", "none")], round);
        }
        server.expect_count("wsgi_client_aborts_total", &[APP], 2);
    }

    fn others_are_served_meanwhile(mpm, one_place) {
        let gate = Gate::new();
        let other = "WSGIScriptAlias /other ${APPS}/gate.wsgi application-group=other process-group=%{GLOBAL}";
        let server = start(mpm, &gate, &format!("{one_place}\n{other}"));
        let inside = enter(&server, &gate, "inside");
        let mut waiting: Vec<_> = (0..8).map(|_| ask(&server, "waiting")).collect();
        server.wait_until_there("/app/", 9);
        for _ in 0..20 {
            assert_eq!(server.get("/other/now/other").expect(200).text(), "other");
            assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
        }
        answer(inside, "inside");
        waiting.iter().for_each(|_| gate.next().release());
        for connection in &mut waiting {
            connection.read_response("GET").unwrap().expect(200);
        }
    }

    fn queued_requests_are_served_by_a_child_that_ends(mpm, one_place) {
        let gate = Gate::new();
        // Where a single child is allowed, worker starts its successor only once a thread of the old one is marked
        // dead. An idle thread that is woken by the end of the queue before httpd says so is marked as graceful.
        let room = "MaxRequestWorkers 128\nMaxSpareThreads 128";
        let server = start(mpm, &gate, &format!("{one_place}\n{room}"));
        let before = server.only_child();
        let inside = enter(&server, &gate, "inside");
        let mut waiting: Vec<_> = (0..4).map(|_| ask(&server, "waiting")).collect();
        server.wait_until_there("/app/", 5);
        harness::graceful(server.pid());
        eventually("there is a new child", || {
            server.children().iter().any(|child| *child != before).then_some(())
        });
        eventually("the old child takes no connection", || {
            (!listens(before, server.port())).then_some(())
        });
        assert_eq!(server.get("/app/now/new").expect(200).text(), "new");
        answer(inside, "inside");
        waiting.iter().for_each(|_| gate.next().release());
        for connection in &mut waiting {
            assert_eq!(connection.read_response("GET").unwrap().expect(200).text(), "waiting");
        }
        eventually("the old child ends", || (!server.children().contains(&before)).then_some(()));
    }

    fn a_stop_waits_for_no_queued_request(mpm, one_place) {
        let gate = Gate::new();
        let server = start(mpm, &gate, one_place);
        let inside = enter(&server, &gate, "inside");
        let waiting: Vec<_> = (0..4).map(|_| ask(&server, "waiting")).collect();
        server.wait_until_there("/app/", 5);
        let child = server.only_child();
        let stopping = thread::spawn(move || server.stop());
        for mut connection in waiting {
            let answer = connection.read_response("GET");
            assert!(!answer.as_ref().is_ok_and(|answer| answer.status() == 200), "{answer:?}");
        }
        // The remaining threads are the first one, and the one whose request is inside.
        eventually("those in line leave", || (threads_of_httpd(child) <= 2).then_some(()));
        assert!(gate.next_within(Duration::ZERO).is_none(), "another request has got its place");
        drop(inside);
        let took = stopping.join().unwrap();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    fn overload_costs_no_throughput(mpm, one_place) {
        let gate = Gate::new();
        for line in ["WSGIQueue depth=10 timeout=5", "WSGIQueue depth=40 timeout=0.2"] {
            let two_places = one_place.replace("=1", "=2");
            let server = start(mpm, &gate, &format!("{two_places}\n{line}"));
            let timeout = Duration::from_secs(5);
            let window = Duration::from_secs(if long() { 15 } else { 2 });
            let tries: Vec<(f64, f64)> = (0..3)
                .map_while({
                    let mut is_enough = false;
                    let server = &server;
                    move |_| {
                        if is_enough {
                            return None;
                        }
                        // As many clients as the queue has room for keep two permits busy.
                        let peak = Load::of(server, 12, window, None);
                        let rate = 5.0 * peak.rate(200);
                        let over = Load::of(server, 80, window, Some(rate));
                        peak.check(timeout);
                        over.check(timeout);
                        let offered = over.offered() / peak.rate(200);
                        let kept = over.rate(200) / peak.rate(200);
                        eprintln!(
                            "{mpm}, {two_places}, {line}: {:.1}/s at most, {offered:.1} times as many offered: {:?}, \
                             {:.3} of the throughput, refused within {:?}",
                            peak.rate(200), over.counts, kept, over.slowest_refusal,
                        );
                        is_enough = !long() || (offered >= 4.5 && kept >= 0.9);
                        assert!(over.rate(200) > 0.0 && over.slowest_refusal > Duration::ZERO, "{:?}", over.counts);
                        Some((offered, kept))
                    }
                })
                .collect();
            let is_kept = |(offered, kept): &(f64, f64)| *offered >= 4.5 && *kept >= 0.9;
            // The numbers are a question for a quiet machine; on any machine, some requests are answered and others
            // refused in time.
            assert!(!long() || tries.iter().any(is_kept), "{line}: offered and kept: {tries:?}");
            assert!(server.get("/app/now/again").expect(200).text() == "again");
        }
    }
}

/// The label of the application at `/app`.
const APP: (&str, &str) = ("app", "/app");

/// Starts a server with one child of 64 threads and `/app` in a group, which has been loaded.
fn start(mpm: Mpm, gate: &Gate, conf: &str) -> Server {
    let server = builder(mpm, gate).conf(conf).start();
    server.get("/app/now/load").expect(200);
    server
}

fn builder(mpm: Mpm, gate: &Gate) -> Builder {
    Server::builder(mpm)
        .pool(1, 64)
        .one_child()
        .metrics()
        .conf(&gate.directive())
        .conf(
            "WSGIScriptAlias /app ${APPS}/gate.wsgi application-group=app process-group=%{GLOBAL}",
        )
}

/// A request that is inside, and its client.
struct Inside {
    client: Connection,
    visitor: Visitor,
}

/// Sends a request, and waits until it is inside.
fn enter(server: &Server, gate: &Gate, name: &str) -> Inside {
    let client = ask(server, name);
    let visitor = gate.next();
    assert_eq!(visitor.name(), name);
    Inside { client, visitor }
}

/// Releases the request, and reads its response.
fn answer(inside: Inside, name: &str) {
    let mut client = inside.client;
    inside.visitor.release();
    let response = client.read_response("GET").unwrap();
    assert_eq!(response.expect(200).text(), name);
}

/// Sends a request that waits at the gate, and does not read its response.
fn ask(server: &Server, name: &str) -> Connection {
    server.ask(&format!("/app/wait/{name}"))
}

/// Returns the number of threads of a child that have httpd's name, and so belong to httpd.
fn threads_of_httpd(child: Pid) -> usize {
    let name = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let process = name(format!("/proc/{child}/comm").into());
    let threads = fs::read_dir(format!("/proc/{child}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .filter(|thread| name(thread.path().join("comm")) == process)
        .count()
}

/// The results of many requests.
struct Load {
    took: Duration,
    counts: BTreeMap<u16, u64>,
    slowest_refusal: Duration,
    /// Connections that broke, and responses that are not complete.
    broken: Vec<String>,
}

impl Load {
    /// Runs `clients` clients for a time, each request on a new connection: as fast as they are answered, or `rate`
    /// requests a second altogether.
    fn of(server: &Server, clients: u32, time: Duration, rate: Option<f64>) -> Self {
        let all = Mutex::new((BTreeMap::new(), Duration::ZERO, Vec::new()));
        let next = AtomicU64::new(0);
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    while began.elapsed() < time {
                        if let Some(rate) = rate {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            let due = began + Duration::from_secs_f64(number as f64 / rate);
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                        }
                        let sent = Instant::now();
                        let answer = server.try_send(&Request::get("/app/sleep/0.02"));
                        let mut all = all.lock().unwrap();
                        match answer {
                            Ok(answer) if answer.is_complete() => {
                                *all.0.entry(answer.status()).or_default() += 1;
                                if answer.status() != 200 {
                                    all.1 = all.1.max(sent.elapsed());
                                }
                            }
                            other => all.2.push(format!("{other:?}")),
                        }
                    }
                });
            }
        });
        let (counts, slowest_refusal, broken) = all.into_inner().unwrap();
        Self {
            took: began.elapsed(),
            counts,
            slowest_refusal,
            broken,
        }
    }

    /// Responses with this status per second.
    fn rate(&self, status: u16) -> f64 {
        let count = self.counts.get(&status).copied().unwrap_or(0);
        count as f64 / self.took.as_secs_f64()
    }

    /// Responses per second.
    fn offered(&self) -> f64 {
        self.counts.values().sum::<u64>() as f64 / self.took.as_secs_f64()
    }

    /// Checks that all requests got an expected response, and that none was refused later than after the longest wait.
    fn check(&self, timeout: Duration) {
        assert!(self.broken.is_empty(), "{:#?}", self.broken);
        let known = [200, 503, 504];
        assert!(
            self.counts.keys().all(|status| known.contains(status)),
            "{:?}",
            self.counts
        );
        let slack = Duration::from_secs(3);
        assert!(
            self.slowest_refusal < timeout + slack,
            "{:?}",
            self.slowest_refusal
        );
    }
}
