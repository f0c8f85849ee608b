//! The head of a response and the length of its body: the child passes on only what the engine could have sent.

use wsgi_abi::HostStatus;

use super::*;
use crate::limits;

/// Headers of 64 KiB, which break mod_wsgi's daemon mode, are nothing special.
#[test]
fn long_headers() {
    for length in [64 << 10, limits::HEAD - 1000] {
        let client = Client::default();
        let value = "x".repeat(length);
        let exchanged = run_simple(&client, |remote| {
            let headers = [header("X-Long", &value)];
            assert_eq!(
                remote.start_response(&head(&headers)).status,
                HostStatus::Ok
            );
            remote.write(&[], WriteEnd::End);
            RunOutcome::Responded
        });
        assert_eq!(exchanged, Ok(ENDED), "{length}");
        assert_eq!(client.calls.borrow().len(), 2);
    }
}

#[test]
fn many_headers() {
    let headers = vec![header("X-Many", "1"); limits::HEADERS + 1];
    for count in [limits::HEADERS, limits::HEADERS + 1] {
        let frame = head_frame(&head(&headers[..count]));
        let client = Client::default();
        let bytes = [
            frame,
            chunk(b"", WriteEnd::End),
            end_of(RunOutcome::Responded),
        ]
        .concat();
        let exchanged = answer(&client, &bytes, &[]);
        if count == limits::HEADERS {
            assert_eq!(exchanged, Ok(ENDED));
        } else {
            let lost = exchanged.expect_err("too many");
            let what = "a response has too many headers";
            assert_eq!(lost.error, WireError::Violation(what));
            assert!(client.calls.borrow().is_empty());
        }
    }
}

/// A head that cannot be sent is a failure of the request, not of the connection, whatever the engine does next.
#[test]
fn a_head_that_is_too_long() {
    let long = "x".repeat(limits::HEAD);
    let long = [header("X-Long", &long)];
    let many = vec![header("X-Many", "1"); limits::HEADERS + 1];
    for (headers, outcome) in [
        (&long[..], RunOutcome::Responded),
        (&long, RunOutcome::Failed),
        (&many, RunOutcome::Responded),
    ] {
        let client = Client::default();
        let exchanged = run_simple(&client, |remote| {
            let result = remote.start_response(&head(headers));
            assert_eq!(
                (result.status, result.fault),
                (HostStatus::Failed, Fault::Server)
            );
            assert_eq!(
                result.reason(),
                "the head of the response is longer than 1 MiB, or has more than 4096 headers"
            );
            let written = remote.write(&[Bytes::new(b"x")], WriteEnd::Flush);
            assert_eq!(written.fault, Fault::Server);
            remote.cut_response();
            outcome
        });
        let failed = Exchanged::Ended {
            ended: ended(RunOutcome::Failed),
            is_reusable: true,
        };
        assert_eq!(exchanged, Ok(failed));
        assert!(client.calls.borrow().is_empty());
    }
}

/// The engine keeps these headers to itself.
#[test]
fn headers_that_only_httpd_may_set() {
    for (name, value, passes) in [
        ("Connection", "close", true),
        ("connection", " Close ", true),
        ("Connection", "keep-alive", false),
        ("Connection", "close, upgrade", false),
        ("Keep-Alive", "timeout=5", false),
        ("Proxy-Connection", "close", false),
        ("TE", "trailers", false),
        ("Trailer", "X", false),
        ("Trailers", "X", false),
        ("Transfer-Encoding", "chunked", false),
        ("transfer-encoding", "close", false),
        ("Upgrade", "h2c", false),
        ("Content-Length", "5", false),
        ("content-length", "close", false),
        ("Content-Type", "text/plain", true),
        ("Proxy-Authenticate", "Basic", true),
    ] {
        let client = Client::default();
        let bytes = [
            head_of(200, "200 OK", name, value),
            chunk(b"", WriteEnd::End),
            end_of(RunOutcome::Responded),
        ]
        .concat();
        let exchanged = answer(&client, &bytes, &[]);
        if passes {
            assert_eq!(exchanged, Ok(ENDED), "{name}: {value}");
        } else {
            let lost = exchanged.expect_err(name);
            let what = "a header that only httpd may set";
            assert_eq!(lost.error, WireError::Violation(what), "{name}: {value}");
            assert!(client.calls.borrow().is_empty());
        }
    }
}

/// A response that is not final would be followed by another one.
#[test]
fn statuses_that_are_not_final() {
    for line in ["100 Continue", "103 Early Hints", "199 Any", "600 Any"] {
        let status = line[..3].parse().expect("three digits");
        let client = Client::default();
        let bytes = head_of(status, line, "X-A", "b");
        let lost = answer(&client, &bytes, &[]).expect_err(line);
        let what = "a status line is not valid";
        assert_eq!(lost.error, WireError::Violation(what));
        assert!(client.calls.borrow().is_empty());
    }
}

#[test]
fn lengths_that_a_status_forbids() {
    for (status, length, is_allowed) in [
        (200, -1, true),
        (200, 0, true),
        (204, -1, true),
        (204, 0, false),
        (204, 5, false),
        (205, 0, true),
        (205, -1, false),
        (205, 5, false),
        (304, -1, true),
        // That of the response which the client has.
        (304, 5, true),
    ] {
        let client = Client::default();
        let bytes = [
            head_with_length(status, length),
            chunk(b"", WriteEnd::End),
            end_of(RunOutcome::Responded),
        ]
        .concat();
        let exchanged = answer(&client, &bytes, &[]);
        if is_allowed {
            assert_eq!(exchanged, Ok(ENDED), "{status} {length}");
            assert!(!client.calls.borrow().contains(&Call::Cut));
        } else {
            let lost = exchanged.expect_err("a violation");
            let what = "a length that the status forbids";
            assert_eq!(lost.error, WireError::Violation(what));
            assert!(client.calls.borrow().is_empty());
        }
    }
}

#[test]
fn bodies_that_are_longer_than_announced() {
    let file = tempfile::tempfile().expect("a file");
    let whole = [chunk(b"12345", WriteEnd::More), chunk(b"6", WriteEnd::End)].concat();
    for (head, body, written) in [
        (
            head_with_length(200, 5),
            chunk(b"123456", WriteEnd::End),
            "",
        ),
        (head_with_length(200, 5), whole, "12345"),
        (head_with_length(200, 0), chunk(b"1", WriteEnd::More), ""),
        (head_with_length(204, -1), chunk(b"1", WriteEnd::End), ""),
        (head_with_length(205, 0), chunk(b"1", WriteEnd::End), ""),
        (head_with_length(304, 5), chunk(b"12345", WriteEnd::End), ""),
        (head_with_length(200, 5), file_frame(0, 6), ""),
        (head_with_length(304, 5), file_frame(0, 5), ""),
    ] {
        let client = Client::default();
        let bytes = [head, body, end_of(RunOutcome::Responded)].concat();
        let lost = answer(&client, &bytes, &[file.as_fd()]).expect_err("a violation");
        let what = "a body is longer than announced";
        assert_eq!(lost.error, WireError::Violation(what));
        assert_eq!(text(&client.written()), written);
    }
}

/// The client can tell a body that is too short from a whole one.
#[test]
fn bodies_that_are_shorter_than_announced() {
    let file = tempfile::tempfile().expect("a file");
    let client = Client::default();
    let bytes = [
        head_with_length(200, 5),
        chunk(b"123", WriteEnd::End),
        end_of(RunOutcome::Responded),
    ]
    .concat();
    assert_eq!(answer(&client, &bytes, &[]), Ok(ENDED));
    let cut = [Call::Write(b"123".to_vec(), WriteEnd::More), Call::Cut];
    assert_eq!(client.calls.borrow()[1..], cut);

    let client = Client::default();
    let bytes = [
        head_with_length(200, 5),
        file_frame(0, 3),
        end_of(RunOutcome::Responded),
    ]
    .concat();
    assert_eq!(answer(&client, &bytes, &[file.as_fd()]), Ok(ENDED));
    assert_eq!(client.calls.borrow()[1..], [Call::Cut]);
}

/// The response to a HEAD request has the length of another one, and needs no body.
#[test]
fn a_head_request() {
    let mut run = simple(&[]);
    run.environ.header_only = true;
    for (body, calls) in [
        (
            chunk(b"", WriteEnd::End),
            vec![Call::Write(Vec::new(), WriteEnd::End)],
        ),
        (
            chunk(b"123", WriteEnd::End),
            vec![Call::Write(b"123".to_vec(), WriteEnd::End)],
        ),
        // The engine sends nothing more to a client that wants no body.
        (Vec::new(), vec![]),
    ] {
        let client = Client::default();
        let head = head_with_length(200, 5);
        let bytes = [head, body, end_of(RunOutcome::Responded)].concat();
        assert_eq!(answer_to(&run, &client, &bytes, &[]), Ok(ENDED));
        assert_eq!(client.calls.borrow()[1..], calls);
    }
}
