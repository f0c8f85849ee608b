//! `WSGIRequestTimeout` and `WSGISlowRequestStack`: requests that take long and can be interrupted.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use harness::{Ending, Mpm, Request, Server, long, mpm_tests, ours_only};

mpm_tests! {
    fn a_loop_is_interrupted_and_its_thread_serves_on(mpm) {
        ours_only!("mod_wsgi interrupts daemon processes only");
        let server = start(mpm, LIMITED);
        let child = server.only_process();
        // The next request of a connection gets the thread that was interrupted, or another one of the child.
        let mut connection = server.connect();
        for round in 1..=3 {
            let late = connection.exchange(&Request::get("/limited/spin?1000&secret").keep_alive()).unwrap();
            assert_eq!((late.status(), late.text().as_str()), (504, ""), "{late:?}");
            let next = connection.exchange(&Request::get("/limited/who").keep_alive()).unwrap().expect(200);
            assert_eq!(next.text(), child.to_string());
            assert_eq!(server.count_log("Request interrupted by RequestTimeout; thread recovered"), round);
        }
        server.allow_log("WSGI1061");
        server.expect_log(r"^WSGI1061: request too long: GET /limited/spin runs for [0-9.]+ s .* its thread is at:$");
        assert!(server.count_log(r"deadlines.wsgi\W.*\bin spin$") >= 3, "the stack is shown");
        assert!(!server.log().contains("secret"));
        assert_eq!(server.only_process(), child);
        server.expect_count("wsgi_request_timeouts_total", &[("stage", "application")], 3);
        server.expect_count("wsgi_requests_total", &[("code", "5xx")], 3);
        server.expect_count("wsgi_children_recycles_total", &[], 0);
    }

    fn a_limit_holds_where_it_is_written(mpm) {
        ours_only!("mod_wsgi interrupts daemon processes only");
        let server = start(mpm, "
            WSGIRequestTimeout 0.3 grace=20
            <Location /free>
                WSGIRequestTimeout Off
            </Location>
            <Location /limited/but>
                WSGIRequestTimeout 0
            </Location>
            <Location /other>
                WSGIRequestTimeout 30
            </Location>");
        server.allow_log("WSGI106[12]");
        server.get("/limited/spin?1000").expect(504);
        server.get("/free/spin?1").expect(200);
        server.get("/limited/but/crawl?1").expect(200);
        server.get("/other/crawl?1").expect(200);
        server.get("/limited/crawl?1000").expect(504);
        assert_eq!(server.count_log("WSGI1061"), 2);
        server.expect_count("wsgi_request_timeouts_total", &[], 2);
    }

    fn what_an_application_does_about_it(mpm) {
        ours_only!("mod_wsgi interrupts daemon processes only");
        let server = start(mpm, "WSGIRequestTimeout 0.3 grace=0.5");
        let child = server.only_process();
        server.allow_log("WSGI106[12]");
        server.get("/limited/clean?1000").expect(504);
        assert_eq!(server.count_log("WSGI1062"), 0);
        // An application that catches all exceptions is interrupted a second time.
        server.get("/limited/insist?1000").expect(504);
        assert_eq!(server.count_log("WSGI1062: request too long: GET /limited/insist runs for"), 1);
        assert_eq!(server.only_process(), child);
    }

    fn a_response_that_has_begun_is_cut(mpm) {
        ours_only!("mod_wsgi interrupts daemon processes only");
        let server = start(mpm, LIMITED);
        server.allow_log("WSGI1061");
        let response = server.get("/limited/stream/spin?1000").expect(200);
        assert_eq!((response.text().as_str(), response.ending), ("first", Ending::Cut));
        server.get("/limited/stream/who").expect(200);
        assert_eq!(server.count_log("thread recovered"), 1);
    }

    fn a_request_that_waits_for_its_client_is_not_given_up(mpm) {
        ours_only!("mod_wsgi interrupts daemon processes only");
        let server = start(mpm, "WSGIRequestTimeout 0.2 grace=0.2");
        server.allow_log("WSGI106[12]");
        let child = server.only_process();
        let mut connection = server.connect();
        let request = Request::post("/limited/body/spin?1000", "body");
        connection.send(request.head_bytes());
        // Even after the time at which a request that is stuck in Python is given up, nothing is sent.
        assert!(connection.is_silent_for(Duration::from_millis(1500)));
        connection.send("body");
        let response = connection.read_response("POST").unwrap();
        assert_eq!(response.status(), 504);
        assert_eq!(server.only_process(), child);
        server.get("/limited/who").expect(200);
    }

    fn a_slow_request_is_shown_once_and_goes_on(mpm) {
        ours_only!("mod_wsgi has no such directive");
        let server = start(mpm, "
            WSGISlowRequestStack 0.2
            <Location /other>
                # Its older name.
                WSGISlowRequest Off
            </Location>");
        let child = server.only_process();
        assert_eq!(server.get("/limited/crawl?1").expect(200).text(), child.to_string());
        server.expect_log(r"^WSGI1060: slow request: GET /limited/crawl runs for [0-9.]+ s .* its thread is at:$");
        assert_eq!(server.count_log("WSGI1060"), 1);
        assert_eq!(server.count_log(r"deadlines.wsgi\W.*\bin crawl$"), 1);
        server.get("/other/crawl?1").expect(200);
        server.get("/limited/who").expect(200);
        assert_eq!(server.count_log("WSGI1060"), 1);
        server.expect_count("wsgi_request_timeouts_total", &[], 0);
    }

    /// Requests that end about when their limit is reached, between requests without a limit or with a long one, on
    /// persistent connections: an interruption that comes late hits one of the latter.
    fn no_interruption_hits_another_request(mpm) {
        ours_only!("mod_wsgi interrupts daemon processes only");
        let count = if long() { 10_000 } else { 1_000 };
        let executors: &[&str] = if mpm.threaded() { &["auto", "direct", "delegate", "pool"] } else { &["auto"] };
        for executor in executors {
            markers(mpm, executor, count / executors.len());
        }
    }
}

fn markers(mpm: Mpm, executor: &str, count: usize) {
    const CLIENTS: usize = 16;
    let server = Server::builder(mpm)
        // More threads than connections, otherwise event would close some of them.
        .pool(1, CLIENTS * 2)
        .file("marker.wsgi", MARKER)
        .conf(&format!(
            "WSGIExecutor {executor}
            WSGIScriptAlias /app ${{ROOT}}/marker.wsgi
            WSGIScriptAlias /free ${{ROOT}}/marker.wsgi
            WSGIScriptAlias /ample ${{ROOT}}/marker.wsgi
            WSGIApplicationGroup one
            MaxKeepAliveRequests 0
            <Location /app>
                WSGIRequestTimeout 0.06 grace=20
            </Location>
            <Location /ample>
                WSGIRequestTimeout 60
            </Location>"
        ))
        .start();
    server.allow_log("WSGI106[12]");
    server.get("/free/0").expect(200);
    let [cut, whole, lost] = [(); 3].map(|()| AtomicU32::new(0));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, cut, whole, lost) = (&server, &cut, &whole, &lost);
            scope.spawn(move || {
                let mut connection = server.connect();
                let mut ask = |target: &str| {
                    let request = Request::get(target).keep_alive();
                    connection.exchange(&request).expect("an answer")
                };
                for turn in 0..count.div_ceil(CLIENTS) {
                    // About the limit, which is noticed a little later than it is reached.
                    let microseconds = 59_000 + (turn * 7 + client * 3) % 30 * 100;
                    let near = ask(&format!("/app/{microseconds}"));
                    match (near.status(), near.text().as_str()) {
                        (200, "cut") => cut,
                        (200, "whole") => whole,
                        // The body is empty if the request was interrupted, and httpd's page if its time was over in
                        // the queue.
                        (504, _) => lost,
                        other => panic!("{other:?}"),
                    }
                    .fetch_add(1, Relaxed);
                    for other in ["/free/300", "/ample/300"] {
                        let response = ask(other).expect(200);
                        assert_eq!(response.text(), "whole", "{executor} {other}");
                    }
                }
            });
        }
    });
    let [cut, whole, lost] = [cut, whole, lost].map(AtomicU32::into_inner);
    eprintln!("{mpm} {executor}: {cut} cut, {whole} whole, {lost} 504");
    assert!(cut + lost > 0, "{executor}: none was interrupted");
    assert!(
        whole > 0,
        "{executor}: all were interrupted: none was near its end"
    );
    // Each exception that left the application belongs to a request that was answered with 504.
    assert!(server.count_log("thread recovered") <= lost as usize);
}

fn start(mpm: Mpm, conf: &str) -> Server {
    let server = Server::builder(mpm)
        .one_child()
        .metrics()
        .app("/limited", "deadlines.wsgi")
        .app("/free", "deadlines.wsgi")
        .app("/other", "deadlines.wsgi")
        .conf(conf)
        .start();
    server.get("/free/who").expect(200);
    server
}

/// The grace is long for busy machines: nothing here takes that long.
const LIMITED: &str = "<Location /limited>
    WSGIRequestTimeout 0.3 grace=20
</Location>";

/// Runs until a number of microseconds after httpd received the request, in short steps that let the exception in at
/// once, and tells which exception came.
const MARKER: &str = r#"import time
import mod_wsgi


def application(environ, start_response):
    begun = environ['mod_wsgi.request_start']
    until = begun + int(environ['PATH_INFO'][1:]) / 1e6
    body = b'cut'
    try:
        while time.time() < until:
            time.sleep(0.0001)
        body = b'whole'
    except mod_wsgi.RequestTimeout:
        pass
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
"#;
