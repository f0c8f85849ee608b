//! A side that dies, hangs, or never was there.

use std::io::Read;

use super::*;

fn send(socket: OwnedFd, patience: Duration) -> Result<Exchanged, Lost> {
    let run = simple(&[]);
    let packed = PackedRequest {
        run: &run,
        level: Level::Info,
        body: PackedBody::default(),
    };
    exchange(&connection(socket), &packed, &Client::default(), patience)
}

/// Another process may run a request that the dead one had not read.
#[test]
fn whether_a_request_was_begun() {
    // Dead before the request.
    let (ours, theirs) = pair();
    drop(theirs);
    assert!(send(ours, PATIENCE).is_err_and(|lost| !lost.was_begun));

    // Dead with the request in its socket, none or a part of it read.
    for read in [0, 3] {
        let (ours, theirs) = pair();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut polled = [rustix::event::PollFd::new(
                    &theirs,
                    rustix::event::PollFlags::IN,
                )];
                rustix::event::poll(&mut polled, None).expect("a request");
                let mut part = vec![0; read];
                std::fs::File::from(theirs)
                    .read_exact(&mut part)
                    .expect("a part");
            });
            let lost = send(ours, PATIENCE).expect_err("nobody runs it");
            assert_eq!(lost.error, WireError::Closed { was_unread: true });
            assert!(!lost.was_begun);
        });
    }

    // Dead after it was read.
    let (ours, theirs) = pair();
    let theirs = connection(theirs);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            wait_for(&theirs, &mut RequestBuffer::default()).expect("a request");
        });
        let lost = send(ours, PATIENCE).expect_err("it was not answered");
        assert_eq!(lost.error, WireError::Closed { was_unread: false });
        assert!(lost.was_begun);
    });
}

/// A process that is stopped holds a thread of httpd for a bounded time.
#[test]
fn a_silent_process() {
    let (ours, theirs) = pair();
    let lost = send(ours, Duration::from_millis(10)).expect_err("nobody answers");
    assert_eq!(lost.error, WireError::TimedOut);
    assert!(lost.was_begun);
    drop(theirs);
}

/// A child that dies while the application reads or writes.
#[test]
fn a_dead_child() {
    let (ours, theirs) = pair();
    let theirs = connection(theirs);
    let run = simple(&[]);
    let packed = PackedRequest {
        run: &run,
        level: Level::Info,
        body: PackedBody::default(),
    };
    let mut frame = Vec::new();
    crate::request::pack_request(&mut frame, &packed).expect("it is short");
    rustix::io::write(&ours, &frame).expect("room");
    let mut buffer = RequestBuffer::default();
    wait_for(&theirs, &mut buffer).expect("a request");
    let request = buffer.request().expect("a request");
    let remote = RemoteRequest::new(&theirs, &request, PATIENCE);
    drop(ours);
    assert_eq!(remote.client_presence(), Presence::Gone);
    let read = remote.read_body(&mut [0; 10]);
    assert_eq!(
        (read.status, read.fault),
        (wsgi_abi::HostStatus::Failed, Fault::Gone)
    );
    let started = remote.start_response(&head(&[]));
    assert_eq!(started.status, wsgi_abi::HostStatus::Failed);
    let written = remote.write(&[Bytes::new(b"x")], WriteEnd::Flush);
    assert_eq!(
        (written.status, written.fault),
        (wsgi_abi::HostStatus::Failed, Fault::Gone)
    );
    let times = EndedTimes::default();
    let outcome = RunOutcome::ClientLeft;
    assert!(remote.end(&Ended { outcome, times }).is_err());
}
