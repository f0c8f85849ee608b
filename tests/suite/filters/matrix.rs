//! Every filter with every kind of request, and with clients that leave.

use std::thread;
use std::time::Duration;

use harness::{Request, mpm_tests, ours_only};

use super::checks::{accepts, body, check_body, check_input, check_output};
use super::rows::{builder, rows};

mpm_tests! {
    fn matrix(mpm) {
        ours_only!("children of mod_wsgi leave what filters make of a body to chance");
        let rows = rows();
        let server = builder(mpm, &rows).start();
        // mod_cache_disk logs this if a POST makes its entry invalid, also the entry of a file.
        server.allow_log("AH00717");
        let child = server.only_child();
        for row in rows {
            check_input(&server, row);
            check_output(&server, row);
            assert_eq!(server.only_child(), child, "{}: the child has died", row.name);
            if row.name == "security" {
                let kind = "application/x-www-form-urlencoded";
                let attack = Request::post("/row/security/body", "k=an+attack").header("Content-Type", kind);
                server.send(&attack).expect(403);
                server.expect_log("ModSecurity: Access denied");
            }
        }
    }

    fn clients_that_leave(mpm) {
        let rows = rows();
        let server = builder(mpm, &rows).start();
        // This test is not about messages of clients that have left.
        server.allow_log("");
        let child = server.only_child();
        for row in rows {
            let head = Request::post(&format!("/row/{}/body", row.name), body()).head_bytes();
            for sent in [0, 3000] {
                let mut connection = server.connect();
                connection.send([&head, &body()[..sent]].concat());
                thread::sleep(Duration::from_millis(20));
                connection.abort();
            }
            let endless = Request::get(&format!("/row/{}/endless", row.name)).header("Accept-Encoding", accepts(row));
            // mod_buffer and mod_cache keep the body and mod_xsendfile drops it, so an endless body never ends.
            if !matches!(row.name, "buffer" | "cache" | "sendfile" | "security") {
                let mut connection = server.connect();
                connection.send(endless.to_bytes());
                connection.read_head().unwrap();
                connection.read_chunk().unwrap();
                connection.abort();
            }
            let plain = Request::post(&format!("/row/{}/body", row.name), body());
            check_body(row, "afterwards", &server.send(&plain).expect(200).body);
            assert_eq!(server.only_child(), child, "{}: the child has died", row.name);
        }
        assert_eq!(server.count_log("panicked|WSGI1011|WSGI1096|exit signal"), 0);
    }
}
