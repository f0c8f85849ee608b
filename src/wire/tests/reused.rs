//! A connection between two requests, and one that takes no further one.

use super::*;
use crate::{Why, send_elsewhere, send_go_away};

/// Sends the child what a process has to say before its request.
fn ask_after(bytes: &[u8]) -> (Result<Exchanged, Lost>, OwnedFd) {
    let (ours, theirs) = pair();
    rustix::io::write(&theirs, bytes).expect("room");
    (ask(&connection(ours), &Client::default()), theirs)
}

/// Nothing is sent to a process that has said on the idle connection that it drains, or has broken the protocol.
#[test]
fn what_comes_on_an_idle_connection() {
    let (exchanged, theirs) = ask_after(&empty(Kind::GoAway));
    assert_eq!(exchanged, Ok(Exchanged::Elsewhere(Why::Draining)));
    assert!(read_to_end(theirs).is_empty());

    for bytes in [
        empty(Kind::Elsewhere),
        good_head(),
        frame(Kind::Log, 0, |to| to.byte(b'x')),
        // A part of a frame.
        vec![0; 3],
    ] {
        let (exchanged, theirs) = ask_after(&bytes);
        let lost = exchanged.expect_err("a violation");
        assert_eq!(
            lost.error,
            WireError::Violation("a frame without a request")
        );
        assert!(!lost.was_begun);
        assert!(read_to_end(theirs).is_empty());
    }
}

/// A request that crosses the `GoAway` of its process is sent elsewhere.
#[test]
fn a_process_that_drains_refuses() {
    for why in [Why::Draining, Why::Full] {
        let (ours, theirs) = pair();
        let theirs = connection(theirs);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_readable(theirs.as_fd());
                send_go_away(&theirs).expect("sent");
                wait_for(&theirs, &mut RequestBuffer::default()).expect("a request");
                send_elsewhere(&theirs, why).expect("sent");
            });
            let client = Client::default();
            let exchanged = ask(&connection(ours), &client);
            assert_eq!(exchanged, Ok(Exchanged::Elsewhere(why)));
            assert!(client.calls.borrow().is_empty());
        });
    }
}

/// A process that says `GoAway` and runs the request all the same ends the connection with it.
#[test]
fn a_connection_is_not_used_after_go_away() {
    let (ours, theirs) = pair();
    let theirs = connection(theirs);
    let exchanged = std::thread::scope(|scope| {
        scope.spawn(|| {
            serve_one(&theirs, |remote| {
                remote.start_response(&head(&[]));
                // Ahead of the head, which is held back.
                send_go_away(&theirs).expect("sent");
                remote.write(&[], WriteEnd::End);
                RunOutcome::Responded
            });
        });
        ask(&connection(ours), &Client::default())
    });
    let (ended, is_reusable) = (ended(RunOutcome::Responded), false);
    assert_eq!(exchanged, Ok(Exchanged::Ended { ended, is_reusable }));
}

/// What follows the end of a request belongs to no request.
#[test]
fn what_follows_an_end() {
    for (after, is_reusable) in [
        (Vec::new(), true),
        (good_head(), false),
        (empty(Kind::GoAway), false),
        (vec![0], false),
    ] {
        let client = Client::default();
        let bytes = [
            good_head(),
            chunk(b"", WriteEnd::End),
            end_of(RunOutcome::Responded),
            after,
        ]
        .concat();
        let ended = ended(RunOutcome::Responded);
        assert_eq!(
            answer(&client, &bytes, &[]),
            Ok(Exchanged::Ended { ended, is_reusable })
        );
        assert_eq!(client.calls.borrow().len(), 2);
    }
}

/// What was sent for the last request when it had just ended does not harm the next one.
#[test]
fn one_request_after_the_other() {
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                serve_one(&theirs, |remote| {
                    remote.start_response(&head(&[]));
                    remote.write(&[Bytes::new(b"answer")], WriteEnd::End);
                    RunOutcome::Responded
                });
            }
        });
        for _ in 0..3 {
            let client = Client::with_results([HostResult::failed(Fault::Gone, "")]);
            assert_eq!(ask(&ours, &client), Ok(ENDED));
            assert_eq!(client.written(), b"answer");
        }
    });
}
