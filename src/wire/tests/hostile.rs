//! A side that breaks the protocol: one clear error, and nothing else.

use std::os::fd::BorrowedFd;

use proptest::prelude::*;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};

use super::*;
use crate::frame::{Kind, append};
use crate::pack::Packer;

/// Sends `bytes` to a child that waits for its response. Returns what the child makes of them.
fn answer_with(
    client: &Client,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<Exchanged, Lost> {
    let (ours, theirs) = pair();
    let ours = connection(ours);
    std::thread::scope(|scope| {
        let theirs = &theirs;
        scope.spawn(move || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                beside.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let mut rest = bytes;
            while !rest.is_empty() {
                let parts = [std::io::IoSlice::new(rest)];
                match sendmsg(theirs, &parts, &mut beside, SendFlags::NOSIGNAL) {
                    Ok(count) => rest = &rest[count..],
                    // The child has closed the connection.
                    Err(_) => break,
                }
                beside.clear();
            }
            let _ = shutdown(theirs, Shutdown::Write);
        });
        let run = simple(&[]);
        let packed = PackedRequest {
            run: &run,
            level: Level::Info,
            body: PackedBody::default(),
        };
        let exchanged = exchange(&ours, &packed, client, PATIENCE);
        drop(ours);
        exchanged
    })
}

fn frame(kind: Kind, detail: u8, pack: impl FnOnce(&mut Packer<'_>)) -> Vec<u8> {
    let mut frame = Vec::new();
    append(&mut frame, kind, detail, pack).expect("a legal length");
    frame
}

fn empty(kind: Kind) -> Vec<u8> {
    frame(kind, 0, |_| {})
}

fn good_head() -> Vec<u8> {
    frame(Kind::Head, 0, |to| {
        crate::response::pack_head(to, &head(&[]))
    })
}

fn head_of(status: u16, line: &str, name: &str, value: &str) -> Vec<u8> {
    frame(Kind::Head, 0, |to| {
        let headers = [header(name, value)];
        let head = ResponseHead {
            status,
            status_line: Bytes::new(line.as_bytes()),
            ..head(&headers)
        };
        crate::response::pack_head(to, &head);
    })
}

fn end() -> Vec<u8> {
    let (outcome, times) = (RunOutcome::Responded, EndedTimes::default());
    frame(Kind::End, 0, |to| {
        crate::response::pack_end(to, &Ended { outcome, times });
    })
}

fn file_frame() -> Vec<u8> {
    frame(Kind::File, 0, |to| {
        to.u64(0);
        to.u64(1);
    })
}

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
        (end(), "a response without a head"),
        ([good_head(), good_head()].concat(), "a second head"),
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
        (
            [good_head(), file_frame()].concat(),
            "a file comes without its descriptor",
        ),
    ] {
        let client = Client::default();
        let lost = answer_with(&client, &frames, &[]).expect_err(what);
        assert_eq!(lost.error, WireError::Violation(what));
        assert!(lost.was_begun);
    }
}

#[test]
fn descriptors_that_a_child_refuses() {
    let device = std::fs::File::open("/dev/zero").expect("a device");
    let folder = std::fs::File::open("/").expect("a folder");
    let (pipe, _other) = rustix::pipe::pipe().expect("a pipe");
    let named = tempfile::NamedTempFile::new().expect("a file");
    let write_only = std::fs::OpenOptions::new().write(true).open(named.path());
    let write_only = write_only.expect("it is ours");
    let path_only = rustix::fs::open(
        named.path(),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .expect("it is there");
    let not_readable = "a file is no regular file, or not readable";
    let with_head = [good_head(), file_frame()].concat();
    for (bytes, descriptors, what) in [
        (
            &file_frame(),
            vec![device.as_fd()],
            "a body before its head",
        ),
        (
            &[good_head(), end()].concat(),
            vec![device.as_fd()],
            "a descriptor comes without its file",
        ),
        (
            &with_head,
            vec![device.as_fd(), device.as_fd()],
            "several descriptors come for one file",
        ),
    ] {
        let client = Client::default();
        let lost = answer_with(&client, bytes, &descriptors).expect_err(what);
        assert_eq!(lost.error, WireError::Violation(what));
    }
    for descriptor in [
        device.as_fd(),
        folder.as_fd(),
        pipe.as_fd(),
        write_only.as_fd(),
        path_only.as_fd(),
    ] {
        let client = Client::default();
        let (ours, theirs) = pair();
        let theirs = connection(theirs);
        let exchanged = std::thread::scope(|scope| {
            scope.spawn(|| {
                serve_one(&theirs, |remote| {
                    remote.start_response(&head(&[]));
                    let file = descriptor.try_clone_to_owned().expect("a descriptor");
                    remote.send_file(file, 0, 1);
                    RunOutcome::Responded
                });
            });
            let run = simple(&[]);
            let packed = PackedRequest {
                run: &run,
                level: Level::Info,
                body: PackedBody::default(),
            };
            exchange(&connection(ours), &packed, &client, PATIENCE)
        });
        let lost = exchanged.expect_err(not_readable);
        assert_eq!(lost.error, WireError::Violation(not_readable));
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
    let (ours, theirs) = pair();
    rustix::io::write(&ours, &empty(Kind::Request)).expect("room");
    let theirs = connection(theirs);
    let mut buffer = RequestBuffer::default();
    assert_eq!(receive(&theirs, &mut buffer), Ok(true));
    assert!(buffer.request().is_err());
}

/// A million lines are the child's to log; they need no memory, and nothing else waits for them.
#[test]
fn many_lines() {
    let line = frame(Kind::Log, 4, |to| to.0.extend_from_slice(b"x"));
    let lines = line.repeat(100_000);
    let client = Client::default();
    let lost = answer_with(&client, &lines, &[]).expect_err("it never ends");
    assert_eq!(lost.error, WireError::Closed { was_unread: false });
    assert_eq!(client.calls.borrow().len(), 100_000);
}

/// Returns frames of any kind with any content, some of them cut.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let one = (
        0_usize..Kind::ALL.len(),
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 0..40),
    );
    let head = Just(good_head()).boxed();
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
        1 => head,
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
        let _ = answer_with(&client, &bytes, &[]);
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
            let remote = RemoteRequest::new(&theirs, &request, PATIENCE);
            remote.read_body(&mut [0; 100]);
            remote.client_presence();
            remote.start_response(&head(&[]));
            remote.write(&[Bytes::new(b"body")], WriteEnd::Flush);
            let (outcome, times) = (RunOutcome::Responded, EndedTimes::default());
            if remote.end(&Ended { outcome, times }).is_err() {
                break;
            }
        }
    }
}
