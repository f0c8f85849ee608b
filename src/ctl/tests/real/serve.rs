//! `wsgictl serve` from its start to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::unistd::User;
use rustix::process::{Signal, getuid};

use crate::stage::{Stage, apxs};
use crate::subject::{Subject, free_port};

const APP: &str = r#"
def application(environ, start_response):
    body = "%(SCRIPT_NAME)s|%(PATH_INFO)s|%(COLOUR)s|%(wsgi.multithread)s\n" % {"COLOUR": "", **environ}
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"#;

#[test]
fn a_script_under_every_mpm() {
    for (mpm, multithread) in [("event", "True"), ("worker", "True"), ("prefork", "False")] {
        let stage = Stage::new();
        let script = stage.file("app.wsgi", APP);
        let files = stage.file("public/style.css", "body {}").with_file_name("");
        stage.file("root/robots.txt", "all");
        let port = free_port();
        let mut command = wsgictl(&stage, port);
        command
            .arg(script)
            .args(["--mpm", mpm, "--processes", "2", "--setenv", "COLOUR=blue"]);
        command
            .arg("--static")
            .arg(format!("/static={}", files.display()));
        command
            .arg("--document-root")
            .arg(stage.path().join("root"));
        let server = Subject::start(command, port, stage.path());
        assert_eq!(
            server.page("/some/page"),
            format!("|/some/page|blue|{multithread}\n")
        );
        assert_eq!(server.page("/static/style.css"), "body {}");
        assert_eq!(server.page("/robots.txt"), "all");
        let (access, stdout) = ("\"GET /some/page HTTP/1.0\" 200", server.stdout.clone());
        assert!(
            server
                .said()
                .contains(&format!("Serving http://127.0.0.1:{port}/")),
            "{}",
            server.said()
        );
        assert!(
            server.said().contains(&format!("{mpm} MPM, 2 children x")),
            "{}",
            server.said()
        );
        server.end(Signal::INT);
        let log = fs::read_to_string(stdout).expect("the access log");
        assert!(log.contains(access), "{log}");
    }
}

const IDENTITY: &str = r#"
import getpass, os
from mod_wsgi import process_group
def application(environ, start_response):
    body = f"{getpass.getuser()} {os.getgid()} {process_group} {environ['wsgi.multiprocess']} {os.getpid()}"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
"#;

#[test]
fn an_application_in_its_own_processes() {
    for (processes, multiprocess) in [("1", "False"), ("2", "True")] {
        let stage = Stage::new();
        stage.file("identity.py", IDENTITY);
        let files = stage.file("public/style.css", "body {}").with_file_name("");
        let port = free_port();
        let mut command = wsgictl(&stage, port);
        command.args([
            "identity:application",
            "--daemon",
            "--threads",
            "3",
            "--processes",
            processes,
        ]);
        command
            .arg("--static")
            .arg(format!("/static={}", files.display()));
        command.arg("--working-directory").arg(stage.path());
        let is_root = getuid().is_root();
        if is_root {
            command.args(["--user", "daemon"]);
        }
        let server = Subject::start(command, port, stage.path());
        let told = server.page("/");
        let words: Vec<&str> = told.split(' ').collect();
        assert_eq!(words[2..4], ["application", multiprocess], "{told}");
        if is_root {
            let daemon = User::from_name("daemon")
                .expect("looked up")
                .expect("it is there");
            assert_eq!(words[..2], ["daemon", &daemon.gid.to_string()], "{told}");
        }
        // The process is none of httpd's children, which have no Python.
        let title = fs::read_to_string(format!("/proc/{}/cmdline", words[4])).expect("it runs");
        assert!(title.starts_with("(wsgi:application)"), "{title}");
        assert_eq!(server.page("/static/style.css"), "body {}");
        let said = server.said();
        assert!(
            said.contains("x 3 threads") && said.contains("wsgictl restart application"),
            "{said}"
        );
        server.end(Signal::TERM);
    }
}

#[test]
fn a_callable_in_a_module_below_a_mount_point() {
    let stage = Stage::new();
    stage.file("shop/web.py", APP);
    let port = free_port();
    let mut command = wsgictl(&stage, port);
    command.args([
        "shop.web:application",
        "--mount-point",
        "/shop",
        "--no-access-log",
        "--working-directory",
    ]);
    command.arg(stage.path());
    let server = Subject::start(command, port, stage.path());
    assert_eq!(server.page("/shop/cart"), "/shop|/cart||True\n");
    assert_eq!(server.get("/").0, 403);
    let stdout = server.stdout.clone();
    let status = server.end_by(Signal::TERM);
    assert!(status.success());
    assert_eq!(fs::read_to_string(stdout).expect("output"), "");
}

#[test]
fn httpd_ends_with_a_killed_wsgictl() {
    let stage = Stage::new();
    let script = stage.file("app.wsgi", APP);
    let port = free_port();
    let mut command = wsgictl(&stage, port);
    command.arg(script);
    let server = Subject::start(command, port, stage.path());
    assert!(!server.end_by(Signal::KILL).success());
}

#[test]
fn the_printed_configuration_is_accepted_by_httpd() {
    let stage = Stage::new();
    let script = stage.file("app.wsgi", APP);
    let root = stage.path().join("root");
    let mut command = wsgictl(&stage, 8000);
    command
        .arg(script)
        .args(["--print-config", "--server-root"])
        .arg(&root)
        .stdout(Stdio::piped());
    let output = command.output().expect("wsgictl runs");
    assert!(output.status.success());
    assert!(!root.exists(), "printing must not write");
    fs::create_dir(&root).expect("a folder");
    let conf = stage.file(
        "httpd.conf",
        &String::from_utf8(output.stdout).expect("text"),
    );
    let check = Command::new(format!("{}/{}", apxs("SBINDIR"), apxs("PROGNAME")))
        .args(["-t", "-f"])
        .arg(conf)
        .output()
        .expect("httpd runs");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
}

#[test]
fn a_problem_is_one_message_and_no_server() {
    let stage = Stage::new();
    let script = stage.file("app.wsgi", APP).display().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for (arguments, expected) in [
        (
            vec![script.as_str()],
            format!("port {port} on 127.0.0.1 is in use"),
        ),
        (
            vec!["/no/such/app.wsgi"],
            "/no/such/app.wsgi: there is no such file".into(),
        ),
        (
            vec![&script, "--python", "/var"],
            "there is no Python here".into(),
        ),
        (
            vec![&script, "--mpm", "prefork", "--threads", "5"],
            "a child of the prefork MPM has one thread".into(),
        ),
        (
            vec![&script, "--mpm", "prefork", "--daemon"],
            "each client would take a process of httpd, too".into(),
        ),
        (
            vec![&script, "--static", "files"],
            "--static files: this is not /URL=PATH".into(),
        ),
        (
            vec![&script, "--httpd", "/no/such/httpd"],
            "--httpd /no/such/httpd: there is no such file".into(),
        ),
    ] {
        let said = refusal(wsgictl(&stage, port).args(arguments));
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn root_is_told_what_the_server_could_not_read() {
    if !getuid().is_root() {
        return;
    }
    let stage = Stage::new();
    let script = stage.file("home/app.wsgi", APP);
    let home = stage.path().join("home");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("chmod");
    let said = refusal(wsgictl(&stage, free_port()).arg(script));
    assert!(
        said.contains(&format!(
            "the folder {} does not let it through",
            home.display()
        )),
        "{said}"
    );
}

fn wsgictl(stage: &Stage, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgictl"));
    command
        .arg("serve")
        .arg("--module")
        .arg(stage.module())
        .arg("--port")
        .arg(port.to_string());
    command.env_remove("VIRTUAL_ENV");
    command
}

/// Runs a command that must fail and returns its message.
fn refusal(command: &mut Command) -> String {
    let output = command.output().expect("wsgictl runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).expect("text")
}
