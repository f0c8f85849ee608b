//! Requests that only the end of their process can end: another thread answers their clients, their child is replaced,
//! and no other request notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Builder, Mpm, Pid, Request, Server, embedded_only, eventually, graceful, is_alive, kill, long,
    mpm_tests, ours_only, wait_until_ended,
};

use crate::clients::Clients;

mpm_tests! {
    fn a_stuck_request_is_given_up_and_its_child_replaced(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        let server = start(mpm, |builder| builder.pool(2, 8));
        let clients = Clients::during(&server, &["/app/who", "/other/who", "/static.txt"], 3, |clients| {
            clients.wait_for(20);
            for (round, way) in ["sleep", "read"].into_iter().enumerate() {
                let child = give_up(&server, way);
                gone(&server, child);
                clients.wait_for(20);
                assert_eq!(server.count_log("WSGI1063"), round + 1);
            }
        });
        clients.expect_no_failures();
        let reason = [("reason", "request_timeout")];
        server.expect_count("wsgi_children_recycles_total", &reason, 2);
        server.expect_count("wsgi_request_timeouts_total", &[("stage", "application")], 2);
    }

    fn the_only_child_is_replaced(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        let server = start(mpm, Builder::one_child);
        let child = server.only_process();
        assert_eq!(give_up(&server, "sleep"), child);
        let after = eventually("a successor serves", || {
            let answer = server.try_send(&Request::get("/app/who")).ok()?;
            let pid: Pid = (answer.status() == 200).then(|| answer.text().parse().ok())??;
            (pid != child).then_some(pid)
        });
        gone(&server, child);
        assert_eq!(server.only_process(), after);
    }

    fn children_retire_one_after_the_other(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        embedded_only!("httpd's children retire by turns");
        // Half of the threads of each child are stuck, so that all children take connections until they retire.
        let (children, threads) = (4, if mpm.threaded() { 4 } else { 1 });
        let server = start(mpm, |builder| builder.pool(children, threads).conf(if mpm.threaded() {
            ""
        } else {
            "StartServers 4\nMinSpareServers 4"
        }));
        let before = eventually("all children serve", || {
            let ready = ready(&server);
            (ready.len() == children).then_some(ready)
        });
        let is_over = AtomicBool::new(false);
        let most = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| while !is_over.load(Relaxed) {
                let now = retiring_of_ready(&server);
                most.fetch_max(now, Relaxed);
            });
            let _over = Over(&is_over);
            let stuck: Vec<_> = (0..children * threads)
                .map(|_| scope.spawn(|| server.try_send(&Request::get("/app/sleep?1000"))))
                .collect();
            for answer in stuck {
                assert_eq!(answer.join().unwrap().expect("an answer").status(), 504);
            }
            for child in given_up(&server) {
                gone(&server, child);
            }
        });
        let affected = given_up(&server).len();
        eprintln!("{mpm}: {affected} of {} children stuck, {most:?} retire at a time", before.len());
        assert!(affected > 1, "only one had stuck requests");
        // A child looks at the others and then marks itself, so two children that do this at the same moment are both
        // right.
        assert!(most.into_inner() <= 2, "more than two of four retired at a time");
        // httpd keeps as many threads ready as `MinSpareThreads` says, so one child may be enough.
        eventually("they are replaced", || (!ready(&server).is_empty()).then_some(()));
        server.get("/app/who").expect(200);
    }

    fn a_child_is_killed(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        embedded_only!("daemon::a_killed_process is about processes of groups");
        let server = start(mpm, |builder| builder.pool(2, 4).conf("<Location /app>\nWSGIRequestTimeout Off\n</Location>"));
        let (child, mut connection) = stuck(&server);
        kill(child);
        assert!(connection.read_response("GET").is_err(), "no thread answers");
        gone(&server, child);
        server.allow_log(&format!("child pid {child} exit signal Killed"));
        for target in ["/app/who", "/other/who", "/static.txt"] {
            server.get(target).expect(200);
        }
        server.expect_count("wsgi_children_exited_total", &[("how", "killed")], 1);
    }

    fn a_graceful_restart_waits_no_longer_than_the_limit(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        let server = start(mpm, |builder| builder.pool(2, 4).conf("<Location /app>\nWSGIRequestTimeout 2 grace=0.5\n</Location>"));
        let (child, mut connection) = stuck(&server);
        graceful(server.pid());
        eventually("it has restarted", || (server.count_log("resuming normal operations") > 1).then_some(()));
        server.get("/app/who").expect(200);
        assert!(is_alive(child), "its request has time left");
        assert_eq!(connection.read_response("GET").expect("an answer").status(), 504);
        gone(&server, child);
    }

    fn a_stop_does_not_wait(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        let server = start(mpm, |builder| builder.pool(2, 4).conf("<Location /app>\nWSGIRequestTimeout Off\n</Location>"));
        let (child, _connection) = stuck(&server);
        // Messages of httpd about children that do not end when they are told to.
        server.allow_log("AH00046|WSGI1032");
        let took = server.stop();
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert!(!is_alive(child));
    }

    fn a_stop_does_not_wait_for_those_that_were_given_up(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        let server = start(mpm, |builder| builder.pool(2, 4));
        let child = give_up(&server, "sleep");
        server.allow_log("AH00046|WSGI1032");
        let took = server.stop();
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert!(!is_alive(child));
    }
}

/// A group whose requests are all stuck takes its share of the only child, and neither another group nor static files
/// get less of the machine than before.
#[test]
fn a_stuck_group_leaves_the_others_their_throughput() {
    ours_only!("mod_wsgi gives up daemon processes only");
    let server = start(Mpm::Event, |builder| {
        builder.pool(1, 25).conf(
            "<WSGIInterpreterOptions application-group=one>
                WSGIThreadShare 10
            </WSGIInterpreterOptions>
            <Location /app>
                WSGIRequestTimeout 2
            </Location>",
        )
    });
    let first = server.only_process();
    let targets = ["/other/who", "/static.txt"];
    // How fast the others are is a question for a quiet machine; on any machine they must be answered.
    let window = Duration::from_secs(if long() { 9 } else { 3 });
    let mut best = 0.0_f64;
    let clients = Clients::during(&server, &targets, 4, |clients| {
        clients.wait_for(100);
        for _ in 0..3 {
            let before = rates(clients, window / 2);
            let given_up = server.count_log("WSGI1063");
            let during = with_stuck(&server, 12, || {
                eventually("all of the share is taken", || {
                    (server.count_log("WSGI1063") >= given_up + 10).then_some(())
                });
                clients.wait_for(100);
                rates(clients, window)
            });
            let ratio = |at: usize| during[at] / before[at];
            eprintln!("per second: {before:.0?} before, {during:.0?} beside stuck ones");
            best = best.max(ratio(0).min(ratio(1)));
            if !long() || best >= 0.9 {
                break;
            }
        }
    });
    clients.expect_no_failures();
    assert!(
        !long() || best >= 0.9,
        "{best:.2} of the throughput of before"
    );
    gone(&server, first);
}

/// Sets the flag when it is dropped, also if the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Responses of each target per second.
fn rates(clients: &Clients<'_>, time: Duration) -> [f64; 2] {
    let counts = || [0, 1].map(|target| clients.done(target));
    let (before, begun) = (counts(), Instant::now());
    thread::sleep(time);
    let (after, seconds) = (counts(), begun.elapsed().as_secs_f64());
    [0, 1].map(|at| (after[at] - before[at]) as f64 / seconds)
}

/// Runs `work` while `clients` clients send requests that get stuck, and again after each `Retry-After`.
fn with_stuck<R>(server: &Server, clients: usize, work: impl FnOnce() -> R) -> R {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let answer = server.try_send(&Request::get("/app/sleep?1000"));
                    let answer = answer.expect("an answer");
                    match (answer.status(), answer.header("Retry-After")) {
                        (504, _) => {}
                        (503, Some(_)) => thread::sleep(Duration::from_millis(200)),
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        let _over = Over(&is_over);
        work()
    })
}

/// Starts a server with two groups, `/app` and `/other`; the former has a limit.
fn start(mpm: Mpm, configure: impl FnOnce(Builder) -> Builder) -> Server {
    let builder = Server::builder(mpm).metrics().conf(
        "WSGIScriptAlias /app ${APPS}/deadlines.wsgi application-group=one
        WSGIScriptAlias /other ${APPS}/deadlines.wsgi application-group=two
        <Location /app>
            WSGIRequestTimeout 2 grace=0.25
        </Location>",
    );
    let server = configure(builder).start();
    server.get("/app/who").expect(200);
    // Messages of httpd about a server that has the most children while one of them ends.
    server.allow_log("WSGI106[1235]|AH00288");
    server
}

/// Causes a request to be given up, and returns its child.
fn give_up(server: &Server, way: &str) -> Pid {
    let mut connection = server.connect();
    connection.send(
        Request::get(&format!("/app/{way}?1000"))
            .keep_alive()
            .to_bytes(),
    );
    let answer = connection.read_response("GET").expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (504, ""));
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(connection.is_closed_by_server());
    let record = server.expect_log(&format!(
        "WSGI1063: request given up: GET /app/{way} runs for"
    ));
    assert!(
        server.count_log(&format!("deadlines.wsgi\\W.*\\bin {way}$")) >= 1,
        "its stack is shown"
    );
    record.pid
}

/// Returns the process with a stuck request, a child or one of a group, and the connection of that request.
fn stuck(server: &Server) -> (Pid, harness::Connection) {
    let connection = server.ask("/app/sleep?1000");
    let child = eventually("a request is inside", || {
        let status = wsgictl_status(server);
        let mut children = status["children"].as_array().cloned().unwrap_or_default();
        for group in status["process_groups"].as_array().into_iter().flatten() {
            children.extend(group["processes"].as_array().cloned().unwrap_or_default());
        }
        let mut busy = children.iter().filter(|child| child["in_flight"] == 1);
        Pid::try_from(busy.next()?["pid"].as_i64()?).ok()
    });
    (child, connection)
}

/// Waits until a child has ended and another one serves.
fn gone(server: &Server, child: Pid) {
    wait_until_ended(child);
    eventually("a child serves", || {
        (!ready(server).is_empty()).then_some(())
    });
}

/// Returns the children that have given up requests.
fn given_up(server: &Server) -> Vec<Pid> {
    let records = server.records().into_iter();
    let records = records.filter(|record| record.message.starts_with("WSGI1063"));
    let mut pids: Vec<Pid> = records.map(|record| record.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn ready(server: &Server) -> Vec<Pid> {
    let status = wsgictl_status(server);
    let children = status["children"].as_array().cloned().unwrap_or_default();
    let ready = children.iter().filter(|child| child["state"] == "ready");
    ready
        .filter_map(|child| Pid::try_from(child["pid"].as_i64()?).ok())
        .collect()
}

/// Returns the number of children that take connections and must retire.
fn retiring_of_ready(server: &Server) -> u64 {
    let status = wsgictl_status(server);
    let children = status["children"].as_array().cloned().unwrap_or_default();
    let leaving = children
        .iter()
        .filter(|child| child["state"] == "ready" && child["retiring"].is_string());
    leaving.count() as u64
}

/// Returns the status in the server's memory, which does not depend on the state of its children.
fn wsgictl_status(server: &Server) -> serde_json::Value {
    let answer = server.wsgictl(&["status", "--json"]);
    serde_json::from_slice(&answer.stdout).unwrap_or_default()
}
