//! A side that breaks the protocol: one clear error, and nothing else.

use proptest::prelude::*;
use rustix::net::{Shutdown, shutdown};
use wsgi_abi::HostStatus;

use super::*;

#[test]
fn what_a_child_refuses() {
    for (frames, what) in [
        (
            vec![255, 255, 255, 255, 200, 0],
            "a frame is of no known kind",
        ),
        (
            vec![255, 255, 255, 255, Kind::Log as u8, 0],
            "a frame is longer than its kind allows",
        ),
        (empty(Kind::Request), "a frame of the other direction"),
        (empty(Kind::Stopped), "a frame of the other direction"),
        (empty(Kind::Chunk), "a body before its head"),
        (empty(Kind::Flush), "a body before its head"),
        (empty(Kind::Cut), "a response is cut before its head"),
        (end_of(RunOutcome::Responded), "a response without a head"),
        (
            end_of(RunOutcome::GivenUp),
            "a request given up without its frame",
        ),
        ([good_head(), good_head()].concat(), "a second head"),
        (
            [good_head(), empty(Kind::Cut), empty(Kind::Cut)].concat(),
            "a response is cut after its end",
        ),
        (
            [
                good_head(),
                frame(Kind::Chunk, 2, |_| {}),
                empty(Kind::Chunk),
            ]
            .concat(),
            "a body after its end",
        ),
        (
            [good_head(), empty(Kind::Elsewhere)].concat(),
            "a request is refused after its begin",
        ),
        (
            frame(Kind::Elsewhere, 9, |_| {}),
            "a number stands for no value",
        ),
        (empty(Kind::Head), "a frame ends within a value"),
        (
            frame(Kind::Want, 0, |to| to.u64(1)),
            "a frame is longer than its values",
        ),
        (
            head_of(200, "200 OK\r\nX: y", "A", "b"),
            "a status line is not valid",
        ),
        (
            head_of(200, "404 OK", "A", "b"),
            "a status line is not valid",
        ),
        (head_of(200, "200 OK", "A b", "c"), "a header is not valid"),
        (head_of(200, "200 OK", "", "c"), "a header is not valid"),
        (
            head_of(200, "200 OK", "A", "b\r\nSet-Cookie: c"),
            "a header is not valid",
        ),
    ] {
        let client = Client::default();
        let lost = answer(&client, &frames, &[]).expect_err(what);
        assert_eq!(lost.error, WireError::Violation(what));
        assert!(lost.was_begun);
    }
}

#[test]
fn what_a_process_refuses() {
    for kind in [
        Kind::Head,
        Kind::Body,
        Kind::End,
        Kind::GoAway,
        Kind::BodyEnd,
    ] {
        let (ours, theirs) = pair();
        let bytes = frame(kind, 0, |_| {});
        rustix::io::write(&ours, &bytes).expect("room");
        let received = receive(&connection(theirs), &mut RequestBuffer::default());
        assert_eq!(
            received,
            Err(WireError::Violation("a frame without a request"))
        );
    }
    // More than a child sends for the last request before it knows that this has ended.
    let (ours, theirs) = pair();
    rustix::io::write(&ours, &empty(Kind::Presence).repeat(4)).expect("room");
    assert_eq!(
        receive(&connection(theirs), &mut RequestBuffer::default()),
        Err(WireError::Violation("too many frames without a request"))
    );
    let (ours, theirs) = pair();
    rustix::io::write(&ours, &empty(Kind::Request)).expect("room");
    let theirs = connection(theirs);
    let mut buffer = RequestBuffer::default();
    assert_eq!(receive(&theirs, &mut buffer), Ok(true));
    assert!(buffer.request().is_err());
}

/// The answer to a read must fit it, or an application would read without end.
#[test]
fn parts_of_a_body_that_a_process_refuses() {
    for (asked, answer) in [
        (10, empty(Kind::Body)),
        (0, frame(Kind::Body, 0, |to| to.byte(b'x'))),
    ] {
        let (ours, theirs) = pair();
        begin(&ours, &connection(theirs), |remote| {
            rustix::io::write(&ours, &answer).expect("room");
            let result = remote.read_body(&mut vec![0; asked]);
            assert_eq!(
                (result.status, result.fault),
                (HostStatus::Failed, Fault::Gone)
            );
            assert_eq!(
                remote.end(&ended(RunOutcome::Faulted)),
                Err(WireError::Violation(
                    "a part of a body that nothing has asked for, or an empty one"
                ))
            );
        });
        let sent = read_to_end(ours);
        let (frames, _) = frames_of(&sent);
        assert_eq!(frames.len(), 1, "nothing but the question");
    }
}

/// A child that sends without end does not hold a thread that only looks.
#[test]
fn a_look_takes_some_frames() {
    let (ours, theirs) = pair();
    let process = connection(theirs);
    begin(&ours, &process, |remote| {
        let changes = frame(Kind::Presence, Presence::HalfClosed as u8, |_| {}).repeat(1000);
        send(&ours, &changes, &[]);
        assert_eq!(remote.client_presence(), Presence::HalfClosed);
        assert!(!process.incoming().is_empty());
    });
}

/// All of a hundred thousand lines in a row reach the log, in order, and the child keeps none of them.
#[test]
fn many_lines() {
    const LINES: u32 = 100_000;
    let numbers = 0..LINES;
    let lines: Vec<u8> = numbers
        .flat_map(|number| frame(Kind::Log, 4, |to| to.0.extend(number.to_string().bytes())))
        .collect();
    let client = Client::default();
    let lost = answer(&client, &lines, &[]).expect_err("it never ends");
    assert_eq!(lost.error, WireError::Closed { was_unread: false });
    let calls = client.calls.borrow();
    assert!(
        calls
            .iter()
            .enumerate()
            .all(|(number, call)| *call == Call::Log(Level::Info, number.to_string()))
    );
    assert_eq!(calls.len(), LINES as usize);
}

/// Returns frames of any kind with any content, some of them cut.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let one = (
        0_usize..Kind::ALL.len(),
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    let heads = [good_head(), head_with_length(200, 5)];
    let any_frame = one.prop_map(|(kind, detail, body)| {
        let mut bytes = Vec::new();
        let kind = Kind::ALL[kind];
        let body = &body[..body.len().min(kind.limit())];
        append(&mut bytes, kind, detail % 5, |to| {
            to.0.extend_from_slice(body)
        })
        .expect("it fits");
        bytes
    });
    let some = prop_oneof![
        1 => proptest::sample::select(heads.to_vec()),
        8 => any_frame,
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(some, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    /// Whatever a process sends, the child comes to an end, and calls nothing that is not allowed at its place.
    #[test]
    fn any_bytes_to_a_child(bytes in frames()) {
        let client = Client::default();
        let _ = answer(&client, &bytes, &[]);
        let calls = client.calls.borrow();
        let is_body = |call: &Call| {
            matches!(call, Call::Write(..) | Call::Flush | Call::File(_) | Call::Cut)
        };
        let is_head = |call: &Call| matches!(call, Call::Head { .. });
        let is_end = |call: &Call| {
            matches!(call, Call::Write(_, WriteEnd::End | WriteEnd::EndNow) | Call::File(_))
        };
        let heads = calls.iter().filter(|call| is_head(call)).count();
        prop_assert!(heads <= 1);
        if let Some(first) = calls.iter().position(is_body) {
            let head = calls.iter().position(is_head);
            prop_assert!(head.is_some_and(|head| head < first));
        }
        if let Some(end) = calls.iter().position(is_end) {
            let mut after = calls[end + 1..].iter();
            prop_assert!(!after.any(|call| matches!(call, Call::Write(..) | Call::File(_))));
        }
        if let Some(Call::Head { length: length @ 0.., .. }) = calls.iter().find(|call| is_head(call)) {
            let written = client.written().len();
            prop_assert!(written as i64 <= *length);
            let is_short = (written as i64) < *length;
            prop_assert!(!is_short || !calls.iter().any(is_end));
        }
    }

    /// Whatever a child sends, a process comes to an end.
    #[test]
    fn any_bytes_to_a_process(bytes in frames()) {
        let (ours, theirs) = pair();
        rustix::io::write(&ours, &bytes).expect("room");
        shutdown(&ours, Shutdown::Write).expect("a socket");
        let theirs = connection(theirs);
        let mut buffer = RequestBuffer::default();
        while receive(&theirs, &mut buffer).is_ok_and(|arrived| arrived) {
            let Ok(request) = buffer.request() else { break };
            let remote = RemoteRequest::new(&theirs, &request, fallback);
            remote.read_body(&mut [0; 100]);
            remote.client_presence();
            remote.start_response(&head(&[]));
            remote.write(&[Bytes::new(b"body")], WriteEnd::Flush);
            if remote.end(&ended(RunOutcome::Responded)).is_err() {
                break;
            }
        }
    }
}
