//! `wsgictl reload`, with a thread of the test as the reloader.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::board::{Board, GroupDecision, ReloadRequest, RetireReason, Roll, RollPhase};
use wsgi_telemetry::{Owner, Phase, clock};

use super::server::Server;
use super::{printed, refused, wsgictl};

/// Runs `test` while a reloader lives, which calls `work` with all requests that it takes at once.
pub(crate) fn with_reloader<T>(
    server: &Server,
    work: impl Fn(Board, &[ReloadRequest]) + Send,
    test: impl FnOnce() -> T,
) -> T {
    let board = server.segment().board();
    let done = AtomicBool::new(false);
    let done = &done;
    thread::scope(|scope| {
        scope.spawn(move || {
            while !done.load(Relaxed) {
                board.beat(clock::now());
                let requests = board.take_requests();
                if !requests.is_empty() {
                    work(board, &requests);
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        // The reloader ends even if the test fails.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _end = End(done);
        test()
    })
}

pub(crate) fn roll(board: Board, phase: RollPhase, done: u32, problem: &str) {
    let ended = matches!(phase, RollPhase::Done | RollPhase::Stopped);
    board.set_roll(&Roll {
        phase,
        revision: board.revision(),
        done,
        of: 3,
        tried: 2,
        untried: 0,
        began: clock::unix(),
        ended: if ended { clock::unix() } else { 0 },
        cause: String::from("wsgictl reload asked for it"),
        problem: problem.to_owned(),
    });
    // Long enough to be seen.
    thread::sleep(Duration::from_millis(300));
}

/// A roll in which all goes well.
fn replace_three(board: Board, _: &[ReloadRequest]) {
    board.raise_revision();
    roll(board, RollPhase::Trial, 0, "");
    for done in 0..3 {
        roll(board, RollPhase::Rolling, done, "");
    }
    roll(board, RollPhase::Done, 3, "");
}

#[test]
fn each_step_is_told_until_all_children_are_replaced() {
    let server = Server::new(std::process::id());
    let check = |board: Board, requests: &[ReloadRequest]| {
        let wanted = ReloadRequest {
            group: None,
            reason: RetireReason::Api,
            what: String::from("wsgictl reload asked for it"),
        };
        assert_eq!(requests, [wanted]);
        replace_three(board, requests);
    };
    let text = with_reloader(&server, check, || {
        printed(&wsgictl(&["reload"], server.path()))
    });
    let lines: Vec<&str> = text.lines().collect();
    let steps = [
        "Trying the new code ...",
        "The new code works; replacing 3 children ...",
        "1 of 3 replaced",
        "2 of 3 replaced",
        "3 of 3 replaced",
    ];
    assert_eq!(&lines[..5], steps, "{text}");
    assert!(
        lines[5].starts_with("Done: 3 children replaced in 1."),
        "{text}"
    );
    assert_eq!(lines.len(), 6);
}

#[test]
fn what_was_not_tried_is_said_and_seen_in_the_exit_status() {
    for (tried, untried, told) in [
        (
            0,
            1,
            "Nothing could be tried, because only requests name the scripts or their application groups; replacing",
        ),
        (
            0,
            0,
            "Nothing could be tried, because only requests name the scripts or their application groups; replacing",
        ),
        (
            1,
            1,
            "The new code of 1 script works; at 1 place of the configuration nothing was tried, because only requests name",
        ),
        (
            3,
            2,
            "The new code of 3 scripts works; at 2 places of the configuration nothing was tried, because only requests name",
        ),
    ] {
        let server = Server::new(std::process::id());
        let replace = |board: Board, _: &[ReloadRequest]| {
            board.raise_revision();
            for phase in [RollPhase::Rolling, RollPhase::Done] {
                board.set_roll(&Roll {
                    phase,
                    revision: board.revision(),
                    done: 1,
                    of: 1,
                    tried,
                    untried,
                    began: clock::unix(),
                    ended: clock::unix(),
                    ..Roll::default()
                });
                thread::sleep(Duration::from_millis(300));
            }
        };
        let output = with_reloader(&server, replace, || wsgictl(&["reload"], server.path()));
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.starts_with(told), "{text}");
        assert!(text.contains("Done: 1 child replaced in"), "{text}");
    }
}

#[test]
fn code_that_is_refused_is_a_failure_with_its_reason() {
    let server = Server::new(std::process::id());
    let refuse = |board: Board, _: &[ReloadRequest]| {
        board.raise_revision();
        roll(board, RollPhase::Trial, 0, "");
        let problem = "the new code does not load: SyntaxError: invalid syntax";
        roll(board, RollPhase::Stopped, 0, problem);
    };
    let output = with_reloader(&server, refuse, || wsgictl(&["reload"], server.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"Trying the new code ...\n");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(
        said,
        "wsgictl: the server has stopped: the new code does not load: SyntaxError: invalid syntax.\n\
         The old code goes on.\n"
    );
    // The result of the first request is not taken for that of the next one.
    let text = with_reloader(&server, replace_three, || {
        printed(&wsgictl(&["reload"], server.path()))
    });
    assert!(text.contains("Done: 3 children"), "{text}");
}

#[test]
fn a_roll_that_had_begun_before_is_not_taken_for_the_one_that_was_asked_for() {
    let server = Server::new(std::process::id());
    let board = server.segment().board();
    board.raise_revision();
    roll(board, RollPhase::Rolling, 1, "");
    let finish_first = |board: Board, requests: &[ReloadRequest]| {
        // The request was taken, but the previous roll ends first.
        roll(board, RollPhase::Done, 3, "");
        // Nothing is recorded of the next roll yet.
        board.raise_revision();
        thread::sleep(Duration::from_millis(300));
        replace_three(board, requests);
    };
    let begun = Instant::now();
    let text = with_reloader(&server, finish_first, || {
        printed(&wsgictl(&["reload"], server.path()))
    });
    assert!(text.starts_with("Trying the new code"), "{text}");
    assert!(begun.elapsed() > Duration::from_millis(1_500));
}

#[test]
fn what_the_server_settles_without_a_roll_is_a_failure() {
    let server = Server::new(std::process::id());
    let settle = |board: Board, _: &[ReloadRequest]| board.settle_requests();
    let said = with_reloader(&server, settle, || {
        refused(&wsgictl(&["reload"], server.path()))
    });
    assert!(said.contains("the server did not start a roll"), "{said}");
    let refuse = |board: Board, _: &[ReloadRequest]| {
        roll(board, RollPhase::Stopped, 0, "there is no such group");
        board.settle_requests();
    };
    let said = with_reloader(&server, refuse, || {
        refused(&wsgictl(&["reload"], server.path()))
    });
    assert!(said.contains("stopped: there is no such group."), "{said}");
}

#[test]
fn without_a_reloader_reload_does_not_wait() {
    let server = Server::new(std::process::id());
    let begun = Instant::now();
    let said = refused(&wsgictl(&["reload"], server.path()));
    assert!(
        said.contains("httpd -X") && said.contains("apachectl graceful"),
        "{said}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(server.segment().board().take_requests(), []);
    let mut child = Command::new("true").spawn().expect("true runs");
    let gone = child.id();
    child.wait().expect("it ends");
    let said = refused(&wsgictl(&["reload"], Server::new(gone).path()));
    assert!(said.contains("the server has ended"), "{said}");
}

#[test]
fn a_group_may_be_named_and_must_exist() {
    let server = Server::new(std::process::id());
    let owner = Owner::of_this_process(0);
    let group = server.segment().board().group(b"admin").expect("room");
    assert!(group.begin_probe(owner) && group.decide(owner, GroupDecision::Own, ""));
    server.run("/x", Phase::Reading, 1.0);
    for (named, group) in [("admin", "admin"), ("main", ""), ("%{GLOBAL}", "")] {
        let check = |board: Board, requests: &[ReloadRequest]| {
            assert_eq!(requests[0].group.as_deref(), Some(group));
            assert!(requests[0].what.ends_with(if group.is_empty() {
                "(main)"
            } else {
                "(admin)"
            }));
            replace_three(board, requests);
        };
        let text = with_reloader(&server, check, || {
            printed(&wsgictl(&["reload", named], server.path()))
        });
        assert!(text.contains("Done"), "{text}");
    }
    let output = with_reloader(&server, replace_three, || {
        wsgictl(&["reload", "shop"], server.path())
    });
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(
        said,
        "wsgictl: the server has no application group shop.\nIt has: main, admin.\n"
    );
    let wrong = wsgictl(&["reload", "--timeout", "0"], server.path());
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn reload_without_waiting_returns_at_once() {
    let server = Server::new(std::process::id());
    let board = server.segment().board();
    board.beat(clock::now());
    let text = printed(&wsgictl(&["reload", "--no-wait"], server.path()));
    assert_eq!(text, "The server was asked to take up new code.\n");
    assert_eq!(board.take_requests().len(), 1);
}

#[test]
fn what_takes_too_long_goes_on_alone() {
    let server = Server::new(std::process::id());
    let slowly = |board: Board, _: &[ReloadRequest]| {
        board.raise_revision();
        roll(board, RollPhase::Rolling, 1, "");
    };
    let output = with_reloader(&server, slowly, || {
        wsgictl(&["reload", "--timeout", "1"], server.path())
    });
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        said.contains("not done within 1 s: 1 of 3 children are replaced"),
        "{said}"
    );
}

#[test]
fn a_restart_replaces_all_children_too() {
    let server = Server::new(std::process::id());
    let segment = server.segment();
    let restart = |_: Board, _: &[ReloadRequest]| segment.begin_generation(1);
    let text = with_reloader(&server, restart, || {
        printed(&wsgictl(&["reload"], server.path()))
    });
    assert!(text.contains("restarted meanwhile"), "{text}");
}

#[test]
fn a_user_who_may_only_read_is_told_which_user_may_ask() {
    let server = Server::new(std::process::id());
    let folder = server.path().parent().expect("a folder");
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("permissions");
    fs::set_permissions(server.path(), Permissions::from_mode(0o444)).expect("permissions");
    let said = if rustix::process::geteuid().is_root() {
        // Root may write to everything, so another user must try. It runs a copy, because the program may be in a
        // folder of root's.
        let program = folder.join("wsgictl");
        fs::copy(env!("CARGO_BIN_EXE_wsgictl"), &program).expect("copied");
        fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("permissions");
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&program)
            .args(["reload", "--segment"])
            .arg(server.path())
            .output()
            .expect("setpriv runs");
        refused(&output)
    } else {
        refused(&wsgictl(&["reload"], server.path()))
    };
    assert!(said.contains("you may not write to it"), "{said}");
    assert!(
        said.contains("Root and the user who started the server may"),
        "{said}"
    );
    let said = refused(&wsgictl(&["reload"], folder));
    assert!(said.contains("this is not a file"), "{said}");
}
