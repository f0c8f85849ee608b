//! Things that hang before an application serves: imports, interpreters, the start of Python, scripts that are not
//! regular files. All of them have a limit, and nothing else suffers.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use harness::{
    Builder, Connection, Mpm, Pid, Request, Response, Server, embedded_only, eventually_by_turns,
    mpm_tests, ours_only, wait_until_ended,
};

use crate::clients::Clients;

mpm_tests! {
    fn an_import_that_hangs_is_given_up_and_its_child_replaced(mpm) {
        ours_only!("mod_wsgi has a limit for daemon processes only");
        for way in ["sleep", "spin", "deadlock"] {
            let mut server = start(mpm, way, |builder| builder.pool(2, 8).conf("WSGIStartupTimeout 3"));
            let clients = Clients::during(&server, &["/other", "/static.txt"], 2, |clients| {
                clients.wait_for(5);
                for answer in answers(ask(&server, 3)) {
                    is_refused(&answer);
                }
                let child = overdue(&server, way);
                clients.wait_for(20);
                server.write("how", "");
                serves(&server);
                gone(&server, child);
                clients.wait_for(20);
            });
            clients.expect_no_failures();
            let reason = [("reason", "startup_timeout")];
            assert!(server.metrics().sum("wsgi_children_recycles_total", &reason) >= 1.0, "{way}");
            server.start_again();
            serves(&server);
        }
    }

    fn an_import_that_holds_the_gil(mpm) {
        ours_only!("mod_wsgi has a limit for daemon processes only");
        let mut server = start(mpm, "hold", |builder| builder.pool(2, 8).conf("WSGIStartupTimeout 3"));
        let clients = Clients::during(&server, &["/static.txt"], 2, |clients| {
            clients.wait_for(5);
            is_refused(&answers(ask(&server, 1))[0]);
            let child = overdue(&server, "hold");
            server.write("how", "");
            clients.wait_for(20);
            gone(&server, child);
            serves(&server);
        });
        clients.expect_no_failures();
        server.start_again();
        serves(&server);
    }

    fn the_only_child(mpm) {
        ours_only!("mod_wsgi has a limit for daemon processes only");
        let mut server = start(mpm, "sleep", |builder| builder.one_child().conf("WSGIStartupTimeout 3"));
        let first = server.only_process();
        assert_eq!(answers(ask(&server, 1))[0].status(), 504, "no other request loads it");
        assert_eq!(overdue(&server, "sleep"), first);
        gone(&server, first);
        // The application hangs in each child, so the next child stays for a while, and refuses requests at once.
        is_refused(&answers(ask(&server, 1))[0]);
        let second = overdue(&server, "sleep");
        if mpm.threaded() {
            let answer = server.get("/app");
            assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("1")), "{answer:?}");
            server.get("/static.txt").expect(200);
            server.get("/other").expect(200);
        }
        server.write("how", "");
        gone(&server, second);
        serves(&server);
        server.start_again();
        serves(&server);
    }

    fn a_request_waits_no_longer_for_a_load_than_in_the_queue(mpm) {
        ours_only!("mod_wsgi counts no threads");
        if !mpm.threaded() {
            return;
        }
        for executor in ["direct", "delegate max=2", "pool"] {
            let server = start(mpm, "sleep", |builder| builder.pool(1, 8).one_child().own_executor().conf(
                &format!("WSGIStartupTimeout 60\nWSGIThreadShare 3\nWSGIQueue timeout=1\nWSGIExecutor {executor}")
            ));
            server.allow_log("WSGI1006|WSGI1055|WSGI1054|AH00046");
            let mut all = ask(&server, 1);
            server.expect_log("Loading WSGI script '.*app.wsgi'");
            all.extend(ask(&server, 4));
            // One request loads, two wait for it, and two find the share used up.
            let mut statuses: Vec<u16> = all.split_off(1).into_iter().map(|client| {
                let answer = answer(client);
                is_refused(&answer);
                answer.status()
            }).collect();
            statuses.sort_unstable();
            assert_eq!(statuses[..2], [503, 503], "{executor}");
            server.get("/static.txt").expect(200);
            server.get("/other").expect(200);
            let took = server.stop();
            assert!(took < Duration::from_secs(15), "{executor}: {took:?}");
        }
    }

    fn what_is_loaded_ahead_hangs(mpm) {
        ours_only!("mod_wsgi has a limit for daemon processes only");
        let mut server = start(mpm, "sleep", |builder| builder.one_child().conf(
            "WSGIStartupTimeout 3\nWSGIImportScript ${ROOT}/code/app.wsgi process-group=%{GLOBAL} application-group=one"
        ));
        server.allow_log("WSGI1133|WSGI1094");
        let child = overdue(&server, "sleep");
        server.get("/static.txt").expect(200);
        is_refused(&answers(ask(&server, 1))[0]);
        server.write("how", "");
        serves(&server);
        gone(&server, child);
        server.start_again();
        serves(&server);
    }

    fn a_script_that_hangs_when_it_is_loaded_again(mpm) {
        ours_only!("mod_wsgi has a limit for daemon processes only");
        embedded_only!("the process goes on until a successor has loaded the script");
        let server = start(mpm, "", |builder| builder.one_child().conf("WSGIStartupTimeout 3"));
        serves(&server);
        let child = server.only_process();
        server.write("how", "sleep");
        server.write("code/app.wsgi", format!("{SCRIPT}\n# edited\n"));
        is_refused(&answers(ask(&server, 1))[0]);
        assert_eq!(overdue(&server, "sleep"), child);
        server.write("how", "");
        serves(&server);
        gone(&server, child);
    }

    fn new_code_that_hangs_is_not_taken_up(mpm) {
        ours_only!("mod_wsgi does not replace its children");
        embedded_only!("WSGIReload replaces httpd's children");
        let server = start(mpm, "", |builder| {
            builder.pool(2, 8).conf("WSGIStartupTimeout 3\nWSGIReload touch ${ROOT}/touched").file("touched", "")
        });
        serves(&server);
        eventually_by_turns("a reloader", || server.reloader());
        server.write("how", "sleep");
        server.write("touched", "1");
        server.expect_log("is refused, and children go on with the old code: WSGI1090: WSGI script '.*app.wsgi' has not been loaded");
        serves(&server);
        server.write("how", "");
    }

    fn interpreters_whose_set_up_hangs(mpm) {
        ours_only!("mod_wsgi has a limit for daemon processes only");
        let mut server = start(mpm, "sleep", |builder| builder.pool(2, 8).file("packages/hangs.pth", PTH).conf(
            "WSGIStartupTimeout 3
            <WSGIInterpreterOptions application-group=one>
                WSGIPythonPath ${ROOT}/packages
            </WSGIInterpreterOptions>"
        ));
        fs::write(server.root().join("packages/root"), server.root().to_str().unwrap()).unwrap();
        let clients = Clients::during(&server, &["/static.txt"], 2, |clients| {
            for answer in answers(ask(&server, 3)) {
                is_refused(&answer);
            }
            let child = server.expect_log("^WSGI1091: the interpreters of application group 'one' have not been set up after").pid;
            clients.wait_for(20);
            server.write("how", "");
            gone(&server, child);
            serves(&server);
        });
        clients.expect_no_failures();
        server.start_again();
        serves(&server);
    }

    fn python_does_not_start(mpm) {
        ours_only!("mod_wsgi has no limit for that");
        embedded_only!("only httpd's children serve without Python");
        let builder = builder(mpm, "sleep").one_child().conf("WSGIStartupTimeout 2\nWSGIPythonHome ${ROOT}/venv");
        let mut server = builder.start_with(|root| environment(&root.join("venv"), root));
        server.allow_log(HANGS);
        server.expect_log("^WSGI1092: Python has not started in this child after 2 s");
        server.expect_log("^WSGI1093: this child serves without Python for \\d+ s");
        // A child that does not start Python serves files, and answers requests for Python with `Retry-After`.
        eventually_by_turns("a child serves without Python", || {
            let answer = server.try_send(&Request::get("/app")).ok()?;
            (answer.status() == 503 && answer.header("Retry-After") == Some("1")).then_some(())
        });
        server.get("/static.txt").expect(200);
        server.write("how", "");
        serves(&server);
        server.start_again();
        serves(&server);
    }

    fn only_regular_files_are_loaded(mpm) {
        ours_only!("mod_wsgi reads whatever is there");
        let kinds = [
            ("fifo", "a FIFO"),
            ("to-fifo", "a FIFO"),
            ("socket", "a socket"),
            ("directory", "a directory"),
            ("device", "a character device"),
        ];
        let mut conf = String::new();
        for (name, _) in kinds {
            let path = format!("${{ROOT}}/odd/{name}.wsgi");
            conf += &format!(
                "WSGIHandlerScript {name}-handler {path}
                WSGIScriptAlias /alias/{name} {path}
                <Location /handler/{name}>\nSetHandler {name}-handler\n</Location>
                WSGIImportScript {path} process-group=%{{GLOBAL}} application-group=one\n"
            );
        }
        let mut server = builder(mpm, "").one_child().conf(&conf).start_with(|root| {
            let odd = root.join("odd");
            fs::create_dir_all(odd.join("directory.wsgi")).unwrap();
            let made = Command::new("mkfifo").arg(odd.join("fifo.wsgi")).status();
            assert!(made.unwrap().success());
            symlink("fifo.wsgi", odd.join("to-fifo.wsgi")).unwrap();
            symlink("/dev/zero", odd.join("device.wsgi")).unwrap();
            drop(UnixListener::bind(odd.join("socket.wsgi")).unwrap());
        });
        server.allow_log("odd/|OSError|AH00132|AH01264|AH00037|AH00127|AH00128");
        for (name, kind) in kinds {
            server.expect_log(&format!("WSGI1095: '.*odd/{name}.wsgi' is {kind}; only regular files are read here"));
            assert_eq!(server.get(&format!("/handler/{name}")).status(), 500, "{name}");
            server.expect_log(&format!("WSGI1095: '.*odd/{name}.wsgi' is {kind}; only regular files are read here"));
            // httpd itself may refuse these files.
            let answer = server.get(&format!("/alias/{name}"));
            assert!([301, 403, 404, 500].contains(&answer.status()), "{name}: {answer:?}");
        }
        serves(&server);
        server.start_again();
        serves(&server);
    }
}

/// A failed assertion beside running clients ends the test, instead of letting it hang, which would hide the failure.
#[test]
fn a_failed_assertion_ends_its_clients() {
    let server = Arc::new(Server::builder(Mpm::Event).start());
    let (tell, told) = mpsc::channel();
    let asked = Arc::clone(&server);
    thread::spawn(move || {
        let failed = thread::spawn(move || {
            Clients::during(&asked, &["/static.txt"], 2, |clients| {
                clients.wait_for(5);
                panic!("an assertion fails, as it is to");
            });
        });
        let _ = tell.send(failed.join().is_err());
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(120)), Ok(true));
}

/// A record of the log satisfies only one expectation.
#[test]
fn an_expectation_looks_behind_what_has_satisfied_it() {
    let server = Server::builder(Mpm::Event).start();
    server.graceful_restart();
    let mark = server.log_mark();
    server.expect_log("resuming normal operations");
    server.expect_log("resuming normal operations");
    server.graceful_restart();
    server.expect_log_after(mark, "resuming normal operations");
    let records = server.records();
    let resumed = |record: &&harness::Record| record.message.contains("resuming normal operations");
    assert_eq!(records.iter().filter(resumed).count(), 3);
}

fn builder(mpm: Mpm, how: &str) -> Builder {
    Server::builder(mpm)
        .metrics()
        .file("code/app.wsgi", SCRIPT)
        .file("code/deadlocked.py", DEADLOCKED)
        .file("how", how)
        .conf(
            "WSGIDontWriteBytecode On
            WSGIScriptAlias /app ${ROOT}/code/app.wsgi application-group=one
            WSGIScriptAlias /other ${APPS}/hello.wsgi application-group=two
            # It does not hang, however long it takes on a busy machine.
            <WSGIInterpreterOptions application-group=two>
                WSGIStartupTimeout Off
            </WSGIInterpreterOptions>",
        )
}

/// Starts a server with two applications, one of which hangs while it loads, in the way that the file `how` names.
fn start(mpm: Mpm, how: &str, configure: impl FnOnce(Builder) -> Builder) -> Server {
    let server = configure(builder(mpm, how)).start();
    server.allow_log(HANGS);
    server
}

/// Sends `count` requests, each on a new connection.
fn ask(server: &Server, count: usize) -> Vec<Connection> {
    let ask = |_| server.ask("/app");
    (0..count).map(ask).collect()
}

fn answers(clients: Vec<Connection>) -> Vec<Response> {
    clients.into_iter().map(answer).collect()
}

fn answer(mut client: Connection) -> Response {
    client.read_response("GET").expect("an answer")
}

/// Ends the test if the application answered; it may have been refused during the load or later.
#[track_caller]
fn is_refused(answer: &Response) {
    match (answer.status(), answer.header("Retry-After")) {
        (504, _) | (503, Some(_)) => {}
        _ => panic!("{answer:?}"),
    }
}

/// Waits until the log has the stack of a load that hangs. Returns the child.
#[track_caller]
fn overdue(server: &Server, way: &str) -> Pid {
    let record = server.expect_log(
        r"^WSGI1090: WSGI script '.*app.wsgi' has not been loaded into .* after [0-9.]+ s \(WSGIStartupTimeout\)",
    );
    let frame = format!(r"app.wsgi\W.*\bin {way}$");
    eventually_by_turns("the stack is shown", || {
        (server.count_log(&frame) > 0).then_some(())
    });
    record.pid
}

/// Waits until the application answers.
#[track_caller]
fn serves(server: &Server) {
    eventually_by_turns("the application answers", || {
        let answer = server.try_send(&Request::get("/app")).ok()?;
        (answer.status() == 200 && answer.text() == "loaded").then_some(())
    });
}

/// Waits until a child has ended.
#[track_caller]
fn gone(server: &Server, child: Pid) {
    // A connection without a request keeps no child from ending, and makes the MPM look.
    wait_until_ended(child);
    eventually_by_turns("another one serves", || {
        let answer = server.try_send(&Request::get("/static.txt")).ok()?;
        (answer.status() == 200).then_some(())
    });
}

/// A virtual environment with the Python of the suite, in which a `.pth` file hangs as long as `how` tells it to.
fn environment(venv: &Path, root: &Path) {
    let model = harness::venv();
    let library = fs::read_dir(model.join("lib")).unwrap().flatten().next();
    let library = library.expect("a library").file_name();
    let packages = venv.join("lib").join(library).join("site-packages");
    fs::create_dir_all(&packages).unwrap();
    fs::create_dir_all(venv.join("bin")).unwrap();
    fs::copy(model.join("pyvenv.cfg"), venv.join("pyvenv.cfg")).unwrap();
    let python = fs::canonicalize(model.join("bin/python")).unwrap();
    symlink(python, venv.join("bin/python")).unwrap();
    fs::write(packages.join("hangs.pth"), PTH).unwrap();
    fs::write(packages.join("root"), root.to_str().unwrap()).unwrap();
}

/// The messages of a server in which something hangs.
const HANGS: &str = "WSGI109[0-4]|WSGI106[1-5]|WSGI1032|WSGI1006|AH00288|^== |^These stacks |^Thread 0x|^\\d+ threads? runs? no Python code";

/// One line, as `.pth` files need. The file `root` appears beside it when it should hang.
const PTH: &str = "import os, time; root = sitedir + '/root'; root = os.path.exists(root) and open(root).read(); root and open(root + '/how').read() and time.sleep(1000)\n";

/// An application that imports itself on a thread, and waits for that thread.
const DEADLOCKED: &str = "import threading
thread = threading.Thread(target=__import__, args=('deadlocked',), daemon=True)
thread.start()
thread.join()
";

const SCRIPT: &str = r#"import ctypes, os, sys, time

FOLDER = os.path.dirname(os.path.abspath(__file__))


def sleep():
    time.sleep(1000)


def spin():
    while True:
        pass


def deadlock():
    sys.path.insert(0, FOLDER)
    import deadlocked


def hold():
    ctypes.PyDLL(None).sleep(1000)


with open(FOLDER + '/../how') as file:
    HOW = file.read()
if HOW:
    globals()[HOW]()


def application(environ, start_response):
    body = b'loaded'
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
"#;
