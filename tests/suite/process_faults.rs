//! Processes of groups that crash, leak, fork, become other programs or are asked to end: what they had not begun goes to
//! another process, and that one is there soon.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::{eventually, kill, mpm_tests, ours_only};
use rustix::process::Signal;

use crate::daemon::{group_process, pid_of, send, site};
use crate::recycle::under_load;

/// Answers with its process; `/fork`, `/exec` and `/limit` do what they say.
const FAULTS: &str = r#"
import os, resource, sys, time

def application(environ, start_response):
    case = environ["PATH_INFO"]
    if case == "/fork" and os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    if case == "/exec":
        os.execv("/bin/sleep", ["sleep", "30"])
    if case == "/limit":
        most = max(int(name) for name in os.listdir("/proc/self/fd"))
        for number in range(most):
            try:
                os.dup(0)
            except OSError:
                break
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if case == "/wait":
        time.sleep(0.3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

mpm_tests! {
    fn a_copy_keeps_no_connection(mpm) {
        ours_only!("mod_wsgi keeps no connections");
        let server = site(mpm, "threads=3").file("faults.wsgi", FAULTS).conf(ALIAS).start();
        let waits: Vec<_> = (0..3).map(|_| server.ask("/faults/wait")).collect();
        for mut connection in waits {
            assert_eq!(connection.read_response("GET").unwrap().status(), 200);
        }
        server.get("/faults/fork").expect(200);
        server.allow_log("WSGI1154");
        kill(group_process(&server));
        // None of the connections that are kept leads to the copy.
        for _ in 0..6 {
            let asked = Instant::now();
            server.get("/hello").expect(200);
            assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        }
    }

    fn another_program_serves_nothing(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").file("faults.wsgi", FAULTS).conf(ALIAS).start();
        let old = group_process(&server);
        server.get("/faults/exec").expect(500);
        server.expect_log(&format!("WSGI1154: process {old} .* by SIGKILL"));
        server.expect_log("WSGI1156");
        assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
    }

    fn a_process_without_descriptors_is_replaced(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").metrics().file("faults.wsgi", FAULTS).conf(ALIAS).start();
        server.get("/faults/limit").expect(200);
        server.allow_log("WSGI10[0-9][0-9]|WSGI1154|WSGI1156|No file descriptors|Too many open files");
        let begun = Instant::now();
        let waiting: Vec<_> = (0..6).map(|_| server.ask("/faults/wait")).collect();
        for mut connection in waiting {
            assert_eq!(connection.read_response("GET").unwrap().status(), 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
        if server.count_log("WSGI1151") > 0 {
            server.expect_log("WSGI1151: .*(?i)too many open files");
            let why = [("process_group", "site"), ("reason", "descriptors")];
            server.expect_count("wsgi_children_recycles_total", &why, 1);
        }
    }

    fn requests_that_crash_keep_no_others_out(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").start();
        server.allow_log("WSGI1154|WSGI1156");
        for _ in 0..5 {
            server.get("/process/end").expect(500);
            assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
        }
    }

    fn a_slow_reader_delays_no_successor(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=2 graceful-timeout=60 eviction-timeout=60").conf("SendBufferSize 16384").start();
        let mut slow = server.ask("/slow/down?20");
        assert_eq!(slow.read_head().unwrap().status, 200);
        // The process waits until the child takes more.
        thread::sleep(Duration::from_millis(300));
        let old = group_process(&server);
        send(old, Signal::USR1);
        eventually("another process serves", || {
            let asked = Instant::now();
            let process = server.get("/process").expect(200).json()["pid"].as_i64();
            assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
            (process != Some(old.into())).then_some(())
        });
        let whole = slow.read_to_end();
        assert_eq!(whole.unwrap().len(), 20_000_000);
    }

    fn what_was_not_begun_goes_elsewhere(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=2").file("faults.wsgi", FAULTS).conf(ALIAS).pool(4, 8).start();
        server.get("/hello").expect(200);
        server.allow_log("WSGI1154");
        under_load(&server, 8, "/hello", || {
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(400));
                // One that is starting would count as a failed start.
                let old = pid_of(&server.get("/process").expect(200).json());
                send(old, Signal::TERM);
                eventually("another process", || {
                    let now = server.group_processes();
                    (!now.contains(&old) && now.len() == 1).then_some(())
                });
            }
        });
    }

    fn applications_are_told_why_their_process_ends(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let start = |options: &str| {
            site(mpm, options).file("reasons.wsgi", REASONS)
                .conf("WSGIScriptAlias /reasons ${ROOT}/reasons.wsgi\nWSGIApplicationGroup %{GLOBAL}\nSetEnv test.folder ${ROOT}/out")
                .start()
        };
        for (options, signal, reason) in [
            ("threads=2", Some(Signal::TERM), "shutdown_signal"),
            ("threads=2", Some(Signal::USR1), "graceful_signal"),
            ("threads=2 eviction-timeout=5", Some(Signal::USR1), "eviction_signal"),
            ("threads=2 maximum-requests=1", None, "maximum_requests"),
            ("threads=2 inactivity-timeout=1", None, "inactivity_timeout"),
            ("threads=2 restart-interval=1", None, "restart_interval"),
        ] {
            let server = start(options);
            server.allow_log("WSGI1154");
            let process = server.get("/reasons").expect(200).text();
            if let Some(signal) = signal {
                send(process.parse().expect("a process"), signal);
            }
            let path = server.root().join("out").join(&process);
            let told = eventually("the application is told", || fs::read_to_string(&path).ok().filter(|told| !told.is_empty()));
            assert_eq!(told, reason, "{options}");
        }
    }

    fn no_thread_can_be_started(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "stack-size=99999999999999 connect-timeout=3").start();
        server.get("/hello").expect(503);
        server.expect_log("WSGI1150: process group 'site': a process cannot start: ");
        server.allow_log("WSGI1150|WSGI1153|WSGI1155");
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
    }
}

/// Answers with its process; at the end, writes why it ends to a file of that name.
const REASONS: &str = r#"
import os, mod_wsgi

folder = None

def note(event, **data):
    if event == "process_stopping" and folder:
        with open(os.path.join(folder, str(os.getpid())), "w") as file:
            file.write(data["shutdown_reason"])

mod_wsgi.subscribe_shutdown(note)

def application(environ, start_response):
    global folder
    folder = environ["test.folder"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"#;

const ALIAS: &str = "WSGIScriptAlias /faults ${ROOT}/faults.wsgi\nWSGIApplicationGroup %{GLOBAL}";
