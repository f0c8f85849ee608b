//! Requests that httpd runs inside another request, on the same thread: error pages and included parts.

use harness::{Request, Server, eventually, mpm_tests, ours, ours_only};

mpm_tests! {
    fn an_error_page_during_a_read(mpm) {
        let server = Server::builder(mpm).one_child().conf(PAGES).start();
        let child = server.only_child();
        for _ in 0..5 {
            for (url, page) in [("/far", "[page /bad of inner]"), ("/near", "[page /bad of outer]")] {
                let mut connection = server.connect();
                let request = Request::new("POST", &format!("{url}/read")).header("Transfer-Encoding", "chunked");
                connection.send(request.head_bytes());
                connection.send("5\r\nhello\r\nZZ\r\n");
                let response = connection.read_response("POST").unwrap().expect(400);
                is_page(&response.text(), page);
            }
            let half = [b'x'; 2500];
            let response = server.send(&Request::new("POST", "/far/read").chunked(&[&half, &half]));
            is_page(&response.expect(413).text(), "[page /413 of inner]");
            let good = server.send(&Request::new("POST", "/far/read").chunked(&[b"hello"]));
            assert_eq!(good.expect(200).text(), "read hello");
        }
        assert_eq!(server.only_child(), child);
        server.allow_log("OSError|exception raised processing WSGI script|^AH|inner$");
    }

    fn an_error_page_instead_of_the_request(mpm) {
        ours_only!("mod_wsgi refuses the page as it refused the request");
        let server = Server::builder(mpm).conf(PAGES).start();
        for _ in 0..3 {
            // The request for the page still has the header that was refused.
            let response = server.send(&Request::post("/far/read", [b'x'; 5000])).expect(413);
            assert_eq!(response.text(), "[page /413 of inner]");
        }
        server.allow_log("^AH|LimitRequestBody|larger than|inner$");
    }

    fn an_included_part(mpm) {
        let server = Server::builder(mpm).one_child().modules(&["include", "filter"]).conf(PAGES).start();
        let child = server.only_child();
        for round in 1..=3 {
            for (url, part) in [("/in", "inner"), ("/near", "outer")] {
                let response = server.get(&format!("/doc/include?{url}/part")).expect(200);
                assert_eq!(response.text(), format!("<p>before</p>[page /part of {part}]<p>after</p>"), "{round}");
                assert!(response.is_complete());
            }
        }
        assert_eq!(server.only_child(), child);
        server.allow_log("inner$");
        let outer = server.allow_log("outer (before|between|after with the outer one's own)$");
        let said = || server.records().into_iter().filter(|record| outer.is_match(&record.message)).collect();
        let lines: Vec<_> = eventually("all is said", || Some(said()).filter(|lines: &Vec<_>| lines.len() == 18));
        if ours() {
            // mod_wsgi has lost the outer request when the inner one has ended.
            for lines in lines.chunks(3) {
                assert!(lines.iter().all(|line| line.request == lines[0].request && line.request != "-"), "{lines:#?}");
            }
        }
    }
}

#[track_caller]
fn is_page(text: &str, page: &str) {
    if ours() {
        assert_eq!(text, page);
    } else {
        // mod_wsgi appends an error page for the exception.
        assert!(text.starts_with(page), "{text}");
    }
}

const PAGES: &str = "
WSGIChunkedRequest On
LimitRequestBody 1000
WSGIScriptAlias /far ${APPS}/nested.wsgi application-group=outer
WSGIScriptAlias /near ${APPS}/nested.wsgi application-group=outer
WSGIScriptAlias /doc ${APPS}/nested.wsgi application-group=outer
WSGIScriptAlias /in ${APPS}/nested.wsgi application-group=inner
<Location /far>
    ErrorDocument 400 /in/bad
    ErrorDocument 413 /in/413
</Location>
<Location /near>
    ErrorDocument 400 /near/bad
</Location>
<IfModule include_module>
    <Location /doc>
        Options +Includes
        SetOutputFilter INCLUDES
    </Location>
</IfModule>
";
