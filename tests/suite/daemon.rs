//! Process groups: applications in processes of their own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Builder, Mpm, Pid, Request, Server, eventually, graceful, is_alive, kill, mpm_tests, ours_only,
    script_answering,
};
use nix::unistd::User;
use rustix::process::Signal;
use serde_json::Value;

use crate::clients::Clients;

mpm_tests! {
    fn a_process_of_its_own(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "processes=2 threads=3").start();
        let told = server.get("/process").expect(200).json();
        assert_eq!((&told["environ"], &told["module"]), (&"site".into(), &"site".into()));
        assert_eq!(told["multiprocess"], true);
        assert_eq!(told["multithread"], true);
        assert_eq!((&told["processes"], &told["threads"]), (&2.into(), &3.into()));
        let pid = pid_of(&told);
        assert!(!server.children().contains(&pid) && pid != server.pid());
        assert_eq!(processes(&server).len(), 2);
    }

    fn one_process_with_one_thread(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=1").start();
        let told = server.get("/process").expect(200).json();
        assert_eq!((&told["multiprocess"], &told["multithread"]), (&false.into(), &false.into()));
        assert_eq!((&told["processes"], &told["threads"]), (&1.into(), &1.into()));
    }

    fn bodies_and_responses(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").start();
        for length in [0, 1, 1000, 65_536, 65_537, 3_000_000] {
            let body = vec![b'x'; length];
            let halves = [&body[..length / 2], &body[length / 2..]];
            let chunks: Vec<&[u8]> = halves.into_iter().filter(|half| !half.is_empty()).collect();
            for request in [
                Request::post("/in/digest", body.clone()),
                Request::new("POST", "/in/digest").chunked(&chunks),
            ] {
                let text = server.send(&request).expect(200).text();
                assert!(text.starts_with(&format!("\"{length} ")), "{length}: {text}");
            }
        }
        assert_eq!(server.get("/out/several").expect(200).text(), "one two three");
        assert_eq!(server.get("/slow/down").expect(200).text().len(), 1_000_000);
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
        let mut connection = server.connect();
        for _ in 0..3 {
            let response = connection.exchange(&Request::get("/hello").keep_alive()).unwrap();
            assert_eq!(response.expect(200).text(), "Hello world!");
        }
    }

    fn graceful_restarts_lose_nothing(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "processes=1 threads=3").pool(3, 8).start();
        let targets = ["/hello", "/out/several", "/static.txt"];
        let before = processes(&server);
        let clients = Clients::during(&server, &targets, 3, |clients| {
            for _ in 0..4 {
                graceful(server.pid());
                clients.wait_for(20);
                thread::sleep(Duration::from_secs(1));
            }
            clients.wait_for(20);
        });
        clients.expect_no_failures();
        let after = processes(&server);
        assert!(before.is_disjoint(&after), "{before:?} {after:?}");
        eventually("the old process has ended", || (processes(&server).len() == 1).then_some(()));
    }

    fn a_killed_process(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "processes=2 threads=3").pool(2, 8).start();
        let targets = ["/hello"];
        server.allow_log("WSGI1154|WSGI1156");
        let clients = Clients::during(&server, &targets, 4, |clients| {
            clients.wait_for(20);
            let victim = *processes(&server).first().expect("a process");
            kill(victim);
            eventually("another process takes its place", || {
                let now = processes(&server);
                (now.len() == 2 && !now.contains(&victim)).then_some(())
            });
            clients.wait_for(20);
        });
        // Only requests inside it may be lost.
        assert!(clients.failures().len() <= 3, "{:#?}", clients.failures());
    }

    fn an_application_that_ends_its_process(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").start();
        let first = pid_of(&server.get("/process").expect(200).json());
        server.get("/process/end").expect(500);
        let second = pid_of(&server.get("/process").expect(200).json());
        assert_ne!(first, second);
        server.expect_log("WSGI1154.* with status 3 while it took requests");
        server.expect_log("WSGI1156");
    }

    fn a_request_is_finished_by_its_old_process(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").pool(2, 4).start();
        let mut waiting = server.ask("/process/wait");
        let old = eventually("the request runs", || begun(&server));
        graceful(server.pid());
        eventually("another process serves", || {
            let now = pid_of(&server.get("/process").expect(200).json());
            (now != old).then_some(())
        });
        assert!(is_alive(old));
        server.write("out/gate", "");
        let answer = waiting.read_response("GET").unwrap().expect(200).json();
        assert_eq!(pid_of(&answer), old);
        eventually("the old process has ended", || (!is_alive(old)).then_some(()));
    }

    fn nothing_is_left_after_the_stop(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "processes=2 threads=3").start();
        server.get("/hello").expect(200);
        let (processes, root) = (processes(&server), server.root().to_owned());
        let sockets = || fs::read_dir(&root).into_iter().flatten().flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".sock"))
            .count();
        assert_eq!(sockets(), 2);
        let begun = Instant::now();
        server.stop();
        assert!(begun.elapsed() < Duration::from_secs(60));
        eventually("the processes have ended", || processes.iter().all(|pid| !is_alive(*pid)).then_some(()));
    }

    fn groups_that_do_not_exist(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3")
            .conf("SetEnv test.group nowhere
                WSGIScriptAlias /none ${APPS}/hello.wsgi process-group=none
                WSGIScriptAlias /env ${APPS}/hello.wsgi process-group=%{ENV:test.group}
                <Location /here>\nWSGIProcessGroup %{GLOBAL}\n</Location>
                <Location /restricted>\nWSGIRestrictProcess other\n</Location>
                WSGIScriptAlias /here ${APPS}/process.wsgi
                WSGIScriptAlias /restricted ${APPS}/hello.wsgi")
            .start();
        server.get("/none").expect(500);
        server.expect_log("WSGI0151: no WSGIDaemonProcess defines process group 'none'");
        server.get("/env").expect(500);
        server.expect_log("WSGI0151: no WSGIDaemonProcess defines process group 'nowhere'");
        server.get("/restricted").expect(500);
        server.expect_log("WSGI0149: process group 'site'");
        let here = server.get("/here").expect(200).json();
        assert_eq!(here["environ"], "");
        assert!(server.children().contains(&pid_of(&here)));
    }

    fn who_and_where_a_process_is(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !is_root() {
            return;
        }
        let server = site(
            mpm,
            "threads=3 user=nobody group=nogroup umask=0027 home=/var lang=C.UTF-8 python-path=/usr/share display-name=%{GROUP}",
        )
        .start();
        let told = server.get("/process").expect(200).json();
        let nobody = User::from_name("nobody").unwrap().expect("this system has it");
        assert_eq!(told["user"], nobody.uid.as_raw());
        assert_eq!(told["name"], "nobody");
        assert_eq!(told["umask"], 0o027);
        assert_eq!(told["folder"], "/var");
        assert_eq!(told["lang"], "C.UTF-8");
        assert_eq!((&told["path"][0], &told["path"][1]), (&"/var".into(), &"/usr/share".into()));
        let shown = fs::read(format!("/proc/{}/cmdline", told["pid"])).unwrap();
        assert!(shown.starts_with(b"(wsgi:site)"), "{:?}", String::from_utf8_lossy(&shown));
        // The other group's processes, and clients that are not httpd, cannot use its socket.
        for entry in fs::read_dir(server.root()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(".sock") {
                assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
            }
        }
    }

    fn limits_of_requests_and_idleness(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 maximum-requests=20").pool(2, 4).start();
        let targets = ["/hello", "/process"];
        let first = group_process(&server);
        let clients = Clients::during(&server, &targets, 2, |_| {
            eventually("a successor takes over", || (group_process(&server) != first).then_some(()));
            eventually("the first process has ended", || (!is_alive(first)).then_some(()));
        });
        clients.expect_no_failures();
        drop(server);

        let server = site(mpm, "threads=3 inactivity-timeout=1").start();
        let first = group_process(&server);
        eventually("the idle process ends", || server.group_processes().is_empty().then_some(()));
        let second = pid_of(&server.get("/process").expect(200).json());
        assert_ne!(first, second);
    }

    fn a_touched_script(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = Server::builder(mpm)
            .file("site/app.wsgi", script_answering("old"))
            .conf("Define WSGI_PROCESS_GROUPS\nWSGISocketPrefix ${ROOT}/wsgi
                WSGIDaemonProcess site threads=3\nWSGIProcessGroup site
                WSGIScriptAlias / ${ROOT}/site/app.wsgi")
            .start();
        assert_eq!(server.get("/").expect(200).text(), "old");
        let first = group_process(&server);
        server.write("site/app.wsgi", script_answering("new, and longer"));
        eventually("the new code answers", || {
            let text = server.get("/").expect(200).text();
            (text == "new, and longer").then_some(())
        });
        eventually("the old process has ended", || (!is_alive(first)).then_some(()));
    }

    fn a_signal_and_a_lost_supervisor(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").pool(2, 4).start();
        let first = group_process(&server);
        let clients = Clients::during(&server, &["/hello"], 3, |clients| {
            clients.wait_for(10);
            send(first, Signal::USR1);
            eventually("a successor takes over", || (!is_alive(first)).then_some(()));
            clients.wait_for(10);
        });
        clients.expect_no_failures();
        let supervisor = server.supervisor().expect("it runs");
        server.allow_log("WSGI1152|WSGI1155|WSGI1156");
        kill(supervisor);
        eventually("another supervisor", || {
            let now = server.supervisor()?;
            (now != supervisor && !server.group_processes().is_empty()).then_some(())
        });
        server.get("/hello").expect(200);
    }

    fn a_group_that_cannot_start(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "home=/nonexistent threads=3").conf("Timeout 10").start();
        server.expect_log("WSGI1150: process group 'site': a process cannot start: home=/nonexistent: ");
        server.allow_log("WSGI1150|WSGI1153");
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
    }
}

/// Describes a server whose applications run in the group `site`.
fn site(mpm: Mpm, options: &str) -> Builder {
    Server::builder(mpm)
        .writable_folder("out")
        .app("/process", "process.wsgi")
        .app("/hello", "hello.wsgi")
        .app("/in", "input.wsgi")
        .app("/out", "response.wsgi")
        .app("/slow", "slow.wsgi")
        .conf(&format!(
            "Define WSGI_PROCESS_GROUPS\nWSGIChunkedRequest On\nSetEnv test.gate ${{ROOT}}/out/gate\nWSGISocketPrefix ${{ROOT}}/wsgi\n\
             WSGIDaemonProcess site {options}\nWSGIProcessGroup site"
        ))
}

/// Returns the only process of groups, once there is one.
fn group_process(server: &Server) -> Pid {
    eventually("there is one process", || {
        let processes = processes(server);
        (processes.len() == 1).then(|| *processes.first().expect("one"))
    })
}

fn send(pid: Pid, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it runs");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn pid_of(told: &Value) -> Pid {
    let pid = told["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.expect("a process")
}

/// Returns the processes of groups of this server.
fn processes(server: &Server) -> BTreeSet<Pid> {
    server.group_processes()
}

/// Returns the process in which `/wait` runs.
fn begun(server: &Server) -> Option<Pid> {
    let entries = fs::read_dir(server.root().join("out")).ok()?;
    entries.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("gate.")?.parse().ok()
    })
}
