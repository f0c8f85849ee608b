//! An application overwrites the memory in which metrics are counted: httpd, the helper and wsgictl survive.

use std::thread;

use harness::{
    Exposition, Request, Server, eventually, eventually_within, kill, mpm_tests, ours_only,
};

use super::status::is_well_formed;

mpm_tests! {
    fn scribbled_over(mpm) {
        ours_only!("mod_wsgi has no such memory");
        let server = Server::builder(mpm)
            .pool(2, 3)
            .metrics_listener()
            .modules(&["status"])
            .app("/m", "measured.wsgi")
            .app("/scribble", "scribble.wsgi")
            .conf("WSGISlowRequests 0.01\n<Location /server-status>\nSetHandler server-status\n</Location>")
            .start();
        // Children that read the overwritten memory may log anything about it.
        server.allow_log("");
        server.get("/m/ok").expect(200);
        let parent = server.pid();
        for place in ["head", "all"] {
            for what in ["markup", "noise", "ones", "numbers", "nothing"] {
                let scribble = || drop(server.try_send(&Request::get(&format!("/scribble/{what}?{place}"))));
                let context = format!("{what} {place}");
                eventually(&context, || {
                    let done = server.try_send(&Request::get(&format!("/scribble/{what}?{place}"))).ok()?;
                    (done.status() == 200).then_some(())
                });
                readers_live(&server, &context);
                // Children also end and start while the memory is being overwritten.
                thread::scope(|scope| {
                    scope.spawn(|| (0..5).for_each(|_| scribble()));
                    for child in server.children().into_iter().take(1) {
                        kill(child);
                    }
                    for _ in 0..10 {
                        let _ = server.try_send(&Request::get("/m/slow"));
                    }
                });
                scribble();
                harness::graceful(parent);
                readers_live(&server, &context);
                requests_go_on(&server, &context);
                assert!(harness::is_alive(parent), "{context}");
            }
        }
        harness::graceful(parent);
        requests_go_on(&server, "the end");
        // No child crashed either: only the children that the test killed have died.
        assert_eq!(server.count_log("exit signal (Segmentation|Bus|Abort|Illegal|Floating)"), 0);
        assert_eq!(server.count_log("panicked|panic"), 0);
    }
}

/// Checks that new requests are answered. A child that was killed may take a connection with it.
fn requests_go_on(server: &Server, context: &str) {
    for _ in 0..5 {
        eventually(context, || {
            let response = server.try_send(&Request::get("/m/ok")).ok()?;
            (response.status() == 200).then_some(())
        });
    }
}

/// Each reader of the memory returns a well-formed page.
fn readers_live(server: &Server, context: &str) {
    let helper = |target: &str| {
        let answer = eventually_within(std::time::Duration::from_secs(20), || {
            server.ask_helper(&Request::get(target)).ok()
        });
        answer.unwrap_or_else(|| panic!("{context}: no answer to {target}"))
    };
    let child = |target: &str| {
        eventually(context, || {
            let response = server.try_send(&Request::get(target)).ok()?;
            response.is_complete().then_some(response)
        })
    };
    for answer in [&helper as &dyn Fn(&str) -> _, &child] {
        let text = answer("/metrics").expect(200).text();
        if let Err(error) = Exposition::parse(&text) {
            panic!("{context}: {error}");
        }
        let page = answer("/wsgi-status").expect(200).text();
        is_well_formed(&page);
        is_clean(&page, context);
        answer("/wsgi-status?format=json").expect(200).json();
    }
    assert_eq!(
        server.count_log("that answers for WSGIMetricsListen ended"),
        0,
        "{context}"
    );
    is_clean(&child("/server-status").expect(200).text(), context);
    child("/server-status?auto").expect(200);
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["metrics"],
        &["metrics", "--openmetrics"],
    ] {
        let output = server.wsgictl(arguments);
        // It may find that this is not a segment, but it must not crash, and its output must be clean.
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{context}: {output:?}"
        );
        let text =
            String::from_utf8([output.stdout, output.stderr].concat()).expect("it prints UTF-8");
        let control = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "{context}: {text:?}");
    }
}

fn is_clean(page: &str, context: &str) {
    assert!(
        !page.to_ascii_lowercase().contains("<script"),
        "{context}: {page}"
    );
    let control = page.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "{context}: {page:?}");
}
