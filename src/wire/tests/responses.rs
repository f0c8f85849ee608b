//! The response, the log, and what the child says about the client.

use std::io::Write;

use super::*;
use crate::{Why, go_away, limits, refuse};

#[test]
fn a_response_arrives_as_it_was_sent() {
    let client = Client::default();
    let exchanged = run(&client, PackedBody::default(), |remote| {
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
    let mut request = Vec::new();
    let run = simple(&[]);
    let packed = PackedRequest {
        run: &run,
        level: Level::Info,
        body: PackedBody::default(),
    };
    crate::request::pack_request(&mut request, &packed).expect("it is short");
    rustix::io::write(&ours, &request).expect("room");
    let mut arrived = [0; 4096];
    let mut count = || {
        let flags = rustix::net::RecvFlags::DONTWAIT;
        rustix::net::recv(&ours, &mut arrived, flags).map_or(0, |(count, _)| count)
    };
    let mut buffer = RequestBuffer::default();
    wait_for(&process, &mut buffer).expect("a request");
    let request = buffer.request().expect("a request");
    let remote = RemoteRequest::new(&process, &request, PATIENCE);
    remote.start_response(&head(&[]));
    remote.write(&[Bytes::new(b"hello")], WriteEnd::End);
    assert_eq!(count(), 0);
    let times = EndedTimes::default();
    let outcome = RunOutcome::Responded;
    remote.end(&Ended { outcome, times }).expect("sent");
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
        let exchanged = run(&client, PackedBody::default(), |remote| {
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

/// Headers of 64 KiB, which break mod_wsgi's daemon mode, are nothing special; those that are longer than a frame may
/// be are a failure of their own.
#[test]
fn long_headers() {
    for (length, fits) in [(64 << 10, true), (1 << 20, true), (limits::HEAD, false)] {
        let client = Client::default();
        let value = "x".repeat(length);
        let exchanged = run(&client, PackedBody::default(), |remote| {
            let headers = [header("X-Long", &value)];
            let result = remote.start_response(&head(&headers));
            assert_eq!(result.status == wsgi_abi::HostStatus::Ok, fits, "{length}");
            if !fits {
                assert_eq!(
                    result.reason(),
                    "the headers of the response are longer than 16 MiB"
                );
                return RunOutcome::Failed;
            }
            remote.write(&[], WriteEnd::End);
            RunOutcome::Responded
        });
        assert_eq!(exchanged == Ok(ENDED), fits, "{length}");
        assert_eq!(client.calls.borrow().len(), if fits { 2 } else { 0 });
    }
}

#[test]
fn a_file_is_read_by_the_child() {
    let client = Client::default();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"0123456789").expect("room");
    let exchanged = run(&client, PackedBody::default(), |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"before ")], WriteEnd::More);
        assert_eq!(
            remote.send_file(file.into(), 2, 5).status,
            wsgi_abi::HostStatus::Ok
        );
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.written(), b"before 23456");
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
        let exchanged = run(&client, PackedBody::default(), |remote| {
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

#[test]
fn a_client_that_leaves_is_noticed() {
    for presence in [Presence::HalfClosed, Presence::Gone] {
        let client = Client {
            presence: Some(presence),
            ..Client::default()
        };
        let exchanged = run(&client, PackedBody::default(), |remote| {
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
fn lines_of_the_log() {
    let client = Client::default();
    let exchanged = run(&client, PackedBody::default(), |remote| {
        remote.log(Level::Error, b"an error");
        remote.log_beside(Level::Info, b"information");
        // The log takes lines up to `info`.
        remote.log(Level::Debug, b"nobody reads this");
        remote.log(Level::Warning, &vec![b'x'; limits::LINE + 1]);
        remote.start_response(&head(&[]));
        remote.write(&[], WriteEnd::End);
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
    let calls = client.calls.borrow();
    assert_eq!(calls[0], Call::Log(Level::Error, "an error".into()));
    assert_eq!(calls[1], Call::Log(Level::Info, "information".into()));
    assert_eq!(
        calls[2],
        Call::Log(Level::Warning, "x".repeat(limits::LINE))
    );
    assert_eq!(calls.len(), 5);
}

#[test]
fn a_response_is_cut_and_a_request_given_up() {
    let client = Client::default();
    let exchanged = run(&client, PackedBody::default(), |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"half")], WriteEnd::More);
        remote.cut_response();
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.calls.borrow().last(), Some(&Call::Cut));

    let client = Client::default();
    let exchanged = run(&client, PackedBody::default(), |remote| {
        remote.give_up();
        RunOutcome::GivenUp
    });
    let given_up = Exchanged::Ended {
        ended: Ended {
            outcome: RunOutcome::GivenUp,
            times: EndedTimes::default(),
        },
        is_reusable: false,
    };
    assert_eq!(exchanged, Ok(given_up));
    assert_eq!(*client.calls.borrow(), [Call::GiveUp]);
}

/// A request that crosses the `GoAway` of its process is sent elsewhere.
#[test]
fn a_process_that_drains_refuses() {
    for why in [Why::Draining, Why::Full] {
        let (ours, theirs) = pair();
        let (ours, theirs) = (connection(ours), connection(theirs));
        go_away(&theirs).expect("sent");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_for(&theirs, &mut RequestBuffer::default()).expect("a request");
                refuse(&theirs, why).expect("sent");
            });
            let client = Client::default();
            let run = simple(&[]);
            let packed = PackedRequest {
                run: &run,
                level: Level::Info,
                body: PackedBody::default(),
            };
            let exchanged = exchange(&ours, &packed, &client, PATIENCE);
            assert_eq!(exchanged, Ok(Exchanged::Elsewhere(why)));
            assert!(client.calls.borrow().is_empty());
        });
    }
}

/// A process that says `GoAway` and runs the request all the same ends the connection with it.
#[test]
fn a_connection_is_not_used_after_go_away() {
    let client = Client::default();
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    let exchanged = std::thread::scope(|scope| {
        scope.spawn(|| {
            serve_one(&theirs, |remote| {
                go_away(&theirs).expect("sent");
                remote.start_response(&head(&[]));
                remote.write(&[], WriteEnd::End);
                RunOutcome::Responded
            });
        });
        let run = simple(&[]);
        let packed = PackedRequest {
            run: &run,
            level: Level::Info,
            body: PackedBody::default(),
        };
        exchange(&ours, &packed, &client, PATIENCE)
    });
    assert!(matches!(
        exchanged,
        Ok(Exchanged::Ended {
            is_reusable: false,
            ..
        })
    ));
}
