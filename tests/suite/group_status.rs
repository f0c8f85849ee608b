//! What people see of process groups, and what they tell them: the status, `wsgictl`, reloads, signals.

use std::process::Output;

use harness::{Builder, Mpm, Pid, Server, eventually, kill, mpm_tests, ours_only};
use rustix::process::Signal;
use serde_json::Value;

use crate::clients::Clients;
use crate::rolls::FULL;

mpm_tests! {
    fn the_phases_of_a_request(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = site(mpm, "threads=3").start();
        let process = only_process(&server);
        let mut waiting = server.ask("/process/wait?secret=1");
        let begun = server.root().join(format!("out/gate.{process}"));
        eventually("the request waits", || begun.exists().then_some(()));
        let running = phase(&server, "in the application");
        for (field, value) in [("method", "GET"), ("path", "/process/wait"), ("process_group", "site"), ("application", "/process")] {
            assert_eq!(running[field], value, "{running}");
        }
        assert_eq!(running["pid"], process, "{running}");
        let status = server.status();
        let group = &status["process_groups"][0];
        assert_eq!(group["processes"][0]["in_flight"], 1, "{group}");
        assert_eq!(group["processes"][0]["revision"], group["code_revision"], "{group}");
        assert_eq!(group["groups"][0]["name"], "", "{group}");
        assert!(group["groups"][0]["plan"].as_str().is_some_and(|plan| !plan.is_empty()), "{group}");
        server.expect_count("wsgi_requests_in_flight", &[], 1);
        let shown = said(&server.wsgictl(&["status"]));
        assert!(shown.contains("main in group site") || shown.contains("/process/wait"), "{shown}");
        let page = server.get("/wsgi-status").expect(200).text();
        assert!(page.contains("main in group site") && page.contains("Application groups of site."), "{page}");
        server.write("out/gate", "");
        waiting.read_response("GET").unwrap().expect(200);
        nothing_runs(&server);

        let mut slow = server.connect();
        slow.send(&b"POST /in/digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\nabc"[..]);
        let running = phase(&server, "reading the body");
        assert_eq!(running["pid"], process, "{running}");
        drop(slow);
        server.allow_log("client|truncated|Connection|WSGI01");
        nothing_runs(&server);
    }

    fn a_killed_process_is_told_of(mpm) {
        ours_only!("mod_wsgi has no such page");
        let server = site(mpm, "threads=3").start();
        let process = only_process(&server);
        let mut waiting = server.ask("/process/wait");
        phase(&server, "in the application");
        server.allow_log("WSGI1154|WSGI1156");
        kill(process);
        waiting.read_response("GET").unwrap().expect(500);
        let death = eventually("the status tells of it", || {
            let death = server.status()["deaths"][0].clone();
            (death["pid"] == process).then_some(death)
        });
        assert_eq!(death["how"], "by SIGKILL, in process group 'site'");
        assert!(death["running"].as_str().is_some_and(|text| text.starts_with("GET /process/wait of application '/process' for ")), "{death}");
        nothing_runs(&server);
        server.expect_count("wsgi_children", &[("process_group", "site"), ("state", "ready")], 1);
    }

    fn a_touched_script_replaces_all_processes(mpm) {
        ours_only!("mod_wsgi loses requests");
        let server = edited(mpm, "processes=2 threads=3", "").pool(2, 8).start();
        let before = server.group_processes();
        let clients = Clients::during(&server, &["/edited"], 3, |clients| {
            clients.wait_for(20);
            server.write("edited.wsgi", harness::script_answering("new, and longer"));
            eventually("all processes are replaced", || {
                let now = server.group_processes();
                (now.len() == 2 && now.is_disjoint(&before)).then_some(())
            });
            clients.wait_for(20);
        });
        clients.expect_no_failures();
        for _ in 0..10 {
            assert_eq!(server.get("/edited").expect(200).text(), "new, and longer");
        }
        let group = ("process_group", "site");
        server.expect_count("wsgi_children_recycles_total", &[group, ("reason", "source_changed")], 2);
        server.expect_count("wsgi_children_started_total", &[group], 4);
        // Each process that has noticed it counts.
        let reloads = server.metrics().sum("wsgi_application_reloads_total", &[("app", "/edited")]);
        assert!((1.0..=2.0).contains(&reloads), "{reloads}");
    }

    fn a_script_that_changed_before_its_first_request(mpm) {
        ours_only!("mod_wsgi is asked at the first request, too");
        let ahead = "WSGIImportScript ${ROOT}/edited.wsgi process-group=site application-group=%{GLOBAL}";
        let server = edited(mpm, "threads=3", ahead).start();
        only_process(&server);
        server.write("edited.wsgi", harness::script_answering("new, and longer"));
        eventually("the new code answers", || {
            (server.get("/edited").expect(200).text() == "new, and longer").then_some(())
        });
    }

    fn files_that_are_watched(mpm) {
        ours_only!("mod_wsgi has no such directive");
        let touch = edited(mpm, "processes=2 threads=3", "WSGIReload touch ${ROOT}/reload\nWSGIScriptReloading Off").start();
        let before = touch.group_processes();
        let children = touch.children();
        touch.get("/edited").expect(200);
        touch.write("reload", "");
        eventually("all processes are replaced", || {
            let now = touch.group_processes();
            (now.len() == 2 && now.is_disjoint(&before)).then_some(())
        });
        touch.expect_count("wsgi_children_recycles_total", &[("process_group", "site"), ("reason", "touched")], 2);
        touch.expect_log("no child has loaded an application");
        assert_eq!(touch.children(), children);
        drop(touch);

        let modules = edited(mpm, "threads=3", "WSGIReload modules\nWSGIScriptReloading Off").start();
        assert_eq!(modules.get("/edited").expect(200).text(), "old");
        modules.write("edited.wsgi", harness::script_answering("new, and longer"));
        eventually("the new code answers", || {
            (modules.get("/edited").expect(200).text() == "new, and longer").then_some(())
        });
    }

    fn wsgictl_reload(mpm) {
        ours_only!("mod_wsgi has no such program");
        let server = site(mpm, "processes=2 threads=3")
            .one_child()
            .app("/here", "hello.wsgi")
            .conf("<Location /here>\nWSGIProcessGroup %{GLOBAL}\nWSGIApplicationGroup here\n</Location>")
            .start();
        server.allow_log(FULL);
        let (before, child) = (processes(&server, 2), server.only_child());
        // No child has loaded an application.
        let answer = server.wsgictl(&["reload"]);
        assert!(answer.status.success(), "{answer:?}");
        assert!(said(&answer).starts_with("Done: 2 processes of group 'site' replaced in "), "{answer:?}");
        assert!(!said(&answer).contains("child"), "{answer:?}");
        let now = processes(&server, 2);
        assert!(now.is_disjoint(&before));
        assert_eq!(server.only_child(), child);
        // Now one has.
        server.get("/here").expect(200);
        let answer = server.wsgictl(&["reload"]);
        // Only requests name its group.
        assert_eq!(answer.status.code(), Some(3), "{answer:?}");
        let text = said(&answer);
        assert!(text.contains("Done: 1 child replaced in ") && text.contains("Done: 2 processes of group 'site' replaced in "), "{text}");
        assert_ne!(server.only_child(), child);
        assert!(processes(&server, 2).is_disjoint(&now));
        drop(server);

        // Only the children have the group.
        let server = site(mpm, "threads=3")
            .one_child()
            .conf("WSGIScriptAlias /here ${APPS}/hello.wsgi process-group=%{GLOBAL} application-group=here")
            .start();
        server.allow_log(FULL);
        server.get("/here").expect(200);
        let (process, child) = (only_process(&server), server.only_child());
        let answer = server.wsgictl(&["reload", "here"]);
        assert!(answer.status.success() && said(&answer).contains("Done: 1 child replaced in "), "{answer:?}");
        assert!(!said(&answer).contains("site"), "{answer:?}");
        assert_ne!(server.only_child(), child);
        assert_eq!(only_process(&server), process);
        // Only the process group has this one.
        let child = server.only_child();
        let answer = server.wsgictl(&["reload", "main"]);
        assert!(answer.status.success() && said(&answer).starts_with("Done: 1 process of group 'site' "), "{answer:?}");
        assert_eq!(server.only_child(), child);
        assert_ne!(only_process(&server), process);
        let answer = server.wsgictl(&["reload", "none"]);
        assert_eq!(answer.status.code(), Some(2), "{answer:?}");
    }

    fn wsgictl_reload_where_children_run_no_python(mpm) {
        ours_only!("mod_wsgi has no such program");
        let server = site(mpm, "threads=3").conf("WSGIRestrictEmbedded On").start();
        let before = only_process(&server);
        let answer = server.wsgictl(&["reload"]);
        assert!(answer.status.success(), "{answer:?}");
        assert!(said(&answer).starts_with("Done: 1 process of group 'site' replaced in "), "{answer:?}");
        assert_ne!(only_process(&server), before);
        let answer = server.wsgictl(&["reload", "--no-wait"]);
        assert_eq!(said(&answer), "The server was asked to take up new code.\n");
    }

    fn a_successor_that_fails(mpm) {
        ours_only!("mod_wsgi starts none");
        let ahead = "WSGIImportScript ${ROOT}/ahead.py process-group=site application-group=%{GLOBAL}";
        let server = edited(mpm, "threads=3", ahead).file("ahead.py", "").start();
        // It has loaded that file.
        server.get("/edited").expect(200);
        let before = only_process(&server);
        server.write("ahead.py", "import os\nos._exit(7)\n");
        server.allow_log("WSGI1153");
        let answer = server.wsgictl(&["reload"]);
        assert_eq!(answer.status.code(), Some(1), "{answer:?}");
        let text = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(text.contains("a successor of process group 'site' ended before it could take requests"), "{text}");
        assert!(server.group_processes().contains(&before));
        server.get("/edited").expect(200);
        server.write("ahead.py", "");
        eventually("the next successor takes over", || {
            let now = server.group_processes();
            (now.len() == 1 && !now.contains(&before)).then_some(())
        });
    }

    fn the_stacks_of_a_process_that_starts(mpm) {
        ours_only!("mod_wsgi has no such program");
        let ahead = "WSGIImportScript ${ROOT}/ahead.py process-group=site application-group=%{GLOBAL}\nWSGIMetrics Off";
        let server = edited(mpm, "threads=3", ahead).file("ahead.py", "").start();
        server.get("/edited").expect(200);
        let before = only_process(&server);
        let gate = server.root().join("gate");
        server.write("ahead.py", format!("import os, time\nwhile not os.path.exists({gate:?}): time.sleep(0.05)\n"));
        let asked = server.wsgictl(&["restart", "site", "--no-wait"]);
        assert!(asked.status.success(), "{asked:?}");
        let successor = eventually("a successor starts", || {
            server.group_processes().into_iter().find(|pid| *pid != before)
        });
        let pid = successor.to_string();
        let name = format!("Process {successor} of group site: starting for ");
        eventually("it is shown where it waits", || {
            let shown = said(&server.wsgictl(&["stack", &pid]));
            (shown.starts_with(&name) && shown.contains("ahead.py\", line 2, in <module>")).then_some(())
        });
        server.write("gate", "");
        eventually("the successor serves", || {
            let shown = said(&server.wsgictl(&["stack", &pid]));
            shown.contains("of group site: ready for ").then_some(())
        });
        assert_eq!(only_process(&server), successor);
    }

    fn signals_for_applications(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = Server::builder(mpm)
            .one_child()
            .metrics()
            .file("signals.wsgi", SIGNALS)
            .conf(
                "WSGISocketPrefix ${ROOT}/wsgi
                WSGIDaemonProcess site threads=3
                WSGIScriptAlias /one ${ROOT}/signals.wsgi process-group=site application-group=%{GLOBAL}
                WSGIScriptAlias /two ${ROOT}/signals.wsgi process-group=site application-group=two
                WSGIScriptAlias /here ${ROOT}/signals.wsgi process-group=%{GLOBAL} application-group=%{GLOBAL}",
            )
            .start();
        let process = only_process(&server);
        for url in ["/one", "/two", "/here"] {
            assert_eq!(server.get(url).expect(200).text(), "", "{url}");
        }
        server.expect_log("Callback registration for process signals ignored.");
        for (signal, told) in [(Signal::HUP, "SIGHUP 1"), (Signal::USR2, "SIGUSR2 12")] {
            let both = format!("event process_signal {told}\nsubscriber process_signal {told}\n");
            send(process, signal);
            for url in ["/one", "/two"] {
                eventually("the application is told", || {
                    let text = server.get(url).expect(200).text();
                    text.ends_with(&both).then_some(())
                });
            }
        }
        server.expect_log("WSGI0112: exception raised by an event subscriber for 'process_signal'");
        server.allow_log("ValueError|signals.wsgi|Traceback");
        assert_eq!(only_process(&server), process);
        assert_eq!(server.get("/here").expect(200).text(), "");
    }
}

/// Tells of the signals that it was told of.
const SIGNALS: &str = "
import mod_wsgi
told = []
def told_by(kind):
    def tell(name, **payload):
        if name == 'process_signal':
            told.append(f'{kind} {name} {payload[\"signame\"]} {payload[\"signum\"]}')
    return tell
mod_wsgi.subscribe_events(told_by('event'))
mod_wsgi.subscribe_signals(told_by('subscriber'))
@mod_wsgi.subscribe_signals
def fails(name, **payload): raise ValueError(name)
def application(environ, start_response):
    start_response('200 OK', [])
    return [''.join(f'{line}\\n' for line in told).encode()]
";

/// Describes a server whose applications run in the group `site`.
fn site(mpm: Mpm, options: &str) -> Builder {
    Server::builder(mpm)
        .metrics()
        .writable_folder("out")
        .app("/process", "process.wsgi")
        .app("/in", "input.wsgi")
        .conf(&format!(
            "SetEnv test.gate ${{ROOT}}/out/gate\nWSGISocketPrefix ${{ROOT}}/wsgi\n\
             WSGIDaemonProcess site {options}\nWSGIProcessGroup site\nWSGIApplicationGroup %{{GLOBAL}}"
        ))
}

/// Describes a server with an edited script in the group `site`.
fn edited(mpm: Mpm, options: &str, conf: &str) -> Builder {
    Server::builder(mpm)
        .metrics()
        .file("edited.wsgi", harness::script_answering("old"))
        .conf(&format!(
            "WSGISocketPrefix ${{ROOT}}/wsgi\n\
             WSGIDaemonProcess site {options}\nWSGIProcessGroup site\n\
             WSGIScriptAlias /edited ${{ROOT}}/edited.wsgi application-group=%{{GLOBAL}}\n{conf}"
        ))
}

/// Waits until no request is shown as running, neither by the status nor by the metrics.
fn nothing_runs(server: &Server) {
    eventually("no request runs", || {
        let is_none = server.status()["running"][0].is_null();
        let count = server.metrics().sum("wsgi_requests_in_flight", &[]);
        (is_none && count == 0.0).then_some(())
    });
}

/// Returns the only running request, once it is in this phase.
fn phase(server: &Server, phase: &str) -> Value {
    eventually(phase, || {
        let running = server.status()["running"].clone();
        let is_it = running[0]["phase"] == phase && running[1].is_null();
        is_it.then(|| running[0].clone())
    })
}

/// Returns the processes of groups, once there are `count` of them.
fn processes(server: &Server, count: usize) -> std::collections::BTreeSet<Pid> {
    eventually("the processes run", || {
        let processes = server.group_processes();
        (processes.len() == count).then_some(processes)
    })
}

fn only_process(server: &Server) -> Pid {
    *processes(server, 1).first().expect("one")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn send(pid: Pid, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it runs");
}
