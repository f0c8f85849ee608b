//! wsgi.input: every way to read, every way to send a body, and failures on the way.

use std::time::{Duration, Instant};

use harness::{Request, Server, mpm_tests, ours};
use serde_json::{Value, json};

mpm_tests! {
    fn reading(mpm) {
        let server = Server::builder(mpm).app("/in", "input.wsgi").conf("WSGIChunkedRequest On").start();
        let lines = "one\ntwo\n\nfour";
        for (form, body, expected) in [
            ("read", "hello", json!("hello")),
            ("read", "", json!("")),
            ("read_negative", "hello", json!("hello")),
            ("tens", "0123456789012345678901234", json!([10, 10, 5])),
            ("zero_then_rest", "hello", json!(["", "hello"])),
            ("readline", lines, json!(["one\n", "two\n", "\n", "four"])),
            ("readline", "short", json!(["short", "", "", ""])),
            ("readline_limit", "ab\ncdefgh\nij", json!(["ab\n", "cdef", "gh\n", "", "ij"])),
            ("readlines", lines, json!(["one\n", "two\n", "\n", "four"])),
            ("readlines_hint", lines, json!(["one\n", "|", "two\n\nfour"])),
            ("iterate", lines, json!(["one\n", "two\n", "\n", "four"])),
            ("mixed", "one\ntwothree\nfour", json!(["one\n", "two", "three\n", "f", "our"])),
            ("after_close", "hello", json!(["None", "hello"])),
            ("past_the_end", "hello", json!(["hello", "", "", ""])),
        ] {
            let request = Request::post(&format!("/in/{form}"), body);
            assert_eq!(server.send(&request).expect(200).json(), expected, "{form} of {body:?}");
            let (head, tail) = body.split_at(body.len() / 2);
            let chunks: Vec<&[u8]> = [head, tail].into_iter().filter(|part| !part.is_empty()).map(str::as_bytes).collect();
            let request = Request::new("POST", &format!("/in/{form}")).chunked(&chunks);
            assert_eq!(server.send(&request).expect(200).json(), expected, "{form} of {body:?} in chunks");
        }
        for form in ["none", "keyword"] {
            let said = server.send(&Request::post(&format!("/in/{form}"), "hello")).expect(200).json();
            assert!(said.as_str().unwrap().starts_with("TypeError"), "{form}: {said}");
        }
        // Without a body, reads return nothing at once.
        assert_eq!(server.get("/in/read").expect(200).json(), "");
    }

    fn large_and_slow_bodies(mpm) {
        let server = Server::builder(mpm).app("/in", "input.wsgi").conf("WSGIChunkedRequest On").start();
        let body: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
        let whole = server.send(&Request::post("/in/digest", &body)).expect(200).json();
        let parts: Vec<&[u8]> = body.chunks(70_001).collect();
        let chunked = server.send(&Request::new("POST", "/in/digest").chunked(&parts)).expect(200).json();
        assert_eq!(whole, chunked);
        assert!(whole.as_str().unwrap().starts_with("5000000 "), "{whole}");

        // The lines arrive in pieces, one by one.
        let mut connection = server.connect();
        let request = Request::post("/in/iterate", "ab\ncd\nef");
        connection.send(request.head_bytes());
        for piece in ["a", "b\nc", "d\n", "ef"] {
            connection.send(piece);
        }
        assert_eq!(connection.read_response("POST").unwrap().json(), json!(["ab\n", "cd\n", "ef"]));
    }

    fn chunked_needs_permission(mpm) {
        let server = Server::builder(mpm)
            .app("/no", "input.wsgi")
            .app("/yes", "input.wsgi")
            .conf("<Location /yes>
                    WSGIChunkedRequest On
                </Location>")
            .start();
        let chunked = |url: &str| Request::new("POST", url).chunked(&[b"hello"]);
        server.send(&chunked("/no/read")).expect(411);
        server.expect_log("(?i)chunked");
        assert_eq!(server.send(&chunked("/yes/read")).expect(200).json(), "hello");
        let length = server.send(&Request::post("/no/read", "hello"));
        assert_eq!(length.expect(200).json(), "hello");
    }

    fn continue_is_sent_when_the_body_is_wanted(mpm) {
        let server = Server::builder(mpm).app("/in", "input.wsgi").start();
        let expecting = |form: &str| Request::post(&format!("/in/{form}"), "hello").header("Expect", "100-continue");

        for form in ["read", "zero_then_rest", "readline"] {
            let mut connection = server.connect();
            connection.send(expecting(form).head_bytes());
            assert_eq!(connection.read_head().unwrap().status, 100, "{form}");
            connection.send("hello");
            connection.read_response("POST").unwrap().expect(200);
        }

        // If an application does not read, the client is not asked for the body: the first response is the final one.
        let mut connection = server.connect();
        connection.send(expecting("unread").head_bytes());
        let response = connection.read_response("POST").unwrap().expect(200);
        assert_eq!(response.json(), "not read");
    }

    fn unread_bodies_do_not_disturb_the_next_request(mpm) {
        let server = Server::builder(mpm).app("/in", "input.wsgi").start();
        let mut connection = server.connect();
        for _ in 0..3 {
            let unread = Request::post("/in/unread", "x".repeat(20_000)).keep_alive();
            assert_eq!(connection.exchange(&unread).unwrap().expect(200).json(), "not read");
            let read = Request::post("/in/read", "next").keep_alive();
            assert_eq!(connection.exchange(&read).unwrap().expect(200).json(), "next");
        }
    }

    fn the_answer_does_not_wait_for_an_unread_body(mpm) {
        let server = Server::builder(mpm)
            .file("content", "content")
            .app("/in", "input.wsgi")
            .app("/out", "response.wsgi")
            .app("/file", "file_wrapper.wsgi")
            .conf("SetEnv test.file ${ROOT}/content")
            .start();
        for (url, expect, length, sent, answer) in [
            ("/in/unread", true, 100_000, 0, "\"not read\""),
            ("/in/unread", false, 100, 3, "\"not read\""),
            ("/in/some", false, 100, 3, "\"xx\""),
            ("/out/several", true, 100, 0, "one two three"),
            ("/out/generator", true, 100, 0, "late pieces"),
            ("/file/buffered", true, 100, 0, "content"),
            ("/file/buffered", false, 100, 3, "content"),
        ] {
            if !ours() && url.starts_with("/out") {
                // The body is chunked, and mod_wsgi withholds the end of the response until the body has come.
                continue;
            }
            let body = vec![b'x'; length];
            let mut request = Request::post(url, &body).keep_alive();
            if expect {
                request = request.header("Expect", "100-continue");
            }
            let mut connection = server.connect();
            let begun = Instant::now();
            connection.send([&request.head_bytes()[..], &body[..sent]].concat());
            let response = connection.read_response("POST").unwrap().expect(200);
            assert_eq!(response.text(), answer, "{url}");
            // httpd itself would wait until its Timeout.
            assert!(begun.elapsed() < Duration::from_secs(5), "{url}, {sent} sent: after {:?}", begun.elapsed());
            // The late rest of the body is discarded, unless the connection is closed.
            let next = [&body[sent..], &Request::post("/in/read", "next").keep_alive().to_bytes()].concat();
            if connection.try_send(next).is_ok()
                && let Ok(response) = connection.read_response("POST")
            {
                assert_eq!(response.expect(200).json(), "next", "{url}");
            }
        }
    }

    fn pieces_do_not_wait_for_an_unread_body(mpm) {
        let server = Server::builder(mpm).app("/out", "response.wsgi").start();
        for (case, pieces) in [("generator", ["late ", "pieces"]), ("write_only", ["written ", "twice"])] {
            let mut connection = server.connect();
            let begun = Instant::now();
            connection.send(Request::post(&format!("/out/{case}"), [b'x'; 100]).head_bytes());
            connection.send("xxx");
            assert_eq!(connection.read_head().unwrap().status, 200);
            for piece in pieces {
                assert_eq!(connection.read_chunk().unwrap().unwrap(), piece.as_bytes(), "{case}");
            }
            // Also the end of the response; mod_wsgi withholds it until the body has come.
            if ours() {
                assert_eq!(connection.read_chunk().unwrap().unwrap(), b"", "{case}");
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{case}: after {:?}", begun.elapsed());
        }
    }

    fn too_large(mpm) {
        let server = Server::builder(mpm)
            .app("/in", "input.wsgi")
            .conf("WSGIChunkedRequest On
                LimitRequestBody 1000")
            .start();
        assert_eq!(server.send(&Request::post("/in/tens", "x".repeat(1000))).expect(200).json()[0], 10);
        server.send(&Request::post("/in/failing", "x".repeat(1001))).expect(413);
        let big = "x".repeat(600);
        let request = Request::new("POST", "/in/failing").chunked(&[big.as_bytes(), big.as_bytes()]);
        // The part of a response that the client still gets depends on what httpd had sent by then, but it is no
        // success.
        if let Ok(response) = server.try_send(&request) {
            let said = response.text();
            assert!(response.status() == 413 || said.contains("OSError"), "{response:?}");
        }
        server.allow_log("(?i)(larger than the configured limit|request entity|data read error|limit)");
        server.get("/in/read").expect(200);
    }

    fn clients_that_leave(mpm) {
        let server = Server::builder(mpm).one_child().app("/in", "input.wsgi").start();
        let child = server.only_process();

        // Half of the body comes, then no more: the application gets an error, and the same error again.
        let mut connection = server.connect();
        connection.send(Request::new("POST", "/in/failing").header("Content-Length", "100").head_bytes());
        connection.send("only this");
        connection.half_close();
        let response = connection.read_response("POST").unwrap();
        let Value::Array(errors) = response.expect(200).json() else { panic!("not a list") };
        for (number, error) in errors.iter().enumerate() {
            let error = error.as_str().unwrap();
            assert!(error.starts_with("OSError"), "call {number}: {error}");
        }

        // The client announces a gigabyte, sends nothing, and leaves. mod_wsgi reports this as a failure of the
        // application.
        let mut connection = server.connect();
        connection.send(Request::new("POST", "/in/read").header("Content-Length", "1073741824").head_bytes());
        connection.abort();
        server.expect_log("OSError");
        server.expect_log("exception raised processing WSGI script");

        // The same request, but the server gives up before the client does.
        let mut connection = server.connect();
        connection.send(Request::new("POST", "/in/digest").header("Content-Length", "1073741824").head_bytes());
        connection.half_close();
        connection.read_response("POST").unwrap().expect(if ours() { 400 } else { 500 });
        assert_eq!(server.only_process(), child);
        assert!(harness::rss_kib(child) < 500_000, "nothing was allocated for what was only announced");
        assert_eq!(server.send(&Request::post("/in/read", "alive")).expect(200).json(), "alive");
    }

    fn after_the_request(mpm) {
        let server = Server::builder(mpm).one_child().app("/in", "input.wsgi").start();
        // Both use one connection, so that the first request is over when the second runs.
        let mut connection = server.connect();
        connection.exchange(&Request::post("/in/keep", "hello").keep_alive()).unwrap().expect(200);
        let kept = connection.exchange(&Request::get("/in/kept").keep_alive()).unwrap().expect(200);
        let Value::Array(errors) = kept.json() else { panic!("not a list") };
        assert_eq!(errors.len(), 5);
        for error in errors {
            let error = error.as_str().unwrap();
            let expected = error.starts_with("RuntimeError: ") && error.ends_with("after request completed");
            assert!(expected && error.contains("wsgi.input"), "{error}");
        }
    }

    fn slow_client_does_not_block_others(mpm) {
        let server = Server::builder(mpm).app("/in", "input.wsgi").start();
        let mut slow = server.connect();
        slow.send(Request::new("POST", "/in/read").header("Content-Length", "5").head_bytes());
        assert!(slow.is_silent_for(Duration::from_millis(100)));
        for _ in 0..5 {
            server.send(&Request::post("/in/read", "quick")).expect(200);
        }
        slow.send("hello");
        assert_eq!(slow.read_response("POST").unwrap().expect(200).json(), "hello");
    }
}
