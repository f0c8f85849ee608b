//! The response, the log, and what the child says about the client.

use super::*;
use crate::limits;

#[test]
fn a_response_arrives_as_it_was_sent() {
    let client = Client::default();
    let exchanged = run_simple(&client, |remote| {
        let headers = [header("Content-Type", "text/plain"), header("X-Empty", "")];
        let head = ResponseHead {
            status: 404,
            status_line: Bytes::new(b"404 Not Found"),
            content_length: 7,
            ..head(&headers)
        };
        remote.start_response(&head);
        remote.write(&[Bytes::new(b"abc"), Bytes::new(b"def")], WriteEnd::More);
        remote.flush();
        remote.write(&[Bytes::new(b"g")], WriteEnd::End);
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let calls = [
        Call::Head {
            status: 404,
            line: "404 Not Found".into(),
            headers: vec![pair("Content-Type", "text/plain"), pair("X-Empty", "")],
            length: 7,
        },
        Call::Write(b"abc".to_vec(), WriteEnd::More),
        Call::Write(b"def".to_vec(), WriteEnd::More),
        Call::Flush,
        Call::Write(b"g".to_vec(), WriteEnd::End),
    ];
    assert_eq!(*client.calls.borrow(), calls);
}

/// Head, body and end of a small response are sent together.
#[test]
fn a_small_response_is_one_write() {
    let (ours, theirs) = pair();
    let process = connection(theirs);
    let count = || {
        let flags = rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(&ours, &mut [0; 4096], flags).map_or(0, |(count, _)| count)
    };
    begin(&ours, &process, |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"hello")], WriteEnd::End);
        assert_eq!(count(), 0);
        remote.end(&ended(RunOutcome::Responded)).expect("sent");
    });
    assert!(count() > 0);
    assert_eq!(count(), 0);
}

#[test]
fn chunks_at_their_limit() {
    for length in [
        0,
        1,
        limits::CHUNK - 1,
        limits::CHUNK,
        limits::CHUNK + 1,
        5 * limits::CHUNK,
    ] {
        let client = Client::default();
        let body = vec![b'x'; length];
        let exchanged = run_simple(&client, |remote| {
            remote.start_response(&head(&[]));
            remote.write(&[Bytes::new(&body)], WriteEnd::End);
            RunOutcome::Responded
        });
        assert_eq!(exchanged, Ok(ENDED));
        assert!(client.written() == body, "{length}");
        let calls = client.calls.borrow();
        let ends = calls
            .iter()
            .filter(|call| matches!(call, Call::Write(_, WriteEnd::End)));
        assert_eq!(ends.count(), 1, "{length}");
    }
}

/// After the client has left, or httpd has answered itself, the application is told at its next call.
#[test]
fn a_refusal_reaches_the_application() {
    for (refusal, status) in [
        (HostResult::unwanted(), wsgi_abi::HostStatus::Unwanted),
        (
            HostResult::failed(Fault::Gone, "it left"),
            wsgi_abi::HostStatus::Failed,
        ),
    ] {
        let client = Client::with_results([refusal]);
        let exchanged = run_simple(&client, |remote| {
            remote.start_response(&head(&[]));
            let mut writes = 0;
            let found = loop {
                let result = remote.write(&[Bytes::new(b"more")], WriteEnd::Flush);
                if result.status != wsgi_abi::HostStatus::Ok {
                    break result;
                }
                writes += 1;
                assert!(writes < 1_000_000, "it is never told");
            };
            assert_eq!(found.status, status);
            if found.status == wsgi_abi::HostStatus::Failed {
                assert_eq!(
                    (found.fault, found.reason()),
                    (Fault::Gone, "it left".into())
                );
            }
            RunOutcome::Responded
        });
        assert_eq!(exchanged, Ok(ENDED));
        // The child makes no further call for it.
        let calls = client.calls.borrow();
        let writes = calls.iter().filter(|call| matches!(call, Call::Write(..)));
        assert_eq!(writes.count(), 1);
    }
}

/// Also while frames keep arriving.
#[test]
fn a_client_that_leaves_is_noticed_between_frames() {
    let client = Client {
        presence: Some(Presence::Gone),
        ..Client::default()
    };
    let exchanged = run_simple(&client, |remote| {
        for _ in 0..120 {
            if remote.client_presence() == Presence::Gone {
                return RunOutcome::ClientLeft;
            }
            remote.log(Level::Error, b"still there");
            std::thread::sleep(Duration::from_millis(500));
        }
        RunOutcome::Failed
    });
    let left = ended(RunOutcome::ClientLeft);
    assert!(matches!(exchanged, Ok(Exchanged::Ended { ended, .. }) if ended == left));
}

#[test]
fn a_client_that_leaves_is_noticed() {
    for presence in [Presence::HalfClosed, Presence::Gone] {
        let client = Client {
            presence: Some(presence),
            ..Client::default()
        };
        let exchanged = run_simple(&client, |remote| {
            while remote.client_presence() == Presence::Here {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(remote.client_presence(), presence);
            RunOutcome::ClientLeft
        });
        assert!(matches!(exchanged, Ok(Exchanged::Ended { .. })));
    }
}

#[test]
fn a_response_is_cut_and_a_request_given_up() {
    let client = Client::default();
    let exchanged = run_simple(&client, |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"half")], WriteEnd::More);
        remote.cut_response();
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.calls.borrow().last(), Some(&Call::Cut));

    let client = Client::default();
    let exchanged = run_simple(&client, |remote| {
        remote.give_up();
        RunOutcome::GivenUp
    });
    let given_up = Exchanged::Ended {
        ended: ended(RunOutcome::GivenUp),
        is_reusable: false,
    };
    assert_eq!(exchanged, Ok(given_up));
    assert_eq!(*client.calls.borrow(), [Call::GiveUp]);
}

/// A value goes over the wire as its number, which is its index in the table.
#[test]
fn tables_are_in_order() {
    use crate::response::{LEVELS, OUTCOMES, PRESENCES, WRITE_ENDS, number_of};
    fn check<T: Copy>(values: &[T], number: impl Fn(T) -> u8) {
        for (at, value) in values.iter().enumerate() {
            assert_eq!(usize::from(number(*value)), at);
        }
    }
    check(&Fault::ALL, |value| value as u8);
    check(&PRESENCES, |value| value as u8);
    check(&WRITE_ENDS, |value| value as u8);
    check(&OUTCOMES, |value| value as u8);
    check(&LEVELS, number_of);
    check(&crate::request::KEY_KINDS, |value| value as u8);
    check(&Kind::ALL, |value| value as u8);
    check(&crate::Why::ALL, |value| value as u8);
}
