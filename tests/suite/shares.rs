//! The number of threads of a child that the requests of a group may hold: a group that is stuck leaves the others to
//! other groups.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Connection, Gate, Mpm, Over, Request, Server, Visitor, eventually, long, ours_only};

#[test]
fn a_stuck_group_leaves_the_others_their_throughput() {
    ours_only!("mod_wsgi has no shares");
    let window = Duration::from_millis(if long() { 5000 } else { 1000 });
    for (share, executor, held) in [
        ("WSGIThreadShare 10", "", 10),
        ("WSGIThreadShare 40%", "WSGIExecutor direct", 10),
        ("WSGIThreadShare 60%", "WSGIExecutor delegate max=2", 15),
        ("WSGIThreadShare 8", "WSGIThreadPool size=4", 8),
    ] {
        let gate = Gate::new();
        let server = start(Mpm::Event, &gate, &of_stuck(&[share, executor]));
        let mut kept = Vec::new();
        for _ in 0..3 {
            let before = Throughput::of(&server, window);
            let stuck = Stuck::fill(&server, &gate, 25, held);
            let meanwhile = Throughput::of(&server, window);
            stuck.release(&gate);
            let (healthy, files) = meanwhile.of_what_was(&before);
            eprintln!(
                "{share}, {executor}: {healthy:.3} of the requests and {files:.3} of the files: {meanwhile:?}"
            );
            kept.push((healthy, files));
            if !long() || is_kept(&kept) {
                break;
            }
        }
        // That all requests are answered has been checked; how fast they are is a question for a quiet machine.
        assert!(!long() || is_kept(&kept), "{share}: {kept:?}");
        let refused = server.metrics().sum(
            "wsgi_requests_rejected_total",
            &[APP, ("reason", "queue_full")],
        );
        assert_eq!(refused as usize, kept.len() * (25 - held));
    }
}

#[test]
fn without_a_share_a_stuck_group_has_all_threads() {
    ours_only!("mod_wsgi has no shares");
    let gate = Gate::new();
    let server = start(Mpm::Event, &gate, "");
    let stuck = Stuck::fill(&server, &gate, 25, 25);
    let mut refused = server.ask("/static.txt");
    assert!(refused.is_silent_for(Duration::from_millis(500)));
    stuck.release(&gate);
    refused.read_response("GET").unwrap().expect(200);
}

#[test]
fn a_reserve_is_left_to_requests_without_python() {
    ours_only!("mod_wsgi has no shares");
    for mpm in [Mpm::Worker, Mpm::Event] {
        for (share, stuck_has) in [("WSGIThreadShare 100%", 20), ("WSGIThreadShare 12", 12)] {
            let gate = Gate::new();
            let conf = format!(
                "WSGIExecutor direct\nWSGIThreadShare reserve=20%\n{}",
                of_stuck(&[share])
            );
            let server = start(mpm, &gate, &conf);
            let stuck = Stuck::fill(&server, &gate, 22, stuck_has);
            // The other groups get the remaining threads, down to the reserve.
            let mut inside = Vec::new();
            let mut clients = Vec::new();
            for number in 0..20 - stuck_has {
                let name = format!("healthy-{number}");
                let client = server.ask(&format!("/healthy/wait/{name}"));
                clients.push(client);
                inside.push(stuck.next_other(&gate, &name));
            }
            let refused = server.get("/healthy/now/refused").expect(503);
            assert_eq!(refused.header("Retry-After"), Some("1"));
            for _ in 0..20 {
                assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
                server.status();
            }
            drop(inside);
            for client in &mut clients {
                client.read_response("GET").unwrap().expect(200);
            }
            stuck.release(&gate);
            assert_eq!(server.get("/healthy/now/well").expect(200).text(), "well");
        }
    }
}

#[test]
fn requests_in_process_groups_hold_threads_too() {
    ours_only!("mod_wsgi has no shares");
    for mpm in [Mpm::Worker, Mpm::Event] {
        let gate = Gate::new();
        let server = Server::builder(mpm)
            .pool(1, 25)
            .one_child()
            .conf(&gate.directive())
            .conf(
                "WSGISocketPrefix ${ROOT}/wsgi
                WSGIDaemonProcess site threads=25
                WSGIDaemonProcess other threads=25
                WSGIScriptAlias /stuck ${APPS}/gate.wsgi application-group=stuck process-group=site
                WSGIScriptAlias /same ${APPS}/gate.wsgi application-group=stuck process-group=other
                WSGIScriptAlias /here ${APPS}/gate.wsgi application-group=here process-group=%{GLOBAL}
                WSGIThreadShare reserve=20%",
            )
            .conf(&of_stuck(&["WSGIThreadShare 8"]))
            .start();
        let mut clients = Vec::new();
        let mut inside = Vec::new();
        let mut fill = |url: &str, count: usize| {
            for _ in 0..count {
                clients.push(server.ask(&format!("{url}/wait/held")));
                inside.push(gate.next());
            }
            let refused = server.get(&format!("{url}/now/refused")).expect(503);
            assert_eq!(refused.header("Retry-After"), Some("1"));
        };
        // The same application group is another one in another process group.
        fill("/stuck", 8);
        fill("/same", 8);
        // All of them together, with those in httpd's children, leave 5 threads to others.
        fill("/here", 4);
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
        drop(inside);
        for client in &mut clients {
            assert_eq!(
                client.read_response("GET").unwrap().expect(200).text(),
                "held"
            );
        }
        for url in ["/stuck/now/well", "/same/now/well", "/here/now/well"] {
            eventually("its thread is free", || {
                (server.get(url).status() == 200).then_some(())
            });
        }
    }
}

/// Returns the kept share of requests and of files, in the best of some tries.
fn is_kept(tries: &[(f64, f64)]) -> bool {
    let best = |of: fn(&(f64, f64)) -> f64| tries.iter().map(of).fold(0.0, f64::max);
    best(|kept| kept.0) >= 0.9 && best(|kept| kept.1) >= 0.9
}

/// The label of the application that is stuck.
const APP: (&str, &str) = ("app", "/stuck");

/// Directives for the group that is stuck.
fn of_stuck(lines: &[&str]) -> String {
    let lines = lines.join("\n");
    format!("<WSGIInterpreterOptions application-group=stuck>\n{lines}\n</WSGIInterpreterOptions>")
}

/// Starts a server with one child of 25 threads and two groups.
fn start(mpm: Mpm, gate: &Gate, conf: &str) -> Server {
    let server = Server::builder(mpm)
        .pool(1, 25)
        .one_child()
        .metrics()
        .conf(&gate.directive())
        .conf(
            "WSGIScriptAlias /stuck ${APPS}/gate.wsgi application-group=stuck process-group=%{GLOBAL}
            WSGIScriptAlias /healthy ${APPS}/gate.wsgi application-group=healthy process-group=%{GLOBAL}",
        )
        .conf(conf)
        .start();
    for url in ["/stuck/now/loaded", "/healthy/now/loaded"] {
        server.get(url).expect(200);
    }
    server
}

/// Requests that are stuck, inside or in the queue.
struct Stuck {
    clients: Vec<Connection>,
    inside: Vec<Visitor>,
}

impl Stuck {
    /// Sends `sent` requests, of which the group holds `held`; the others are refused.
    fn fill(server: &Server, gate: &Gate, sent: usize, held: usize) -> Self {
        let mut clients: Vec<Connection> = Vec::new();
        let mut refused = 0;
        for _ in 0..sent {
            let client = server.ask("/stuck/wait/stuck");
            clients.push(client);
            if clients.len() > held {
                let answer = clients.pop().unwrap().read_response("GET").unwrap();
                assert_eq!(answer.expect(503).header("Retry-After"), Some("1"));
                refused += 1;
            } else {
                // Each request has its thread before the next one comes.
                wait_until_held(server, clients.len(), held == 25);
            }
        }
        assert_eq!(refused, sent - held);
        let inside = std::iter::from_fn(|| gate.next_within(Duration::from_millis(300))).collect();
        Self { clients, inside }
    }

    /// Waits for the next visitor at the gate that is not stuck.
    fn next_other(&self, gate: &Gate, name: &str) -> Visitor {
        let visitor = gate.next();
        assert_eq!(visitor.name(), name);
        visitor
    }

    /// Releases all of them, and the requests that get their permits.
    fn release(mut self, gate: &Gate) {
        self.inside.clear();
        let clients = std::mem::take(&mut self.clients);
        let over = Over::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.is_over() {
                    drop(gate.next_within(Duration::from_millis(20)));
                }
            });
            let _end = over.at_end();
            for mut client in clients {
                let answer = client.read_response("GET");
                let status = answer.as_ref().map_or(0, harness::Response::status);
                assert_eq!(status, 200, "{answer:?}");
            }
        });
    }
}

/// Waits until `count` requests of the stuck group hold a thread. If they take the last thread, no child can be asked.
fn wait_until_held(server: &Server, count: usize, takes_all: bool) {
    if takes_all && count >= 24 {
        return;
    }
    eventually("the requests are there", || {
        let phases = server.phases("/stuck/").into_iter();
        let here = phases.filter(|phase| phase != "preparing");
        (here.count() >= count).then_some(())
    });
}

/// The responses per second of a few clients.
#[derive(Debug)]
struct Throughput {
    healthy: f64,
    files: f64,
}

impl Throughput {
    /// Runs three clients of the healthy group and three of files for a time; each request must get the expected
    /// response.
    fn of(server: &Server, time: Duration) -> Self {
        let counts = [AtomicU64::new(0), AtomicU64::new(0)];
        let began = Instant::now();
        thread::scope(|scope| {
            for client in 0..6 {
                let count = &counts[client % 2];
                let (url, expected) =
                    [("/healthy/now/well", "well"), ("/static.txt", "static\n")][client % 2];
                scope.spawn(move || {
                    let request = Request::get(url).keep_alive();
                    let mut connection = server.connect();
                    while began.elapsed() < time {
                        let answer = connection.exchange(&request).unwrap().expect(200);
                        assert_eq!(answer.text(), expected);
                        if answer.header("Connection") == Some("close") {
                            connection = server.connect();
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let [healthy, files] =
            counts.map(|count| count.into_inner() as f64 / began.elapsed().as_secs_f64());
        Self { healthy, files }
    }

    fn of_what_was(&self, before: &Self) -> (f64, f64) {
        (self.healthy / before.healthy, self.files / before.files)
    }
}
