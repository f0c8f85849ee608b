//! A copy of the process, which the application has forked: the connection is its parent's.

use wsgi_abi::HostStatus;

use super::*;
use crate::{Why, send_elsewhere, send_go_away};

/// The other side hears nothing of a copy, and no lock is touched: a thread that does not exist in the copy may have
/// held it.
#[test]
fn a_copy_leaves_its_parents_connection_alone() {
    let (ours, theirs) = pair();
    let copied = Connection::new(theirs, PATIENCE, || true).expect("a socket");
    // The request was received before the fork.
    let frame = simple_request();
    let (other, process) = pair();
    rustix::io::write(&other, &frame).expect("room");
    let process = connection(process);
    let mut buffer = RequestBuffer::default();
    wait_for(&process, &mut buffer).expect("a request");
    let request = buffer.request().expect("a request");
    let remote = RemoteRequest::new(&copied, &request, fallback);

    let locks = (copied.incoming(), copied.outgoing());
    remote.log(Level::Error, b"a line");
    remote.log_beside(Level::Info, b"another line");
    remote.log(Level::Debug, b"a line that the request's log does not take");
    assert_eq!(
        fallen(),
        [
            (Level::Error, b"a line".to_vec()),
            (Level::Info, b"another line".to_vec())
        ]
    );
    let file = tempfile::tempfile().expect("a file");
    for result in [
        remote.read_body(&mut [0; 10]),
        remote.read_at_hand(&mut [0; 10]),
        remote.start_response(&head(&[])),
        remote.write(&[Bytes::new(b"x")], WriteEnd::Flush),
        remote.flush(),
        remote.send_file(file.into(), 0, 0),
    ] {
        assert_eq!(
            (result.status, result.fault),
            (HostStatus::Failed, Fault::Gone)
        );
    }
    assert_eq!(remote.client_presence(), Presence::Gone);
    remote.cut_response();
    remote.give_up();
    assert!(remote.end(&ended(RunOutcome::Responded)).is_err());
    assert!(receive(&copied, &mut RequestBuffer::default()).is_err());
    assert!(send_elsewhere(&copied, Why::Full).is_err());
    assert!(send_go_away(&copied).is_err());
    drop(locks);

    // Neither was something sent, nor was the connection ended.
    let flags = rustix::net::RecvFlags::DONTWAIT;
    let received = rustix::net::recv(&ours, &mut [0; 100], flags);
    assert_eq!(
        received.map(|(count, _)| count),
        Err(rustix::io::Errno::AGAIN)
    );
}
