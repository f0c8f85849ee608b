//! Requests that take longer than their limit.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use super::host::RETIRED;
use super::*;
use crate::sync::lock;

const STRATEGIES: [&str; 3] = ["direct", "delegate", "pool"];

#[test]
fn a_loop_is_interrupted() {
    let script = Script::app(
        "def spin():\n    while True:\n        try:\n            for _ in range(1000): pass\n        except Exception:\n            pass\nspin()",
    );
    for strategy in STRATEGIES {
        let group = format!("run-{strategy}-loop");
        let request = || {
            script
                .request()
                .group(&group)
                .known(wsgi_abi::keys::REQUEST_METHOD, b"GET")
        };
        let request = request().known(wsgi_abi::keys::REQUEST_URI, b"/spin?secret=1");
        let exchange = request.limits(60, 2000, 0).run();
        assert!(exchange.is(RunOutcome::TimedOut), "{strategy} {exchange:?}");
        assert!(
            exchange.logged("WSGI1061: request too long: GET /spin runs for 0."),
            "{exchange:?}"
        );
        assert!(exchange.logged("in spin"), "{exchange:?}");
        assert!(!exchange.logged("secret"), "{exchange:?}");
        assert!(exchange.logged("thread recovered"), "{exchange:?}");
    }
}

/// Messages show the first 200 characters of a path.
#[test]
fn long_paths_are_cut_in_messages() {
    let script = Script::app("while True: pass");
    for length in [199, 200, 201] {
        let path = format!("/{}", "p".repeat(length - 1));
        let request = script
            .request()
            .known(wsgi_abi::keys::REQUEST_METHOD, b"GET")
            .known(
                wsgi_abi::keys::REQUEST_URI,
                format!("{path}?secret").as_bytes(),
            );
        let exchange = request.limits(50, 2000, 0).run();
        assert!(exchange.is(RunOutcome::TimedOut), "{exchange:?}");
        let shown = &path[..length.min(200)];
        assert!(
            exchange.logged(&format!("WSGI1061: request too long: GET {shown} runs for")),
            "{exchange:?}"
        );
    }
}

#[test]
fn an_application_that_catches_everything_is_interrupted_again() {
    let script = Script::app(
        "caught = 0\nwhile caught < 2:\n    try:\n        for _ in range(10**12): len(())\n    except BaseException:\n        caught += 1\nreturn respond(start_response, caught)",
    );
    let exchange = script.request().limits(50, 3000, 0).run();
    assert_eq!(exchange.text(), "2", "{exchange:?}");
    assert!(
        exchange.logged("WSGI1061") && exchange.logged("WSGI1062"),
        "{exchange:?}"
    );
}

#[test]
fn an_application_that_cannot_be_interrupted_is_given_up() {
    let script =
        Script::app("import time\ntime.sleep(0.7)\nreturn respond(start_response, 'late')");
    for strategy in STRATEGIES {
        let group = format!("run-{strategy}-places=1-asleep");
        let before = lock(&RETIRED).len();
        let exchange = script.request().group(&group).limits(50, 50, 0).run();
        assert!(exchange.is(RunOutcome::GivenUp), "{strategy} {exchange:?}");
        assert!(exchange.given_up, "{strategy}");
        assert_eq!(exchange.text(), "");
        assert!(lock(&RETIRED).len() > before);
    }
}

#[test]
fn the_place_of_one_that_is_given_up_is_free() {
    let asleep = Script::app("import time\ntime.sleep(1.5)");
    let quick = Script::app("return respond(start_response, 'quick')");
    for strategy in ["delegate", "pool"] {
        let group = format!("run-{strategy}-places=1-free");
        start();
        thread::scope(|scope| {
            let stuck = scope.spawn(|| asleep.request().group(&group).limits(50, 50, 0).run());
            thread::sleep(std::time::Duration::from_millis(30));
            assert_eq!(quick.request().group(&group).text(), "quick");
            assert!(!stuck.is_finished(), "{strategy}");
            assert!(stuck.join().unwrap().is(RunOutcome::GivenUp), "{strategy}");
        });
        // And the group still has exactly one permit.
        assert_eq!(quick.request().group(&group).text(), "quick");
    }
}

#[test]
fn a_slow_request_is_shown_and_goes_on() {
    let script = Script::app(
        "import time\ndef crawl():\n    for _ in range(300): time.sleep(0.005)\ncrawl()\nreturn respond(start_response, 'done')",
    );
    let exchange = script.request().limits(0, 0, 40).run();
    assert_eq!(exchange.text(), "done");
    assert!(
        exchange.logged("WSGI1060") && exchange.logged("in crawl"),
        "{exchange:?}"
    );
    let lines = exchange
        .log
        .iter()
        .filter(|(_, line)| line.contains("WSGI1060"));
    assert_eq!(lines.count(), 1);
}

#[test]
fn loading_does_not_count() {
    let script = Script::new(
        "import time\ntime.sleep(0.3)\ndef application(environ, start_response):\n    return respond(start_response, 'loaded')",
    );
    assert_eq!(script.request().limits(50, 10, 20).text(), "loaded");
    // Nor does the load interrupt requests that wait for the thread which loads.
    for strategy in STRATEGIES {
        let group = format!("run-{strategy}-places=1-load");
        let script = Script::new(
            "import time\ntime.sleep(1)\ndef application(environ, start_response):\n    return respond(start_response, 'loaded')",
        );
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let request = script.request().group(&group).limits(500, 10, 0);
                    assert_eq!(request.text(), "loaded", "{strategy}");
                });
            }
        });
    }
}

/// Requests that end about when they are interrupted, on threads that run other requests right after. A marker shows
/// whose exception arrives where.
#[test]
fn no_interruption_hits_another_request() {
    let script = Script::new(
        "import mod_wsgi, time\n\
         def application(environ, start_response):\n    \
         until = float(environ['QUERY_STRING'])\n    \
         limited = until > 0\n    \
         begin = time.monotonic()\n    \
         try:\n        \
             while time.monotonic() - begin < abs(until): pass\n        \
             return respond(start_response, 'whole')\n    \
         except mod_wsgi.RequestTimeout:\n        \
             if not limited: return respond(start_response, 'HIT')\n        \
             return respond(start_response, 'cut')",
    );
    script
        .request()
        .known(wsgi_abi::keys::QUERY_STRING, b"0")
        .text();
    let count = if std::env::var_os("WSGI_TEST_LONG").is_some() {
        10_000
    } else {
        600
    };
    for strategy in STRATEGIES {
        let group = format!("run-{strategy}-places=2-marker");
        let (cut, whole, lost) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for worker in 0..4 {
                let (script, group, cut, whole, lost) = (&script, &group, &cut, &whole, &lost);
                scope.spawn(move || {
                    for turn in 0..count / 4 {
                        // Within a millisecond of the limit of 5 ms.
                        let seconds = 0.0045 + f64::from((turn * 7 + worker * 3) % 11) * 0.0001;
                        let request = |query: String| {
                            let request = script.request().group(group);
                            request.known(wsgi_abi::keys::QUERY_STRING, query.as_bytes())
                        };
                        let near = request(seconds.to_string()).limits(5, 1000, 0).run();
                        match near.outcome {
                            Some(RunOutcome::Responded) if near.text() == "cut" => cut,
                            Some(RunOutcome::Responded) => whole,
                            _ => lost,
                        }
                        .fetch_add(1, Relaxed);
                        let other = request(String::from("-0.0002")).run();
                        assert_eq!(other.text(), "whole", "{strategy} {other:?}");
                    }
                });
            }
        });
        let (cut, whole, lost) = (cut.into_inner(), whole.into_inner(), lost.into_inner());
        assert!(
            cut + lost > 0,
            "{strategy}: none was interrupted: {cut} {whole} {lost}"
        );
        eprintln!("{strategy}: {cut} cut, {whole} whole, {lost} 504");
    }
}
