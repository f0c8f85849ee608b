//! `WSGIRecycle`: children that have reached a limit are replaced, and clients notice nothing.

use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Mpm, Over, Request, Server, embedded_only, eventually_by_turns, eventually_within, long,
    mpm_tests, ours_only, rss_kib,
};

use crate::rolls::FULL;

mpm_tests! {
    fn a_leak_is_bounded(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIRecycle replaces httpd's children");
        let server = start_with(mpm, "WSGIRecycle memory=200M", LEAKING);
        let time = Duration::from_secs(if long() { 300 } else { 0 });
        let retired = || server.count_log("this child retires: it uses too much memory");
        let mut most = 0;
        under_load(&server, 4, "/app", || {
            let begun = Instant::now();
            let replaced = eventually_within(time + Duration::from_secs(120), || {
                let children = server.children();
                most = children.iter().map(|child| rss_kib(*child)).fold(most, u64::max);
                (begun.elapsed() >= time && retired() >= 2).then_some(())
            });
            replaced.expect("children that leak are replaced");
        });
        let (most, retired) = (most / 1024, retired());
        eprintln!("{mpm}: at most {most} MiB, {retired} retired");
        // While a successor starts, the old child goes on serving.
        assert!(most < 500, "{most} MiB");
        assert!(server.count_log(r"WSGIRecycle: this child has \d+ MiB of memory of its own") >= retired);
    }

    fn after_a_number_of_requests(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIRecycle replaces httpd's children");
        let server = start(mpm, "WSGIRecycle requests=100 jitter=20");
        let before = server.children();
        under_load(&server, 4, "/app", || {
            eventually_by_turns("children are recycled", || {
                (server.count_log(r"WSGIRecycle: this child has served \d+ requests") >= 4).then_some(())
            });
        });
        assert!(server.children() != before);
        let first = server.expect_log(r"this child has served (\d+) requests");
        let count = first.message.split(' ').rev().nth(1).and_then(|word| word.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count >= 80), "{first:?}");
    }

    fn after_a_time(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIRecycle replaces httpd's children");
        let server = start(mpm, "WSGIRecycle age=1");
        under_load(&server, 4, "/app", || {
            eventually_by_turns("children are recycled", || {
                (server.count_log(r"WSGIRecycle: this child has served for \d+ s") >= 4).then_some(())
            });
        });
    }

    fn the_only_child(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIRecycle replaces httpd's children");
        let server = Server::builder(mpm)
            .one_child()
            .metrics()
            .app("/app", "hello.wsgi")
            .conf("WSGIRecycle requests=20")
            .start();
        server.allow_log(FULL);
        let child = server.only_child();
        for _ in 0..60 {
            server.get("/app").expect(200);
            thread::sleep(Duration::from_millis(20));
        }
        server.expect_log("WSGIRecycle: this child has served");
        assert_ne!(server.only_child(), child);
        let metrics = server.get("/metrics").expect(200).text();
        let counted = metrics.lines().any(|line| {
            line.starts_with("wsgi_children_recycles_total{reason=\"max_requests\"}") && !line.ends_with(" 0")
        });
        assert!(counted, "{metrics}");
    }
}

fn start(mpm: Mpm, line: &str) -> Server {
    start_with(mpm, line, APPLICATION)
}

fn start_with(mpm: Mpm, line: &str, application: &str) -> Server {
    let server = Server::builder(mpm)
        .pool(2, 8)
        .file("leak.wsgi", application)
        .conf("WSGIScriptAlias /app ${ROOT}/leak.wsgi")
        .conf(line)
        .start();
    server.allow_log(FULL);
    server.get("/app").expect(200);
    server
}

/// Runs `work` while clients send requests, all of which must be answered.
pub(crate) fn under_load(server: &Server, clients: usize, target: &str, work: impl FnOnce()) {
    let over = Over::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    while !over.is_over() {
                        let response = server.try_send(&Request::get(target));
                        let response = response.expect("an answer").expect(200);
                        assert!(response.is_complete());
                    }
                })
            })
            .collect();
        {
            let _end = over.at_end();
            work();
        }
        for client in clients {
            client.join().expect("no request has failed");
        }
    });
}

/// Keeps 64 KiB for each request.
const APPLICATION: &str = r#"import time

KEPT = []


def application(environ, start_response):
    KEPT.append(b'x' * 65536)
    time.sleep(0.005)
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"#;

/// Keeps 1 MiB for each request.
const LEAKING: &str = r#"import time

KEPT = []


def application(environ, start_response):
    KEPT.append(b'x' * 1048576)
    time.sleep(0.04)
    start_response('200 OK', [('Content-Length', '2')])
    return [b'ok']
"#;
