//! The response: which arguments start_response accepts and refuses, and how a body is sent.

use harness::{Ending, Mpm, Request, Server, eventually, mpm_tests, ours_only};

mpm_tests! {
    fn start_response(mpm) {
        let server = Server::builder(mpm).app("/sr", "start_response.wsgi").start();
        for (case, status) in [
            ("plain", 200), ("no-reason", 200), ("empty-reason", 200), ("subclasses", 200), ("odd-name", 200),
            ("tab-value", 200), ("latin-value", 200), ("exc-info-none", 200),
        ] {
            let response = server.get(&format!("/sr/{case}")).expect(status);
            assert_eq!(response.text(), "accepted", "{case}");
        }
        assert_eq!(server.get("/sr/subclasses").header("X-Sub"), Some("yes"));
        assert_eq!(server.get("/sr/latin-value").header("X-Latin"), Some("caf\u{e9}"));

        for (case, kind, text) in REFUSED {
            let response = server.get(&format!("/sr/{case}")).expect(200);
            assert_eq!(response.header("X-Refused"), Some(kind), "{case}: {}", response.text());
            assert!(response.text().contains(text), "{case}: {}", response.text());
            assert_eq!(response.header("Set-Cookie"), None);
        }
    }

    fn shapes(mpm) {
        let server = start(mpm);
        for (case, status, body) in [
            ("single", 200, "one piece"),
            ("several", 200, "one two three"),
            ("empty_list", 200, ""),
            ("empty_item", 200, ""),
            ("one_tuple", 200, "tuple"),
            ("generator", 200, "late pieces"),
            ("late_start", 200, "one two three"),
            ("write_only", 200, "written twice"),
            ("write_and_return", 200, "written returned"),
            ("twice", 404, "second"),
            ("exc_info_early", 500, "error page of the application"),
            ("exc_info_late", 200, "started\nraised again: too late to replace"),
            ("exact", 200, "12345"),
            ("teapot", 418, "short and stout"),
            ("not_found", 404, "the application's own page"),
            ("authenticate", 401, "your name?"),
            ("location", 302, ""),
            ("server_error", 503, "busy"),
        ] {
            for request in [Request::get(&format!("/r/{case}")), Request::get(&format!("/r/{case}")).http10()] {
                let response = server.send(&request).expect(status);
                assert_eq!(response.text(), body, "{case}");
                assert!(response.is_complete(), "{case}: {:?}", response.head);
            }
        }
        let large = server.get("/r/large").expect(200);
        assert!(large.is_complete() && large.body.len() == 2_000_000);

        let late = "RuntimeError: start_response() called more than once without exc_info";
        assert!(server.get("/r/twice_late").expect(200).text().contains(late));
        assert!(server.get("/r/write_nothing").expect(200).text().contains(late));
        assert!(server.get("/r/write_text").expect(200).text().starts_with("TypeError: "));

        let twice = server.get("/r/twice");
        assert_eq!((twice.header("X-First"), twice.header("X-Second")), (None, Some("2")));
        let cookies = server.get("/r/cookies");
        assert_eq!(cookies.head.all("Set-Cookie"), ["a=1", "b=2; Path=/"]);
        assert_eq!(cookies.head.all("X-Twice"), ["1", "2"]);
        assert_eq!(server.get("/r/authenticate").header("WWW-Authenticate"), Some("Basic realm=\"x\""));
        assert_eq!(server.get("/r/location").header("Location"), Some("/elsewhere?a=b"));
        assert_eq!(server.get("/r/server_error").header("Retry-After"), Some("7"));
        for (case, reason) in [("teapot", "I'm a teapot"), ("not_found", "Nothing Here"), ("server_error", "Try Later")] {
            assert_eq!(server.get(&format!("/r/{case}")).head.reason, reason);
        }
        let types = server.get("/r/single");
        assert_eq!(types.header("Content-Type"), Some("text/plain"));
    }

    fn without_a_body(mpm) {
        let server = start(mpm);
        let mut connection = server.connect();
        // All of this uses one connection: a body that is not allowed would be read as the next response.
        for (method, case, status) in [
            ("HEAD", "single", 200),
            ("HEAD", "several", 200),
            ("HEAD", "exact", 200),
            ("HEAD", "generator", 200),
            ("GET", "no_content", 204),
            ("GET", "no_content_with_body", 204),
            ("GET", "not_modified", 304),
            ("GET", "single", 200),
        ] {
            let request = Request::new(method, &format!("/r/{case}")).keep_alive();
            let response = connection.exchange(&request).unwrap().expect(status);
            assert_eq!(response.body.is_empty(), method == "HEAD" || status != 200, "{method} {case}");
        }
        let exact = server.send(&Request::new("HEAD", "/r/exact")).expect(200);
        assert_eq!(exact.header("Content-Length"), Some("5"));
        assert_eq!(server.get("/r/not_modified").header("ETag"), Some("\"x\""));
    }

    fn lengths(mpm) {
        let server = start(mpm);
        assert_eq!(server.get("/r/surplus").expect(200).text(), "12345");
        assert_eq!(server.get("/r/exact").header("Content-Length"), Some("5"));
        // A list is complete before the first byte is sent, so it may be sent with its length.
        assert!(server.get("/r/several").expect(200).is_complete());
        assert_eq!(server.get("/r/generator").ending, Ending::Chunked);
        let mut connection = server.connect();
        for case in ["surplus", "exact", "several", "empty_list", "generator", "write_only"] {
            let response = connection.exchange(&Request::get(&format!("/r/{case}")).keep_alive()).unwrap();
            assert!(response.expect(200).is_complete(), "{case}");
        }
        for case in ["bad_length_negative", "bad_length_words"] {
            server.get(&format!("/f/{case}")).expect(500);
        }
        server.expect_log("ValueError");
        server.expect_log("exception raised processing WSGI script");
    }

    fn nothing_goes_beyond_the_length(mpm) {
        let server = start(mpm);
        for case in ["surplus_large", "surplus_later", "surplus_write"] {
            let mut connection = server.connect();
            for _ in 0..2 {
                let response = connection.exchange(&Request::get(&format!("/r/{case}")).keep_alive()).unwrap();
                assert_eq!(response.expect(200).text(), "hello", "{case}");
            }
        }
    }

    fn a_complete_response_is_not_replaced(mpm) {
        let server = start(mpm);
        for (case, log) in [
            ("again_when_complete", "RuntimeError: start_response\\(\\) called more than once without exc_info"),
            ("replaced_when_complete", "ValueError: after the last byte"),
        ] {
            let response = server.get(&format!("/r/{case}")).expect(200);
            assert_eq!((response.text().as_str(), response.ending), ("hello", Ending::Length), "{case}");
            server.expect_log(log);
        }
        server.expect_log("exception raised processing WSGI script '.*response.wsgi'");
    }

    fn ranges(mpm) {
        ours_only!("httpd cuts ranges out of what applications of mod_wsgi make, for a POST too");
        let server = start(mpm);
        let ask = |method: &str, case: &str, range: &str| {
            server.send(&Request::new(method, &format!("/r/{case}")).header("Range", range))
        };
        // The same as for any content that the filter gets in one piece.
        for (case, body) in [("single", "one piece"), ("several", "one two three")] {
            let part = ask("GET", case, "bytes=0-1").expect(206);
            assert_eq!(part.text(), body[..2], "{case}");
            assert_eq!(part.header("Content-Range"), Some(&*format!("bytes 0-1/{}", body.len())), "{case}");
            let none = ask("GET", case, "bytes=100-").expect(416);
            assert!(none.is_complete() && !none.text().contains(body), "{case}: {none:?}");
        }
        for (method, case, status, body) in [
            ("GET", "generator", 200, "late pieces"),
            ("GET", "not_found", 404, "the application's own page"),
            ("POST", "single", 200, "one piece"),
            ("POST", "several", 200, "one two three"),
            ("POST", "generator", 200, "late pieces"),
            ("HEAD", "single", 200, ""),
        ] {
            for range in ["bytes=0-1", "bytes=100-"] {
                let response = ask(method, case, range).expect(status);
                assert_eq!(response.text(), body, "{method} {range} {case}");
                assert_eq!(response.header("Content-Range"), None, "{method} {range} {case}");
            }
        }
    }

    fn a_filter_that_fails(mpm) {
        ours_only!("mod_wsgi answers with an empty 200");
        let server = Server::builder(mpm)
            .one_child()
            .modules(&["filter", "substitute"])
            .app("/r", "response.wsgi")
            .conf("SubstituteMaxLineLength 1000
                Substitute s/a/b/
                AddOutputFilterByType SUBSTITUTE text/html")
            .start();
        let child = server.only_child();
        for _ in 0..3 {
            let response = server.get("/r/long_line").expect(500);
            assert!(response.is_complete(), "{response:?}");
            assert_eq!(response.text().matches("<html>").count(), 1, "{response:?}");
            // The filter sends the head with the first flush, and a response that has begun can only be cut.
            for case in ["long_line_streamed", "long_line_written"] {
                assert_eq!(server.get(&format!("/r/{case}")).expect(200).ending, Ending::Cut, "{case}");
            }
        }
        server.expect_log("(?i)line too long");
        server.allow_log("OSError|exception raised processing WSGI script|500|response");
        assert_eq!(server.get("/r/single").expect(200).text(), "one piece");
        assert_eq!(server.only_child(), child);
    }

    fn one_known_chunk_gets_a_length(mpm) {
        ours_only!("mod_wsgi never makes a Content-Length");
        let server = start(mpm);
        for (case, length) in [("single", "9"), ("one_tuple", "5"), ("empty_list", "0"), ("empty_item", "0")] {
            let response = server.get(&format!("/r/{case}")).expect(200);
            assert_eq!(response.header("Content-Length"), Some(length), "{case}");
            assert_eq!(response.header("Transfer-Encoding"), None, "{case}");
        }
        assert_eq!(server.send(&Request::new("HEAD", "/r/single")).header("Content-Length"), Some("9"));
    }

    fn too_little_data_closes_the_connection(mpm) {
        ours_only!("mod_wsgi leaves the connection open [M-17]");
        let server = start(mpm);
        let mut connection = server.connect();
        let response = connection.exchange(&Request::get("/r/short").keep_alive()).unwrap();
        assert_eq!((response.status(), response.ending, response.text().as_str()), (200, Ending::Cut, "12345"));
        server.allow_log("(?i)(content-length|short)");
    }

    fn pieces_arrive_as_they_are_made(mpm) {
        let gate = "gate";
        for form in ["plain", "empty", "write"] {
            let server = Server::builder(mpm)
                .app("/stream", "streaming.wsgi")
                .conf("SetEnv test.gate ${ROOT}/gate")
                .start();
            let mut connection = server.ask(&format!("/stream/{form}"));
            assert_eq!(connection.read_head().unwrap().status, 200, "{form}");
            assert_eq!(connection.read_chunk().unwrap().unwrap(), b"first", "{form}");
            server.write(gate, "open");
            assert_eq!(connection.read_chunk().unwrap().unwrap(), b"second", "{form}");
            assert_eq!(connection.read_chunk().unwrap().unwrap(), b"", "{form}");
        }
    }

    fn many_on_one_connection(mpm) {
        let server = start(mpm);
        let mut connection = server.connect();
        for number in 0..50 {
            let response = connection.exchange(&Request::get("/r/single").keep_alive()).unwrap();
            assert_eq!(response.expect(200).text(), "one piece", "{number}");
        }
        // Several requests that are sent at once are answered in order.
        let one = Request::get("/r/single").keep_alive().to_bytes();
        let two = Request::get("/r/several").keep_alive().to_bytes();
        connection.send([one.clone(), two, one].concat());
        for expected in ["one piece", "one two three", "one piece"] {
            assert_eq!(connection.read_response("GET").unwrap().text(), expected);
        }
        eventually("the access log holds every request", || {
            (server.access_log().lines().count() >= 53).then_some(())
        });
    }
}

fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .app("/r", "response.wsgi")
        .app("/f", "failures.wsgi")
        .start()
}

/// The case, the exception, and a part of its text.
const REFUSED: [(&str, &str, &str); 25] = [
    (
        "headers-tuple",
        "TypeError",
        "start_response() argument 2 must be list, not tuple",
    ),
    (
        "exc-info-string",
        "RuntimeError",
        "start_response() argument 'exc_info' must be a 3-tuple or None",
    ),
    ("status-bytes", "TypeError", "must be str, not bytes"),
    ("status-int", "TypeError", "must be str, not int"),
    ("status-unicode", "UnicodeEncodeError", "latin-1"),
    (
        "status-short",
        "ValueError",
        "status code must be a 3 digit integer: b'20'",
    ),
    (
        "status-words",
        "ValueError",
        "status code must be a 3 digit integer: b'OK 200'",
    ),
    ("status-four", "ValueError", "b'2000 OK'"),
    (
        "status-dash",
        "ValueError",
        "no space following status code: b'200-OK'",
    ),
    (
        "status-newline",
        "ValueError",
        "control character in status reason phrase: b'200 OK\\r\\nX: y'",
    ),
    (
        "header-list",
        "TypeError",
        "each header must be a 2-tuple, not list",
    ),
    (
        "header-short",
        "ValueError",
        "each header must be a 2-tuple, got length 1",
    ),
    (
        "header-long",
        "ValueError",
        "each header must be a 2-tuple, got length 3",
    ),
    ("name-bytes", "TypeError", "must be str, not bytes"),
    ("name-empty", "ValueError", "header name is empty"),
    (
        "name-space",
        "ValueError",
        "space character in header name: b'X Space'",
    ),
    (
        "name-control",
        "ValueError",
        "control character in header name: b'X\\r\\nEvil'",
    ),
    ("name-unicode", "UnicodeEncodeError", "latin-1"),
    ("value-bytes", "TypeError", "must be str, not bytes"),
    ("value-int", "TypeError", "must be str, not int"),
    (
        "value-newline",
        "ValueError",
        "carriage return/line feed character in header value: b'a\\r\\nSet-Cookie",
    ),
    (
        "value-lf",
        "ValueError",
        "carriage return/line feed character in header value: b'a\\nb'",
    ),
    ("value-unicode", "UnicodeEncodeError", "latin-1"),
    ("no-arguments", "TypeError", ""),
    ("four-arguments", "TypeError", ""),
];
