//! The body of a request: the process pulls it.

use super::*;
use crate::limits;

/// Reads the whole body, `size` bytes at a time. Returns the result that ended it.
fn read_all(remote: &RemoteRequest<'_>, size: usize, into: &mut Vec<u8>) -> HostResult {
    let mut buffer = vec![0; size];
    loop {
        let result = remote.read_body(&mut buffer);
        if result.count == 0 {
            return result;
        }
        into.extend_from_slice(&buffer[..result.count]);
    }
}

fn respond(remote: &RemoteRequest<'_>, body: &[u8]) -> RunOutcome {
    remote.start_response(&head(&[]));
    remote.write(&[Bytes::new(body)], WriteEnd::End);
    RunOutcome::Responded
}

#[test]
fn a_body_is_read_in_any_pieces() {
    let whole: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    for start in [0, 1, 1000, limits::BODY] {
        for size in [1_000, 100_000, 1 << 20] {
            let pieces = whole[start..].chunks(70_000).map(<[u8]>::to_vec);
            let client = Client::with_body(pieces);
            let body = BodyStart {
                start: &whole[..start],
                is_whole: false,
            };
            let exchanged = run(&client, body, |remote| {
                let mut read = Vec::new();
                let end = read_all(remote, size, &mut read);
                assert_eq!(end.status, wsgi_abi::HostStatus::Ok);
                respond(remote, &read)
            });
            assert_eq!(exchanged, Ok(ENDED));
            assert!(client.written() == whole, "start {start}, size {size}");
        }
    }
}

/// A body that came with the request costs no way back to the child.
#[test]
fn a_small_body_is_there() {
    let client = Client::default();
    let body = BodyStart {
        start: b"name=value",
        is_whole: true,
    };
    let exchanged = run(&client, body, |remote| {
        let mut buffer = [0; 6];
        let mut read = Vec::new();
        loop {
            let result = remote.read_at_hand(&mut buffer);
            assert_eq!(result.status, wsgi_abi::HostStatus::Ok);
            if result.count == 0 {
                break;
            }
            read.extend_from_slice(&buffer[..result.count]);
        }
        assert_eq!(remote.read_body(&mut buffer).count, 0);
        respond(remote, &read)
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.written(), b"name=value");
    assert!(!client.calls.borrow().contains(&Call::Read(limits::BODY)));
}

#[test]
fn what_has_not_arrived_comes_later() {
    let client = Client::with_body([b"rest".to_vec()]);
    let body = BodyStart {
        start: b"start",
        is_whole: false,
    };
    let exchanged = run(&client, body, |remote| {
        let mut buffer = [0; 100];
        assert_eq!(remote.read_at_hand(&mut buffer).count, 5);
        let later = remote.read_at_hand(&mut buffer);
        assert_eq!(later.status, wsgi_abi::HostStatus::Later);
        assert_eq!(remote.read_body(&mut buffer).count, 4);
        assert_eq!(&buffer[..4], b"rest");
        respond(remote, b"")
    });
    assert_eq!(exchanged, Ok(ENDED));
}

/// `len` 0 asks the client for its body, and nothing else.
#[test]
fn a_read_of_nothing_reaches_the_client() {
    let client = Client::with_body([b"body".to_vec()]);
    let exchanged = run_simple(&client, |remote| {
        let result = remote.read_body(&mut []);
        assert_eq!((result.status, result.count), (wsgi_abi::HostStatus::Ok, 0));
        let mut read = Vec::new();
        read_all(remote, 10, &mut read);
        respond(remote, &read)
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.written(), b"body");
    assert_eq!(client.calls.borrow()[0], Call::Read(0));
}

/// A read of nothing loses nothing of what has arrived, and is not the end of the body.
#[test]
fn a_read_of_nothing_takes_nothing() {
    let client = Client::with_body([b"part".to_vec(), b"rest".to_vec()]);
    let body = BodyStart {
        start: b"start ",
        is_whole: false,
    };
    let exchanged = run(&client, body, |remote| {
        let mut read = Vec::new();
        let mut buffer = [0; 3];
        loop {
            for result in [remote.read_body(&mut []), remote.read_at_hand(&mut [])] {
                if result.status != wsgi_abi::HostStatus::Later {
                    assert_eq!((result.status, result.count), (wsgi_abi::HostStatus::Ok, 0));
                }
            }
            match remote.read_body(&mut buffer).count {
                0 => break,
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
        respond(remote, &read)
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(text(&client.written()), "start partrest");
}

#[test]
fn a_failure_arrives_with_its_reason() {
    let client = Client::default();
    client.body.borrow_mut().extend([
        Ok(b"start".to_vec()),
        Err((Fault::TooLarge, "413 and no less")),
    ]);
    let exchanged = run_simple(&client, |remote| {
        let mut read = Vec::new();
        let end = read_all(remote, 100, &mut read);
        assert_eq!(read, b"start");
        assert_eq!(
            (end.status, end.fault),
            (wsgi_abi::HostStatus::Failed, Fault::TooLarge)
        );
        assert_eq!(end.reason(), "413 and no less");
        RunOutcome::Faulted
    });
    assert!(matches!(
        exchanged,
        Ok(Exchanged::Ended {
            ended: Ended {
                outcome: RunOutcome::Faulted,
                ..
            },
            is_reusable: true
        })
    ));
}

/// An application that answers before it has read, or never reads, or reads after its answer, blocks nobody, even if
/// both bodies are longer than the buffers of the kernel.
#[test]
fn bodies_in_both_directions() {
    let large = vec![b'u'; 3 << 20];
    let answer = vec![b'd'; 3 << 20];
    for reads in [false, true] {
        let client = Client::with_body(large.chunks(50_000).map(<[u8]>::to_vec));
        let exchanged = run_simple(&client, |remote| {
            remote.start_response(&head(&[]));
            let mut buffer = vec![0; 40_000];
            for piece in answer.chunks(40_000) {
                let written = remote.write(&[Bytes::new(piece)], WriteEnd::Flush);
                assert_eq!(written.status, wsgi_abi::HostStatus::Ok);
                if reads {
                    assert_ne!(remote.read_body(&mut buffer).count, 0);
                }
            }
            remote.write(&[], WriteEnd::End);
            RunOutcome::Responded
        });
        assert_eq!(exchanged, Ok(ENDED));
        assert!(client.written() == answer);
        let calls = client.calls.borrow();
        let was_read = calls.iter().any(|call| matches!(call, Call::Read(_)));
        assert_eq!(was_read, reads);
    }
}
