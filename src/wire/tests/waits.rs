//! Waits end in time, however the other side keeps them going.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use wsgi_abi::HostStatus;

use super::*;
use crate::incoming::Wait;

/// Repeats `step` until `work` has ended, which must be long before there are no more steps.
fn beside<R>(mut step: impl FnMut() + Send, work: impl FnOnce() -> R) -> R {
    const STEPS: u32 = 1200;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let steps = scope.spawn(|| {
            for steps in 0..STEPS {
                if is_over.load(Ordering::Relaxed) {
                    return steps;
                }
                step();
                std::thread::sleep(Duration::from_millis(50));
            }
            STEPS
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        let steps = steps.join().expect("no panic");
        assert!(steps < STEPS, "it has waited for the last of them");
        result
    })
}

/// A frame that comes byte by byte does not prolong a tick.
#[test]
fn a_tick_ends_whatever_trickles_in() {
    let (ours, theirs) = pair();
    let child = connection(theirs);
    let long = frame(Kind::Log, 0, |to| to.0.extend_from_slice(&[b'x'; 60_000]));
    let mut bytes = long.iter();
    let next = || {
        let byte = bytes.next().expect("a long frame");
        rustix::io::write(&ours, &[*byte]).expect("room");
    };
    let found = beside(next, || child.incoming().next(Wait::Tick).map(|_| ()));
    assert_eq!(found, Ok(()));
    assert!(!child.incoming().is_empty(), "the frame has not come whole");
}

/// Nor does it break the silence of a process.
#[test]
fn a_process_that_sends_a_frame_byte_by_byte_is_silent() {
    let (ours, theirs) = pair();
    let ours = connection(ours);
    let long = frame(Kind::Log, 0, |to| to.0.extend_from_slice(&[b'x'; 60_000]));
    let mut bytes = long.iter();
    let next = || {
        let byte = bytes.next().expect("a long frame");
        wait_readable(theirs.as_fd());
        send(&theirs, &[*byte], &[]);
    };
    let run = simple(&[]);
    let request = outgoing(&run, BodyStart::default());
    let silence = Some(Duration::from_secs(1));
    let exchanged = beside(next, || {
        exchange(&ours, &request, &Client::default(), silence)
    });
    assert_eq!(
        exchanged.map_err(|lost| lost.error),
        Err(WireError::TimedOut)
    );
}

/// Frames that keep arriving are no answer to a read of the body.
#[test]
fn a_child_that_sends_everything_but_the_body() {
    let (ours, theirs) = pair();
    let process = Connection::new(theirs, Duration::from_secs(1), || false).expect("a socket");
    begin(&ours, &process, |remote| {
        let next = || {
            send(&ours, &empty(Kind::Presence), &[]);
        };
        let read = beside(next, || remote.read_body(&mut [0; 10]));
        assert_eq!((read.status, read.fault), (HostStatus::Failed, Fault::Slow));
    });
}

/// A reader that takes a little at a time does not prolong a send.
#[test]
fn a_send_ends_however_slowly_it_is_read() {
    let (ours, theirs) = pair();
    let ours = Connection::new(ours, Duration::from_secs(1), || false).expect("a socket");
    let long = vec![b'x'; 8 << 20];
    let entries = [EnvEntry {
        kind: wsgi_abi::KeyKind::Header,
        id: 0,
        key: Bytes::new(b"Long"),
        value: Bytes::new(&long),
    }];
    let run = simple(&entries);
    let mut taken = 0;
    let next = || {
        let flags = rustix::net::RecvFlags::DONTWAIT;
        let received = rustix::net::recv(&theirs, &mut [0; 32 << 10], flags);
        taken += received.map_or(0, |(count, _)| count);
    };
    let exchanged = beside(next, || ask_with(&ours, &Client::default(), &run));
    let lost = exchanged.expect_err("a slow reader");
    assert_eq!(lost.error, WireError::TimedOut);
    assert!(!lost.was_begun);
    assert!(taken < long.len());
}

/// Waits are those of this crate, however the socket was made.
#[test]
fn a_connection_waits() {
    let (ours, _theirs) = pair();
    let flags = fcntl_getfl(&ours).expect("a socket");
    fcntl_setfl(&ours, flags | OFlags::NONBLOCK).expect("a socket");
    let ours = connection(ours);
    let flags = fcntl_getfl(&ours).expect("a socket");
    assert!(!flags.contains(OFlags::NONBLOCK));
}
