//! Memory: it grows with what has arrived, and is given back.

use super::*;
use crate::incoming::{FIRST, KEPT, Wait};
use crate::limits;

#[test]
fn what_is_only_announced_costs_nothing() {
    let (ours, theirs) = pair();
    let child = connection(theirs);
    let length = limits::HEAD;
    let (kind, detail) = (Kind::Head, 0);
    let header = FrameHeader {
        length,
        kind,
        detail,
    };
    rustix::io::write(&ours, &header.bytes()).expect("room");
    let mut incoming = child.incoming();
    assert_eq!(incoming.next(Wait::No), Ok(None));
    assert!(incoming.size() <= FIRST);
    let mut arrived = 0;
    while arrived < 200_000 {
        arrived += rustix::io::write(&ours, &[b'x'; 10_000]).expect("room");
        assert_eq!(incoming.next(Wait::No), Ok(None));
        assert!(incoming.size() <= FIRST.max(2 * (arrived + HEADER)));
    }
    drop(ours);
    assert!(incoming.next(Wait::No).is_err());
}

#[test]
fn long_frames_give_their_memory_back() {
    let (ours, theirs) = pair();
    let (child, process) = (connection(ours), connection(theirs));
    let long = vec![b'x'; 3 << 20];
    let entries = [EnvEntry {
        kind: wsgi_abi::KeyKind::Header,
        id: 0,
        key: Bytes::new(b"Long"),
        value: Bytes::new(&long),
    }];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = RequestBuffer::default();
            wait_for(&process, &mut buffer).expect("a request");
            assert!(process.incoming().size() <= FIRST, "the frame was copied");
            assert!(buffer.size() >= long.len());
            let request = buffer.request().expect("a request");
            let remote = RemoteRequest::new(&process, &request, fallback);
            let value = "x".repeat(900_000);
            let headers = [header("X-Long", &value)];
            remote.start_response(&head(&headers));
            remote.write(&[Bytes::new(&long)], WriteEnd::End);
            remote.end(&ended(RunOutcome::Responded)).expect("sent");
            assert!(process.incoming().size() <= FIRST);
            assert!(process.outgoing().size() <= 2 * FIRST);
            drop(request);
            assert_eq!(receive(&process, &mut buffer), Ok(false));
            assert!(buffer.size() <= KEPT);
        });
        let client = Client::default();
        let exchanged = ask_with(&child, &client, &simple(&entries));
        assert_eq!(exchanged, Ok(ENDED));
        assert!(client.written() == long);
        assert!(child.incoming().size() <= FIRST);
        assert!(child.outgoing().size() <= 2 * FIRST);
    });
}

/// Frames of any length arrive, one after the other and in any pieces.
#[test]
fn frames_of_all_lengths() {
    let (ours, theirs) = pair();
    let child = connection(theirs);
    let lengths = || {
        [
            0, 1, 9, 16_378, 16_379, 5, 65_536, 0, 131_072, 40_000, 131_066, 7,
        ]
    };
    let frames = lengths().map(|length| {
        let kind = if length > limits::CHUNK {
            Kind::Head
        } else {
            Kind::Chunk
        };
        frame(kind, 0, |to| to.0.extend(std::iter::repeat_n(b'x', length)))
    });
    let bytes = frames.concat();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (at, part) in bytes.chunks(7_777).enumerate() {
                send(&ours, part, &[]);
                if at.is_multiple_of(5) {
                    std::thread::yield_now();
                }
            }
        });
        let mut incoming = child.incoming();
        for length in lengths() {
            let found = loop {
                if let Some(frame) = incoming.next(Wait::Tick).expect("frames") {
                    break frame.body.len();
                }
            };
            assert_eq!(found, length);
        }
        let end = loop {
            match incoming.next(Wait::Tick) {
                Ok(None) => {}
                end => break end.map(|_| ()),
            }
        };
        assert_eq!(end, Err(WireError::Closed { was_unread: false }));
    });
}
