//! Scripts: loaded once, loaded again when they have changed, and failing.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use wsgi_abi::RunOutcome;

use super::host::server_logged;
use super::{ERROR, Piece, Script};

/// Makes a script that counts in `sys` how often its body ran.
fn counting(name: &str) -> String {
    format!(
        "sys.{name} = getattr(sys, '{name}', 0) + 1\n\
         def application(environ, start_response): return respond(start_response, sys.{name})\n"
    )
}

#[test]
fn are_loaded_once_however_many_threads_want_them() {
    let script = Script::new(&format!(
        "import time\ntime.sleep(0.05)\n{}",
        counting("loads_once")
    ));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| script.text())).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), "1");
        }
    });
}

#[test]
fn are_loaded_again_when_they_have_changed() {
    let script = Script::new(
        "def application(environ, start_response): return respond(start_response, 'one')",
    );
    let first = script.run();
    assert!(first.logged(&format!(
        "Loading WSGI script '{}' into main interpreter",
        script.path.display()
    )));
    assert!(!script.run().logged("oading WSGI script"));
    let before = script.mtime();
    script.write("def application(environ, start_response): return respond(start_response, 'two')");
    let mut fixed = script.request();
    fixed.reloading = false;
    assert_eq!(fixed.text(), "one");
    let changed = script.run();
    assert_eq!(changed.text(), "two");
    assert!(changed.logged(&format!(
        "Reloading WSGI script '{}' into",
        script.path.display()
    )));
    assert!(!script.run().logged("oading"));
    // A request that was mapped to the file before the change does not load it once more.
    let late = script.request().mtime(before).run();
    assert_eq!(late.text(), "two");
    assert!(!late.logged("oading"));
}

#[test]
fn are_stated_by_the_engine_where_the_module_did_not() {
    let script = Script::new(&counting("loads_stat"));
    assert_eq!(script.request().mtime(-1).text(), "1");
    assert_eq!(script.request().mtime(-1).text(), "1");
    let earlier = std::time::SystemTime::now() - Duration::from_secs(100);
    std::fs::File::options()
        .write(true)
        .open(&script.path)
        .unwrap()
        .set_modified(earlier)
        .unwrap();
    assert_eq!(script.request().mtime(-1).text(), "2");
}

#[test]
fn have_a_module_of_their_own() {
    let script = Script::new(
        "def application(environ, start_response):\n\
         \x20   return respond(start_response, (__file__, __name__[:10], sys.modules[__name__].__dict__ is globals(), __mtime__))",
    );
    let (path, mtime) = (script.path.display(), script.mtime());
    let expected = format!("('{path}', '_mod_wsgi_', True, {mtime})");
    assert_eq!(script.text(), expected);
}

#[test]
fn that_fail_are_tried_again() {
    for (source, number, error) in [
        (
            "def application(:",
            "WSGI0105",
            "SyntaxError: invalid syntax",
        ),
        (
            "\0",
            "WSGI0105",
            "source code string cannot contain null bytes",
        ),
        (
            "# caf\u{e9}\n1/0",
            "WSGI0109",
            "ZeroDivisionError: division by zero",
        ),
        ("raise KeyboardInterrupt", "WSGI0109", "KeyboardInterrupt"),
        ("sys.exit(3)", "WSGI0107", ""),
    ] {
        let script = Script::new(source);
        for _ in 0..2 {
            let exchange = script.run();
            assert!(exchange.is(RunOutcome::Failed));
            let errors = exchange.lines(ERROR);
            assert!(errors[0].starts_with(number), "{errors:?}");
            assert!(errors.last().unwrap().contains(error), "{errors:?}");
        }
        script.write(
            "def application(environ, start_response): return respond(start_response, 'mended')",
        );
        assert_eq!(script.text(), "mended");
    }
}

#[test]
fn that_are_missing() {
    let script = Script::new("");
    std::fs::remove_file(&script.path).unwrap();
    let exchange = script.run();
    assert!(exchange.is(RunOutcome::Failed));
    assert!(exchange.logged("cannot be loaded"));
    assert!(exchange.logged(&format!(
        "OSError: No such file or directory (os error 2): '{}'",
        script.path.display()
    )));
}

#[test]
fn without_the_callable() {
    let script = Script::new("application = None\n");
    let exchange = script.request().callable("other").run();
    assert!(exchange.is(RunOutcome::CallableMissing));
    assert!(exchange.logged("does not contain WSGI application 'other'"));
    assert!(
        script
            .run()
            .logged("TypeError: 'NoneType' object is not callable")
    );
}

#[test]
fn a_failing_reload_leaves_nothing_to_serve() {
    let script = Script::new(&counting("loads_failing"));
    assert_eq!(script.text(), "1");
    script.write("1/0");
    assert!(script.request().mtime(2).run().is(RunOutcome::Failed));
    assert!(script.request().mtime(2).run().is(RunOutcome::Failed));
    script.write(&counting("loads_failing"));
    assert_eq!(script.request().mtime(3).text(), "2");
}

#[test]
fn may_ask_for_a_reload() {
    let script = Script::new(&format!(
        "{}\ndef reload_required(path):\n    print(path)\n    return path.endswith('yes')\n",
        counting("loads_required")
    ));
    let run = |resource: &str| {
        let mut request = script.request();
        request.resource = resource.to_owned();
        request.text()
    };
    assert_eq!(
        (
            run("no").as_str(),
            run("no").as_str(),
            run("yes").as_str(),
            run("no").as_str()
        ),
        ("1", "1", "2", "2")
    );
}

#[test]
fn a_reload_required_that_raises() {
    let script = Script::new(&format!(
        "{}\ndef reload_required(path): 1/0\n",
        counting("loads_raising")
    ));
    assert_eq!(script.text(), "1");
    let exchange = script.run();
    assert_eq!(exchange.text(), "1");
    assert!(exchange.logged("reload_required() of WSGI script"));
    assert!(exchange.logged("ZeroDivisionError: division by zero"));
}

/// Requests in the old module go on while the script is loaded again.
#[test]
fn a_reload_while_a_request_runs() {
    let script = Script::app(
        "first = environ['wsgi.input'].read()\nreturn respond(start_response, [first, attempt(respond, print, 1)])",
    );
    let (release, wait) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let old = scope.spawn(|| {
            let wait = Piece::Wait(Box::new(move || {
                begin.send(()).unwrap();
                wait.recv().unwrap();
            }));
            script
                .request()
                .body([Piece::text("a"), wait, Piece::text("b")])
                .text()
        });
        begun.recv().unwrap();
        script.write(
            "def application(environ, start_response): return respond(start_response, 'new')",
        );
        assert_eq!(script.request().mtime(2).text(), "new");
        release.send(()).unwrap();
        assert!(old.join().unwrap().starts_with("[b'ab', "));
    });
}

#[test]
fn a_load_that_takes_too_long() {
    let script = Script::new(&format!(
        "import os, time\n\
         open(__file__ + '.loading', 'w').close()\n\
         until = time.time() + 20\n\
         while not os.path.exists(__file__ + '.go') and time.time() < until: time.sleep(0.005)\n\
         {}",
        counting("loads_slow")
    ));
    let beside = |end: &str| script.path.with_extension(format!("wsgi.{end}"));
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| script.text());
        while !beside("loading").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let begun = Instant::now();
        for seconds in [0, 1] {
            let mut request = script.request();
            request.load_timeout = seconds;
            let exchange = request.run();
            assert!(exchange.is(RunOutcome::LoadTimedOut), "{exchange:?}");
            assert!(exchange.logged(&format!(
                "gave up after {seconds} s waiting for another thread"
            )));
        }
        assert!(begun.elapsed() >= Duration::from_secs(1));
        std::fs::write(beside("go"), "").unwrap();
        assert_eq!(loading.join().unwrap(), "1");
    });
    assert_eq!(script.text(), "1");
}

#[test]
fn may_be_loaded_ahead() {
    super::start();
    let script = Script::new(&counting("loads_ahead"));
    let path = script.path.as_os_str().as_encoded_bytes();
    assert!(crate::load(b"ahead", path, 0));
    assert!(crate::load(b"ahead", path, 0));
    // The module passes a different time for the first request than the engine saw.
    assert_eq!(script.request().group("ahead").mtime(-1).text(), "1");

    let broken = Script::new("1/0");
    assert!(!crate::load(
        b"ahead",
        broken.path.as_os_str().as_encoded_bytes(),
        0
    ));
    let line = format!(
        "WSGI0110: exception raised when loading WSGI script '{}' ahead of its first request",
        broken.path.display()
    );
    assert!(server_logged(ERROR, &line));
}
