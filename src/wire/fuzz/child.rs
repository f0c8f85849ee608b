//! A process of a group sends anything to a child of httpd that waits for its response. The child must come to an end,
//! and make only calls that httpd allows at their place.

#![no_main]

mod input;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};

use libfuzzer_sys::fuzz_target;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use wsgi_abi::{
    BodyPlan, Bytes, Environ, HostResult, Level, Limits, Nesting, Presence, RequestHost,
    ResponseHead, RunRequest, Target, Timing, WriteEnd,
};
use wsgi_wire::{BodyStart, OutgoingRequest, exchange};

fuzz_target!(|data: &[u8]| {
    let bytes = input::to_send(data);
    let (ours, theirs) = input::pair();
    let run = RunRequest::new(
        Target::new(b"/srv/app.wsgi"),
        Environ::new(&[]),
        BodyPlan {
            is_there: true,
            ahead: 0,
        },
        Limits::default(),
        Timing::default(),
    );
    let request = OutgoingRequest {
        run: &run,
        level: Level::Info,
        is_activity: true,
        since: 7,
        body: BodyStart::default(),
        nesting: Nesting::default(),
    };
    let host = Host::default();
    std::thread::scope(|scope| {
        let (theirs, bytes) = (&theirs, &bytes);
        scope.spawn(move || {
            let mut polled = [PollFd::from_borrowed_fd(theirs.as_fd(), PollFlags::IN)];
            let _ = poll(&mut polled, None);
            let mut left = &bytes[..];
            while let Ok(count @ 1..) = send(theirs, left, SendFlags::NOSIGNAL) {
                left = &left[count..];
            }
            let _ = shutdown(theirs, Shutdown::Write);
        });
        let _ = exchange(&ours, &request, &host, None);
        drop(ours);
    });
});

/// What has happened to the response.
#[derive(Default)]
struct Seen {
    /// The announced length of the body; negative if it is not known.
    length: Option<i64>,
    written: i64,
    is_over: bool,
    is_cut: bool,
}

/// httpd, which insists on the order of calls.
#[derive(Default)]
struct Host(RefCell<Seen>);

impl Host {
    /// Checks that a part of the body may come, and counts it.
    fn body(&self, length: usize, is_last: bool) -> HostResult {
        let mut seen = self.0.borrow_mut();
        let announced = seen.length.expect("a body follows a head");
        assert!(
            !seen.is_over && !seen.is_cut,
            "a part of the body follows its end"
        );
        seen.written += i64::try_from(length).expect("a length");
        assert!(
            announced < 0 || seen.written <= announced,
            "the body is too long"
        );
        assert!(
            !is_last || announced < 0 || seen.written == announced,
            "a body that is too short is complete"
        );
        seen.is_over = is_last;
        HostResult::done(0)
    }
}

impl RequestHost for Host {
    fn log(&self, _level: Level, _line: &[u8]) {}

    fn log_beside(&self, _level: Level, _line: &[u8]) {}

    fn read_body(&self, into: &mut [u8]) -> HostResult {
        into.fill(b'x');
        HostResult::done(into.len())
    }

    fn read_at_hand(&self, _into: &mut [u8]) -> HostResult {
        HostResult::later()
    }

    fn start_response(&self, head: &ResponseHead<'_>) -> HostResult {
        let mut seen = self.0.borrow_mut();
        assert!(seen.length.is_none(), "a second head");
        assert!((100..1000).contains(&head.status), "status {}", head.status);
        let line = head.status_line.get_or_empty();
        let headers = head.headers.get_or_empty().iter();
        let texts = headers.flat_map(|header| [header.name, header.value]);
        for text in texts.map(|text| text.get_or_empty()).chain([line]) {
            assert!(
                !text.iter().any(|byte| b"\r\n\0".contains(byte)),
                "{text:?}"
            );
        }
        seen.length = Some(head.content_length);
        HostResult::done(0)
    }

    fn write(&self, chunks: &[Bytes<'_>], end: WriteEnd) -> HostResult {
        let length = chunks.iter().map(|chunk| chunk.get_or_empty().len()).sum();
        self.body(length, matches!(end, WriteEnd::End | WriteEnd::EndNow))
    }

    fn flush(&self) -> HostResult {
        assert!(self.0.borrow().length.is_some(), "a flush follows a head");
        HostResult::done(0)
    }

    fn send_file(&self, _file: OwnedFd, _offset: u64, length: u64) -> HostResult {
        self.body(usize::try_from(length).expect("a length"), false)
    }

    fn cut_response(&self) {
        self.0.borrow_mut().is_cut = true;
    }

    fn client_presence(&self) -> Presence {
        Presence::Here
    }

    fn give_up(&self) {}

    fn ssl_variable(&self, _name: &[u8]) -> Option<&[u8]> {
        None
    }
}
