//! What counts against a limit: for how long, how often, and against the limit of which group.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use harness::{Gate, Mpm, Request, Server, Visitor, eventually, mpm_tests, ours_only};

/// The executors that have a queue, with one permit.
const LINES: [&str; 2] = ["WSGIThreadPool size=1", "WSGIExecutor delegate max=1"];

#[test]
fn a_request_that_has_waited_is_not_queued_any_more() {
    ours_only!("mod_wsgi has no such line in its children");
    for mpm in [Mpm::Worker, Mpm::Event] {
        for one_place in LINES {
            for depth in [1, 2] {
                let gate = Gate::new();
                let server = start(mpm, &gate, &format!("{one_place}\nWSGIQueue depth={depth}"));
                let mut clients = vec![server.ask("/outer/0")];
                let mut inside = at_gate(&gate, "0");
                for number in 1..=depth {
                    clients.push(server.ask(&format!("/outer/{number}")));
                    server.wait_until_there("/outer/", number + 1);
                }
                server.get("/outer/refused").expect(503);
                // The requests run in order, and for each that leaves the queue, one more may enter it, and only one.
                for number in 1..=4 {
                    inside.release();
                    inside = at_gate(&gate, &number.to_string());
                    let answer = clients.remove(0).read_response("GET").unwrap();
                    assert_eq!(answer.expect(200).text(), format!("[{}]", number - 1));
                    server.wait_until_there("/outer/", depth);
                    clients.push(server.ask(&format!("/outer/{}", number + depth)));
                    server.wait_until_there("/outer/", depth + 1);
                    server.get("/outer/refused").expect(503);
                }
                inside.release();
                for number in 5..=4 + depth {
                    at_gate(&gate, &number.to_string()).release();
                }
                for client in &mut clients {
                    client.read_response("GET").unwrap().expect(200);
                }
                let full = [("app", "/outer"), ("reason", "queue_full")];
                server.expect_count("wsgi_requests_rejected_total", &full, 5);
            }
        }
    }
}

#[test]
fn clients_for_whom_there_is_room_are_never_refused() {
    ours_only!("mod_wsgi has no such line in its children");
    for mpm in [Mpm::Worker, Mpm::Event] {
        for one_place in LINES {
            let gate = Gate::new();
            let server = start(mpm, &gate, &format!("{one_place}\nWSGIQueue depth=3"));
            // The requests are short, so threads run those of others.
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut connection = server.connect();
                        for _ in 0..200 {
                            let request = Request::get("/outer/identity").keep_alive();
                            let answer = connection.exchange(&request).unwrap().expect(200);
                            if answer.header("Connection") == Some("close") {
                                connection = server.connect();
                            }
                        }
                    });
                }
            });
            server.expect_count("wsgi_requests_rejected_total", &[("app", "/outer")], 0);
        }
    }
}

#[test]
fn a_nested_request_is_no_other_thread() {
    ours_only!("mod_wsgi has no shares");
    for mpm in [Mpm::Worker, Mpm::Event] {
        for executor in ["WSGIExecutor direct", "WSGIExecutor delegate", LINES[0]] {
            // A share of the group, and a limit for all groups together that leaves all threads but one to other
            // requests.
            for share in ["WSGIThreadShare 1", "WSGIThreadShare reserve=7"] {
                let gate = Gate::new();
                let server = start(mpm, &gate, &format!("{executor}\n{share}"));
                for round in 0..2 {
                    // The inner request is of the same group, of another group, and nested twice.
                    for (url, text) in [
                        (
                            "/outer/include?/outer/part",
                            "<p>before</p>[part]<p>after</p>",
                        ),
                        (
                            "/outer/include?/inner/part",
                            "<p>before</p>[part]<p>after</p>",
                        ),
                        (
                            "/outer/include?/inner/include?/outer/part",
                            "<p>before</p><p>before</p>[part]<p>after</p><p>after</p>",
                        ),
                    ] {
                        let mut client = server.ask(url);
                        let part = at_gate(&gate, "part");
                        // The thread counts all the same, so no other request is admitted.
                        server.get("/outer/refused").expect(503);
                        if share.contains("reserve") || url.contains("inner") {
                            server.get("/inner/refused").expect(503);
                        }
                        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
                        part.release();
                        let answer = client.read_response("GET").unwrap().expect(200);
                        assert_eq!(answer.text(), text, "{mpm} {executor} {share} {round}");
                    }
                    // All permits are returned.
                    for group in ["outer", "inner"] {
                        let mut client = server.ask(&format!("/{group}/alone"));
                        at_gate(&gate, "alone").release();
                        client.read_response("GET").unwrap().expect(200);
                    }
                }
            }
        }
    }
}

mpm_tests! {
    fn ids_are_those_of_the_log_and_come_once(mpm) {
        ours_only!("the ids are httpd's");
        let gate = Gate::new();
        let server = start(mpm, &gate, "");
        let ids = ids_of(&server);
        for id in &ids {
            let is_digit = |c: char| c.is_ascii_alphanumeric() || "+/".contains(c);
            assert!(id.len() == 11 && id.chars().all(is_digit), "{id}");
        }
        // Ids of another process do not repeat them either.
        server.restart_now();
        let more = ids_of(&server);
        assert!(ids.is_disjoint(&more), "{ids:?} {more:?}");
    }

    fn ids_of_another_module_stay(mpm) {
        ours_only!("the ids are httpd's");
        let gate = Gate::new();
        let server = builder(mpm, &gate).modules(&["unique_id"]).start();
        for id in ids_of(&server) {
            assert!(id.len() > 20, "{id} is not of mod_unique_id");
        }
    }

    fn lines_of_other_threads_are_whole_and_say_whose_they_are(mpm) {
        let gate = Gate::new();
        let server = start(mpm, &gate, "");
        let mut client = server.connect();
        let request = Request::new("POST", "/outer/read").header("Content-Length", "40");
        client.send(request.head_bytes());
        for _ in 0..3 {
            client.send("0123456789");
            assert!(client.is_silent_for(Duration::from_millis(30)));
        }
        client.send("0123456789");
        assert_eq!(client.read_response("POST").unwrap().expect(200).text(), "read 40");
        let beside = server.allow_log(r"(^|\] )beside \d+$");
        let after = server.expect_log("(^|\\] )after$");
        let records = eventually("all lines are there", || {
            let records: Vec<_> = server.records().into_iter().filter(|record| beside.is_match(&record.message)).collect();
            (records.len() >= 4).then_some(records)
        });
        for (at, record) in records.iter().enumerate() {
            assert!(record.message.ends_with(&format!("beside {at}")), "{record:?}");
            assert_eq!((record.module.as_str(), record.level.as_str()), (after.module.as_str(), "error"));
            // The record is known by its id, or by its client where httpd has the request.
            let is_known = record.request == after.request || record.client.starts_with("127.0.0.1:");
            assert!(is_known, "{record:?}");
        }
    }
}

/// Returns the ids of some requests, sent by several clients at the same time.
fn ids_of(server: &Server) -> HashSet<String> {
    let all = thread::scope(|scope| {
        let ask = || {
            let mut connection = server.connect();
            let mut ids = Vec::new();
            for _ in 0..10 {
                let request = Request::get("/outer/identity").keep_alive();
                let answer = connection.exchange(&request).unwrap().expect(200);
                ids.push(answer.text());
                if answer.header("Connection") == Some("close") {
                    connection = server.connect();
                }
            }
            ids
        };
        let clients = [(); 4].map(|()| scope.spawn(ask));
        clients.map(|client| client.join().unwrap()).concat()
    });
    let ids: HashSet<String> = all.iter().cloned().collect();
    assert_eq!(ids.len(), all.len(), "{all:?}");
    ids
}

fn builder(mpm: Mpm, gate: &Gate) -> harness::Builder {
    Server::builder(mpm)
        .pool(1, 8)
        .one_child()
        .metrics()
        .modules(&["include", "filter"])
        .conf(&gate.directive())
        .conf(
            "WSGIScriptAlias /outer ${APPS}/counts.wsgi application-group=outer process-group=%{GLOBAL}
            WSGIScriptAlias /inner ${APPS}/counts.wsgi application-group=inner process-group=%{GLOBAL}
            <LocationMatch ^/(outer|inner)/include>
                Options +Includes
                SetOutputFilter INCLUDES
            </LocationMatch>",
        )
}

/// Starts a server with one child of eight threads and two groups, which have been loaded.
fn start(mpm: Mpm, gate: &Gate, conf: &str) -> Server {
    let server = builder(mpm, gate).conf(conf).start();
    for group in ["outer", "inner"] {
        server.get(&format!("/{group}/identity")).expect(200);
    }
    server
}

/// Waits for the next visitor at the gate, which must have that name.
fn at_gate(gate: &Gate, name: &str) -> Visitor {
    let visitor = gate.next();
    assert_eq!(visitor.name(), name);
    visitor
}
