//! `wsgictl status`, `top`, `metrics` and `reload` on segments that the tests have made, without any server.

mod others;
mod reload;
mod server;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use server::Server;
use wsgi_telemetry::board::ChildState;
use wsgi_telemetry::{Owner, Phase};

fn wsgictl(arguments: &[&str], segment: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsgictl"))
        .args(arguments)
        .arg("--segment")
        .arg(segment)
        .env("COLUMNS", "80")
        .stdin(Stdio::null())
        .output()
        .expect("wsgictl runs")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn status_shows_what_runs_and_what_ran() {
    let server = Server::new(std::process::id());
    server.requests(7, "2xx");
    server.requests(2, "5xx");
    server.run("/slow", Phase::InApplication, 252.0);
    let text = printed(&wsgictl(&["status"], server.path()));
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(
        words.join(" ").starts_with(
            "Trouble The only worker is busy; the oldest request has been running for 4 min 12 s (in the application): \
             GET /slow."
        ),
        "{text}"
    );
    assert!(
        text.contains("GET /slow") && text.contains("in the application"),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with("/shop ") && line.contains(" 9 ")),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no colours but for terminals");
}

#[test]
fn status_as_json_has_the_same_numbers() {
    let server = Server::new(std::process::id());
    server.requests(7, "2xx");
    server.requests(2, "5xx");
    server.run("/slow", Phase::Reading, 10.0);
    let json = printed(&wsgictl(&["status", "--json"], server.path()));
    let value: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["totals"]["requests"]["requests"], 9);
    assert_eq!(value["totals"]["requests"]["errors"], 2);
    assert_eq!(value["running"][0]["phase"], "reading the body");
    assert_eq!(value["applications"][0]["label"], "/shop");
    assert_eq!(value["children"][0]["pid"], std::process::id());
    assert!(value["children"][0]["resident_bytes"].as_u64() > Some(100_000));
}

#[test]
fn metrics_are_those_of_a_scrape() {
    let server = Server::new(std::process::id());
    server.requests(7, "2xx");
    let text = printed(&wsgictl(&["metrics"], server.path()));
    assert!(
        text.contains("wsgi_requests_total{app=\"/shop\",method=\"GET\",code=\"2xx\"} 7\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"));
    let open = printed(&wsgictl(&["metrics", "--openmetrics"], server.path()));
    assert!(open.ends_with("# EOF\n"));
}

#[test]
fn top_shows_what_happened_since_the_last_time() {
    let server = Server::new(std::process::id());
    server.requests(100, "2xx");
    let child = Command::new(env!("CARGO_BIN_EXE_wsgictl"))
        .args([
            "top",
            "--json",
            "--count",
            "2",
            "--interval",
            "1.5",
            "--segment",
        ])
        .arg(server.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("wsgictl runs");
    // In the middle of the interval, unless the machine is very slow: then the requests count before the first refresh.
    std::thread::sleep(std::time::Duration::from_millis(700));
    server.requests(30, "2xx");
    let output = child.wait_with_output().expect("it ends");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["recent"].is_null(), "nobody has taken samples");
    let recent = &lines[1]["recent"];
    let before = lines[0]["totals"]["requests"]["requests"]
        .as_u64()
        .expect("a number");
    assert_eq!(recent["requests"].as_u64(), Some(130 - before));
    assert!((1.4..10.0).contains(&recent["duration_seconds"].as_f64().expect("a number")));
}

#[test]
fn top_prints_blocks_where_there_is_no_terminal() {
    let server = Server::new(std::process::id());
    let text = printed(&wsgictl(
        &["top", "--count", "2", "--interval", "0.1"],
        server.path(),
    ));
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("--- 2"))
            .count(),
        2
    );
    assert!(!text.contains('\x1b'));
}

#[test]
fn a_server_that_has_ended_is_said_to_have_ended() {
    // A reaped process, whose pid the kernel does not reuse so soon.
    let mut child = Command::new("true").spawn().expect("true runs");
    let gone = child.id();
    child.wait().expect("it ends");
    let server = Server::new(gone);
    server.requests(3, "2xx");
    server.publish();
    let text = printed(&wsgictl(&["status"], server.path()));
    assert!(
        text.starts_with(&format!(
            "Trouble  The server has ended: its process {gone} is gone."
        )),
        "{text}"
    );
    assert!(
        text.contains("3 requests"),
        "its numbers are still shown:\n{text}"
    );
    // Process 1 is older than any segment, so it passes as the parent; but its memory is not the segment's.
    let text = printed(&wsgictl(&["status"], Server::new(1).path()));
    assert!(!text.contains("has ended"), "{text}");
    assert!(text.contains("may be ten seconds old"), "{text}");
}

#[test]
fn a_server_that_measures_nothing_has_a_status_but_no_metrics() {
    let server = Server::unmeasured();
    let said = refused(&wsgictl(&["metrics"], server.path()));
    assert!(said.contains("WSGIMetrics is off"), "{said}");
    let board = server.segment().board();
    let slot = board.enter(Owner::of_this_process(0), 1).expect("a place");
    slot.set_state(ChildState::Ready);
    let text = printed(&wsgictl(&["status"], server.path()));
    assert!(
        text.starts_with("OK       Nothing is measured here"),
        "{text}"
    );
    let child = format!("{}  ready", std::process::id());
    assert!(text.contains(&child), "{text}");
}

#[test]
fn what_cannot_be_read_is_explained() {
    let server = Server::new(std::process::id());
    let folder = server.path().parent().expect("a folder");
    let missing = folder.join("no.segment");
    assert!(refused(&wsgictl(&["status"], &missing)).contains("there is no such file"));
    assert!(refused(&wsgictl(&["top"], folder)).contains("this is not a file"));
    let text = folder.join("text");
    fs::write(&text, "x".repeat(10_000)).expect("written");
    assert!(refused(&wsgictl(&["metrics"], &text)).contains("no metrics segment"));
    fs::write(&text, "short").expect("written");
    assert!(refused(&wsgictl(&["status"], &text)).contains("shorter than it says"));
    let fifo = folder.join("fifo");
    let made = Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    assert!(refused(&wsgictl(&["status"], &fifo)).contains("this is not a file"));
}

#[test]
fn a_segment_that_lies_about_its_size_is_refused() {
    let server = Server::new(std::process::id());
    let file = OpenOptions::new()
        .write(true)
        .open(server.path())
        .expect("opened");
    let length = file.metadata().expect("metadata").len();
    file.set_len(length - 1).expect("made shorter");
    let said = refused(&wsgictl(&["status"], server.path()));
    assert!(said.contains("shorter than it says"), "{said}");

    let server = Server::new(std::process::id());
    let file = OpenOptions::new()
        .write(true)
        .open(server.path())
        .expect("opened");
    // Number of arenas, and hash of the layout.
    for (word, value, complaint) in [
        (2, 90_000_u64, "shorter than it says"),
        (2, u64::MAX, "no metrics segment"),
        (1, 12_345, "another release"),
    ] {
        file.write_all_at(&value.to_ne_bytes(), word * 8)
            .expect("written");
        let said = refused(&wsgictl(&["status"], server.path()));
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn a_user_who_may_not_read_is_told_which_user_may() {
    let server = Server::new(std::process::id());
    fs::set_permissions(server.path(), Permissions::from_mode(0o640)).expect("permissions");
    let folder = server.path().parent().expect("a folder");
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("permissions");
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(server.path(), Permissions::from_mode(0o040)).expect("permissions");
        assert!(refused(&wsgictl(&["status"], server.path())).contains("the members of the group"));
        return;
    }
    // Root may read everything, so another user must try. It runs a copy, because the program may be in a folder of
    // root's.
    let program = folder.join("wsgictl");
    fs::copy(env!("CARGO_BIN_EXE_wsgictl"), &program).expect("copied");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("permissions");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["status", "--segment"])
        .arg(server.path())
        .output()
        .expect("setpriv runs");
    let said = refused(&output);
    assert!(said.contains("you may not read it"), "{said}");
    assert!(said.contains("the members of the group root may"), "{said}");
}

#[test]
fn a_scribbled_segment_neither_crashes_anything_nor_reaches_the_terminal() {
    let server = Server::new(std::process::id());
    server.run("/x", Phase::Writing, 1.0);
    let geometry = 0..8;
    let words = [
        u64::MAX,
        u64::from_le_bytes(*b"\x1b[31m\x07\r\n"),
        u64::from_le_bytes(*b"<script>"),
        i64::MAX.cast_unsigned(),
        3,
    ];
    for round in 0..words.len() {
        for (at, cell) in server.cells().iter().enumerate() {
            if !geometry.contains(&at) && (at + round) % 3 != 0 {
                let word = words[(at / 2 + round) % words.len()];
                cell.store(word, std::sync::atomic::Ordering::Relaxed);
            }
        }
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["metrics"],
            &["metrics", "--openmetrics"],
            &["top", "--count", "2", "--interval", "0.1"],
        ] {
            let text = printed(&wsgictl(arguments, server.path()));
            let control = text.chars().find(|&c| c != '\n' && c.is_control());
            assert_eq!(control, None, "{arguments:?}, round {round}");
        }
        let json = printed(&wsgictl(&["status", "--json"], server.path()));
        serde_json::from_str::<Value>(&json).expect("JSON");
    }
}
