//! All failures of applications: what the client gets, what the log says, and that the child lives on.

use std::time::{Duration, Instant};

use harness::{Ending, Mpm, Request, Server, eventually, long, mpm_tests, ours_only, rss_kib};
use serde_json::Value;

mpm_tests! {
    fn before_the_headers(mpm) {
        let server = start(mpm);
        let child = server.only_process();
        for (case, log) in [
            ("raises", "RuntimeError: before any output"),
            ("raises_after_start", "RuntimeError: after start_response"),
            ("exits", "SystemExit"),
            ("never_starts", "RuntimeError: .*start_response"),
            ("never_starts_empty", "RuntimeError: .*start_response"),
            ("iterator_raises_at_once", "KeyError: 'first step'"),
            ("iter_raises", "ValueError: no iterator"),
            ("returns_text", "TypeError: .*must yield bytes"),
            ("returns_none", "TypeError: 'NoneType' object is not iterable"),
            ("returns_number", "TypeError: 'int' object is not iterable"),
            ("text_item", "TypeError: .*must yield bytes"),
            ("split_header", "ValueError: .*header value: b'a"),
            ("bad_length_negative", "ValueError"),
            ("bad_length_words", "ValueError"),
            ("chained", "RuntimeError: chained failure"),
            ("recursion", "RecursionError"),
            ("base_exception", "KeyboardInterrupt"),
            ("weird_exception", "Weird"),
        ] {
            let response = server.get(&format!("/f/{case}")).expect(500);
            assert!(response.is_complete(), "{case}");
            assert_eq!(response.head.reason, "Internal Server Error", "{case}");
            assert!(!response.text().contains("Traceback") && response.header("X-Split").is_none(), "{case}");
            let record = server.expect_log(log);
            assert_eq!(record.module, "wsgi", "{case}: {record:?}");
        }
        server.expect_log("[A-Za-z]+ exception raised processing WSGI script '.*failures.wsgi'");
        server.expect_log("SystemExit exception raised by WSGI script '.*failures.wsgi'");
        // The other half of a chained traceback, and the summary of many equal frames in a traceback.
        server.expect_log("KeyError: 'missing'");
        server.allow_log("Previous line repeated");
        assert_eq!(server.get("/f/good").expect(200).text(), "good");
        assert_eq!(server.only_process(), child);
    }

    fn after_the_headers(mpm) {
        let server = start(mpm);
        let child = server.only_process();
        for (case, log) in [
            ("iterator_raises_half_way", "KeyError: 'half-way'"),
            ("iterator_exits_half_way", "SystemExit"),
            ("generator_raises_half_way", "ValueError: generator half-way"),
            ("text_item_half_way", "TypeError: .*must yield bytes"),
        ] {
            let response = server.get(&format!("/f/{case}")).expect(200);
            assert_eq!(response.text(), "half of ", "{case}");
            // The terminating chunk is withheld, so the client can tell that the body is not complete.
            assert_eq!(response.ending, Ending::Cut, "{case}");
            server.expect_log(log);
        }
        let response = server.get("/f/iterator_raises_half_way_length").expect(200);
        assert_eq!((response.ending, response.text().as_str()), (Ending::Cut, "half of "));
        server.expect_log("KeyError: 'half-way of a length'");
        server.expect_log("exception raised (processing|by) WSGI script '.*failures.wsgi'");
        assert_eq!(server.get("/f/good").expect(200).text(), "good");
        assert_eq!(server.only_process(), child);
    }

    fn cut_responses_end_their_connection(mpm) {
        ours_only!("mod_wsgi keeps the connection, and the client waits until KeepAliveTimeout");
        let server = start(mpm);
        for case in ["iterator_raises_half_way", "iterator_raises_half_way_length"] {
            let mut connection = server.connect();
            let begun = Instant::now();
            let response = connection.exchange(&Request::get(&format!("/f/{case}")).keep_alive()).unwrap();
            assert_eq!(response.ending, Ending::Cut, "{case}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{case}: cut after {:?}", begun.elapsed());
        }
        server.expect_log("KeyError: 'half-way'");
        server.expect_log("KeyError: 'half-way of a length'");
        server.expect_log("exception raised processing WSGI script");
    }

    fn after_write(mpm) {
        ours_only!("mod_wsgi appends an error page to the started response [M-18]");
        let server = start(mpm);
        let response = server.get("/f/raises_after_write").expect(200);
        assert_eq!((response.ending, response.text().as_str()), (Ending::Cut, "written "));
        server.expect_log("RuntimeError: after write");
        server.expect_log("exception raised processing WSGI script");
    }

    fn in_close(mpm) {
        let server = start(mpm);
        for (case, body, log) in [
            ("close_raises", "complete", "ValueError: close failed"),
            ("close_exits", "complete", "SystemExit"),
            ("close_missing", "body", "ValueError: no close to be had"),
        ] {
            // The response is complete: close() comes after the last byte.
            let response = server.get(&format!("/f/{case}")).expect(200);
            assert_eq!(response.text(), body, "{case}");
            assert!(response.is_complete(), "{case}");
            server.expect_log(log);
        }
        server.allow_log("exception raised (processing|by) WSGI script|(?i)close'? attribute");
        server.get("/f/good").expect(200);
    }

    fn close_is_called_once(mpm) {
        let server = start(mpm);
        let failing =
            ["iterator_raises_at_once", "iterator_raises_half_way", "iter_raises", "text_item", "text_item_half_way",
             "never_starts", "close_raises"];
        for case in ["good"].iter().chain(&failing) {
            server.get(&format!("/f/{case}"));
            closes(&server, case, 1);
        }
        server.send(&Request::new("HEAD", "/f/good")).expect(200);
        closes(&server, "good", 2);
        // The client leaves while the application goes on.
        for case in ["endless", "endless_write"] {
            let mut connection = server.ask(&format!("/f/{case}"));
            connection.read_head().unwrap();
            connection.abort();
            closes(&server, case, 1);
        }
        server.expect_log("OSError");
        server.expect_log("exception raised processing WSGI script");
        server.allow_log("KeyError|ValueError|TypeError|RuntimeError");
        assert_eq!(server.get("/f/good").expect(200).text(), "good");
        // No iterable has been closed twice.
        for case in failing {
            closes(&server, case, 1);
        }
    }

    fn scripts_that_do_not_load(mpm) {
        let server = Server::builder(mpm)
            .one_child()
            .file("scripts/syntax.wsgi", "def application(environ, start_response:\n    return []\n")
            .file("scripts/raises.wsgi", "raise ValueError('in the script body')\n")
            .file("scripts/exits.wsgi", "import sys\nsys.exit(1)\n")
            .file("scripts/import.wsgi", "import no_such_module_anywhere\n")
            .file("scripts/nothing.wsgi", "app = None\n")
            .file("scripts/number.wsgi", "application = 42\n")
            .file("scripts/latin.wsgi", b"name = '\xe9'\n")
            .conf("WSGIScriptAlias /s ${ROOT}/scripts")
            .app("/f", "failures.wsgi")
            .start();
        let child = server.only_process();
        for (script, status, log) in [
            ("syntax", 500, "SyntaxError: "),
            ("raises", 500, "ValueError: in the script body"),
            ("exits", 500, "SystemExit"),
            ("import", 500, "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
            ("nothing", 404, "nothing.wsgi.*'application'"),
            ("number", 500, "TypeError: 'int' object is not callable"),
            ("latin", 500, "SyntaxError: .*(encoding|utf-8|codec)"),
        ] {
            for attempt in 1..=2 {
                let response = server.get(&format!("/s/{script}.wsgi"));
                assert_eq!(response.status(), status, "{script}, attempt {attempt}");
            }
            server.expect_log(log);
        }
        server.expect_log("raises.wsgi");
        server.allow_log("scripts/[a-z]+.wsgi|exception raised processing WSGI script");
        server.get("/f/good").expect(200);
        assert_eq!(server.only_process(), child);
    }

    fn error_documents(mpm) {
        let server = Server::builder(mpm)
            .app("/f", "failures.wsgi")
            .app("/r", "response.wsgi")
            .file("htdocs/broken.txt", "we are sorry\n")
            .conf("ErrorDocument 500 /broken.txt")
            .start();
        assert_eq!(server.get("/f/raises").expect(500).text(), "we are sorry\n");
        // The application's own error page is left unchanged.
        assert_eq!(server.get("/r/exc_info_early").expect(500).text(), "error page of the application");
        server.expect_log("RuntimeError: before any output");
        server.expect_log("exception raised processing WSGI script");
    }

    fn memory_is_flat(mpm) {
        let server = start(mpm);
        let child = server.only_process();
        let cases = ["raises", "iterator_raises_half_way", "text_item", "returns_none", "split_header", "chained"];
        let round = |requests: usize| {
            for case in cases.iter().cycle().take(requests) {
                server.get(&format!("/f/{case}"));
            }
            rss_kib(child)
        };
        let requests = if long() { 10_000 } else { 2_000 };
        round(requests / 2);
        let before = round(requests / 2);
        let after = round(requests);
        assert_eq!(server.only_process(), child);
        let growth = after.saturating_sub(before);
        assert!(growth < 2_000, "{growth} KiB more after {requests} failing requests ({before} to {after})");
        server.allow_log("Error|exception raised");
    }
}

fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .one_child()
        .app("/f", "failures.wsgi")
        .start()
}

#[track_caller]
fn closes(server: &Server, case: &str, times: u64) {
    let counted = || -> Option<u64> {
        let table: Value = server.get("/f/count").expect(200).json();
        table[case].as_u64()
    };
    eventually(case, || counted().filter(|count| *count >= times));
    assert_eq!(counted(), Some(times), "{case}");
}
