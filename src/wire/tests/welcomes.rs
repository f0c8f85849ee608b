//! The greeting of a connection.

use super::*;
use crate::frame::{Kind, append};
use crate::{Greeting, send_go_away, send_welcome, wait_for_welcome};

#[test]
fn a_process_greets() {
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    send_welcome(&theirs).expect("sent");
    assert_eq!(wait_for_welcome(&ours, PATIENCE), Ok(Greeting::Welcome));
}

#[test]
fn a_supervisor_refuses() {
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    send_go_away(&theirs).expect("sent");
    assert_eq!(wait_for_welcome(&ours, PATIENCE), Ok(Greeting::Refused));
}

#[test]
fn nobody_greets() {
    let (ours, theirs) = pair();
    let ours = connection(ours);
    assert_eq!(
        wait_for_welcome(&ours, Duration::from_millis(10)),
        Ok(Greeting::Nothing)
    );
    drop(theirs);
    let gone = wait_for_welcome(&ours, PATIENCE);
    assert_eq!(gone, Err(WireError::Closed { was_unread: false }));
}

#[test]
fn another_build_greets() {
    for (kind, detail, body) in [
        (Kind::Welcome, 1, "mod_wsgi_rs 9.9.9, contract 0"),
        (Kind::Welcome, 2, wsgi_abi::BUILD_ID),
        (Kind::GoAway, 1, ""),
    ] {
        let (ours, theirs) = pair();
        let mut frame = Vec::new();
        append(&mut frame, kind, detail, |to| {
            to.0.extend_from_slice(body.as_bytes());
        })
        .expect("it is short");
        rustix::io::write(&theirs, &frame).expect("room");
        let greeted = wait_for_welcome(&connection(ours), PATIENCE);
        let what = "it is of another build of the module";
        assert_eq!(greeted, Err(WireError::Violation(what)));
    }
}
