//! A child of httpd sends anything to a process of a group, whose application makes any calls. The process must come to
//! an end.

#![no_main]

mod input;

use libfuzzer_sys::fuzz_target;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use wsgi_abi::{
    Bytes, Header, HostStatus, Level, RequestHost, ResponseHead, RunOutcome, Slice, WriteEnd,
};
use wsgi_wire::{Ended, EndedTimes, RemoteRequest, RequestBuffer, Why, receive, send_elsewhere};

fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let (calls, rest) = rest.split_at(usize::from(count % 32).min(rest.len()));
    let bytes = input::to_send(rest);
    let (theirs, ours) = input::pair();
    let _ = send(&ours, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = shutdown(&ours, Shutdown::Write);
    let mut buffer = RequestBuffer::default();
    while receive(&theirs, &mut buffer).is_ok_and(|arrived| arrived) {
        let Ok(request) = buffer.request() else { break };
        let run = request.run_request(0, None);
        let entries = run.environ.entries.get_or_empty();
        assert!(entries.len() <= bytes.len());
        let remote = RemoteRequest::new(&theirs, &request, |_, _| {});
        calls.iter().for_each(|call| make(&remote, *call));
        let is_over = if calls.first() == Some(&255) && remote.is_untouched() {
            send_elsewhere(&theirs, Why::Full).is_err()
        } else {
            let ended = Ended {
                outcome: RunOutcome::Responded,
                times: EndedTimes::default(),
            };
            remote.end(&ended).is_err()
        };
        if is_over {
            break;
        }
    }
});

/// Makes a call that an application may make at any time.
fn make(remote: &RemoteRequest<'_>, call: u8) {
    let header = [Header {
        name: Bytes::new(b"X-Name"),
        value: Bytes::new(b"value"),
    }];
    let head = ResponseHead {
        status: 200,
        status_line: Bytes::new(b"200 OK"),
        headers: Slice::new(&header),
        content_length: -1,
    };
    let end = match call >> 4 {
        0 => WriteEnd::End,
        1 => WriteEnd::EndNow,
        _ => WriteEnd::Flush,
    };
    match call % 9 {
        0 => {
            let mut into = [0; 100];
            let read = remote.read_body(&mut into);
            assert!(read.status != HostStatus::Ok || read.count <= into.len());
        }
        1 => drop(remote.read_at_hand(&mut [0; 10])),
        2 => drop(remote.start_response(&head)),
        3 => drop(remote.write(&[Bytes::new(b"body")], end)),
        4 => drop(remote.flush()),
        5 => drop(remote.client_presence()),
        6 => remote.log(Level::Info, b"line"),
        7 => remote.cut_response(),
        _ => remote.log_beside(Level::Info, b"line"),
    }
}
