//! `wsgictl stack`: the stacks of the threads of a child, or of a process of a group, whatever state it is in.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Builder, Mpm, Pid, Request, Server, eventually, is_alive, kill, mpm_tests, ours_only,
    process_group,
};

mpm_tests! {
    fn a_request_is_shown_with_its_functions_and_its_url(mpm) {
        ours_only!("mod_wsgi has no such command");
        for (conf, measures) in [("", true), ("WSGIMetrics Off", false)] {
            let gate = Gate::new();
            let server = start(mpm, &gate, |builder| builder.conf(conf));
            let child = server.only_process();
            gate.while_inside(&server, "/app/dawdle?secret=1", || {
                let shown = stack(&server, child, 10).expect("it answers");
                for part in [
                    &*format!("{}: ready for ", named(child)),
                    "\n== main interpreter ==\n",
                    "app.wsgi\", line 10, in application\n",
                    "app.wsgi\", line 5, in dawdle\n",
                ] {
                    assert!(shown.contains(part), "{part:?}: {shown}");
                }
                let (outer, inner) = (shown.find("in application\n"), shown.find("in dawdle\n"));
                assert!(outer < inner, "the innermost call is the last: {shown}");
                let url = "GET /app/dawdle  ";
                let unknown = "The requests it serves are not known: WSGIMetrics is off.";
                let (there, other) = if measures { (url, unknown) } else { (unknown, url) };
                assert!(shown.contains(there) && !shown.contains(other), "{shown}");
                assert!(!shown.contains("secret"), "{shown}");
            });
            let shown = stack(&server, child, 10).expect("it answers");
            assert!(!shown.contains("dawdle"), "{shown}");
        }
    }

    fn a_thread_that_keeps_the_gil_is_shown(mpm) {
        ours_only!("mod_wsgi has no such command");
        let gate = Gate::new();
        let server = start(mpm, &gate, |builder| builder);
        let child = server.only_process();
        gate.while_inside(&server, "/app/hold", || {
            // The first answer may come before the thread has the GIL.
            let shown = eventually("it is held", || {
                let began = Instant::now();
                let shown = stack(&server, child, 4).expect("it answers");
                assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
                shown.contains("Its GIL could not be acquired").then_some(shown)
            });
            assert!(shown.contains("These stacks were taken without the GIL:"), "{shown}");
            assert!(shown.contains("app.wsgi\", line 7, in hold\n"), "{shown}");
            assert!(shown.contains("GET /app/hold  "), "{shown}");
            let again = stack(&server, child, 4).expect("it answers");
            assert!(again.contains("is still waited for"), "{again}");
            assert!(again.contains("in hold\n"), "{again}");
        });
        let shown = eventually("the GIL is free", || {
            let shown = stack(&server, child, 4).expect("it answers");
            (!shown.contains("could not be acquired")).then_some(shown)
        });
        assert!(!shown.contains("in hold"), "{shown}");
        assert_eq!(server.only_process(), child, "it serves on");
    }

    fn replicas_have_a_gil_each(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let gate = Gate::new();
        let server = start(mpm, &gate, |builder| builder.conf("WSGIGILMode own\nWSGIInterpreters 2"));
        server.allow_log("WSGI102[34]");
        let replica = server.get("/app/replica").expect(200).text();
        if replica == "None" {
            server.expect_log("WSGI1023");
            return;
        }
        let child = server.only_process();
        gate.while_inside(&server, "/app/hold", || {
            let shown = eventually("it is held", || {
                let shown = stack(&server, child, 4).expect("it answers");
                shown.contains("Its GIL could not be acquired").then_some(shown)
            });
            assert_eq!(shown.matches("could not be acquired").count(), 1, "only one has lost it: {shown}");
            assert!(shown.contains("app.wsgi\", line 7, in hold\n"), "{shown}");
            let count = if mpm.threaded() || process_group().is_some() { 2 } else { 1 };
            assert_eq!(shown.matches("== interpreter ").count(), count, "{shown}");
        });
    }

    fn a_child_that_starts_is_shown(mpm) {
        ours_only!("mod_wsgi has no such command");
        let gate = Gate::new();
        let ahead = "WSGIImportScript ${ROOT}/ahead.wsgi application-group=%{GLOBAL} process-group=%{GLOBAL}";
        let server = start(mpm, &gate, |builder| builder.file("ahead.wsgi", "").conf(ahead));
        server.allow_log("not ready after");
        server.write("ahead.wsgi", format!("import socket\nsocket.create_connection({}).recv(1)\n", gate.address()));
        let before = server.only_child();
        kill(before);
        let inside = gate.accept();
        let child = server.children().into_iter().find(|child| *child != before && is_alive(*child));
        let shown = stack(&server, child.expect("it is starting"), 10).expect("it answers");
        assert!(shown.contains(": starting for "), "{shown}");
        assert!(shown.contains("ahead.wsgi\", line 2, in <module>\n"), "{shown}");
        drop(inside);
        server.get("/app/replica").expect(200);
        server.allow_log("child pid|ahead.wsgi");
    }

    fn a_child_that_does_not_answer_is_shown_by_its_requests(mpm) {
        ours_only!("mod_wsgi has no such command");
        let gate = Gate::new();
        let server = start(mpm, &gate, |builder| builder);
        let child = server.only_process();
        gate.while_inside(&server, "/app/dawdle", || {
            signal("-STOP", child);
            let answer = ask(&server, child, 1);
            signal("-CONT", child);
            assert_eq!(answer.status.code(), Some(1));
            let (shown, said) = (text(&answer.stdout), text(&answer.stderr));
            assert!(shown.contains("GET /app/dawdle  "), "{shown}");
            let name = named(child).replace("Child", "child").replace("Process", "process");
            assert!(said.contains(&format!("{name} did not take the request within 1")), "{said}");
            // A request for stacks that was given up does not block the next one.
            let shown = stack(&server, child, 10).expect("it answers");
            assert!(shown.contains("in dawdle\n"), "{shown}");
        });
    }

    fn a_process_that_is_no_child_is_not_asked(mpm) {
        ours_only!("mod_wsgi has no such command");
        let gate = Gate::new();
        let server = start(mpm, &gate, |builder| builder);
        let child = server.only_process();
        let refused = |pid| {
            let answer = ask(&server, pid, 5);
            assert_eq!(answer.status.code(), Some(1));
            assert_eq!(text(&answer.stdout), "");
            text(&answer.stderr)
        };
        let said = refused(999_999_999);
        assert!(said.contains("this server has no child 999999999"), "{said}");
        assert!(said.contains("It has:\n") && said.contains(&format!("\n  {child}  ready for ")), "{said}");
        let said = refused(server.pid());
        assert!(said.contains("is the server's parent, which runs no Python."), "{said}");
        let wrong = server.wsgictl(&["stack", "x"]);
        assert_eq!(wrong.status.code(), Some(2));
    }
}

/// The tests know its line numbers.
const APP: &str = "\
import ctypes, socket
wait = ctypes.PyDLL(None).recv
byte = ctypes.create_string_buffer(1)
def dawdle():
    connection().recv(1)
def hold():
    wait(connection().fileno(), byte, 1, 0)
def application(environ, start_response):
    body = str(environ.get('mod_wsgi.replica')).encode()
    {'/dawdle': dawdle, '/hold': hold, '/replica': int}[environ['PATH_INFO']]()
    start_response('200 OK', [])
    return [body]
connections = []
def connection():
    connections.append(socket.create_connection(GATE))
    return connections[-1]
";

fn start(mpm: Mpm, gate: &Gate, configure: impl FnOnce(Builder) -> Builder) -> Server {
    let builder = Server::builder(mpm)
        .one_child()
        .file("app.wsgi", format!("{APP}GATE = {}\n", gate.address()))
        .conf("WSGIScriptAlias /app ${ROOT}/app.wsgi");
    let server = configure(builder).start();
    server.get("/app/replica").expect(200);
    server
}

/// A listener to which the application connects, to wait there.
struct Gate(TcpListener);

impl Gate {
    fn new() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).unwrap())
    }

    /// Returns the address in Python's form.
    fn address(&self) -> String {
        format!("('127.0.0.1', {})", self.0.local_addr().unwrap().port())
    }

    /// Returns the connection of a client.
    fn accept(&self) -> TcpStream {
        self.0.set_nonblocking(true).unwrap();
        eventually("the application comes to the gate", || {
            self.0.accept().ok().map(|(stream, _)| stream)
        })
    }

    /// Runs `work` while a request to this URL is inside.
    fn while_inside(&self, server: &Server, url: &str, work: impl FnOnce()) {
        thread::scope(|scope| {
            let answer = scope.spawn(|| server.try_send(&Request::get(url)));
            let mut inside = self.accept();
            // If `work` fails, the stream is closed, which also ends the wait of the application.
            work();
            inside.write_all(b"x").unwrap();
            let answer = answer.join().unwrap();
            assert_eq!(answer.expect("an answer").status(), 200);
        });
    }
}

/// Returns what wsgictl calls the process that runs the application.
fn named(pid: Pid) -> String {
    match process_group() {
        None => format!("Child {pid}"),
        Some(group) => format!("Process {pid} of group {group}"),
    }
}

fn ask(server: &Server, pid: i32, timeout: u32) -> Output {
    server.wsgictl(&["stack", &pid.to_string(), "--timeout", &timeout.to_string()])
}

/// Returns the stacks that wsgictl prints, or its error.
fn stack(server: &Server, child: Pid, timeout: u32) -> Result<String, String> {
    let answer = ask(server, child, timeout);
    if answer.status.success() {
        Ok(text(&answer.stdout))
    } else {
        Err(text(&answer.stderr))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn signal(name: &str, pid: Pid) {
    let sent = Command::new("kill").arg(name).arg(pid.to_string()).status();
    assert!(sent.unwrap().success());
}
