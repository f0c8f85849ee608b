//! A side that dies, hangs, or never was there.

use wsgi_abi::HostStatus;

use super::*;

/// Sends a simple request to a process that does `work` with its socket, and then dies.
fn ask_dying(client: &Client, work: impl FnOnce(&OwnedFd) + Send) -> Lost {
    let (ours, theirs) = pair();
    std::thread::scope(|scope| {
        scope.spawn(move || work(&theirs));
        ask(&connection(ours), client).expect_err("a dead process")
    })
}

/// Another process may run a request that the dead one had not read.
#[test]
fn whether_a_request_was_begun() {
    // Dead before the request.
    let (ours, theirs) = pair();
    drop(theirs);
    let lost = ask(&connection(ours), &Client::default());
    assert!(lost.is_err_and(|lost| !lost.was_begun));

    // Dead with the request in its socket, none or a part of it read.
    for read in [0, 3] {
        let lost = ask_dying(&Client::default(), move |socket| {
            wait_readable(socket.as_fd());
            let count = rustix::io::read(socket, &mut vec![0; read]);
            assert_eq!(count, Ok(read));
        });
        assert_eq!(lost.error, WireError::Closed { was_unread: true });
        assert!(!lost.was_begun);
    }

    // Dead after the request was read.
    let request = simple_request().len();
    let lost = ask_dying(&Client::default(), |socket| {
        wait_readable(socket.as_fd());
        let count = rustix::io::read(socket, &mut vec![0; request]);
        assert_eq!(count, Ok(request));
    });
    assert_eq!(lost.error, WireError::Closed { was_unread: false });
    assert!(lost.was_begun);
}

/// What has not been read need not be the request: it may be what the child has sent behind it.
#[test]
fn a_request_may_have_been_begun_with_bytes_unread() {
    let client = Client {
        presence: Some(Presence::Gone),
        ..Client::default()
    };
    let request = simple_request().len();
    let lost = ask_dying(&client, |socket| {
        wait_readable(socket.as_fd());
        let count = rustix::io::read(socket, &mut vec![0; request]);
        assert_eq!(count, Ok(request));
        // The child sends that the client has left.
        wait_readable(socket.as_fd());
    });
    assert_eq!(lost.error, WireError::Closed { was_unread: true });
    assert!(lost.was_begun);
}

/// A process that is stopped holds a thread of httpd for a bounded time, if the caller wants that.
#[test]
fn a_silent_process() {
    let (ours, theirs) = pair();
    let run = simple(&[]);
    let request = outgoing(&run, BodyStart::default());
    let silence = Some(Duration::from_millis(10));
    let exchanged = exchange(&connection(ours), &request, &Client::default(), silence);
    let lost = exchanged.expect_err("nobody answers");
    assert_eq!(lost.error, WireError::TimedOut);
    assert!(lost.was_begun);
    drop(theirs);
}

/// A process that draws its answer out may do so as long as it lives.
#[test]
fn a_process_without_a_limit() {
    let (ours, theirs) = pair();
    let theirs = connection(theirs);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            serve_one(&theirs, |remote| {
                std::thread::sleep(Duration::from_millis(2500));
                remote.start_response(&head(&[]));
                remote.write(&[], WriteEnd::End);
                RunOutcome::Responded
            });
        });
        let run = simple(&[]);
        let request = outgoing(&run, BodyStart::default());
        let exchanged = exchange(&connection(ours), &request, &Client::default(), None);
        assert_eq!(exchanged, Ok(ENDED));
    });
}

/// A process that drains closes the connection behind its last request. The child may have something to say at that
/// time, but the request has ended well.
#[test]
fn a_process_that_has_closed_the_connection_behind_the_end() {
    let (open, gate) = mpsc::channel();
    let client = Client {
        gate: Some(gate),
        ..Client::with_results([HostResult::failed(Fault::Gone, "it left")])
    };
    let (ours, theirs) = pair();
    let exchanged = std::thread::scope(|scope| {
        scope.spawn(move || {
            let theirs = connection(theirs);
            serve_one(&theirs, |remote| {
                remote.start_response(&head(&[]));
                remote.write(&[Bytes::new(b"answer")], WriteEnd::End);
                RunOutcome::Responded
            });
            drop(theirs);
            open.send(()).expect("a client");
        });
        ask(&connection(ours), &client)
    });
    let (ended, is_reusable) = (ended(RunOutcome::Responded), false);
    assert_eq!(exchanged, Ok(Exchanged::Ended { ended, is_reusable }));
}

/// A child that dies while the application reads or writes.
#[test]
fn a_dead_child() {
    let (ours, theirs) = pair();
    let theirs = connection(theirs);
    begin(
        &ours.try_clone().expect("a descriptor"),
        &theirs,
        |remote| {
            theirs.break_off();
            drop(ours);
            assert_eq!(remote.client_presence(), Presence::Gone);
            let gone = (HostStatus::Failed, Fault::Gone);
            let read = remote.read_body(&mut [0; 10]);
            assert_eq!((read.status, read.fault), gone);
            let started = remote.start_response(&head(&[]));
            assert_eq!((started.status, started.fault), gone);
            let written = remote.write(&[Bytes::new(b"x")], WriteEnd::Flush);
            assert_eq!((written.status, written.fault), gone);
            assert!(remote.end(&ended(RunOutcome::ClientLeft)).is_err());
        },
    );
}

/// Nothing follows a frame of which only a part could be sent.
#[test]
fn nothing_follows_half_a_frame() {
    let patience = Duration::from_secs(1);
    // From a process.
    let (ours, theirs) = pair();
    let process = Connection::new(theirs, patience, || false).expect("a socket");
    begin(&ours, &process, |remote| {
        remote.start_response(&head(&[]));
        let written = remote.write(&[Bytes::new(&vec![b'x'; 4 << 20])], WriteEnd::Flush);
        assert_eq!(
            (written.status, written.fault),
            (HostStatus::Failed, Fault::Slow)
        );
        remote.log(Level::Error, b"a line");
        assert_eq!(fallen(), [(Level::Error, b"a line".to_vec())]);
        assert_eq!(remote.write(&[], WriteEnd::End).status, HostStatus::Failed);
        remote.cut_response();
        let ended = remote.end(&ended(RunOutcome::Responded));
        assert_eq!(ended, Err(WireError::TimedOut));
    });
    // The end of the stream shows that the connection was ended, as the process still has its socket.
    let read = read_to_end(ours);
    let (frames, rest) = frames_of(&read);
    assert!(!rest.is_empty());
    let kinds: Vec<Kind> = frames.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds[1..].iter().all(|kind| *kind == Kind::Chunk));
    drop(process);

    // From a child.
    let (ours, theirs) = pair();
    let child = Connection::new(ours, patience, || false).expect("a socket");
    let long = vec![b'x'; 4 << 20];
    let entries = [EnvEntry {
        kind: wsgi_abi::KeyKind::Header,
        id: 0,
        key: Bytes::new(b"Long"),
        value: Bytes::new(&long),
    }];
    let lost = ask_with(&child, &Client::default(), &simple(&entries)).expect_err("a full socket");
    assert_eq!(lost.error, WireError::TimedOut);
    assert!(!lost.was_begun);
    let read = read_to_end(theirs);
    assert!(frames_of(&read).0.is_empty());
    drop(child);
}
