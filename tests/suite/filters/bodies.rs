//! Chunks, ranges and refused bodies.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use harness::{Gate, Request, Server, has_module, mpm_tests, ours_only};
use serde_json::Value;

use super::checks::given;

mpm_tests! {
    fn a_chunk_waits_for_no_other(mpm) {
        let gate = Gate::new();
        let server = Server::builder(mpm)
            .modules(&["deflate"])
            .app("/plain", "filters.wsgi")
            .app("/deflate", "filters.wsgi")
            .conf(&gate.directive())
            .conf("<Location /deflate>\nSetOutputFilter DEFLATE\n</Location>")
            .start();
        let mut connection = server.ask("/plain/burst");
        connection.read_head().unwrap();
        for turn in ["a", "b"] {
            let mut text = Vec::new();
            while text.len() < 9 {
                text.extend(connection.read_chunk().unwrap().unwrap());
            }
            assert_eq!(String::from_utf8_lossy(&text), format!("{turn}0\n{turn}1\n{turn}2\n"));
            gate.next().release();
        }
        let mut connection = server.connect();
        connection.send(Request::get("/deflate/burst").header("Accept-Encoding", "gzip").to_bytes());
        connection.read_head().unwrap();
        let mut packed = Vec::new();
        for expected in ["a0\na1\na2\n", "a0\na1\na2\nb0\nb1\nb2\n"] {
            loop {
                packed.extend(connection.read_chunk().unwrap().unwrap());
                let mut text = Vec::new();
                // The packed body is not complete yet.
                let _ = flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut text);
                if text.len() >= expected.len() {
                    assert_eq!(String::from_utf8_lossy(&text), expected);
                    break;
                }
            }
            gate.next().release();
        }
        // The client sends its body only after the first parts of the response, and the application waits for that
        // body.
        let mut connection = server.connect();
        let request = Request::post("/plain/answer", "x");
        connection.send(request.head_bytes());
        connection.read_head().unwrap();
        let mut text = Vec::new();
        while text.len() < 6 {
            text.extend(connection.read_chunk().unwrap().unwrap());
        }
        assert_eq!(text, b"onetwo");
        connection.send("x");
        assert_eq!(connection.read_chunk().unwrap().unwrap(), b"x");
    }

    fn chunks_in_a_row_are_not_flushed_one_by_one(mpm) {
        ours_only!("mod_wsgi flushes each chunk");
        let server = Server::builder(mpm)
            .modules(&["deflate", "ratelimit"])
            .app("/slow", "filters.wsgi")
            .app("/deflate", "filters.wsgi")
            .conf("<Location /deflate>\nSetOutputFilter DEFLATE\n</Location>")
            .conf("<Location /slow>\nSetOutputFilter RATE_LIMIT\nSetEnv rate-limit 200\n</Location>")
            .start();
        // With a flush for each chunk, the compressed body would have 12,000 bytes, and the rate-limited one would take
        // 200 seconds.
        let request = Request::get("/deflate/many?100").header("Accept-Encoding", "gzip");
        let packed = server.send(&request).expect(200).body;
        let mut text = Vec::new();
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), 100_000);
        assert!(packed.len() < 4000, "{} bytes", packed.len());
        for size in [100_000, 1000, 100] {
            let slow = server.get(&format!("/slow/many?{size}")).expect(200);
            assert_eq!((slow.body.len(), slow.is_complete()), (100_000, true), "{size}");
        }
    }

    fn ranges_that_are_not_there(mpm) {
        ours_only!("mod_wsgi leaves the filter to other methods than GET");
        let has_xsendfile = has_module("xsendfile");
        let mut builder = Server::builder(mpm)
            .one_child()
            .app("/app", "filters.wsgi")
            .app("/none", "filters.wsgi")
            .conf("<Location /none>\nSetEnv test.ranges none\n</Location>");
        if has_xsendfile {
            builder = builder
                .modules(&["xsendfile"])
                .app("/missing", "filters.wsgi")
                .conf("<Location /missing>\nXSendFile On\nSetEnv test.sendfile /nowhere/file\n</Location>");
        }
        let server = builder.start();
        let child = server.only_child();
        let mut connection = server.connect();
        for _ in 0..2 {
            // A filter responds instead of the application, and nothing is added to its response.
            let request = Request::get("/app/list").header("Range", "bytes=100000-").keep_alive();
            let answer = connection.exchange(&request).unwrap().expect(416);
            assert!(answer.is_complete() && answer.text().ends_with("</html>\n"), "{answer:?}");
        }
        let whole = server.send(&Request::get("/none/list").header("Range", "bytes=0-1")).expect(200);
        assert_eq!(whole.text(), given());
        let collected = server.send(&Request::get("/app/small").header("Range", "bytes=0-1")).expect(206);
        assert_eq!(collected.text(), "01");
        if has_xsendfile {
            for form in ["list", "stream"] {
                let answer = server.get(&format!("/missing/{form}")).expect(404);
                assert!(answer.is_complete() && answer.text().ends_with("</html>\n"), "{answer:?}");
                server.expect_log("xsendfile: unable to find file");
            }
        }
        assert_eq!(server.only_child(), child);
    }

    fn pages_for_refused_bodies(mpm) {
        ours_only!("mod_wsgi tells the page of a length that it cannot read");
        let server = Server::builder(mpm)
            .modules(&["deflate"])
            .app("/app", "filters.wsgi")
            .app("/pages", "filters.wsgi")
            .conf("WSGIChunkedRequest On\n<Location /app>\nLimitRequestBody 100\nErrorDocument 413 /pages/body\n</Location>")
            .start();
        let large = vec![b'x'; 5000];
        for (request, sent) in [
            (Request::post("/app/body", &large), 5000),
            (Request::post("/app/body", &large), 10),
            (Request::post("/app/body", &large), 0),
        ] {
            let mut connection = server.connect();
            connection.send([&request.head_bytes(), &large[..sent]].concat());
            let answer = connection.read_response("POST").unwrap().expect(413);
            assert_eq!((answer.json()["size"].clone(), answer.json()["told"].clone()), (0.into(), Value::Null));
        }
        server.expect_log("WSGI1009");
        // The part of the body that was not refused is available to the error page.
        let chunked = Request::new("POST", "/app/body").chunked(&[b"fits"]);
        assert_eq!(server.send(&chunked).expect(200).json()["size"], 4);
    }
}
