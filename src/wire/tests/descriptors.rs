//! The descriptors of files: which ones a child takes, and that it keeps no other.

use std::io::Write;
use std::path::Path;

use wsgi_abi::HostStatus;

use super::*;

/// Returns a file of ten bytes.
fn ten_bytes() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"0123456789").expect("room");
    file
}

/// Returns how many descriptors of this process refer to a file. Other tests open and close other files meanwhile.
fn descriptors_of(path: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("the descriptors");
    all.flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
        .count()
}

#[test]
fn a_file_is_read_by_the_child() {
    let client = Client::default();
    let file = ten_bytes();
    let exchanged = run_simple(&client, |remote| {
        remote.start_response(&head(&[]));
        remote.write(&[Bytes::new(b"before ")], WriteEnd::More);
        let file = file.reopen().expect("it is there");
        assert_eq!(remote.send_file(file.into(), 2, 5).status, HostStatus::Ok);
        RunOutcome::Responded
    });
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.written(), b"before 23456");
}

/// The kernel may hand a descriptor over with bytes that were sent before it.
#[test]
fn a_descriptor_may_come_some_frames_before_its_file() {
    let file = ten_bytes();
    let bytes = [
        frame(Kind::Log, 1, |to| to.0.extend_from_slice(b"a line")),
        good_head(),
        file_frame(2, 5),
        end_of(RunOutcome::Responded),
    ]
    .concat();
    let client = Client::default();
    let exchanged = answer(&client, &bytes, &[file.as_file().as_fd()]);
    assert_eq!(exchanged, Ok(ENDED));
    assert_eq!(client.written(), b"23456");
    assert_eq!(descriptors_of(file.path()), 1, "our own");
}

#[test]
fn descriptors_that_a_child_refuses() {
    let file = ten_bytes();
    let descriptor = file.as_file().as_fd();
    let with_head = [good_head(), file_frame(0, 1)].concat();
    for (bytes, count, what) in [
        (&file_frame(0, 1), 1, "a body before its head"),
        (&with_head, 0, "a file comes without its descriptor"),
        (
            &[good_head(), file_frame(1, u64::MAX)].concat(),
            1,
            "a file is longer than a file can be",
        ),
        (
            &[good_head(), file_frame(1, i64::MAX as u64)].concat(),
            1,
            "a file is longer than a file can be",
        ),
        (
            &[
                good_head(),
                chunk(b"", WriteEnd::End),
                end_of(RunOutcome::Responded),
            ]
            .concat(),
            1,
            "a descriptor comes without its file",
        ),
        // The kernel hands over as many as there is room for; alignment makes some.
        (&with_head, 2, "several descriptors come for one file"),
        (
            &with_head,
            16,
            "several descriptors come for one file, or this side may open no more (RLIMIT_NOFILE)",
        ),
    ] {
        let client = Client::default();
        let lost = answer(&client, bytes, &vec![descriptor; count]).expect_err(what);
        assert_eq!(lost.error, WireError::Violation(what));
        assert_eq!(client.written(), b"", "{what}");
        assert_eq!(descriptors_of(file.path()), 1, "our own: {what}");
    }
}

#[test]
fn files_that_a_child_refuses() {
    let device = File::open("/dev/zero").expect("a device");
    let folder = File::open("/").expect("a folder");
    let (pipe, _other) = rustix::pipe::pipe().expect("a pipe");
    let named = ten_bytes();
    let write_only = std::fs::OpenOptions::new().write(true).open(named.path());
    let write_only = write_only.expect("it is ours");
    let path_only = rustix::fs::open(
        named.path(),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .expect("it is there");
    for descriptor in [
        device.as_fd(),
        folder.as_fd(),
        pipe.as_fd(),
        write_only.as_fd(),
        path_only.as_fd(),
    ] {
        let client = Client::default();
        let exchanged = run_simple(&client, |remote| {
            remote.start_response(&head(&[]));
            let file = descriptor.try_clone_to_owned().expect("a descriptor");
            remote.send_file(file, 0, 1);
            RunOutcome::Responded
        });
        let what = "a file is no regular file, or not readable";
        let lost = exchanged.expect_err(what);
        assert_eq!(lost.error, WireError::Violation(what));
    }
}
