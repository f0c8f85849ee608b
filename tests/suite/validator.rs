//! The reference validator of the standard library has no complaints.

use harness::{Request, Server, mpm_tests};

mpm_tests! {
    fn no_complaint(mpm) {
        let server = Server::builder(mpm).app("/v", "validator.wsgi").conf("WSGIChunkedRequest On").start();
        for path in ["/plain", "/length", "/write", "/close", "/generator", "/lines", "/iterate"] {
            let target = format!("/v{path}?query=1&x=%20y");
            for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
                let response = server.send(&Request::new(method, &target)).expect(200);
                if method != "HEAD" {
                    assert!(response.text().ends_with(&format!("{method} 0")), "{path}: {}", response.text());
                }
            }
            for method in ["POST", "PUT", "PATCH"] {
                let request = Request::new(method, &target)
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .body("a=1&b=2\nc=3");
                let response = server.send(&request).expect(200);
                assert!(response.text().ends_with(&format!("{method} 11")), "{path}: {}", response.text());
            }
        }
        for path in ["/lines", "/iterate"] {
            let request = Request::new("POST", &format!("/v{path}")).chunked(&[b"one\ntw", b"o\n"]);
            assert_eq!(server.send(&request).expect(200).text(), "POST 8");
        }
        server.get("/v/empty").expect(204);
        server.get("/v").expect(200);
    }
}
