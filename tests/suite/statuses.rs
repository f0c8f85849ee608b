//! The meanings of statuses: which may be final, which have no body, and which pages replace the application's.

use harness::{Ending, Mpm, Request, Server, http2_get_all, mpm_tests, ours_only};

mpm_tests! {
    fn statuses_that_are_not_final(mpm) {
        ours_only!("mod_wsgi sends them, and clients wait without end");
        let server = Server::builder(mpm).metrics().app("/s", "statuses.wsgi").start();
        let mut refused = 0;
        for status in ["000", "099", "100", "101", "102", "103", "199", "600", "999"] {
            for how in ["list", "generator", "write", "file"] {
                let response = server.get(&format!("/s?status={status}+Any&how={how}")).expect(500);
                assert!(response.is_complete(), "{status} {how}: {response:?}");
                assert!(!response.text().contains("a body"), "{status} {how}");
                refused += 1;
            }
            server.expect_log(&format!("ValueError: status code of a final response must be from 200 to 599: b'{status} Any'"));
        }
        server.expect_log("ValueError exception raised processing WSGI script '.*statuses.wsgi'");
        server.expect_count("wsgi_protocol_errors_total", &[("app", "/s")], refused);
    }

    fn statuses_that_httpd_does_not_know(mpm) {
        ours_only!("mod_wsgi with WSGIErrorOverride answers with 500");
        for (builder, what) in [("WSGIErrorOverride Off", "off"), ("WSGIErrorOverride On\nErrorDocument 500 /never", "on")] {
            let server = Server::builder(mpm).app("/s", "statuses.wsgi").conf(builder).start();
            for status in [218, 299, 399, 418, 419, 450, 499, 512, 599] {
                let response = server.get(&format!("/s?status={status}+Said+so")).expect(status);
                // If httpd has no page of its own for the status, the application's page is sent.
                assert_eq!(response.text(), "a body of the application", "{status} {what}");
                assert_eq!(response.head.reason, "Said so", "{status} {what}");
                // A status without a reason is allowed, too.
                let response = server.get(&format!("/s?status={status}")).expect(status);
                assert_eq!(response.text(), "a body of the application", "{status} {what}");
            }
        }
    }

    fn statuses_without_a_body(mpm) {
        ours_only!("mod_wsgi sends a body with 205");
        let server = Server::builder(mpm).app("/s", "statuses.wsgi").conf("MaxKeepAliveRequests 0").start();
        let mut connection = server.connect();
        for status in [204, 205, 304] {
            for how in ["list", "generator", "write", "file"] {
                for more in ["", "&length=25", "&empty=1", "&empty=1&length=0"] {
                    for method in ["GET", "HEAD", "POST"] {
                        let url = format!("/s?status={status}+X&how={how}{more}");
                        let request = Request::new(method, &url).keep_alive();
                        let response = connection.exchange(&request).unwrap().expect(status);
                        assert!(response.body.is_empty(), "{method} {url}: {response:?}");
                        let length = response.header("Content-Length");
                        match status {
                            204 => assert_eq!(length, None, "{method} {url}"),
                            // httpd removes a length of 0 from a response to HEAD.
                            205 if method == "HEAD" => assert_eq!(length, None, "{method} {url}"),
                            205 => assert_eq!(length, Some("0"), "{method} {url}"),
                            _ => assert!(length.is_none() || more.contains("length"), "{method} {url}"),
                        }
                        assert_eq!(response.header("Transfer-Encoding"), None, "{method} {url}");
                        // A surplus byte would be read as the beginning of this response.
                        let next = connection.exchange(&Request::get("/s?status=200+OK").keep_alive()).unwrap();
                        assert_eq!(next.expect(200).text(), "a body of the application", "after {method} {url}");
                    }
                }
            }
        }
        let line = server.expect_log("WSGI1075: WSGI script '.*statuses.wsgi' gave a body to a response of status 204, which has none");
        assert_eq!(line.level, "info");
    }

    fn without_a_body_on_http2(mpm) {
        let server = Server::builder(mpm)
            .modules(&["http2"])
            .conf("Protocols h2c http/1.1\nH2Direct On")
            .app("/s", "statuses.wsgi")
            .start();
        if mpm == Mpm::Prefork {
            // mod_http2 logs that it does not work well with prefork.
            server.allow_log("AH10034");
        }
        let paths: Vec<String> = [204, 205, 304].iter().flat_map(|status| {
            ["list", "generator", "write", "file"].map(|how| format!("/s?status={status}+X&how={how}"))
        }).collect();
        // All streams end.
        let good = http2_get_all(server.address(), &paths);
        assert_eq!(good.len(), paths.len());
        assert_eq!(http2_get_all(server.address(), &[String::from("/s?status=200+OK")]), [true]);
    }

    fn replaced_pages(mpm) {
        ours_only!("mod_wsgi answers with 500 for what httpd does not know, and replaces the page that replaces one");
        let server = Server::builder(mpm)
            .app("/s", "statuses.wsgi")
            .app("/plain", "statuses.wsgi")
            .conf("
                WSGIScriptAlias /page ${APPS}/statuses.wsgi callable-object=page
                WSGIScriptAlias /other ${APPS}/statuses.wsgi callable-object=other_page
                WSGIErrorOverride On
                <Location /s>
                    ErrorDocument 404 /page
                    ErrorDocument 410 /page
                    ErrorDocument 503 /page
                    ErrorDocument 403 /other
                    ErrorDocument 500 \"plain words\"
                </Location>")
            .start();
        for (url, status, page) in [
            // The page of another application is not replaced again.
            ("/s?status=404+Mine", 404, "page for 404"),
            ("/s?status=410+Mine&how=generator", 410, "page for 410"),
            ("/s?status=503+Mine&how=write", 503, "page for 503"),
            ("/s?status=404+Mine&how=file", 404, "page for 404"),
            ("/s?status=500+Mine", 500, "plain words"),
            ("/s?status=418+Tea", 418, "a body of the application"),
            ("/s?status=200+OK", 200, "a body of the application"),
        ] {
            let response = server.get(url).expect(status);
            assert_eq!(response.text(), page, "{url}");
            let head = server.send(&Request::new("HEAD", url)).expect(status);
            assert_eq!(head.ending, Ending::NoBody, "{url}");
        }
        // httpd's own page is sent, with the headers that tell the client how to go on.
        let response = server.get("/plain?status=405+No&allow=GET,+PUT%3BDELETE").expect(405);
        assert!(response.text().contains("<title>405 Method Not Allowed</title>"), "{response:?}");
        let allowed: Vec<&str> = response.header("Allow").unwrap().split(',').map(str::trim).collect();
        assert!(["GET", "PUT", "DELETE"].iter().all(|method| allowed.contains(method)), "{allowed:?}");
        assert!(!allowed.contains(&"POST"), "{allowed:?}");
        let response = server.get("/plain?status=503+Busy&retry=17").expect(503);
        assert_eq!(response.header("Retry-After"), Some("17"));
        assert_eq!(response.header("Content-Type"), Some("text/html; charset=iso-8859-1"));
        // If the page cannot be made, the original status stays.
        let response = server.get("/s?status=403+Mine").expect(403);
        assert!(response.text().contains("error was encountered while trying to use an ErrorDocument"), "{}", response.text());
        server.expect_log("must be from 200 to 599: b'103 Early Hints'");
        server.expect_log("ValueError exception raised processing WSGI script");
    }
}
