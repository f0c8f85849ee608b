//! wsgi.errors, sys.stdout and sys.stderr: one record for each line, in the log of the request that wrote it.

use harness::{Request, Server, mpm_tests};

mpm_tests! {
    fn lines(mpm) {
        let server = Server::builder(mpm).app("/log", "log.wsgi").start();
        for (case, expected) in [
            ("lines", &["first line", "second line", "no newline at the end"] as &[&str]),
            ("flushed", &["before the flush", "after the flush"]),
            ("writelines", &["from writelines 1", "from writelines 2"]),
            ("printed", &["printed to errors"]),
            ("standard", &["said on stdout", "said on stderr", "stderr in pieces: one line"]),
            ("binary", &["bytes in the log", "bytes from writelines"]),
        ] {
            server.get(&format!("/log/{case}")).expect(200);
            let mut requests = Vec::new();
            for line in expected {
                let record = server.expect_log(&format!("(^|\\] ){line}$"));
                assert_eq!((record.module.as_str(), record.level.as_str()), ("wsgi", "error"), "{record:?}");
                requests.push(record.request);
            }
            // All records belong to this one request.
            assert!(requests.iter().all(|id| *id == requests[0] && id != "-"), "{case}: {requests:?}");
        }
        server.expect_log("said while loading$");
        // Each line comes exactly once, though some were written in pieces.
        for line in ["second line", "no newline at the end", "stderr in pieces: one line"] {
            assert_eq!(server.count_log(line), 1, "{line}");
        }
    }

    fn odd_content(mpm) {
        let server = Server::builder(mpm).app("/log", "log.wsgi").start();
        server.get("/log/unicode").expect(200);
        // httpd writes bytes that are not ASCII as escapes.
        server.expect_log(r"caf(é|\\xc3\\xa9) (✓|\\xe2\\x9c\\x93)$");
        server.get("/log/long").expect(200);
        let record = server.expect_log("LLLLLLLLLL");
        assert!(record.message.len() > 7_500, "{}", record.message.len());
        server.get("/log/nul").expect(200);
        server.expect_log("before");
        server.expect_log("said while loading$");
    }

    fn nature(mpm) {
        let server = Server::builder(mpm).app("/log", "log.wsgi").start();
        let told = server.get("/log/nature").expect(200).text();
        assert_eq!(
            told,
            "['TextIOWrapper', 'utf-8', 'replace', '<wsgi.errors>', False, False, '<stderr>', '<stdout>', \
             'no fileno', 'no fileno', 'no fileno']"
        );
        server.expect_log("said while loading$");
    }

    fn after_the_request(mpm) {
        let server = Server::builder(mpm).one_child().app("/log", "log.wsgi").start();
        // Both use one connection, so that the first request is over when the second runs.
        let mut connection = server.connect();
        connection.exchange(&Request::get("/log/keep").keep_alive()).unwrap().expect(200);
        let told = connection.exchange(&Request::get("/log/kept").keep_alive()).unwrap().expect(200).text();
        assert!(told.contains("wsgi.errors after request completed"), "{told}");
        assert_eq!(server.count_log("too late"), 0);
        server.expect_log("said while loading$");
    }
}
