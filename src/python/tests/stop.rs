//! The end of Python's work in a process, in separate processes: afterwards no request is let in, or the process has
//! ended.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pyo3::ffi;
use wsgi_abi::{AtExit, RunOutcome};

use super::host::server_logged;
use super::{Piece, Script, start};
use crate::lifecycle::stop::{ExitPlan, configure};

/// Runs a part of a test in a separate process, with the server's log on its standard error.
fn in_a_process(case: &str) -> Ended {
    let began = Instant::now();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::stop::the_process",
            "--ignored",
            "--nocapture",
        ])
        .env("WSGI_TEST_CASE", case)
        .env("WSGI_TEST_ECHO", "1")
        .output()
        .unwrap();
    Ended {
        output,
        took: began.elapsed(),
    }
}

#[derive(Debug)]
struct Ended {
    output: Output,
    took: Duration,
}

impl Ended {
    fn log(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Whether the process came to its end, and its checks passed.
    fn passed(&self) -> bool {
        let out = String::from_utf8_lossy(&self.output.stdout);
        self.output.status.success() && out.contains("1 passed")
    }

    /// Checks that the watchdog ended the process, and logged why.
    #[track_caller]
    fn was_ended(&self, why: &str) {
        let log = self.log();
        let line = format!(
            "[4] WSGI1032: Python has not ended within 1 s: {why}; this child ends as it is"
        );
        assert!(log.contains(&line), "{log}");
        assert!(!self.passed() && self.output.status.success(), "{self:?}");
        assert!(self.took < Duration::from_secs(30), "{self:?}");
    }
}

#[test]
#[ignore = "ends Python for the whole process; the other tests run it in a process of its own"]
fn the_process() {
    start();
    match std::env::var("WSGI_TEST_CASE").unwrap().as_str() {
        "order" => order(),
        "publish" => publish(),
        "callback" => hanging("mod_wsgi.subscribe_shutdown(lambda *_, **__: time.sleep(60))"),
        "atexit" => hanging("import atexit\natexit.register(time.sleep, 60)"),
        "gil" => hanging(
            "import itertools\n\
             threading.Thread(target=lambda: time.sleep(0.2) or sum(itertools.repeat(0)), daemon=True).start()",
        ),
        "threads" => threads(),
        "pools" => pools(),
        "request" => a_request_that_goes_on(),
        "inside" => inside(),
        "finalize" => finalize("", true),
        "finalize-sub" => finalize("sub", false),
        "finalize-own" => finalize("own-1-finalize", false),
        "finalize-threads" => finalize_with_threads(),
        "single" => single_process(),
        case => panic!("{case}"),
    }
}

fn plan(at_exit: AtExit, milliseconds: u64) {
    configure(ExitPlan {
        at_exit,
        timeout: Duration::from_millis(milliseconds),
        single_process: false,
    });
}

/// Makes an application whose script also has these lines.
fn script(lines: &str) -> Script {
    Script::new(&format!(
        "import mod_wsgi, threading, time\n\
         held = threading.Event()\n\
         {lines}\n\
         def application(environ, start_response): return respond(start_response, 'x')\n"
    ))
}

#[test]
fn callbacks_and_exit_functions_of_all_interpreters() {
    let ended = in_a_process("order");
    assert!(ended.passed(), "{ended:?}");
}

fn order() {
    let script = script(
        "import atexit\n\
         group = mod_wsgi.application_group\n\
         @mod_wsgi.subscribe_shutdown\n\
         def stopping(name, **payload): print(group, name, payload)\n\
         @mod_wsgi.subscribe_shutdown\n\
         def failing(name, **payload): raise ValueError(f\"in {group!r}\")\n\
         @mod_wsgi.subscribe_shutdown\n\
         def exiting(name, **payload): sys.exit()\n\
         atexit.register(print, group, 'atexit')\n\
         atexit.register(sys.exit)",
    );
    for group in ["", "stopped"] {
        assert_eq!(script.request().group(group).text(), "x");
    }
    crate::stop("maximum_requests");
    for group in ["", "stopped"] {
        let stopping =
            format!("{group} process_stopping {{'shutdown_reason': 'maximum_requests'}}");
        assert!(server_logged(3, &stopping));
        assert!(server_logged(3, &format!("{group} atexit")));
        assert!(server_logged(3, &format!("ValueError: in '{group}'")));
    }
    for line in [
        "WSGI0112: exception raised by an event subscriber for 'process_stopping'",
        "WSGI0190: SystemExit exception raised by an event subscriber for 'process_stopping' was ignored",
        "SystemExit: ",
    ] {
        assert!(server_logged(3, line), "{line}");
    }
    let late = script.run();
    assert!(late.is(RunOutcome::Draining));
    assert!(late.logged("Python is not running in this child"));
    crate::stop("");
}

#[test]
fn the_callbacks_alone() {
    let ended = in_a_process("publish");
    assert!(ended.passed(), "{ended:?}");
    assert!(ended.log().contains("published"), "{ended:?}");
    assert!(!ended.log().contains("atexit was run"), "{ended:?}");
}

fn publish() {
    plan(AtExit::Publish, 20_000);
    script(
        "import atexit\n\
         mod_wsgi.subscribe_shutdown(lambda *_, **__: print('published'))\n\
         atexit.register(print, 'atexit was run')",
    )
    .run();
    crate::stop("");
}

#[test]
fn what_hangs_is_named_and_the_process_ended() {
    for (case, why) in [
        (
            "callback",
            "sub-interpreter 'hanging': its shutdown callbacks are not done",
        ),
        (
            "atexit",
            "sub-interpreter 'hanging': its exit functions (atexit) are not done",
        ),
        (
            "gil",
            "sub-interpreter 'hanging': its GIL cannot be had; sub-interpreter 'another': its GIL \
             cannot be had; main interpreter: its GIL cannot be had",
        ),
    ] {
        let ended = in_a_process(case);
        ended.was_ended(why);
        // An interpreter that shares the GIL cannot end, either.
        let other = ended.log().contains("the other one has ended");
        assert_eq!(other, case != "gil", "{}", ended.log());
    }
}

fn hanging(lines: &str) {
    plan(AtExit::Callbacks, 1000);
    // The interpreter that was made last begins to end first.
    let other = script("import atexit\natexit.register(print, 'the other one has ended')");
    assert_eq!(other.request().group("another").text(), "x");
    let script = script(lines);
    assert_eq!(script.request().group("hanging").text(), "x");
    // Long enough for a thread to take the GIL and keep it.
    std::thread::sleep(Duration::from_millis(600));
    crate::stop("");
    panic!("the process goes on");
}

#[test]
fn threads_that_hold_the_end_up_are_named() {
    let ended = in_a_process("threads");
    assert!(ended.passed(), "{ended:?}");
    let log = ended.log();
    // The time has two more parts: one for the main interpreter, and one for what comes after.
    let line = "[4] WSGI1033: threads of sub-interpreter 'held' that are no daemons have not ended in 0.7 s, \
                and are not waited for any longer: one, two";
    assert!(log.contains(line), "{log}");
    assert!(log.contains("atexit was run"), "{log}");
    assert!(!log.contains("short") && !log.contains("a-daemon"), "{log}");
}

fn threads() {
    plan(AtExit::Callbacks, 2000);
    let script = script(
        "import atexit\n\
         for name in ['one', 'two']: threading.Thread(target=held.wait, name=name, daemon=False).start()\n\
         threading.Thread(target=time.sleep, args=[0.1], name='short', daemon=False).start()\n\
         threading.Thread(target=held.wait, name='a-daemon', daemon=True).start()\n\
         atexit.register(print, 'atexit was run')",
    );
    assert_eq!(script.request().group("held").text(), "x");
    crate::stop("");
}

#[test]
fn work_that_was_given_to_a_pool_is_finished() {
    let ended = in_a_process("pools");
    assert!(ended.passed(), "{ended:?}");
    assert!(
        ended.log().contains("worked before atexit: True"),
        "{ended:?}"
    );
}

fn pools() {
    let script = script(
        "import atexit, concurrent.futures\n\
         worked = []\n\
         def work():\n\
         \x20   time.sleep(0.3)\n\
         \x20   worked.append(1)\n\
         concurrent.futures.ThreadPoolExecutor(1).submit(work)\n\
         atexit.register(lambda: print('worked before atexit:', worked == [1]))",
    );
    assert_eq!(script.text(), "x");
    crate::stop("");
}

#[test]
fn a_request_is_waited_for_and_then_left_alone() {
    let ended = in_a_process("request");
    assert!(ended.passed(), "{ended:?}");
    let log = ended.log();
    assert!(
        log.contains("[6] Python ends while 1 requests or loads are inside"),
        "{log}"
    );
    assert!(
        log.contains("[4] WSGI1034: Python is not finalized: 1 requests or loads are inside"),
        "{log}"
    );
    assert!(log.contains("atexit was run"), "{log}");
}

fn a_request_that_goes_on() {
    plan(AtExit::Finalize, 1000);
    let script = script("import atexit\natexit.register(print, 'atexit was run')");
    assert_eq!(script.text(), "x");
    let reading =
        Script::app("environ['wsgi.input'].read()\nreturn respond(start_response, 'read')");
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let wait = Piece::Wait(Box::new(move || {
            tell.send(()).unwrap();
            released.recv().unwrap();
        }));
        let request = scope.spawn(|| reading.request().body([wait, Piece::text("x")]).text());
        told.recv().unwrap();
        let began = Instant::now();
        crate::stop("");
        assert!(began.elapsed() >= Duration::from_millis(500));
        release.send(()).unwrap();
        assert_eq!(request.join().unwrap(), "read");
    });
}

/// A signal under prefork.
#[test]
fn on_the_thread_that_is_inside() {
    let ended = in_a_process("inside");
    assert!(ended.passed(), "{ended:?}");
}

fn inside() {
    plan(AtExit::Finalize, 1000);
    let script =
        Script::app("environ['wsgi.input'].read()\nreturn respond(start_response, 'read')");
    let request = script.request();
    let stop = Piece::Wait(Box::new(|| crate::stop("")));
    assert_eq!(request.body([stop, Piece::text("x")]).text(), "read");
    assert!(script.run().is(RunOutcome::Draining));
}

#[test]
fn python_is_finalized_where_that_is_safe() {
    for (case, why) in [
        ("finalize", None),
        ("finalize-sub", Some("there are sub-interpreters")),
        #[cfg(Py_3_13)]
        ("finalize-own", Some("there are sub-interpreters")),
        (
            "finalize-threads",
            Some("there are threads that have not ended: held"),
        ),
        (
            "single",
            Some("httpd runs as a single process, and may go on"),
        ),
    ] {
        let ended = in_a_process(case);
        assert!(ended.passed(), "{ended:?}");
        let log = ended.log();
        match why {
            None => assert!(!log.contains("WSGI1034"), "{log}"),
            Some(why) => {
                let line = format!("[4] WSGI1034: Python is not finalized: {why}");
                assert!(log.contains(&line), "{log}");
            }
        }
    }
}

fn is_initialized() -> bool {
    // SAFETY: may be called at any time.
    unsafe { ffi::Py_IsInitialized() != 0 }
}

/// With other threads that have states, and a daemon.
fn finalize(group: &str, expected: bool) {
    plan(AtExit::Finalize, 20_000);
    let script = script(
        "import concurrent.futures, logging, random\n\
         concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 0.1)\n\
         def tick():\n\
         \x20   while True: time.sleep(0.01)\n\
         threading.Thread(target=tick, daemon=True).start()",
    );
    assert_eq!(script.text(), "x");
    assert_eq!(script.request().group(group).text(), "x");
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let script = &script;
        scope.spawn(move || {
            assert_eq!(script.text(), "x");
            told.recv()
        });
        std::thread::sleep(Duration::from_millis(100));
        crate::stop("");
        assert_eq!(!is_initialized(), expected);
        drop(tell);
    });
    assert!(script.run().is(RunOutcome::Draining));
}

fn finalize_with_threads() {
    plan(AtExit::Finalize, 1000);
    let script = script("threading.Thread(target=held.wait, name='held', daemon=False).start()");
    assert_eq!(script.text(), "x");
    crate::stop("");
    assert!(is_initialized());
}

fn single_process() {
    configure(ExitPlan {
        at_exit: AtExit::Finalize,
        timeout: Duration::from_secs(20),
        single_process: true,
    });
    assert_eq!(script("").text(), "x");
    crate::stop("");
    assert!(is_initialized());
}
