//! Files that other users have planted or that are truncated while `wsgictl` reads, and the escaping for terminals.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wsgi_telemetry::board::ChildState;
use wsgi_telemetry::{Owner, Phase};

use super::server::Server;
use super::{printed, refused, wsgictl};

const STRANGER: u32 = 54_321;

fn commands() -> [&'static [&'static str]; 6] {
    [
        &["status"],
        &["status", "--json"],
        &["metrics"],
        &["top", "--count", "1"],
        &["reload", "--timeout", "1"],
        &["stack", "1"],
    ]
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_file_of_another_user_is_not_believed() {
    if !is_root() {
        return; // Files cannot be given away.
    }
    let server = Server::new(std::process::id());
    chown(server.path(), Some(STRANGER), None).expect("given away");
    for command in commands() {
        let said = refused(&wsgictl(command, server.path()));
        assert!(
            said.contains("belongs to another user (uid 54321)"),
            "{said}"
        );
        assert!(said.contains(&*server.path().to_string_lossy()), "{said}");
        assert!(said.contains("sudo -u '#54321' wsgictl"), "{said}");
    }
    // A link that another user made to root's file leads to root's file.
    chown(server.path(), Some(0), None).expect("taken back");
    let link = server.path().with_file_name("link");
    symlink(server.path(), &link).expect("a link");
    printed(&wsgictl(&["status"], &link));
}

#[test]
fn a_file_that_others_may_write_is_not_believed() {
    let server = Server::new(std::process::id());
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
    };
    for wrong in [0o660, 0o662, 0o602] {
        mode(server.path(), wrong);
        for command in commands() {
            let said = refused(&wsgictl(command, server.path()));
            assert!(
                said.contains(&format!("may write to it (mode {wrong:04o})")),
                "{said}"
            );
        }
    }
    mode(server.path(), 0o640);
    printed(&wsgictl(&["status"], server.path()));
    let folder = server.path().parent().expect("a folder");
    mode(folder, 0o777);
    let said = refused(&wsgictl(&["status"], server.path()));
    assert!(
        said.contains("every user may write to the folder"),
        "{said}"
    );
    assert!(
        said.contains(&format!("chmod o-w {}", folder.display())),
        "{said}"
    );
    // As in /tmp: every user may make files there, but may not move those of others.
    mode(folder, 0o1777);
    printed(&wsgictl(&["status"], server.path()));
}

#[test]
fn the_memory_is_that_of_the_files_owner_or_is_not_looked_at() {
    if !is_root() {
        return;
    }
    let server = Server::new(std::process::id());
    server.requests(3, "2xx");
    server.publish();
    // The memory behind the descriptor belongs to another user, whatever the file says: the copy is shown.
    let descriptor = fs::read_dir("/proc/self/fd")
        .expect("open files")
        .find_map(|entry| {
            let entry = entry.ok()?;
            let found = fs::metadata(entry.path()).ok()?;
            (std::os::unix::fs::MetadataExt::ino(&found) == server.inode()).then_some(entry.path())
        });
    chown(descriptor.expect("it is open"), Some(STRANGER), None).expect("given away");
    server.requests(4, "2xx");
    let text = printed(&wsgictl(&["status"], server.path()));
    assert!(text.contains("3 requests"), "{text}");
    assert!(text.contains("may be ten seconds old"), "{text}");
    let said = refused(&wsgictl(&["reload"], server.path()));
    assert!(
        said.contains("is not where the file says, or is another user's"),
        "{said}"
    );
}

/// The folder of `wsgictl serve` has a known name, so another user may have made it first.
#[test]
fn a_planted_folder_is_not_searched() {
    let top = tempfile::tempdir().expect("a folder");
    let uid = rustix::process::geteuid().as_raw();
    let base = top.path().join(format!("wsgictl-{uid}"));
    let server = Server::new(std::process::id());
    let place = base.join("127.0.0.1-8000");
    fs::create_dir_all(&place).expect("folders");
    let found = || {
        Command::new(env!("CARGO_BIN_EXE_wsgictl"))
            .arg("status")
            .env("TMPDIR", top.path())
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null())
            .output()
            .expect("wsgictl runs")
    };
    symlink(server.path(), place.join("mod_wsgi_rs.segment")).expect("a link");
    fs::set_permissions(&base, Permissions::from_mode(0o777)).expect("permissions");
    let said = String::from_utf8_lossy(&found().stderr).into_owned();
    if Path::new("/run/apache2/mod_wsgi_rs.segment").exists() {
        return; // A real server on this machine was found.
    }
    assert!(
        said.contains("may be written to by others (mode 0777)"),
        "{said}"
    );
    assert!(said.contains(&*base.to_string_lossy()), "{said}");
    fs::set_permissions(&base, Permissions::from_mode(0o700)).expect("permissions");
    printed(&found());
    if is_root() {
        chown(&base, Some(STRANGER), None).expect("given away");
        let said = refused(&found());
        assert!(
            said.contains("belongs to another user (uid 54321)"),
            "{said}"
        );
    }
}

/// An ended server has left a file, which is truncated again and again while `top` reads it.
#[test]
fn a_file_that_is_cut_ends_no_reader() {
    let mut child = Command::new("true").spawn().expect("true runs");
    let gone = child.id();
    child.wait().expect("it ends");
    let server = Server::new(gone);
    let file = OpenOptions::new()
        .write(true)
        .open(server.path())
        .expect("opened");
    let whole = file.metadata().expect("metadata").len();
    for length in [0, 1, 4095, 4096, 4097, whole / 2, whole - 1] {
        server.publish();
        let mut top = Command::new(env!("CARGO_BIN_EXE_wsgictl"))
            .args(["top", "--interval", "0.1", "--segment"])
            .arg(server.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wsgictl runs");
        // `top` has begun to read, or will find the file truncated: both are right.
        std::thread::sleep(Duration::from_millis(150));
        file.set_len(length).expect("cut");
        let output = top.wait_with_output_within(Duration::from_secs(60));
        assert_eq!(output.0, Some(1), "{length}: {}", output.1);
        assert!(
            output.1.contains("was cut") || output.1.contains("shorter than it says"),
            "{length}: {}",
            output.1
        );
    }
}

trait Within {
    fn wait_with_output_within(&mut self, limit: Duration) -> (Option<i32>, String);
}

impl Within for std::process::Child {
    /// Returns exit status and standard error.
    fn wait_with_output_within(&mut self, limit: Duration) -> (Option<i32>, String) {
        let end = Instant::now() + limit;
        let status = loop {
            match self.try_wait().expect("a child") {
                Some(status) => break status,
                None if Instant::now() > end => {
                    self.kill().expect("killed");
                    panic!("it does not end");
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut said = String::new();
        let mut pipe = self.stderr.take().expect("a pipe");
        std::io::Read::read_to_string(&mut pipe, &mut said).expect("UTF-8");
        (status.code(), said)
    }
}

/// The server's file is made shorter than the mapping: processes that have mapped the memory go on.
#[test]
fn a_cut_file_does_not_reach_the_memory() {
    let server = Server::new(std::process::id());
    fs::write(server.path(), "").expect("cut");
    server.requests(2, "2xx");
    assert!(refused(&wsgictl(&["status"], server.path())).contains("shorter than it says"));
    server.publish();
    let text = printed(&wsgictl(&["status"], server.path()));
    assert!(text.contains("2 requests"), "{text}");
}

const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{7f}\u{9b}2J\u{202e}gpj.\u{200b}\r";

/// Runs wsgictl with its own terminal, and returns what the terminal gets.
fn on_a_terminal(arguments: &[&str], segment: &Path) -> String {
    let command = format!(
        "'{}' {} --segment '{}'",
        env!("CARGO_BIN_EXE_wsgictl"),
        arguments.join(" "),
        segment.display()
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .expect("script runs");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Removes wsgictl's own control sequences: its colours, and the screen of `top`.
fn without_own(text: &str) -> String {
    // The terminal itself makes two characters of a line feed.
    let mut text = text.replace("\r\r\n", "\n").replace("\r\n", "\n");
    for own in [
        "\u{1b}[0m",
        "\u{1b}[1m",
        "\u{1b}[2m",
        "\u{1b}[31m",
        "\u{1b}[1;31m",
        "\u{1b}[1;32m",
        "\u{1b}[1;33m",
        "\u{1b}[?1049h",
        "\u{1b}[?25l",
        "\u{1b}[H",
        "\u{1b}[K",
        "\u{1b}[J",
        "\u{1b}[?25h",
        "\u{1b}[?1049l",
    ] {
        text = text.replace(own, "");
    }
    text
}

#[test]
fn a_terminal_is_shown_what_others_have_named() {
    let server = Server::new(std::process::id());
    server.run(HOSTILE, Phase::Writing, 1.0);
    let segment = server.segment();
    let board = segment.board();
    let slot = board.enter(Owner::of_this_process(0), 1).expect("a place");
    slot.set_state(ChildState::Ready);
    board
        .group(HOSTILE.as_bytes())
        .expect("room")
        .set_plan(HOSTILE);
    // As a child could write it: a label value with anything in it.
    server.custom(HOSTILE);
    let plain = |text: &str, context: &str| {
        let obeyed = |c: char| {
            c != '\n' && c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        };
        let found = text.chars().find(|&c| obeyed(c));
        assert_eq!(found, None, "{context}: {text:?}");
    };
    let exact = printed(&wsgictl(&["metrics"], server.path()));
    assert!(exact.contains("owned"), "{exact}");
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["metrics"],
        &["metrics", "--openmetrics"],
        &["top", "--count", "1"],
        &["top", "--count", "1", "--json"],
        &["reload", "--timeout", "1", "'x\u{1b}[31m'"],
    ] {
        let text = without_own(&on_a_terminal(arguments, server.path()));
        assert!(!text.is_empty());
        plain(&text, &format!("{arguments:?}"));
    }
    let text = on_a_terminal(&["metrics"], server.path());
    assert!(text.contains("\\u{1b}]0;owned\\u{7}"), "{text}");
    // Programs get the exposition unchanged.
    assert!(exact.contains("\u{1b}]0;owned\u{7}"), "{exact:?}");
}

/// The server answers reload with texts that must be escaped.
#[test]
fn what_a_reload_says_is_shown() {
    use wsgi_telemetry::board::{Board, ReloadRequest, RollPhase};
    let server = Server::new(std::process::id());
    let refuse = |board: Board, _: &[ReloadRequest]| {
        super::reload::roll(board, RollPhase::Stopped, 0, HOSTILE);
        board.settle_requests();
    };
    let output =
        super::reload::with_reloader(&server, refuse, || wsgictl(&["reload"], server.path()));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    assert!(said.contains("owned"), "{said}");
    assert!(
        said.chars().all(|c| c == '\n' || !c.is_control()),
        "{said:?}"
    );
}
