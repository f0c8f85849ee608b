//! The plan: the consequences of the MPM and of the thread pool directives for each application group, and the messages
//! about settings that cannot work well.

use std::thread;
use std::time::Duration;

use harness::{Mpm, Server, embedded_only, mpm_tests, ours_only};

#[test]
fn bad_values_are_refused_with_their_place() {
    ours_only!("mod_wsgi has none of these directives");
    for line in [
        "WSGIExecutor fork",
        "WSGIExecutor delegate min=5 max=4",
        "WSGIExecutor direct min=1",
        "WSGIThreadPool 8",
        "WSGIThreadPool size=0",
        "WSGIQueue depth=-1",
        "WSGIQueue timeout=abc",
        "WSGIThreadShare 0",
        "WSGIThreadShare 101%",
        "WSGIThreadShare 5 reserve=0",
        "WSGIRequestTimeout soon",
        "WSGIRequestTimeout Off grace=1",
        "WSGISlowRequestStack -1",
        "WSGIDeadlockTimeout never",
        "WSGIStartupTimeout never",
    ] {
        let check = Server::builder(Mpm::Event).conf(line).check();
        assert!(!check.accepted, "accepted: {line}");
        let (name, _) = line.split_once(' ').expect("a name and a value");
        let number = check.line_of(line).to_string();
        for part in [name, "httpd.conf", &number] {
            assert!(check.output.contains(part), "{line}: {}", check.output);
        }
    }
}

#[test]
fn places_where_a_directive_may_stand() {
    ours_only!("mod_wsgi has none of these directives");
    for (lines, accepted) in [
        (
            "<VirtualHost *:80>\nWSGIRequestTimeout 5\n</VirtualHost>",
            true,
        ),
        (
            "<Location /x>\nWSGIRequestTimeout Off\nWSGISlowRequestStack 1\n</Location>",
            true,
        ),
        (
            "<WSGIInterpreterOptions application-group=x>\nWSGIExecutor pool\nWSGIThreadPool size=2\nWSGIQueue depth=1\n\
             WSGIThreadShare 2\nWSGIStartupTimeout Off\n</WSGIInterpreterOptions>",
            true,
        ),
        (
            "<VirtualHost *:80>\nWSGIQueue depth=1\n</VirtualHost>",
            false,
        ),
        ("<Location /x>\nWSGIThreadShare 1\n</Location>", false),
        ("<Location /x>\nWSGIDeadlockTimeout 5\n</Location>", false),
        ("<Location /x>\nWSGIStartupTimeout 5\n</Location>", false),
        ("WSGIStartupTimeout 5", true),
        (
            "<WSGIInterpreterOptions application-group=x>\nWSGIThreadShare 2 reserve=1\n</WSGIInterpreterOptions>",
            false,
        ),
        (
            "<WSGIInterpreterOptions application-group=x>\nWSGIRequestTimeout 5\n</WSGIInterpreterOptions>",
            false,
        ),
    ] {
        let check = Server::builder(Mpm::Event).conf(lines).check();
        assert_eq!(check.accepted, accepted, "{lines}: {}", check.output);
    }
}

mpm_tests! {
    fn each_group_is_told_what_holds_for_it(mpm) {
        ours_only!("mod_wsgi has no plan");
        let server = Server::builder(mpm)
            .own_executor()
            .pool(2, 8)
            .metrics()
            .conf("WSGIScriptAlias /one ${APPS}/hello.wsgi application-group=one process-group=%{GLOBAL}
                WSGIScriptAlias /two ${APPS}/hello.wsgi application-group=two process-group=%{GLOBAL}
                WSGIScriptAlias /main ${APPS}/hello.wsgi application-group=%{GLOBAL}
                WSGIThreadShare 50% reserve=1
                <WSGIInterpreterOptions application-group=two>
                    WSGIExecutor delegate min=2 max=4
                    WSGIQueue depth=10 timeout=0.5
                    WSGIThreadShare 6
                </WSGIInterpreterOptions>")
            .start();
        let (shape, plans) = if mpm.threaded() {
            (
                format!("{mpm}: 2 children x 8 threads"),
                [
                    "delegate, 1 to 8 of 8 threads inside, GIL shared, queue for 60 s, share 4, reserve 1",
                    "delegate, 2 to 4 of 8 threads inside, GIL shared, queue of 10 for 0.5 s, share 6, reserve 1",
                ],
            )
        } else {
            (
                String::from("prefork: 16 children x 1 thread"),
                ["direct, 1 thread inside, GIL shared"; 2],
            )
        };
        let told = |times| {
            // A plan that is the same for several groups is logged once.
            let lines: &[_] = if plans[0] == plans[1] {
                &[("groups %{GLOBAL}, 'one', 'two'", plans[0])]
            } else {
                &[("groups %{GLOBAL}, 'one'", plans[0]), ("group 'two'", plans[1])]
            };
            for (groups, plan) in lines {
                let line = format!("^mod_wsgi_rs: {shape}, \\d+ cores?; application {groups}: {plan}$");
                let line = line.replace('{', "\\{").replace('}', "\\}");
                assert_eq!(server.count_log(&line), times, "{line}\n{}", server.log());
            }
        };
        told(1);
        if !mpm.threaded() {
            let said = server.expect_log("WSGI1051: application group 'two': WSGIExecutor delegate is not needed");
            assert_eq!(said.level, "info");
        }

        let expected = [("", plans[0]), ("one", plans[0]), ("two", plans[1])];
        let check = || {
            for url in ["/one", "/two", "/main"] {
                server.get(url).expect(200);
            }
            let status = server.status();
            let groups = status["groups"].as_array().expect("a list");
            let found: Vec<_> = groups
                .iter()
                .map(|group| (group["name"].as_str().expect("a name"), group["plan"].as_str().expect("a plan")))
                .collect();
            assert_eq!(found, expected, "{status}");
            let shown = server.wsgictl(&["status"]);
            let shown = String::from_utf8_lossy(&shown.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(shown.contains(&format!("two: {}", plans[1])), "{shown}");
        };
        check();
        server.graceful_restart();
        told(2);
        check();
    }

    fn whether_there_is_a_gil_is_told_once_python_runs(mpm) {
        ours_only!("mod_wsgi has no plan");
        let server = Server::builder(mpm)
            .own_executor()
            .metrics()
            .conf("WSGIScriptAlias /one ${APPS}/hello.wsgi application-group=one process-group=%{GLOBAL}
                WSGIFreeThreading On")
            .start();
        // The message that this build of Python has a GIL, if it has one.
        server.allow_log("WSGI1037");
        server.get("/one").expect(200);
        assert!(server.count_log("application group 'one': direct, [0-9]+ threads? inside, no GIL$") == 1);
        let status = server.status();
        let expected = match (status["server"]["python_gil"].as_str(), mpm.threaded()) {
            (Some("disabled"), false) => "direct, 1 thread inside, no GIL",
            (Some("disabled"), true) => "direct, 4 threads inside, no GIL",
            (_, false) => "direct, 1 thread inside, GIL shared",
            (_, true) => "delegate, 1 to 4 of 4 threads inside, GIL shared, queue for 60 s",
        };
        assert_eq!(status["groups"][0]["plan"], expected, "{status}");
    }

    fn what_has_no_effect_is_said(mpm) {
        ours_only!("mod_wsgi has none of these directives");
        let server = Server::builder(mpm)
            .conf("WSGIScriptAlias /one ${APPS}/hello.wsgi application-group=one process-group=%{GLOBAL}
                WSGIScriptAlias /two ${APPS}/hello.wsgi application-group=two process-group=%{GLOBAL}
                WSGIScriptAlias /three ${APPS}/hello.wsgi application-group=three process-group=%{GLOBAL}
                WSGIThreadShare reserve=100%
                <WSGIInterpreterOptions application-group=one>
                    WSGIThreadPool size=30
                </WSGIInterpreterOptions>
                <WSGIInterpreterOptions application-group=two>
                    WSGIExecutor direct
                    WSGIQueue depth=3
                </WSGIInterpreterOptions>
                <WSGIInterpreterOptions application-group=three>
                    WSGIExecutor delegate
                    WSGIThreadPool size=2
                </WSGIInterpreterOptions>")
            .start();
        let said = if mpm.threaded() {
            [
                ("warn", "WSGI1052: application group 'one': WSGIThreadPool size=30 is cut to 4, "),
                ("warn", "WSGI1054: application group 'two': WSGIQueue has no effect: "),
                ("warn", "WSGI1053: application group 'three': WSGIThreadPool has no effect: WSGIExecutor delegate holds"),
                ("warn", "WSGI1059: WSGIThreadShare reserve leaves 1 of the 4 threads of a child to Python"),
            ]
        } else {
            [
                ("info", "WSGI1051: application group 'one': WSGIExecutor pool is not needed: "),
                ("info", "WSGI1051: application group 'three': WSGIExecutor delegate is not needed: "),
                ("info", "prefork: 4 children x 1 thread, up to 4 requests at once, [0-9]+ MiB of memory in the (machine|control group)$"),
                ("info", "prefork: 4 children x 1 thread, .*groups 'one', 'three', 'two': direct, 1 thread inside, GIL shared$"),
            ]
        };
        for (level, line) in said {
            assert_eq!(server.expect_log(line).level, level, "{line}");
            assert!(server.count_log(line) >= 1, "{line}");
        }
        for url in ["/one", "/two", "/three"] {
            server.get(url).expect(200);
        }
    }

    /// The values that httpd and Debian deliver cause no warning.
    fn delivered_settings_are_only_noted(mpm) {
        ours_only!("mod_wsgi does not look at them");
        let server = Server::builder(mpm).app("/hello", "hello.wsgi").conf(DELIVERED).start();
        server.get("/hello").expect(200);
        let name = if mpm.threaded() { "MaxSpareThreads 75" } else { "MaxSpareServers 10" };
        let said = server.expect_log(&format!("WSGI1056: {name} is less than the limit of 150"));
        assert_eq!(said.level, "info");
    }

    fn children_that_come_and_go_are_warned_of(mpm) {
        ours_only!("mod_wsgi does not look at them");
        let server = Server::builder(mpm)
            .app("/hello", "hello.wsgi")
            .pool(4, 4)
            .conf(if mpm.threaded() {
                "MinSpareThreads 4\nMaxSpareThreads 8"
            } else {
                "MinSpareServers 2\nMaxSpareServers 3"
            })
            .start();
        server.get("/hello").expect(200);
        let name = if mpm.threaded() { "MaxSpareThreads 8" } else { "MaxSpareServers 3" };
        let said = server.expect_log(&format!("WSGI1057: {name} of 16 leaves no room"));
        assert_eq!(said.level, "warn");
    }

    fn many_threads_for_one_gil_are_warned_of(mpm) {
        ours_only!("mod_wsgi does not look at them");
        embedded_only!("the threads are those of an httpd child");
        let server = Server::builder(mpm)
            .app("/hello", "hello.wsgi")
            .conf("WSGIExecutor direct")
            .conf(if mpm.threaded() {
                "ServerLimit 1\nThreadLimit 80\nThreadsPerChild 80\nMaxRequestWorkers 80\nMaxSpareThreads 80"
            } else {
                ""
            })
            .start();
        server.get("/hello").expect(200);
        if mpm.threaded() {
            server.expect_log("WSGI1055: application group '.*': 80 threads of a child compete for one GIL");
        }
        assert_eq!(server.count_log("WSGI1055"), usize::from(mpm.threaded()));
    }

    fn children_that_do_not_fit_into_memory_are_warned_of_once(mpm) {
        ours_only!("mod_wsgi does not look at it");
        let children = machine_mib() / 150 + 2;
        let server = Server::builder(mpm)
            .file("large.wsgi", LARGE)
            .conf("WSGIScriptAlias /large ${ROOT}/large.wsgi application-group=%{GLOBAL} process-group=%{GLOBAL}")
            .conf(&format!("ServerLimit {children}\nStartServers 2"))
            .conf(&if mpm.threaded() {
                let all = 2 * children;
                format!("ThreadsPerChild 2\nMaxRequestWorkers {all}\nMinSpareThreads 2\nMaxSpareThreads {all}")
            } else {
                format!("MaxRequestWorkers {children}\nMinSpareServers 2\nMaxSpareServers {children}")
            })
            .start();
        server.get("/large").expect(200);
        let said = server.expect_log(r"WSGI1058: this child has \d+ MiB of memory of its own, so that \d+ children");
        assert_eq!(said.level, "warn");
        assert!(said.message.contains(&format!("{children} children")), "{said:?}");
        // Waits until the other child has looked, too.
        thread::sleep(Duration::from_secs(2));
        assert!(server.children().len() >= 2);
        assert_eq!(server.count_log("WSGI1058"), 1);
    }
}

fn machine_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("the kernel tells");
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "MemTotal:");
    let kib: u64 = words
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("a number");
    kib / 1024
}

/// mpm_prefork.conf, mpm_worker.conf and mpm_event.conf of Debian, as far as they differ from the harness.
const DELIVERED: &str = "
<IfModule mpm_prefork_module>
    ServerLimit 150
    StartServers 5
    MinSpareServers 5
    MaxSpareServers 10
    MaxRequestWorkers 150
</IfModule>
<IfModule !mpm_prefork_module>
    ServerLimit 16
    StartServers 2
    MinSpareThreads 25
    MaxSpareThreads 75
    ThreadLimit 64
    ThreadsPerChild 25
    MaxRequestWorkers 150
</IfModule>
";

const LARGE: &str = "MEMORY = b'x' * (150 << 20)

def application(environ, start_response):
    start_response('200 OK', [])
    return [b'large']
";
