//! Permits, the queue for them, and which thread runs a request.

use std::thread;

use super::*;

/// Requests of one group that wait until they are told to go on: each creates a file when it has begun, and ends when
/// another file is there.
const HOLD: &str = r#"
import os, time, threading

HERE = os.path.dirname(__file__)

def application(environ, start_response):
    name = environ["QUERY_STRING"]
    if name.startswith("hold"):
        open(os.path.join(HERE, name), "w").close()
        while not any(os.path.exists(os.path.join(HERE, go)) for go in ("go", name.replace("hold", "go"))):
            time.sleep(0.001)
    return respond(start_response, f"{environ['mod_wsgi.thread_id']} {threading.get_ident()}")
"#;

struct Held(Script);

impl Held {
    fn new() -> Self {
        Self(Script::new(HOLD))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path.with_file_name(name)
    }

    fn request(&self, group: &str, query: &str) -> Request<'_> {
        let request = self.0.request().group(group);
        request.known(wsgi_abi::keys::QUERY_STRING, query.as_bytes())
    }

    fn wait_for(&self, name: &str) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !self.path(name).exists() {
            assert!(std::time::Instant::now() < until, "{name} has not begun");
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn release(&self) {
        std::fs::write(self.path("go"), "").unwrap();
    }

    /// Runs `then` while one request of the group is inside.
    fn with_one_inside<R>(&self, group: &str, then: impl FnOnce() -> R) -> R {
        start();
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.request(group, "hold").text());
            self.wait_for("hold");
            let result = then();
            self.release();
            inside.join().unwrap();
            result
        })
    }
}

const LINES: [&str; 2] = ["run-delegate-places=1", "run-pool-places=1"];

#[test]
fn a_request_without_a_slot_waits_and_gets_one() {
    for line in LINES {
        let held = Held::new();
        let group = format!("{line}-waits");
        thread::scope(|scope| {
            let waits = held.with_one_inside(&group, || {
                let waits = scope.spawn(|| held.request(&group, "second").run());
                thread::sleep(std::time::Duration::from_millis(30));
                assert!(!waits.is_finished(), "{group}");
                waits
            });
            assert!(waits.join().unwrap().is(RunOutcome::Responded), "{group}");
        });
    }
}

/// A worker runs at most 16 requests before it releases the GIL.
#[test]
fn as_many_wait_as_one_thread_runs_for_others() {
    for line in LINES {
        for count in [15, 16, 17, 33] {
            let held = Held::new();
            let group = format!("{line}-batch");
            thread::scope(|scope| {
                let waiting = held.with_one_inside(&group, || {
                    let request = || held.request(&group, "other").run();
                    let waiting: Vec<_> = (0..count).map(|_| scope.spawn(request)).collect();
                    thread::sleep(std::time::Duration::from_millis(60));
                    waiting
                });
                for request in waiting {
                    let exchange = request.join().unwrap();
                    assert!(exchange.is(RunOutcome::Responded), "{group}: {exchange:?}");
                }
            });
        }
    }
}

#[test]
fn a_full_line_refuses_and_a_slow_one_gives_up() {
    for line in LINES {
        let held = Held::new();
        let full = format!("{line}-depth=0-full");
        let refused = held.with_one_inside(&full, || held.request(&full, "other").run());
        assert!(refused.is(RunOutcome::QueueFull), "{refused:?}");
        let held = Held::new();
        let late = format!("{line}-timeout=40-late");
        let refused = held.with_one_inside(&late, || held.request(&late, "other").run());
        assert!(refused.is(RunOutcome::QueueTimedOut), "{refused:?}");
        assert_eq!(
            held.0.request().group(&late).run().outcome,
            Some(RunOutcome::Failed),
            "no QUERY_STRING"
        );
    }
}

#[test]
fn a_client_that_leaves_gives_its_place_in_the_queue_back() {
    for line in LINES {
        let held = Held::new();
        let group = format!("{line}-depth=1-leaves");
        let (first, second) = held.with_one_inside(&group, || {
            let leave = || held.request(&group, "other").gone().run();
            (leave(), leave())
        });
        assert!(first.is(RunOutcome::ClientGone), "{first:?}");
        assert!(
            second.is(RunOutcome::ClientGone),
            "the line has room again: {second:?}"
        );
    }
}

#[test]
fn a_request_that_has_waited_is_not_queued_any_more() {
    // A request that has waited is inside now, so the queue has its whole length again.
    for line in LINES {
        let held = Held::new();
        let group = format!("{line}-depth=1-has-waited");
        start();
        thread::scope(|scope| {
            let first = scope.spawn(|| held.request(&group, "hold-first").text());
            held.wait_for("hold-first");
            let second = scope.spawn(|| held.request(&group, "hold-second").text());
            thread::sleep(std::time::Duration::from_millis(30));
            // Released by hand, because `release` is for all requests.
            assert!(!held.path("hold-second").exists(), "{group}");
            std::fs::write(held.path("go-first"), "").unwrap();
            held.wait_for("hold-second");
            first.join().unwrap();
            let third = scope.spawn(|| held.request(&group, "third").run());
            thread::sleep(std::time::Duration::from_millis(30));
            assert!(!third.is_finished(), "{group}: it waits");
            let fourth = held.request(&group, "fourth").run();
            assert!(fourth.is(RunOutcome::QueueFull), "{group} {fourth:?}");
            held.release();
            second.join().unwrap();
            assert!(third.join().unwrap().is(RunOutcome::Responded), "{group}");
        });
    }
}

#[test]
fn as_many_clients_as_have_room_are_never_refused() {
    // Tiny jobs, which the worker runs, and clients that send their next request as soon as they are answered.
    let script = Script::app("return respond(start_response, 'well')");
    start();
    for line in [
        "run-delegate-places=1",
        "run-pool-places=1",
        "run-delegate-places=2",
        "run-pool-places=2",
    ] {
        for depth in [1, 2, 5] {
            let group = format!("{line}-depth={depth}-never");
            let places = if line.ends_with('1') { 1 } else { 2 };
            thread::scope(|scope| {
                for _ in 0..places + depth {
                    scope.spawn(|| {
                        for turn in 0..300 {
                            let exchange = script.request().group(&group).run();
                            assert!(
                                exchange.is(RunOutcome::Responded),
                                "{group} {turn} {exchange:?}"
                            );
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn a_nested_request_holds_no_other_thread() {
    // A request within the read of another one, of the same group and of another group, at any depth and on any thread.
    let script = std::sync::Arc::new(Script::app(
        "data = environ['wsgi.input'].read()\nreturn respond(start_response, data + b' end')",
    ));
    for (strategy, nested) in [
        ("direct", "direct"),
        ("delegate", "delegate"),
        ("pool", "pool"),
        ("pool", "direct"),
        ("direct", "pool"),
    ] {
        let groups = [
            format!("run-{strategy}-places=1-share=1-nested-a"),
            format!("run-{nested}-places=1-share=1-nested-b"),
        ];
        for (outer, middle, inner) in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 1, 1)] {
            let [outer, middle, inner] = [outer, middle, inner].map(|at| groups[at].clone());
            let (for_middle, for_inner) = (script.clone(), script.clone());
            let refused_before = thread::scope(|scope| {
                let all = groups.each_ref().map(|group| {
                    scope.spawn(|| {
                        script
                            .request()
                            .group(group)
                            .run()
                            .is(RunOutcome::QueueFull)
                    })
                });
                all.map(|one| one.join().unwrap())
            });
            assert_eq!(refused_before, [false, false]);
            let beside = (script.clone(), outer.clone());
            let ask_inner = move || {
                let exchange = for_inner.request().group(&inner).run();
                assert_eq!(exchange.text(), " end", "{inner} {exchange:?}");
                // The thread counts for all nested requests.
                let (script, group) = beside;
                let other = thread::spawn(move || script.request().group(&group).run());
                let other = other.join().unwrap();
                assert!(other.is(RunOutcome::QueueFull), "{other:?}");
            };
            let ask_middle = move || {
                let body = [Piece::Wait(Box::new(ask_inner)), Piece::text("inner")];
                let exchange = for_middle.request().group(&middle).body(body).run();
                assert_eq!(exchange.text(), "inner end", "{middle} {exchange:?}");
            };
            let body = [Piece::Wait(Box::new(ask_middle)), Piece::text("middle")];
            let exchange = script.request().group(&outer).body(body).run();
            assert_eq!(exchange.text(), "middle end", "{outer} {exchange:?}");
        }
    }
}

#[test]
fn a_deadline_holds_in_the_queue() {
    for line in LINES {
        let held = Held::new();
        let group = format!("{line}-deadline");
        let refused = held.with_one_inside(&group, || {
            held.request(&group, "other").limits(50, 1000, 0).run()
        });
        assert!(refused.is(RunOutcome::QueueTimedOut), "{refused:?}");
    }
}

#[test]
fn a_queued_request_is_refused_and_not_given_up() {
    // Without grace, the refusal and the giving up are due at the same moment.
    for line in LINES {
        let held = Held::new();
        let group = format!("{line}-in-line");
        let refused = held.with_one_inside(&group, || {
            thread::scope(|scope| {
                let request = || held.request(&group, "other").limits(200, 0, 0).run();
                let requests = [(); 6].map(|()| scope.spawn(request));
                requests.map(|request| request.join().unwrap())
            })
        });
        for refused in refused {
            assert!(refused.is(RunOutcome::QueueTimedOut), "{line} {refused:?}");
            assert!(!refused.given_up, "{line} {refused:?}");
        }
    }
}

#[test]
fn a_group_has_no_more_than_its_share() {
    for strategy in ["direct", "delegate", "pool"] {
        let held = Held::new();
        let group = format!("run-{strategy}-share=1-share");
        let refused = held.with_one_inside(&group, || held.request(&group, "other").run());
        assert!(refused.is(RunOutcome::QueueFull), "{strategy} {refused:?}");
        assert!(
            held.request(&group, "after")
                .run()
                .is(RunOutcome::Responded)
        );
    }
}

#[test]
fn a_pool_has_threads_of_its_own_and_says_whose_request_it_is() {
    let script = Script::app(
        "import threading\nreturn respond(start_response, f\"{environ['mod_wsgi.thread_id']} {threading.get_ident()}\")",
    );
    start();
    let own = thread::spawn(|| (crate::process::thread_id(), 0))
        .join()
        .unwrap();
    let mut runners = std::collections::HashSet::new();
    for _ in 0..4 {
        thread::scope(|scope| {
            let request = || {
                let text = script.request().group("run-pool-places=2-own").text();
                // SAFETY: may be called at any time.
                let ident = unsafe { libc::pthread_self() };
                (crate::process::thread_id(), text, ident)
            };
            let asked: Vec<_> = (0..5).map(|_| scope.spawn(request)).collect();
            for asked in asked {
                let (id, text, ident) = asked.join().unwrap();
                let (told, runner) = text.split_once(' ').unwrap();
                assert_eq!(
                    told,
                    id.to_string(),
                    "the id is that of the thread whose request it is"
                );
                assert!(id > own.0);
                assert_ne!(runner, ident.to_string());
                runners.insert(runner.to_owned());
            }
        });
    }
    assert!(runners.len() <= 2, "{runners:?}");
}

#[test]
fn short_requests_are_run_by_the_worker() {
    // Many threads and one permit: at some point the worker runs their jobs.
    let script = Script::app(
        "import threading\nsum(range(300))\nreturn respond(start_response, f\"{environ['mod_wsgi.thread_id']} {threading.get_ident()}\")",
    );
    start();
    let delegated = std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..400 {
                    let text = script.request().group("run-delegate-places=1-short").text();
                    let (told, runner) = text.split_once(' ').unwrap();
                    assert_eq!(told, crate::process::thread_id().to_string());
                    // SAFETY: may be called at any time.
                    if runner != unsafe { libc::pthread_self() }.to_string() {
                        delegated.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(delegated.into_inner() > 0);
}

#[test]
fn a_copy_that_the_application_forks_runs_no_requests() {
    extern "C" fn detach() {
        wsgi_telemetry::writer::detach();
    }
    let script = Script::new(
        "import os, time\n\
         def application(environ, start_response):\n    \
         copy = os.fork()\n    \
         if copy == 0: return respond(start_response, 'copy')\n    \
         for _ in range(2000):\n        \
             ended, status = os.waitpid(copy, os.WNOHANG)\n        \
             if ended: return respond(start_response, f'ended {status}')\n        \
             time.sleep(0.01)\n    \
         os.kill(copy, 9)\n    \
         os.waitpid(copy, 0)\n    \
         return respond(start_response, 'stays')",
    );
    start();
    // As the module does. SAFETY: stores a flag.
    assert_eq!(unsafe { libc::pthread_atfork(None, None, Some(detach)) }, 0);
    assert_eq!(
        script.request().group("run-pool-places=1-fork").text(),
        "ended 0"
    );
}

#[test]
fn each_request_has_a_context_of_its_own() {
    let script = Script::new(
        "import contextvars\nvar = contextvars.ContextVar('var', default='empty')\n\
         def application(environ, start_response):\n    before = var.get()\n    var.set('mine')\n    \
         def body():\n        yield (before + ' ' + var.get()).encode()\n    \
         start_response('200 OK', [])\n    return body()",
    );
    for strategy in ["direct", "delegate", "pool"] {
        for _ in 0..3 {
            let group = format!("run-{strategy}-context");
            assert_eq!(
                script.request().group(&group).text(),
                "empty mine",
                "{strategy}"
            );
        }
    }
}

/// Returns a request that reads its body, which arrives when the result is used or dropped.
fn with_slow_body<'s>(
    script: &'s Script,
    group: &'s str,
    scope: &'s thread::Scope<'s, '_>,
) -> (
    std::sync::mpsc::Sender<()>,
    thread::ScopedJoinHandle<'s, String>,
) {
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let wait = move || {
        let _ = receive.recv();
    };
    let pieces = [Piece::Wait(Box::new(wait)), Piece::text("late")];
    let slow = scope.spawn(move || script.request().group(group).body(pieces).text());
    (send, slow)
}

const READS: &str = "body = environ['wsgi.input'].read()\nreturn respond(start_response, body)";

#[test]
fn a_request_that_waits_for_its_client_takes_no_place() {
    for strategy in ["delegate", "pool"] {
        let script = Script::app(READS);
        let group = format!("run-{strategy}-places=2-slow");
        start();
        thread::scope(|scope| {
            let slow = [(); 2].map(|()| with_slow_body(&script, &group, scope));
            thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(script.request().group(&group).text(), "");
            for (send, slow) in slow {
                assert!(!slow.is_finished());
                send.send(()).unwrap();
                assert_eq!(slow.join().unwrap(), "late");
            }
        });
    }
}

/// An application that is told that one thread at a time calls it is not called in the middle of a request.
#[test]
fn the_only_place_is_kept_for_a_request_that_waits_for_its_client() {
    for line in LINES {
        let script = Script::app(READS);
        let group = format!("{line}-slow");
        start();
        thread::scope(|scope| {
            let (send, slow) = with_slow_body(&script, &group, scope);
            thread::sleep(std::time::Duration::from_millis(20));
            let next = scope.spawn(|| script.request().group(&group).text());
            thread::sleep(std::time::Duration::from_millis(50));
            assert!(!slow.is_finished() && !next.is_finished());
            send.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), "late");
            assert_eq!(next.join().unwrap(), "");
        });
    }
}

#[test]
fn a_body_is_read_ahead() {
    let script = Script::app(
        "read = environ['wsgi.input'].read\nreturn respond(start_response, read(3) + b'|' + read() + b'|' + read())",
    );
    let pieces = || [Piece::text("abcd"), Piece::text("ef"), Piece::text("gh")];
    for (ahead, reads) in [(8, 3), (64, 4), (5, 2)] {
        let exchange = script.request().body(pieces()).body_ahead(ahead).run();
        assert_eq!(exchange.text(), "abc|defgh|", "{ahead}");
        assert!(exchange.reads.len() >= reads, "{:?}", exchange.reads);
    }
    let cut = || [Piece::text("abcd"), Piece::Aborted];
    let script = Script::app(
        "read = environ['wsgi.input'].read\nreturn respond(start_response, read(4).decode() + ' ' + attempt(read))",
    );
    let text = script.request().body(cut()).body_ahead(64).text();
    assert!(
        text.starts_with("abcd OSError: ") && text.ends_with("Connection was terminated"),
        "{text}"
    );
    let untouched = Script::app("return respond(start_response, 'unread')");
    assert_eq!(
        untouched.request().body(cut()).body_ahead(64).text(),
        "unread"
    );
}
