//! wsgi.file_wrapper: files are sent as files, everything else by iteration, and `close()` is always called.

use harness::{Ending, Mpm, Request, Server, eventually, mpm_tests, ours, ours_only};

mpm_tests! {
    fn files(mpm) {
        for sendfile in ["Off", "On"] {
            let server = start(mpm, sendfile);
            let content = content();
            for (url, expected) in [
                ("/buffered", &content[..]),
                ("/watched", &content),
                ("/bytes", &content),
                ("/buffered?seek=1000", &content[1000..]),
                // Python's position in the file counts, not that of the descriptor.
                ("/buffered?read=10", &content[10..]),
                ("/watched?seek=300000", &content[300_000..]),
                ("/buffered?length=100", &content[..100]),
                ("/buffered?seek=50&length=100", &content[50..150]),
                ("/buffered?length=0", b""),
                ("/buffered?subclass=1&seek=5", &content[5..]),
                ("/bytes?subclass=1", &content),
                ("/bytes?block=1000", &content),
                ("/buffered?block=7", &content),
                ("/bytes?length=10", &content[..10]),
            ] {
                let response = server.get(&format!("/file{url}")).expect(200);
                assert!(response.is_complete(), "{url}: {:?}", response.head);
                assert!(response.body == expected, "{url}: {} bytes, not {}", response.body.len(), expected.len());
                // A subclass is read, because it may override methods.
                if !url.starts_with("/bytes") && !url.starts_with("/watched") {
                    assert_eq!(response.header("Content-Length"), Some(expected.len().to_string().as_str()), "{url}");
                }
            }
            let response = server.get("/file/buffered?write=1").expect(200);
            assert!(response.body.starts_with(b"written first\n"));
            assert_eq!(response.body.len(), content.len() + 14);

            let mut connection = server.connect();
            for _ in 0..3 {
                let response = connection.exchange(&Request::get("/file/buffered?length=1000").keep_alive()).unwrap();
                assert!(response.expect(200).body == content[..1000]);
            }
            let head = server.send(&Request::new("HEAD", "/file/buffered")).expect(200);
            assert_eq!(head.header("Content-Length"), Some(content.len().to_string().as_str()));
        }
    }

    fn more_promised_than_the_file_holds(mpm) {
        let server = start(mpm, "Off");
        let content = content();
        for url in ["/file/buffered?length=99999999", "/file/buffered?seek=399990&length=20"] {
            let Ok(response) = server.try_send(&Request::get(url)) else { continue };
            if ours() {
                // The length is known before the head is sent, so it is correct.
                assert_eq!(response.ending, Ending::Length, "{url}: {:?}", response.head);
                assert!(content.ends_with(&response.body), "{url}");
            } else {
                assert_eq!(response.ending, Ending::Cut, "{url}");
            }
        }
        server.allow_log("(?i)(file|length|exception|OSError)");
        server.get("/file/closed").expect(200);
    }

    fn closed(mpm) {
        let server = Server::builder(mpm)
            .one_child()
            .file("content", content())
            .app("/file", "file_wrapper.wsgi")
            .conf("SetEnv test.file ${ROOT}/content")
            .start();
        // The client has the whole file before close() is called, so the count is polled.
        let closed = |times: &str| {
            let count = || server.get("/file/closed").expect(200).text();
            harness::eventually("the files are closed", || (count() == times).then_some(()));
        };
        closed("0");
        server.get("/file/watched").expect(200);
        closed("1");
        server.get("/file/watched?length=5").expect(200);
        closed("2");
        server.send(&Request::new("HEAD", "/file/watched")).expect(200);
        closed("3");
        // The client leaves in the middle of the file.
        let mut connection = server.ask("/file/watched");
        connection.read_head().unwrap();
        connection.abort();
        closed("4");
        server.allow_log("(?i)(connection|write|OSError|exception raised)");
    }

    fn no_file_behind_an_error_page(mpm) {
        ours_only!("mod_wsgi appends the file to the error page");
        let server = start(mpm, "Off");
        for _ in 0..3 {
            let mut connection = server.connect();
            let request = Request::new("POST", "/file/buffered?body=1").header("Transfer-Encoding", "chunked");
            connection.send(request.head_bytes());
            connection.send("5\r\nhello\r\nZZ\r\n");
            let all = connection.read_to_end().unwrap();
            let text = String::from_utf8_lossy(&all);
            assert!(text.starts_with("HTTP/1.1 400 "), "{text:.200}");
            assert!(text.ends_with("</html>\n"), "{} bytes: {text:.1000}", all.len());
        }
        server.allow_log("^AH|OSError|exception raised processing WSGI script");
        server.get("/file/buffered?length=5").expect(200);
        eventually("the access log tells of all", || {
            (server.access_log().matches("400 ").count() == 3).then_some(())
        });
    }

    fn ranges(mpm) {
        let server = start(mpm, "Off");
        let content = content();
        for (range, expected) in [("bytes=0-1", &content[..2]), ("bytes=399990-", &content[399_990..])] {
            let response = server.send(&Request::get("/file/buffered").header("Range", range)).expect(206);
            assert!(response.body == expected, "{range}: {} bytes", response.body.len());
        }
    }

    fn the_type(mpm) {
        let server = start(mpm, "Off");
        let told = server.get("/file/attributes").expect(200).text();
        let told: Vec<&str> = told.lines().collect();
        assert_eq!(told, [
            "True", "4", "[b'abcd', b'ef']", "2", "8192",
            "ValueError", "AttributeError", "TypeError", "ValueError", "ValueError",
        ]);
        server.get("/file/buffered?raise=1").expect(500);
        server.expect_log("RuntimeError: wrapped and raised");
        server.expect_log("exception raised processing WSGI script");
    }
}

fn start(mpm: Mpm, sendfile: &str) -> Server {
    Server::builder(mpm)
        .file("content", content())
        .app("/file", "file_wrapper.wsgi")
        .conf("SetEnv test.file ${ROOT}/content")
        .conf(&format!(
            "WSGIChunkedRequest On\nWSGIEnableSendfile {sendfile}\nEnableSendfile {sendfile}"
        ))
        .start()
}

fn content() -> Vec<u8> {
    (0..400_000_u32)
        .map(|number| (number % 253) as u8)
        .collect()
}
