//! Process groups: applications in processes of their own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Builder, Mpm, Pid, Request, Server, eventually, graceful, is_alive, kill, maps, mpm_tests,
    ours_only, script_answering,
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
                <Location /missing>\nWSGIProcessGroup missing\n</Location>
                WSGIScriptAlias /here ${APPS}/process.wsgi
                WSGIScriptAlias /restricted ${APPS}/hello.wsgi")
            .start();
        server.expect_log("WSGI1146: WSGIScriptAlias /none: no WSGIDaemonProcess defines process group 'none'");
        server.expect_log("WSGI1146: .*httpd.conf:\\d+: no WSGIDaemonProcess defines process group 'missing'");
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
            .conf("WSGISocketPrefix ${ROOT}/wsgi
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

    fn children_without_python(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3").conf("WSGIRestrictEmbedded On").start();
        let process = pid_of(&server.get("/process").expect(200).json());
        assert!(maps(process).contains("libpython"));
        for child in server.children() {
            assert!(!maps(child).contains("libpython"), "{child}");
        }
    }

    fn limits_of_the_kernel(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(
            mpm,
            "threads=3 cpu-time-limit=100 cpu-priority=3 memory-limit=400000000 virtual-memory-limit=4000000000",
        )
        .start();
        let process = pid_of(&server.get("/process").expect(200).json());
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let soft = |name: &str| -> u64 {
            let line = limits.lines().find(|line| line.starts_with(name)).expect(name);
            line[name.len()..].split_whitespace().next().unwrap().parse().unwrap()
        };
        assert_eq!((soft("Max cpu time"), soft("Max data size")), (100, 400_000_000));
        // The memory of the metrics comes on top.
        assert!(soft("Max address space") >= 4_000_000_000);
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        assert_eq!(fields.split_whitespace().nth(16), Some("3"), "{stat}");
    }

    fn a_request_that_waits_for_too_long(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=1 queue-timeout=1")
            .pool(4, 4)
            .conf("WSGIApplicationGroup %{GLOBAL}")
            .start();
        let mut waiting = server.ask("/process/wait");
        eventually("the request runs", || begun(&server));
        assert_eq!(server.get("/hello").status(), 504);
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
        server.write("out/gate", "");
        waiting.read_response("GET").unwrap().expect(200);
        assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
    }

    fn a_full_queue(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "processes=2 threads=1")
            .pool(4, 4)
            .conf("WSGIQueue depth=0\nWSGIApplicationGroup %{GLOBAL}")
            .start();
        let mut waiting = [(); 2].map(|()| server.ask("/process/wait"));
        eventually("both processes are busy", || {
            let entries = fs::read_dir(server.root().join("out")).ok()?.flatten();
            (entries.count() >= 2).then_some(())
        });
        let refused = server.get("/hello").expect(503);
        assert_eq!(refused.header("Retry-After"), Some("1"));
        server.write("out/gate", "");
        for connection in &mut waiting {
            connection.read_response("GET").unwrap().expect(200);
        }
        assert_eq!(server.get("/hello").expect(200).text(), "Hello world!");
    }

    fn a_group_of_another_virtual_host(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = Server::builder(mpm)
            .conf(
                "WSGISocketPrefix ${ROOT}/wsgi
                <VirtualHost *>
                ServerName one.test
                ErrorLog ${ROOT}/one.log
                LogLevel info
                WSGIDaemonProcess site threads=3 display-name=%{GROUP}
                WSGIScriptAlias /process ${APPS}/process.wsgi process-group=site application-group=%{GLOBAL}
                </VirtualHost>
                <VirtualHost *>
                ServerName two.test
                WSGIScriptAlias /process ${APPS}/process.wsgi process-group=site application-group=%{GLOBAL}
                </VirtualHost>",
            )
            .start();
        let pids = ["one.test", "two.test"].map(|host| {
            let request = Request::get("/process").header("Host", host);
            pid_of(&server.send(&request).expect(200).json())
        });
        assert_eq!(pids[0], pids[1]);
        let log = fs::read_to_string(server.root().join("one.log")).unwrap();
        assert!(log.contains("Loading WSGI script") && log.contains("in process group 'site'"), "{log}");
        let title = fs::read_to_string(format!("/proc/{}/cmdline", pids[0])).unwrap();
        assert!(title.starts_with("(wsgi:site)"), "{title}");
    }

    fn a_service(mpm) {
        ours_only!("mod_wsgi has its own tests");
        const SERVICE: &str = "import os, sys, time
from mod_wsgi import process_group
out = os.path.join(os.path.dirname(__file__), 'out')
def say(*words):
    with open(os.path.join(out, 'log'), 'a') as log: print(*words, os.getpid(), file=log)
say('begins', process_group)
try:
    while not os.path.exists(os.path.join(out, 'return')): time.sleep(0.05)
finally:
    if os.path.exists(os.path.join(out, 'slow')): time.sleep(0.5)
    say('ends', sys.exc_info()[0])
";
        let server = Server::builder(mpm)
            .writable_folder("out")
            .file("service.py", SERVICE)
            .conf(
                "WSGISocketPrefix ${ROOT}/wsgi
                WSGIDaemonProcess worker threads=0
                WSGIImportScript ${ROOT}/service.py process-group=worker application-group=%{GLOBAL}",
            )
            .start();
        let log = || fs::read_to_string(server.root().join("out/log")).unwrap_or_default();
        let lines = |count: usize| {
            eventually("the service has written", || (log().lines().count() >= count).then(log))
        };
        let first = group_process(&server);
        assert_eq!(lines(1), format!("begins worker {first}\n"));
        // The successor begins when the process before it has ended its work.
        graceful(server.pid());
        let text = lines(3);
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("ends <class 'SystemExit'>")), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("begins worker")), "{text}");
        // Another signal does not disturb the end of one that was told to end. Its successor starts after a pause.
        let second = group_process(&server);
        server.allow_log("WSGI1154");
        server.write("out/slow", "");
        send(second, Signal::TERM);
        thread::sleep(Duration::from_millis(200));
        send(second, Signal::TERM);
        let text = lines(5);
        let ended = format!("ends <class 'SystemExit'> {second}");
        assert_eq!(text.lines().nth(3), Some(&ended[..]), "{text}");
        // One that returns is started again, after a pause.
        let second = group_process(&server);
        server.write("out/return", "");
        lines(8);
        fs::remove_file(server.root().join("out/return")).unwrap();
        eventually("another process runs", || {
            let now = processes(&server);
            (now.len() == 1 && !now.contains(&second)).then_some(())
        });
    }

    /// The process lets one request in at a time, and the outer one waits for httpd while the inner one runs.
    fn requests_that_httpd_makes_for_another_one(mpm) {
        const NEST: &str = "def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/html')])
    what = environ['PATH_INFO']
    if what == '/read':
        environ['wsgi.input'].read()
    include = b'<!--#include virtual=\"/nest/%s\" -->'
    if what == '/long':
        yield include % b'include'
        for _ in range(40): yield b'x' * 20000
        yield include % b'page'
    elif what == '/include':
        yield b'(' + include % b'page' + include % b'other' + b')'
    else:
        yield what[1:].encode()
";
        for options in ["threads=1", "processes=2 threads=1"] {
            let server = site(mpm, options)
                .pool(1, if mpm.threaded() { 8 } else { 4 })
                .modules(&["include", "filter"])
                .file("nest.wsgi", NEST)
                .conf(
                    "WSGIScriptAlias /nest ${ROOT}/nest.wsgi process-group=site application-group=%{GLOBAL}
                    ErrorDocument 400 /nest/refused
                    <Location /nest>
                        Options +Includes
                        SetOutputFilter INCLUDES
                    </Location>",
                )
                .start();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..3 {
                            assert_eq!(server.get("/nest/include").expect(200).text(), "(pageother)");
                            let long = server.get("/nest/long").expect(200).text();
                            assert_eq!(long.replace('x', ""), "(pageother)page");
                            let mut client = server.connect();
                            client.send("POST /nest/read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n");
                            // The application says which status its error page has.
                            let refused = client.read_response("POST").unwrap().expect(200);
                            assert_eq!(refused.text(), "refused");
                        }
                    });
                }
            });
        }
    }

    fn what_a_group_counts(mpm) {
        ours_only!("mod_wsgi does not count");
        let server = site(mpm, "threads=3").metrics_listener().start();
        for _ in 0..5 {
            server.get("/hello").expect(200);
        }
        let (group, app) = (("process_group", "site"), ("app", "/hello"));
        server.expect_count("wsgi_requests_total", &[app, ("code", "2xx")], 5);
        server.expect_count("wsgi_application_duration_seconds_count", &[app], 5);
        server.expect_count("wsgi_application_loads_total", &[app, ("result", "ok")], 1);
        server.expect_count("wsgi_children", &[group, ("state", "ready")], 1);
        let first = group_process(&server);
        send(first, Signal::USR1);
        server.expect_count("wsgi_children_recycles_total", &[group, ("reason", "api")], 1);
        server.expect_count("wsgi_children_exited_total", &[group, ("how", "clean")], 1);
        server.allow_log("WSGI1154");
        kill(group_process(&server));
        server.expect_count("wsgi_children_exited_total", &[group, ("how", "killed")], 1);
        server.expect_count("wsgi_children_started_total", &[group], 3);
        server.get("/hello").expect(200);
        server.expect_count("wsgi_requests_total", &[app, ("code", "2xx")], 6);
        graceful(server.pid());
        server.expect_count("wsgi_children_started_total", &[group], 4);
        server.get("/hello").expect(200);
        server.expect_count("wsgi_requests_total", &[app, ("code", "2xx")], 7);
        server.expect_count("wsgi_application_duration_seconds_count", &[app], 7);
        let restarted = server.wsgictl(&["restart", "site"]);
        let said = String::from_utf8_lossy(&restarted.stdout).into_owned();
        assert!(restarted.status.success() && said.starts_with("Done: 1 process of group 'site' replaced in "), "{restarted:?}");
        server.expect_count("wsgi_children_started_total", &[group], 5);
        let unknown = server.wsgictl(&["restart", "none"]);
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("It has: site."), "{unknown:?}");
        // The helper process shows the same, and the numbers of httpd's children are their own.
        let page = server.scrape();
        assert_eq!(page.sum("wsgi_application_duration_seconds_count", &[app]), 7.0);
        assert_eq!(page.sum("wsgi_children_started_total", &[group]), 5.0);
        assert!(page.sum("wsgi_children_resident_memory_bytes", &[group]) > 1e6);
        let status = server.status();
        let told = &status["process_groups"][0];
        assert_eq!((&told["name"], &told["started"], &told["killed"]), (&"site".into(), &5.into(), &1.into()));
        assert!(told["python"].as_str().is_some_and(|version| version.starts_with("3.")), "{told}");
        let shown = server.wsgictl(&["status"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("Process groups\nsite: 1 process now, Python 3."), "{shown}");
    }

    fn a_process_shares_nothing_with_other_groups(mpm) {
        ours_only!("mod_wsgi does not count");
        let server = site(mpm, "threads=3")
            .metrics()
            .conf(
                "WSGIDaemonProcess other% threads=1
                WSGIScriptAlias /other ${APPS}/process.wsgi process-group=other% application-group=%{GLOBAL}",
            )
            .start();
        let segments = |pid: Pid| -> Vec<u64> {
            let maps = maps(pid);
            let of_memory = maps.lines().filter(|line| line.contains("memfd:mod_wsgi_rs"));
            // The fifth field is the number of the inode.
            of_memory.map(|line| line.split_whitespace().nth(4).unwrap().parse().unwrap()).collect()
        };
        let [one, other] = ["/process", "/other"].map(|url| {
            segments(pid_of(&server.get(url).expect(200).json()))
        });
        assert_eq!((one.len(), other.len()), (1, 1));
        assert_ne!(one, other);
        let of_child = segments(server.children()[0]);
        assert!(of_child.len() == 3 && of_child.contains(&one[0]) && of_child.contains(&other[0]));
        let file = |group: &str| server.root().join(format!("mod_wsgi_rs.segment.{group}"));
        let files = ["site", "other%25"].map(file);
        assert!(files.iter().all(|file| file.exists()));
        let shown = server.wsgictl(&["metrics"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("wsgi_children{process_group=\"other%\",state=\"ready\"} 1"), "{shown}");
        // A group that is gone leaves no file behind.
        let config = fs::read_to_string(server.root().join("httpd.conf")).unwrap();
        let without: Vec<&str> = config.lines().filter(|line| !line.contains("other%")).collect();
        server.write("httpd.conf", without.join("\n"));
        graceful(server.pid());
        eventually("its file is removed", || (!files[1].exists()).then_some(()));
        assert!(files[0].exists());
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
pub(crate) fn site(mpm: Mpm, options: &str) -> Builder {
    Server::builder(mpm)
        .writable_folder("out")
        .app("/process", "process.wsgi")
        .app("/hello", "hello.wsgi")
        .app("/in", "input.wsgi")
        .app("/out", "response.wsgi")
        .app("/slow", "slow.wsgi")
        .conf(&format!(
            "WSGIChunkedRequest On\nSetEnv test.gate ${{ROOT}}/out/gate\nWSGISocketPrefix ${{ROOT}}/wsgi\n\
             WSGIDaemonProcess site {options}\nWSGIProcessGroup site"
        ))
}

/// Returns the only process of groups, once there is one.
pub(crate) fn group_process(server: &Server) -> Pid {
    eventually("there is one process", || {
        let processes = processes(server);
        (processes.len() == 1).then(|| *processes.first().expect("one"))
    })
}

pub(crate) fn send(pid: Pid, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it runs");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn pid_of(told: &Value) -> Pid {
    let pid = told["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.expect("a process")
}

/// Returns the processes of groups of this server.
fn processes(server: &Server) -> BTreeSet<Pid> {
    server.group_processes()
}

/// Returns the process in which `/wait` runs.
pub(crate) fn begun(server: &Server) -> Option<Pid> {
    let entries = fs::read_dir(server.root().join("out")).ok()?;
    entries.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("gate.")?.parse().ok()
    })
}
