//! A stream has no borders: frames that arrive in two pieces, cut anywhere, are the same frames.

use std::io::Write;

use super::*;

/// Sends `bytes` in two pieces. The second one follows when the reader has taken the first one out of its socket.
fn send_split(
    socket: &OwnedFd,
    reader: BorrowedFd<'_>,
    bytes: &[u8],
    at: usize,
    descriptors: &[BorrowedFd<'_>],
) {
    send(socket, &bytes[..at], descriptors);
    while rustix::io::ioctl_fionread(reader).is_ok_and(|unread| unread > 0) {
        std::thread::sleep(Duration::from_micros(50));
    }
    send(socket, &bytes[at..], &[]);
}

#[test]
fn frames_from_a_process() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"0123456789").expect("room");
    let bytes = [
        frame(Kind::Log, 1, |to| to.0.extend_from_slice(b"a line")),
        frame(Kind::Want, 0, |to| to.u32(100)),
        empty(Kind::GoAway),
        head_of(404, "404 Not Found", "X-A", "b"),
        chunk(b"first ", WriteEnd::More),
        empty(Kind::Flush),
        chunk(b"second ", WriteEnd::Flush),
        file_frame(2, 3),
        end_of(RunOutcome::Responded),
    ]
    .concat();
    let calls = [
        Call::Log(Level::Error, "a line".into()),
        Call::Read(100),
        Call::Head {
            status: 404,
            line: "404 Not Found".into(),
            headers: vec![("X-A".into(), "b".into())],
            length: -1,
        },
        Call::Write(b"first ".to_vec(), WriteEnd::More),
        Call::Flush,
        Call::Write(b"second ".to_vec(), WriteEnd::Flush),
        Call::File(b"234".to_vec()),
    ];
    let descriptors = [file.as_fd()];
    for at in 1..bytes.len() {
        let (ours, theirs) = pair();
        let ours = connection(ours);
        let client = Client::with_body([b"body".to_vec()]);
        let exchanged = std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_readable(theirs.as_fd());
                send_split(&theirs, ours.as_fd(), &bytes, at, &descriptors);
            });
            ask(&ours, &client)
        });
        let (ended, is_reusable) = (ended(RunOutcome::Responded), false);
        assert_eq!(
            exchanged,
            Ok(Exchanged::Ended { ended, is_reusable }),
            "{at}"
        );
        assert_eq!(*client.calls.borrow(), calls, "{at}");
    }
}

#[test]
fn frames_from_a_child() {
    let stopped = frame(Kind::Stopped, 0, |to| {
        crate::response::pack_failure(to, &HostResult::failed(Fault::Slow, "why"));
    });
    let bytes = [
        simple_request(),
        frame(Kind::Presence, Presence::HalfClosed as u8, |_| {}),
        frame(Kind::Body, 0, |to| to.0.extend_from_slice(b"part")),
        stopped,
        empty(Kind::BodyEnd),
    ]
    .concat();
    for at in 1..bytes.len() {
        let (ours, theirs) = pair();
        let process = connection(theirs);
        std::thread::scope(|scope| {
            scope.spawn(|| send_split(&ours, process.as_fd(), &bytes, at, &[]));
            serve_one(&process, |remote| {
                let mut buffer = [0; 100];
                let read = remote.read_body(&mut buffer);
                assert_eq!(&buffer[..read.count], b"part", "{at}");
                assert_eq!(remote.read_body(&mut buffer).count, 0);
                assert_eq!(remote.client_presence(), Presence::HalfClosed);
                let written = remote.write(&[], WriteEnd::End);
                assert_eq!(
                    (written.fault, written.reason()),
                    (Fault::Slow, "why".into())
                );
                RunOutcome::ClientLeft
            });
        });
    }
}
