//! Bodies that come too slowly or broken, and clients that leave, count as no failure of the application or of the
//! server. The server notices that a client is gone even while there is nothing to send to it.

use std::fs;

use harness::{
    Builder, Connection, Mpm, Request, Server, eventually, http2_cancel, mpm_tests, ours_only,
};

const APP: (&str, &str) = ("app", "/f");

type Going = fn(Connection);

mpm_tests! {
    fn bodies_that_fail(mpm) {
        ours_only!("mod_wsgi answers 500");
        let server = builder(mpm)
            .modules(&["reqtimeout", "deflate"])
            .conf("RequestReadTimeout header=20 body=1,MinRate=500
                WSGIChunkedRequest On
                LimitRequestBody 100000
                <LocationMatch /in_generator|/read|/own>
                    SetInputFilter DEFLATE
                </LocationMatch>")
            .start();
        let long = |length: &str| vec![("Content-Length", length.to_owned())];
        let gzip = || [long("40"), vec![("Content-Encoding", "gzip".to_owned())]].concat();
        let chunked = || vec![("Transfer-Encoding", "chunked".to_owned())];
        let no_gzip = &[b'x'; 40][..];
        for (case, headers, body, status) in [
            ("read", long("1000"), &[b'x'; 10][..], 408),
            ("lines", long("1000"), b"one\ntwo\nthr", 408),
            ("chained", long("90000"), b"xxx", 408),
            ("in_generator", long("1000"), b"xxx", 408),
            ("read", chunked(), b"5\r\nhello\r\n", 408),
            ("lines", chunked(), b"5\r\nhello\r\nzz\r\n", 400),
            ("read", gzip(), no_gzip, 400),
            ("in_generator", gzip(), no_gzip, 400),
            ("lines", chunked(), &[b"FFFFF\r\n", &[b'x'; 130_000][..]].concat(), 413),
            // If the application handles the error and answers, that response is sent.
            ("own", long("1000"), b"xxx", 200),
            ("own", gzip(), no_gzip, 200),
            ("own_500", long("1000"), b"xxx", 500),
        ] {
            let mut connection = server.connect();
            let mut request = Request::new("POST", &format!("/f/{case}")).keep_alive();
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            connection.send(request.head_bytes());
            // If the response comes before the whole body was sent, the server may not take the rest.
            let _ = connection.try_send(body);
            let response = match connection.read_response("POST") {
                Ok(response) => response,
                Err(_) if status == 413 => continue,
                Err(error) => panic!("{case} {headers:?}: {error}"),
            };
            assert_eq!(response.status(), status, "{case} {headers:?}: {response:?}");
            assert!(response.is_complete(), "{case} {headers:?}: {response:?}");
            if case == "own" {
                let number = if headers.len() == 2 { libc_ebadmsg() } else { libc_etimedout() };
                assert_eq!(response.text(), format!("caught OSError {number}"));
            }
            assert!(connection.is_closed_by_server(), "{case} {headers:?}");
        }
        let page = server.metrics();
        assert_eq!(page.sum("wsgi_exceptions_total", &[APP]), 0.0);
        assert_eq!(page.sum("wsgi_requests_total", &[APP, ("code", "5xx")]), 1.0);
        assert_eq!(page.sum("wsgi_request_timeouts_total", &[APP, ("stage", "read")]), 7.0);
        server.allow_log("(?i)AH\\d+.*(limit|larger|Zlib: Invalid header)");
        assert_eq!(server.count_log("(?i)traceback"), 0, "{}", server.log());
    }

    fn clients_that_leave_in_mid_body(mpm) {
        ours_only!("mod_wsgi answers 500");
        let server = builder(mpm).start();
        let cases = ["read", "lines", "chained", "in_generator", "own_500"];
        for (round, go) in [drop as Going, Connection::abort].into_iter().enumerate() {
            for (at, case) in cases.into_iter().enumerate() {
                let mut connection = server.connect();
                connection.send(Request::new("POST", &format!("/f/{case}")).header("Content-Length", "100000").head_bytes());
                connection.send("only this\n");
                go(connection);
                let count = (round * cases.len() + at + 1) as u64;
                server.expect_count("wsgi_client_aborts_total", &[APP, ("phase", "read")], count);
            }
        }
        // The client is waiting for the go-ahead (100 Continue) for its body.
        let mut connection = server.connect();
        let request = Request::new("POST", "/f/read").header("Content-Length", "10").header("Expect", "100-continue");
        connection.send(request.head_bytes());
        assert_eq!(connection.read_head().unwrap().status, 100);
        drop(connection);
        // A client that still listens gets the response.
        let mut connection = server.connect();
        connection.send(Request::new("POST", "/f/read").header("Content-Length", "10").head_bytes());
        connection.send("xxx");
        connection.half_close();
        connection.read_response("POST").unwrap().expect(400);
        server.expect_count("wsgi_client_aborts_total", &[APP, ("phase", "read")], 12);
        server.expect_count("wsgi_requests_total", &[APP, ("code", "4xx")], 12);
        is_no_fault_of_the_server(&server, 12);
    }

    fn clients_that_leave_while_nothing_is_sent(mpm) {
        ours_only!("mod_wsgi does not notice");
        let server = builder(mpm).conf("<Location /f/endless_404>\nWSGIErrorOverride On\n</Location>").start();
        let mut left = 0;
        for go in [drop as Going, Connection::abort] {
            for case in ["empty_chunks", "empty_after_some", "write_empty", "write_beyond"] {
                let before = closed(&server, case);
                let mut connection = server.ask(&format!("/f/{case}"));
                if matches!(case, "empty_after_some" | "write_beyond") {
                    connection.read_head().unwrap();
                }
                go(connection);
                eventually(case, || (closed(&server, case) > before).then_some(()));
                // The response of the last case was complete before.
                left += u64::from(case != "write_beyond");
                server.expect_count("wsgi_client_aborts_total", &[APP, ("phase", "write")], left);
                assert_eq!(closed(&server, case), before + 1, "{case}");
            }
        }
        assert_eq!(server.get("/f/quick").expect(200).text(), "quick");
        // Only a page of httpd is sent, and the application never ends by itself.
        let page = server.get("/f/endless_404").expect(404);
        assert!(page.text().contains("<html>"), "{page:?}");
        assert_eq!(closed(&server, "endless_404"), 1);
        is_no_fault_of_the_server(&server, 8);
    }

    fn whole_responses_leave_at_once(mpm) {
        ours_only!("mod_wsgi goes on without end");
        let server = builder(mpm).start();
        for (method, case) in [
            ("GET", "length_reached"),
            ("GET", "length_reached_empty"),
            ("HEAD", "length_reached"),
            ("HEAD", "length_reached_empty"),
            ("HEAD", "endless"),
            ("HEAD", "empty_after_some"),
        ] {
            let before = closed(&server, case);
            let mut connection = server.connect();
            let request = Request::new(method, &format!("/f/{case}")).keep_alive();
            let response = connection.exchange(&request).unwrap().expect(200);
            assert!(response.is_complete(), "{method} {case}: {response:?}");
            assert_eq!(response.text(), if method == "GET" { "hello" } else { "" }, "{method} {case}");
            eventually(case, || (closed(&server, case) > before).then_some(()));
            assert_eq!(closed(&server, case), before + 1, "{method} {case}");
            // The connection is still usable.
            let next = connection.exchange(&Request::get("/f/quick").keep_alive()).unwrap();
            assert_eq!(next.expect(200).text(), "quick", "{method} {case}");
        }
        assert_eq!(server.metrics().sum("wsgi_client_aborts_total", &[APP]), 0.0);
    }

    fn work_after_the_last_chunk_does_not_hold_the_response(mpm) {
        ours_only!("mod_wsgi sends each chunk, and its end later");
        let server = builder(mpm)
            .modules(&["deflate"])
            .conf("<Location /f/work_after>\nSetOutputFilter DEFLATE\n</Location>")
            .start();
        for encoding in ["identity", "gzip"] {
            let mut connection = server.connect();
            let request = Request::get("/f/work_after").header("Accept-Encoding", encoding).keep_alive();
            connection.send(request.to_bytes());
            let response = connection.read_response("GET").unwrap().expect(200);
            assert!(response.is_complete(), "{encoding}: {response:?}");
            assert_eq!(response.text() == "hello".repeat(100), encoding == "identity", "{encoding}: {response:?}");
        }
        assert_eq!(closed(&server, "work_after"), 0);
        server.write("go", "");
        eventually("the work is done", || (closed(&server, "work_after") == 2).then_some(()));
    }

    fn streams_that_are_given_up(mpm) {
        ours_only!("mod_wsgi does not notice");
        if mpm == Mpm::Prefork {
            // mod_http2 refuses to run under prefork.
            return;
        }
        let server = builder(mpm).modules(&["http2"]).conf("Protocols h2c http/1.1").start();
        for (at, case) in ["empty_chunks", "empty_after_some", "write_empty", "endless"].into_iter().enumerate() {
            let path = format!("/f/{case}");
            let runs = || eventually("it runs", || (!server.phases(&path).is_empty()).then_some(()));
            let connection = http2_cancel(server.address(), &path, runs);
            eventually(case, || (closed(&server, case) > 0).then_some(()));
            server.expect_count("wsgi_client_aborts_total", &[APP, ("phase", "write")], at as u64 + 1);
            drop(connection);
        }
        is_no_fault_of_the_server(&server, 1);
    }

    fn clients_that_only_end_their_half_get_their_answer(mpm) {
        let server = builder(mpm).start();
        for case in ["quick", "pause"] {
            let mut connection = server.ask(&format!("/f/{case}"));
            connection.half_close();
            let response = connection.read_response("GET").unwrap().expect(200);
            assert_eq!(response.text(), if case == "quick" { "quick" } else { "late" });
        }
        let mut connection = server.connect();
        connection.send(Request::post("/f/read", "a body").to_bytes());
        connection.half_close();
        assert_eq!(connection.read_response("POST").unwrap().expect(200).text(), "read 6");
    }
}

/// `EBADMSG` and `ETIMEDOUT` on Linux.
fn libc_ebadmsg() -> i32 {
    rustix::io::Errno::BADMSG.raw_os_error()
}

fn libc_etimedout() -> i32 {
    rustix::io::Errno::TIMEDOUT.raw_os_error()
}

fn builder(mpm: Mpm) -> Builder {
    let threads = if mpm == Mpm::Prefork { 1 } else { 25 };
    Server::builder(mpm)
        .pool(if mpm == Mpm::Prefork { 4 } else { 1 }, threads)
        .metrics()
        .writable_folder("closed")
        .conf("SetEnv test.closed ${ROOT}/closed/lines")
        .app("/f", "faults.wsgi")
}

/// Returns the number of calls of close() for a case.
fn closed(server: &Server, case: &str) -> usize {
    let lines = fs::read_to_string(server.root().join("closed/lines")).unwrap_or_default();
    let of_case = lines.lines().filter(|line| line.trim_matches('/') == case);
    of_case.count()
}

/// There is no 5xx status, no exception and no traceback; `count` requests were of clients that left.
fn is_no_fault_of_the_server(server: &Server, count: usize) {
    let page = server.metrics();
    assert_eq!(page.sum("wsgi_exceptions_total", &[APP]), 0.0);
    assert_eq!(
        page.sum("wsgi_requests_total", &[APP, ("code", "5xx")]),
        0.0
    );
    let log = eventually("the access log holds them", || {
        let log = server.access_log();
        let theirs = log.lines().filter(|line| line.contains(" /f/"));
        (theirs.count() >= count).then_some(log)
    });
    assert!(!log.lines().any(|line| line.starts_with('5')), "{log}");
    let loud = server
        .records()
        .into_iter()
        .filter(|record| record.is_complaint());
    assert_eq!(loud.count(), 0, "{}", server.log());
}
