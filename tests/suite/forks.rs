//! Processes that an application forks and that return from it: they end, and use nothing of the server.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use harness::{
    Builder, Mpm, Pid, Request, Server, eventually, graceful, is_alive, kill, mpm_tests, ours_only,
};

/// The log messages about a copy that returned, and about one that raised an exception.
const RETURNED: &str = "WSGI1100: process [0-9]+.* came back from the application with ";
const RAISED: &str = "WSGI1101: ValueError exception ended process [0-9]+";

mpm_tests! {
    fn copies_that_come_back_end(mpm) {
        ours_only!("mod_wsgi lets them answer, too");
        for executor in executors(mpm) {
            let mut server = start(mpm, |builder| builder.conf(executor));
            let child: Pid = server.get("/app/pid").text().parse().unwrap();
            for (path, expected) in [
                ("return", "0"),
                ("exit?0", "0"),
                ("exit?7", "7"),
                ("exit?None", "0"),
                ("exit?-1", "255"),
                ("exit?str(1)", "1"),
                ("raise", "1"),
                ("_exit", "5"),
                ("executed", "6"),
                ("import", "0"),
                ("write", "first 0"),
                ("next", "aaaaaaaaaa 0"),
                ("generator", "begun 0"),
                ("thread", "0"),
                ("threads", "0"),
                ("twice", "0"),
                ("many", "{0}"),
                ("print", "0"),
                ("multiprocessing?fork", "[1, 2]"),
                ("multiprocessing?spawn", "0"),
                ("multiprocessing?forkserver", "0"),
                ("terminate", "-15"),
            ] {
                let response = server.get(&format!("/app/{path}")).expect(200);
                assert!(response.is_complete(), "{executor} {path}");
                assert_eq!(response.text(), expected, "{executor} {path}");
            }
            for step in ["iter", "close"] {
                server.get(&format!("/app/{step}")).expect(200);
            }
            assert_eq!(fs::read_to_string(notes(&server).join("close")).unwrap(), "0");
            // The child itself is not affected.
            assert_eq!(server.get("/app/pid").text().parse(), Ok(child), "{executor}");
            server.expect_log(RETURNED);
            server.expect_log(RAISED);
            server.expect_log("ValueError: raised by the copy");
            server.expect_log("said by the copy");
            server.expect_log("complained by the copy");
            server.allow_log("^1$|unexpected keyword");
            nothing_is_left(&server);
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            let files: Vec<String> = names(&server);
            for name in &files {
                let what = name.split_once('-').map_or("", |(_, what)| what);
                *counts.entry(what).or_default() += 1;
            }
            // Exit functions run in copies that return, not in copies that end themselves.
            assert!(counts["atexit"] >= 20, "{executor}: {files:?}");
            assert_eq!(counts.get("thread"), Some(&1), "{executor}: a thread that is waited for");
            assert_eq!(counts.get("refused"), Some(&1), "{executor}: write() in a copy");
            assert_eq!(counts.get("inner=0"), Some(&1), "{executor}: a copy of a copy");
            assert_eq!(counts.get("other"), None, "{executor}");
            // Each request was answered and counted once.
            let access = server.access_log();
            assert!(access.lines().filter(|line| line.contains(" /app/return")).count() == 1, "{access}");
            server.start_again();
            assert_eq!(server.get("/app/return").expect(200).text(), "0");
        }
    }

    fn a_copy_reads_no_body(mpm) {
        ours_only!("mod_wsgi lets it read");
        let server = start(mpm, |builder| builder);
        let body = vec![b'x'; 300_000];
        let response = server.send(&Request::post("/app/input", &body)).expect(200);
        assert_eq!(response.text(), format!("0 {}", body.len()));
        assert!(names(&server).iter().any(|name| name.ends_with("-refused")), "{:?}", names(&server));
        server.expect_log(RETURNED);
        nothing_is_left(&server);
    }

    fn exit_functions_have_a_limit(mpm) {
        ours_only!("mod_wsgi runs none");
        let server = start(mpm, |builder| builder);
        // The copy ended by SIGALRM, for which it had set an alarm itself.
        assert_eq!(server.get("/app/slow_atexit").expect(200).text(), "-14");
        server.expect_log(RETURNED);
        nothing_is_left(&server);
    }

    fn daemons_hold_no_sockets(mpm) {
        ours_only!("with mod_wsgi they hold them");
        let mut server = start(mpm, |builder| builder);
        let mut idle = server.connect();
        idle.exchange(&Request::get("/static.txt").keep_alive()).unwrap().expect(200);
        let answer = server.get("/app/daemon").expect(200).text();
        let (daemon, sockets) = answer.split_once(' ').expect("a number and a list");
        let daemon: Pid = daemon.parse().unwrap();
        let _end = Ends(daemon);
        let port = server.port().to_string();
        assert!(!sockets.contains(&port), "{answer}");
        assert_eq!(server.get("/app/own_socket").expect(200).text(), "0 True False");
        // The daemon lives on, and blocks no other process.
        server.start_again();
        assert!(is_alive(daemon));
        server.get("/app/return").expect(200);
        server.expect_log(RETURNED);
        let port = server.port();
        server.stop();
        assert!(is_alive(daemon));
        drop(TcpListener::bind(("127.0.0.1", port)).expect("the port is free"));
        // The daemon can be ended in the usual way.
        let status = std::process::Command::new("kill").arg(daemon.to_string()).status().unwrap();
        assert!(status.success());
        eventually("the daemon ends by SIGTERM", || (!is_alive(daemon)).then_some(()));
    }

    fn programs_get_no_listener_and_can_be_ended(mpm) {
        ours_only!("with mod_wsgi signals are blocked there");
        let server = start(mpm, |builder| builder);
        for way in ["fork", "vfork", "open"] {
            let answer = server.get(&format!("/app/subprocess?{way}")).expect(200).text();
            assert_eq!(answer, "-15 []", "{way}");
        }
    }

    fn copies_are_no_children(mpm) {
        ours_only!("with mod_wsgi they accept connections under prefork");
        let server = start(mpm, Builder::metrics);
        // Children that are ending keep their scoreboard slots for a while.
        server.allow_log("scoreboard is full");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Relaxed) {
                        assert_eq!(server.get("/app/return").expect(200).text(), "0");
                    }
                });
            }
            let finish = Finish(&over);
            for _ in 0..2 {
                thread::sleep(Duration::from_millis(500));
                graceful(server.pid());
            }
            thread::sleep(Duration::from_millis(500));
            drop(finish);
        });
        server.expect_log(RETURNED);
        nothing_is_left(&server);
        // A line of the access log may come a moment after its response.
        eventually("as many are counted as were answered", || {
            let lines = server.access_log();
            let answered = lines.lines().filter(|line| line.contains(" /app/return")).count();
            let page = server.metrics();
            let counted = page.sum("wsgi_requests_total", &[]);
            (answered > 3 && counted as usize == answered).then_some(())
        });
    }
}

/// Returns the executors that differ under an MPM.
fn executors(mpm: Mpm) -> &'static [&'static str] {
    if mpm.threaded() {
        &[
            "WSGIExecutor delegate",
            "WSGIExecutor direct",
            "WSGIThreadPool size=2",
        ]
    } else {
        &["WSGIExecutor auto"]
    }
}

/// Starts a server with the application that forks and dies.
pub(crate) fn start(mpm: Mpm, more: impl FnOnce(Builder) -> Builder) -> Server {
    let builder = Server::builder(mpm)
        .one_child()
        .writable_folder("notes")
        .conf("WSGIScriptAlias /app ${APPS}/forking.wsgi\nSetEnv test.folder ${ROOT}/notes");
    more(builder).start()
}

fn notes(server: &Server) -> PathBuf {
    server.root().join("notes")
}

/// Returns the file names by which the copies report: `PID-WHAT`.
fn names(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(notes(server)).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Ends the test if a copy that has ever begun is alive.
#[track_caller]
fn nothing_is_left(server: &Server) {
    let names = names(server);
    let pids = names.iter().filter_map(|name| name.split_once('-'));
    let pids: Vec<Pid> = pids.filter_map(|(pid, _)| pid.parse().ok()).collect();
    assert!(!pids.is_empty());
    for pid in pids {
        eventually("the copy ends", || (!is_alive(pid)).then_some(()));
    }
}

/// Ends a process when it is dropped, also if the test fails.
struct Ends(Pid);

impl Drop for Ends {
    fn drop(&mut self) {
        kill(self.0);
    }
}

/// Sets the flag when it is dropped, also if the test fails.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
