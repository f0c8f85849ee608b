//! Sizes around the constants of the request path: one less, the same, one more. Results never depend on them.

use harness::{Mpm, Request, Server, eventually, mpm_tests, ours_only};
use serde_json::json;

/// The largest body that is collected, and that is read before Python is entered. Bytes.
const COLLECTED: usize = 64 * 1024;
/// The step in which lines are searched. Bytes.
const STEP: usize = 8192;
/// The largest step in which memory grows ahead of the bytes read. Bytes.
const MAX_STEP: usize = 1 << 20;
/// The most bytes of one record of the log.
const RECORD: usize = 8000;
/// The most names of headers that an interpreter keeps.
const KEYS: usize = 512;
/// The number of headers of a response that needs no allocation.
const HEADERS: usize = 24;

mpm_tests! {
    fn responses(mpm) {
        let server = start(mpm);
        let mut connection = server.connect();
        for size in around(COLLECTED).into_iter().chain(around(MAX_STEP)) {
            for case in ["list", "tuple", "generator", "write"] {
                for length in [String::new(), format!("&length={size}")] {
                    let url = format!("/limits/{case}?size={size}{length}");
                    let response = connection.exchange(&Request::get(&url).keep_alive()).unwrap().expect(200);
                    assert!(response.is_complete(), "{url}: {:?}", response.head);
                    assert_eq!(response.body.len(), size, "{url}");
                    assert!(response.body.starts_with(b"<b") && response.body.ends_with(b"b>"), "{url}");
                    assert_eq!(response.body.iter().filter(|byte| **byte == b'b').count(), size - 2, "{url}");
                }
            }
        }
        for count in around(HEADERS) {
            let response = connection.exchange(&Request::get(&format!("/limits/headers?size={count}")).keep_alive()).unwrap();
            let ours = response.head.headers.iter().filter(|(name, _)| name.starts_with("X-Header-"));
            let expected = (0..count - 1).map(|at| (format!("X-Header-{at}"), at.to_string()));
            assert!(ours.cloned().eq(expected), "{count}: {:?}", response.head);
        }
    }

    fn bodies(mpm) {
        let server = start(mpm);
        let mut connection = server.connect();
        for size in around(COLLECTED).into_iter().chain(around(STEP)).chain(around(MAX_STEP)) {
            let body = vec![b'x'; size];
            // The requested part ends before, at and after the constants, too.
            for part in [1, STEP - 1, STEP, STEP + 1, COLLECTED, MAX_STEP - 1, MAX_STEP, MAX_STEP + 1] {
                let url = format!("/limits/read?size={part}");
                for request in [Request::post(&url, &body), Request::new("POST", &url).chunked(&[&body])] {
                    let response = connection.exchange(&request.keep_alive()).unwrap().expect(200);
                    assert_eq!(response.json(), json!([part.min(size), size - part.min(size)]), "{size} by {part}");
                }
            }
            let response = connection.exchange(&Request::post("/limits/parts?size=8192", &body).keep_alive()).unwrap();
            let parts = response.expect(200).json();
            let parts: Vec<u64> = parts.as_array().unwrap().iter().map(|part| part.as_u64().unwrap()).collect();
            assert_eq!(parts.iter().sum::<u64>(), size as u64);
            assert!(parts.iter().all(|part| (1..=8192).contains(part)), "{parts:?}");
        }
        for size in around(STEP).into_iter().chain(around(COLLECTED)) {
            let mut body = vec![b'l'; size - 1];
            body.push(b'\n');
            body.extend(b"second\nrest");
            for request in [Request::post("/limits/readline", &body), Request::new("POST", "/limits/readline").chunked(&[&body])] {
                let response = connection.exchange(&request.keep_alive()).unwrap().expect(200);
                assert_eq!(response.json(), json!([size, 7, 4]), "{size}");
            }
        }
    }

    fn log_lines(mpm) {
        ours_only!("httpd cuts what mod_wsgi logs");
        let server = start(mpm);
        server.allow_log("^<?l+>?$|^>$");
        for size in around(RECORD) {
            server.get(&format!("/limits/log?size={size}")).expect(200);
        }
        let said: Vec<String> = eventually("all lines are in the log", || {
            let records = server.records().into_iter().map(|record| record.message);
            let said: Vec<String> = records.filter(|line| line.starts_with('<') || line.ends_with('>')).collect();
            (said.len() == 4).then_some(said)
        });
        let lengths: Vec<usize> = said.iter().map(String::len).collect();
        assert_eq!(lengths, [RECORD - 1, RECORD, RECORD, 1]);
        assert_eq!(said.concat().matches("<l").count(), 3);
        assert_eq!(said.concat().matches('>').count(), 3);
    }

    fn header_names(mpm) {
        let server = Server::builder(mpm).one_child().app("/limits", "limits.wsgi").start();
        // Each request has as many headers as allowed, until there are more names than an interpreter keeps; then the
        // same again.
        for round in 0..2 {
            for begin in (0..KEYS + 40).step_by(46) {
                let names: Vec<usize> = (begin..begin + 46).collect();
                let request = names.iter().fold(Request::get("/limits/keys"), |request, name| {
                    request.header(&format!("X-Key-{name}"), "value")
                });
                let mut expected: Vec<String> = names.iter().map(|name| format!("HTTP_X_KEY_{name}")).collect();
                expected.sort();
                assert_eq!(server.send(&request).expect(200).json(), json!(expected), "{begin} in round {round}");
            }
        }
    }
}

fn around(limit: usize) -> [usize; 3] {
    [limit - 1, limit, limit + 1]
}

fn start(mpm: Mpm) -> Server {
    Server::builder(mpm)
        .app("/limits", "limits.wsgi")
        .conf("WSGIChunkedRequest On\nMaxKeepAliveRequests 0")
        .start()
}
