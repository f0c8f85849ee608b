//! Lines of the log, and the other calls that must not wait, on a connection that the child does not read.

use rustix::net::sockopt::set_socket_send_buffer_size;
use wsgi_abi::HostStatus;

use super::*;
use crate::limits;

/// Returns two sockets of which the second takes a few thousand bytes at most.
fn narrow_pair() -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = pair();
    set_socket_send_buffer_size(&theirs, 4096).expect("a socket");
    (ours, theirs)
}

/// Reads what a process sends with `work`, once that waits for a reader, and until the connection ends.
fn read_beside(ours: &OwnedFd, process: &Connection, work: impl FnOnce()) -> Vec<u8> {
    let reader = ours.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_to_end(reader));
        work();
        process.break_off();
        reader.join().expect("what was read")
    })
}

#[test]
fn lines_of_the_log() {
    let client = Client::default();
    let exchanged = run_simple(&client, |remote| {
        remote.log(Level::Error, b"an error");
        remote.log_beside(Level::Info, b"information");
        // The log takes lines up to `info`.
        remote.log(Level::Debug, b"nobody reads this");
        remote.log(Level::Warning, &vec![b'x'; limits::LINE + 1]);
        assert_eq!(fallen(), []);
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

/// A line goes ahead of chunks that are held back, and does not take them with it.
#[test]
fn a_line_leaves_alone_what_is_held_back() {
    let (ours, theirs) = pair();
    let process = connection(theirs);
    begin(&ours, &process, |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"chunk")], WriteEnd::More);
        remote.log(Level::Error, b"a line");
        let mut bytes = [0; 1000];
        let count = rustix::io::read(&ours, &mut bytes[..]).expect("a line");
        let (frames, _) = frames_of(&bytes[..count]);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].0, Kind::Log);
        remote.write(&[], WriteEnd::End);
        remote.end(&ended(RunOutcome::Responded)).expect("sent");
    });
    drop(process);
    let rest = read_to_end(ours);
    let kinds: Vec<Kind> = frames_of(&rest).0.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::Head, Kind::Chunk, Kind::Chunk, Kind::End]);
}

/// Each line is either sent whole or goes to the process's own log; no call waits.
#[test]
fn lines_that_the_child_does_not_read() {
    let (ours, theirs) = pair();
    let process = connection(theirs);
    begin(&ours, &process, |remote| {
        let mut lines = 0_usize;
        let mut fallen_lines = 0;
        while fallen_lines < 10 {
            let line = format!("{lines:01000}");
            if lines.is_multiple_of(2) {
                remote.log(Level::Error, line.as_bytes());
            } else {
                remote.log_beside(Level::Error, line.as_bytes());
            }
            lines += 1;
            let fallen = fallen();
            assert!(fallen.iter().all(|(_, fallen)| fallen == line.as_bytes()));
            fallen_lines += fallen.len();
            assert!(lines < 100_000, "the socket is never full");
        }
        let read = read_beside(&ours, &process, || {
            remote.end(&ended(RunOutcome::Failed)).expect("sent");
        });
        let (frames, rest) = frames_of(&read);
        assert!(rest.is_empty());
        assert_eq!(frames.len(), lines - fallen_lines + 1);
        assert!(frames.iter().all(|(kind, body)| match kind {
            Kind::Log => body.len() == 1000,
            kind => *kind == Kind::End,
        }));
    });
}

/// The rest of a line that was half sent goes ahead of everything else.
#[test]
fn half_a_line() {
    let (ours, theirs) = narrow_pair();
    let process = connection(theirs);
    begin(&ours, &process, |remote| {
        let long = vec![b'x'; 60_000];
        remote.log(Level::Error, &long);
        assert_eq!(fallen(), [], "a part of it was sent");
        remote.log(Level::Error, b"another line");
        assert_eq!(fallen(), [(Level::Error, b"another line".to_vec())]);
        remote.start_response(&head(&[]));
        let read = read_beside(&ours, &process, || {
            remote.write(&[Bytes::new(b"x")], WriteEnd::EndNow);
            remote.end(&ended(RunOutcome::Responded)).expect("sent");
        });
        let (frames, rest) = frames_of(&read);
        assert!(rest.is_empty());
        assert_eq!(frames[0], (Kind::Log, long));
        let kinds: Vec<Kind> = frames.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Log, Kind::Head, Kind::Chunk, Kind::End]);
    });
}

/// Another thread waits in a call for as long as the client takes.
#[test]
fn calls_beside_a_thread_that_waits() {
    let (ours, theirs) = narrow_pair();
    let process = connection(theirs);
    begin(&ours, &process, |remote| {
        let body = vec![b'x'; 1 << 20];
        let read = std::thread::scope(|scope| {
            let remote = &remote;
            let writer = scope.spawn(|| {
                remote.start_response(&head(&[]));
                remote.write(&[Bytes::new(&body)], WriteEnd::EndNow)
            });
            // The lines themselves may fill the socket before the other thread does.
            let mut lines = 0;
            while process.try_outgoing().is_some() {
                std::thread::yield_now();
            }
            while fallen().is_empty() {
                remote.log_beside(Level::Error, b"a line");
                lines += 1;
                assert!(lines < 100_000, "the socket is never full");
            }
            assert_eq!(remote.client_presence(), Presence::Here);
            read_beside(&ours, &process, move || {
                let written = writer.join().expect("no panic");
                assert_eq!(written.status, HostStatus::Ok);
            })
        });
        let (frames, rest) = frames_of(&read);
        assert!(rest.is_empty());
        let chunks = frames.iter().filter(|(kind, _)| *kind == Kind::Chunk);
        let length: usize = chunks.map(|(_, body)| body.len()).sum();
        assert_eq!(length, body.len());
    });
}

/// The last frame goes ahead of what is held back, and nothing follows it.
#[test]
fn a_request_is_given_up() {
    let (ours, theirs) = pair();
    let process = connection(theirs);
    begin(&ours, &process, |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"chunk")], WriteEnd::More);
        remote.give_up();
        remote.log(Level::Error, b"a line");
        assert_eq!(fallen(), [(Level::Error, b"a line".to_vec())]);
        // The child may send something before it knows.
        rustix::io::write(&ours, &empty(Kind::Presence)).expect("an open connection");
        assert!(remote.end(&ended(RunOutcome::GivenUp)).is_err());
    });
    drop(process);
    let read = read_to_end(ours);
    assert_eq!(frames_of(&read).0, [(Kind::GaveUp, Vec::new())]);
}

/// A child that does not read learns from the end of the connection.
#[test]
fn a_request_is_given_up_on_a_full_socket() {
    for half in [false, true] {
        let (ours, theirs) = narrow_pair();
        let process = connection(theirs);
        begin(&ours, &process, |remote| {
            if half {
                remote.log(Level::Error, &vec![b'x'; 60_000]);
            } else {
                while fallen().is_empty() {
                    remote.log(Level::Error, b"a line");
                }
            }
            remote.give_up();
            assert!(remote.end(&ended(RunOutcome::GivenUp)).is_err());
        });
        // The process still has the socket.
        let read = read_to_end(ours);
        let (frames, rest) = frames_of(&read);
        assert!(frames.iter().all(|(kind, _)| *kind == Kind::Log));
        assert_eq!(rest.is_empty(), !half);
        drop(process);
    }
}
