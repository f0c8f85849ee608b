//! Each option of `WSGIDaemonProcess`, and what users of mod_wsgi's daemon mode count on. docs/mod_wsgi.md names the tests.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::{
    Builder, Ending, Mpm, Pid, Request, Server, eventually, graceful, is_alive, mpm_tests,
    ours_only, script_answering, venv, wait_until_ended, workspace,
};
use nix::unistd::User;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;

use crate::clients::Clients;
use crate::daemon::{begun, group_process, is_root, send, site};

mpm_tests! {
    fn settings_of_python(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = start(mpm, &format!(
            "threads=3 python-eggs=/tmp/eggs switch-interval=0.25 stack-size=3145728 locale=C.UTF-8 python-home={}",
            venv().display()
        ));
        let told = server.get("/options").expect(200).json();
        assert_eq!((&told["eggs"], &told["interval"]), (&"/tmp/eggs".into(), &0.25.into()));
        assert_eq!((&told["locale"], &told["prefix"]), (&"C.UTF-8".into(), &venv().display().to_string().into()));
        let stack = told["stack"].as_u64().unwrap();
        // The C library may give a thread the larger stack of one that has ended. Without the option it has 2 MiB.
        assert!(stack >= 3 << 20, "{stack}");
    }

    fn a_locale_that_the_system_lacks(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = start(mpm, "threads=3 locale=xx_XX.UTF-8");
        server.expect_log("WSGI1149: process group 'site': this system has no locale 'xx_XX.UTF-8'");
        assert_eq!(server.get("/options").expect(200).json()["locale"], "xx_XX.UTF-8");
    }

    fn groups_of_the_user(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !is_root() {
            return;
        }
        let server = start(mpm, "threads=3 supplementary-groups=#4241,#4242");
        let told = server.get("/options").expect(200).json();
        assert_eq!(told["groups"], serde_json::json!([4241, 4242]));
    }

    fn the_home_of_the_user(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !is_root() {
            return;
        }
        let daemon = User::from_name("daemon").unwrap().expect("this system has it");
        let server = site(mpm, "threads=1")
            .conf("WSGIDaemonProcess same user=${SERVER_USER} threads=1
                WSGIDaemonProcess other user=daemon threads=1
                WSGIScriptAlias /same ${APPS}/process.wsgi process-group=same
                WSGIScriptAlias /other ${APPS}/process.wsgi process-group=other")
            .start();
        let folder = |url: &str| server.get(url).expect(200).json()["folder"].clone();
        // The home folder of httpd's own user need not exist.
        assert_eq!(folder("/same"), folder("/process"));
        assert_eq!(folder("/other"), fs::canonicalize(&daemon.dir).unwrap().display().to_string());
    }

    /// A folder that is a root needs a whole Python in it, so the test only has the root that is there.
    fn a_root_folder(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !is_root() {
            return;
        }
        let server = start(mpm, "threads=3 chroot=/ home=/var");
        assert_eq!(server.get("/process").expect(200).json()["folder"], "/var");
        drop(server);
        let server = site(mpm, "threads=3 chroot=/nonexistent").conf("Timeout 10").start();
        server.expect_log("WSGI1150: process group 'site': a process cannot start: chroot=/nonexistent: ");
        server.allow_log("WSGI1150|WSGI1153");
    }

    fn a_python_that_is_not_there(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 python-home=/nonexistent connect-timeout=1").start();
        server.expect_log("WSGI1003: ");
        server.expect_log("WSGI1153: ");
        server.allow_log("WSGI1155");
        server.get("/hello").expect(503);
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
    }

    fn buffers_of_connections(mpm) {
        ours_only!("the buffers are those of the connections");
        let server = site(mpm, "threads=3 send-buffer-size=16384 receive-buffer-size=8192")
            .one_child()
            .app("/options", "options.wsgi")
            .conf("WSGIScriptAlias /child ${APPS}/options.wsgi process-group=%{GLOBAL} application-group=%{GLOBAL}")
            .start();
        // The kernel takes twice the size, for its own needs. The child keeps its connection to the process.
        for url in ["/options", "/child"] {
            let told = server.get(url).expect(200).json();
            let sizes = told["buffers"].as_array().unwrap();
            assert!(sizes.contains(&serde_json::json!([32_768, 16_384])), "{url}: {told}");
        }
        assert_eq!(server.get("/slow/down").expect(200).text().len(), 1_000_000);
        let body = vec![b'x'; 3_000_000];
        let text = server.send(&Request::post("/in/digest", body)).expect(200).text();
        assert!(text.starts_with("\"3000000 "), "{text}");
    }

    fn options_that_need_nothing(mpm) {
        ours_only!("mod_wsgi has these buffers");
        let server = start(mpm, "threads=3 header-buffer-size=8192 response-buffer-size=65536 response-flush-delay=50");
        for option in ["header-buffer-size", "response-buffer-size", "response-flush-delay"] {
            let pattern = format!("WSGI1180: .*httpd.conf:\\d+: {option}= of WSGIDaemonProcess 'site' needs no effect here: ");
            assert_eq!(server.expect_log(&pattern).level, "info");
        }
        assert_eq!(server.count_log("WSGI1007"), 0);
        // Headers of one name stay apart, and a head longer than header-buffer-size= is no fault.
        let told = server.get("/options/twice").expect(200).head;
        assert_eq!(told.all("X-Twice"), ["one", "two"]);
        assert_eq!(told.header("X-Long").map(str::len), Some(100_000));
    }

    fn the_queue_of_a_socket(mpm) {
        ours_only!("mod_wsgi makes its sockets anew");
        let server = site(mpm, "threads=3 listen-backlog=3").start();
        let first = group_process(&server);
        server.get("/hello").expect(200);
        assert_eq!(waiting_connections(&server), 4, "the kernel lets one more wait");
        // The socket stays, with the queue of the new configuration.
        let sockets = sockets(server.root());
        let config = fs::read_to_string(server.root().join("httpd.conf")).unwrap();
        server.write("httpd.conf", config.replace("listen-backlog=3", "listen-backlog=6"));
        graceful(server.pid());
        wait_until_ended(first);
        server.get("/hello").expect(200);
        assert_eq!(self::sockets(server.root()), sockets);
        assert_eq!(waiting_connections(&server), 7);
    }

    fn a_process_that_takes_no_connections(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = start(mpm, "threads=3 connect-timeout=1");
        let process = group_process(&server);
        stop(process);
        let begun = Instant::now();
        let answer = server.get("/hello");
        send(process, Signal::CONT);
        assert_eq!((answer.status(), answer.header("Retry-After").is_some()), (503, true));
        let took = begun.elapsed();
        assert!((1..10).contains(&took.as_secs()), "{took:?}");
        server.expect_log("WSGI1155: process group 'site' cannot be reached: ");
        server.get("/hello").expect(200);
    }

    fn an_application_that_says_nothing(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 socket-timeout=1").pool(2, 4).start();
        server.get("/process/wait").expect(504);
        server.expect_log("WSGI1157: process group 'site': the process that had the request GET .* has sent nothing for socket-timeout=");
        server.get("/hello").expect(200);
        server.write("out/gate", "");
    }

    fn requests_that_take_too_long(mpm) {
        ours_only!("mod_wsgi ends the whole process");
        let server = start(mpm, "threads=3 request-timeout=1 interrupt-timeout=20");
        let process = group_process(&server);
        server.get("/late/spin?1000").expect(504);
        server.expect_log("WSGI1061: request too long: GET /late/spin runs for");
        server.expect_log("Request interrupted by RequestTimeout; thread recovered");
        server.get("/hello").expect(200);
        assert_eq!(group_process(&server), process);
        drop(server);
        let server = start(mpm, "threads=3 request-timeout=1 interrupt-timeout=1");
        server.allow_log("WSGI106[1-5]|WSGI1032|^== |^These stacks |^Thread 0x|^\\d+ threads? runs? no Python code");
        let process = group_process(&server);
        server.get("/late/hold?1000").expect(504);
        wait_until_ended(process);
        server.get("/hello").expect(200);
    }

    fn a_gil_that_cannot_be_had(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 deadlock-timeout=2 shutdown-timeout=2")
            .pool(2, 4)
            .app("/late", "deadlines.wsgi")
            .start();
        server.allow_log("WSGI106[1-5]|WSGI1032|^== |^These stacks |^Thread 0x|^\\d+ threads? runs? no Python code");
        let process = group_process(&server);
        let mut connection = server.ask("/late/hold?1000");
        server.expect_log("WSGI1064: the GIL of the process could not be acquired");
        assert_eq!(connection.read_response("GET").expect("an answer").status(), 504);
        wait_until_ended(process);
        server.get("/hello").expect(200);
    }

    fn a_load_that_takes_too_long(mpm) {
        ours_only!("mod_wsgi has its own tests");
        const SLOW: &str = "import os, time
while os.path.exists(os.path.join(os.path.dirname(__file__), 'wait')): time.sleep(0.05)
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'loaded']
";
        let server = site(mpm, "threads=3 startup-timeout=2")
            .pool(2, 4)
            .file("code/app.wsgi", SLOW)
            .file("code/wait", "")
            .conf("WSGIScriptAlias /app ${ROOT}/code/app.wsgi")
            .start();
        let first = group_process(&server);
        server.allow_log("WSGI1006|WSGI1065|WSGI109[01]|^== |^These stacks |^Thread 0x|^\\d+ threads? runs? no Python code");
        let mut connection = server.ask("/app");
        server.expect_log("WSGI1090: WSGI script '.*app.wsgi' has not been loaded");
        let answer = connection.read_response("GET").expect("an answer");
        assert!([503, 504].contains(&answer.status()), "{answer:?}");
        wait_until_ended(first);
        fs::remove_file(server.root().join("code/wait")).unwrap();
        assert_eq!(server.get("/app").expect(200).text(), "loaded");
    }

    fn the_age_of_a_process(mpm) {
        ours_only!("mod_wsgi ends it with what it runs");
        let server = site(mpm, "threads=3 restart-interval=3").pool(2, 4).start();
        let first = group_process(&server);
        let clients = Clients::during(&server, &["/hello"], 2, |_| {
            eventually("the first process has ended", || (!is_alive(first)).then_some(()));
        });
        clients.expect_no_failures();
    }

    fn the_end_of_a_process(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 graceful-timeout=1 shutdown-timeout=1")
            .pool(2, 4)
            .app("/options", "options.wsgi")
            .start();
        server.allow_log("WSGI1156|WSGI1162|WSGI1032|WSGI1033");
        server.get("/options/linger").expect(200);
        let mut waiting = server.ask("/process/wait");
        let old = eventually("the request runs", || begun(&server));
        send(old, Signal::USR1);
        // Neither the request nor a thread of the application holds it up.
        wait_until_ended(old);
        assert_eq!(waiting.read_response("GET").expect("an answer").status(), 500);
        server.get("/options/linger").expect(200);
        let took = server.stop();
        assert!(took < Duration::from_secs(12), "{took:?}");
    }

    fn a_client_that_does_not_read(mpm) {
        ours_only!("mod_wsgi has its own tests");
        // Timeout is 20 seconds.
        let server = start(mpm, "threads=3 response-socket-timeout=1");
        let begun = Instant::now();
        let waiting = server.ask("/options/endless");
        eventually("the application is told", || server.root().join("out/gate.closed").exists().then_some(()));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}");
        drop(waiting);
        // Reads of the same connection have the time of httpd.
        let mut connection = server.connect();
        connection.send("POST /in/digest HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
        std::thread::sleep(Duration::from_secs(2));
        connection.send(vec![b'x'; 100_000]);
        let text = connection.read_response("POST").unwrap().expect(200).text();
        assert!(text.starts_with("\"100000 "), "{text}");
    }

    fn owners_of_sockets_and_scripts(mpm) {
        ours_only!("mod_wsgi has its own tests");
        if !is_root() {
            return;
        }
        let server = site(mpm, "threads=3")
            .file("mine/app.wsgi", script_answering("mine"))
            .conf("WSGIDaemonProcess other threads=1 socket-user=nobody script-user=nobody
                WSGIDaemonProcess root threads=1 script-user=root
                WSGIDaemonProcess group threads=1 script-group=#4242
                WSGIScriptAlias /other ${ROOT}/mine/app.wsgi process-group=other
                WSGIScriptAlias /root ${ROOT}/mine/app.wsgi process-group=root
                WSGIScriptAlias /group ${ROOT}/mine/app.wsgi process-group=group")
            .start();
        let nobody = User::from_name("nobody").unwrap().expect("this system has it");
        let owners: Vec<u32> = sockets(server.root()).iter().map(|path| path.metadata().unwrap().uid()).collect();
        assert_eq!(owners.iter().filter(|uid| **uid == nobody.uid.as_raw()).count(), 1, "{owners:?}");
        assert_eq!(server.get("/root").expect(200).text(), "mine");
        for url in ["/other", "/group"] {
            server.get(url).expect(403);
            server.expect_log("WSGI0153: WSGI script '.*app.wsgi' is not run in process group '(other|group)': .* does not belong to the");
        }
    }

    fn what_is_loaded_ahead(mpm) {
        ours_only!("mod_wsgi loads only scripts of lines that come after the group");
        let server = Server::builder(mpm)
            .file("code/one.wsgi", script_answering("one"))
            .file("code/two.wsgi", script_answering("two"))
            .conf("WSGISocketPrefix ${ROOT}/wsgi
                WSGIImportScript ${ROOT}/code/one.wsgi process-group=site application-group=%{GLOBAL}
                WSGIScriptAlias /one ${ROOT}/code/one.wsgi process-group=site application-group=%{GLOBAL}
                WSGIScriptAlias /two ${ROOT}/code/two.wsgi process-group=site application-group=two
                WSGIDaemonProcess site threads=3")
            .start();
        let process = group_process(&server);
        for script in ["one", "two"] {
            let record = server.expect_log(&format!("Loading WSGI script '.*{script}.wsgi'"));
            assert_eq!(record.pid, process);
            assert_eq!(server.get(&format!("/{script}")).expect(200).text(), script);
            assert_eq!(server.count_log(&format!("Loading WSGI script '.*{script}.wsgi'")), 1);
        }
    }

    fn a_load_that_fails_at_first(mpm) {
        ours_only!("mod_wsgi has its own tests");
        const MODULE: &str = "import os
if not os.path.exists(os.path.join(os.path.dirname(__file__), 'ready')): raise RuntimeError('not ready')
";
        let server = site(mpm, "threads=3")
            .file("code/part.py", MODULE)
            .file("code/app.wsgi", format!("import sys\nsys.path.insert(0, __file__.rpartition('/')[0])\nimport part\n{}", script_answering("loaded")))
            .conf("WSGIScriptAlias /app ${ROOT}/code/app.wsgi")
            .start();
        server.get("/app").expect(500);
        server.expect_log("RuntimeError: not ready");
        server.expect_log("exception raised|cannot be loaded|could not be loaded|not loaded");
        server.write("code/ready", "");
        assert_eq!(server.get("/app").expect(200).text(), "loaded");
    }

    fn groups_by_variables(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = Server::builder(mpm)
            .app("/process", "process.wsgi")
            .conf("WSGISocketPrefix ${ROOT}/wsgi
                WSGIDaemonProcess one threads=1
                WSGIDaemonProcess two threads=1
                SetEnvIf X-Group (.*) test.group=$1
                WSGIProcessGroup %{ENV:test.group}
                WSGIRestrictProcess one two %{GLOBAL}")
            .start();
        for group in ["one", "two"] {
            let request = Request::get("/process").header("X-Group", group);
            assert_eq!(server.send(&request).expect(200).json()["environ"], group);
        }
        server.send(&Request::get("/process").header("X-Group", "three")).expect(500);
        server.expect_log("WSGI0149: process group 'three'");
    }

    fn pings_that_do_not_count(mpm) {
        ours_only!("mod_wsgi has its own tests");
        let server = site(mpm, "threads=3 inactivity-timeout=2")
            .conf("<Location /hello>\nWSGIIgnoreActivity On\n</Location>")
            .start();
        let first = group_process(&server);
        eventually("the process ends in spite of pings", || {
            server.get("/hello").expect(200);
            (!is_alive(first)).then_some(())
        });
    }

    /// The lines of Django's page on its deployment with mod_wsgi, with a real project.
    fn django_as_its_page_says(mpm) {
        let server = Server::builder(mpm)
            .file("static/style.css", "body { color: black }\n")
            .conf(&format!("WSGISocketPrefix ${{ROOT}}/wsgi
                SetEnv test.database ${{ROOT}}/db.sqlite3
                WSGIDaemonProcess example.com python-home={} python-path=${{APPS}}/django_project
                WSGIProcessGroup example.com
                Alias /robots.txt ${{ROOT}}/static/robots.txt
                Alias /favicon.ico ${{ROOT}}/static/favicon.ico
                Alias /media/ ${{ROOT}}/media/
                Alias /static/ ${{ROOT}}/static/
                <Directory ${{ROOT}}/static>\nRequire all granted\n</Directory>
                <Directory ${{ROOT}}/media>\nRequire all granted\n</Directory>
                WSGIScriptAlias / ${{APPS}}/django_project/app.wsgi
                <Directory ${{APPS}}/django_project>\n<Files app.wsgi>\nRequire all granted\n</Files>\n</Directory>",
                venv().display()
            ))
            .start();
        assert_eq!(server.get("/?a=b").expect(200).text(), "Hello from Django at /?a=b");
        assert!(server.get("/static/style.css").expect(200).text().contains("color"));
    }

    fn responses_and_copies(mpm) {
        ours_only!("mod_wsgi completes a cut response, and ends copies with status 255");
        let server = site(mpm, "threads=3")
            .app("/options", "options.wsgi")
            .conf("<Location /options>\nWSGIApplicationGroup %{GLOBAL}\n</Location>")
            .start();
        let cut = server.get("/options/broken").expect(200);
        assert_eq!((cut.text().as_str(), cut.ending), ("first", Ending::Cut));
        server.expect_log("ValueError: after the first part");
        server.expect_log("ValueError exception raised processing WSGI script");
        let early = server.send(&Request::post("/options/early", vec![b'x'; 3_000_000]));
        assert_eq!((early.status(), early.text().as_str()), (413, "too large"));
        assert_eq!(server.get("/options/forked").expect(200).json()["signal"], 15);
    }
}

/// The page that tells users of mod_wsgi what each option does names tests that there are.
#[test]
fn the_tests_that_the_documentation_names() {
    let page = fs::read_to_string(workspace().join("docs/mod_wsgi.md")).unwrap();
    let (_, tables) = page.split_once("## Daemon mode").expect("a section");
    let mut named = 0;
    for test in tables.split('`').filter(|word| word.contains("::")) {
        let (file, name) = test.split_once("::").expect("a path");
        let source = workspace().join(format!("tests/suite/{file}.rs"));
        let source = fs::read_to_string(&source).unwrap_or_default();
        assert!(source.contains(&format!("fn {name}(")), "{test}");
        named += 1;
    }
    assert!(named > 40, "{named} tests are named");
}

/// Starts a server whose applications run in the group `site`.
fn start(mpm: Mpm, options: &str) -> Server {
    let builder: Builder = site(mpm, options);
    builder
        .app("/options", "options.wsgi")
        .app("/late", "deadlines.wsgi")
        .start()
}

/// Stops a process, and waits until none of its threads runs.
fn stop(process: Pid) {
    send(process, Signal::STOP);
    eventually("all threads have stopped", || {
        let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let mut states = threads.flatten().map(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_some_and(|(_, fields)| fields.starts_with('T'))
        });
        states.all(|is_stopped| is_stopped).then_some(())
    });
}

/// Returns the sockets of groups, by name.
fn sockets(root: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "sock"))
        .collect()
}

/// Returns how many connections wait at the only socket if its process takes none.
fn waiting_connections(server: &Server) -> usize {
    let path = sockets(server.root()).pop_first().expect("a socket");
    let address = SocketAddrUnix::new(&path).expect("a path");
    let process = group_process(server);
    stop(process);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut opened = Vec::new();
    while opened.len() < 100 {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
        if connect(&socket, &address).is_err() {
            break;
        }
        opened.push(socket);
    }
    let waiting = opened.len();
    drop(opened);
    send(process, Signal::CONT);
    waiting
}
