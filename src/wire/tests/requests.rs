//! The request itself: whatever a child sends, the process reads the same.

use proptest::prelude::*;
use wsgi_abi::keys::KEYS;
use wsgi_abi::{KeyKind, Times};

use super::*;
use crate::request::pack_request;
use crate::{UnpackedRequest, limits};

/// Kind, number of the key, key, value.
type Entry = (u8, u16, Vec<u8>, Option<Vec<u8>>);

/// The values of a request, as a test can compare them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Values {
    group: Vec<u8>,
    replica: i32,
    script: Vec<u8>,
    mtime: i64,
    numbers: [u32; 5],
    app: u16,
    flags: [bool; 5],
    entries: Vec<Entry>,
    body: Vec<u8>,
}

prop_compose! {
    fn values()(
        group in proptest::collection::vec(any::<u8>(), 0..40),
        replica in any::<i32>(),
        script in proptest::collection::vec(any::<u8>(), 0..200),
        mtime in any::<i64>(),
        numbers in any::<[u32; 5]>(),
        app in any::<u16>(),
        flags in any::<[bool; 5]>(),
        entries in proptest::collection::vec(
            (
                0_u8..3,
                0..u16::try_from(KEYS.len()).expect("a few"),
                proptest::collection::vec(any::<u8>(), 0..30),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            ),
            0..60,
        ),
        body in proptest::collection::vec(any::<u8>(), 0..2000),
    ) -> Values {
        Values { group, replica, script, mtime, numbers, app, flags, entries, body }
    }
}

const KINDS: [KeyKind; 3] = [KeyKind::Known, KeyKind::Header, KeyKind::Literal];

/// Packs the values, and takes them from the frame again.
fn there_and_back(values: &Values) -> Values {
    let entries: Vec<EnvEntry<'_>> = values
        .entries
        .iter()
        .map(|(kind, id, key, value)| {
            let kind = KINDS[usize::from(*kind)];
            let is_known = kind == KeyKind::Known;
            EnvEntry {
                kind,
                id: if is_known { *id } else { 0 },
                key: if is_known {
                    Bytes::ABSENT
                } else {
                    Bytes::new(key)
                },
                value: value.as_deref().into(),
            }
        })
        .collect();
    let [load_timeout, ahead, request, grace, slow] = values.numbers;
    let [script_reloading, https, header_only, is_there, is_timed] = values.flags;
    let times = Times::default();
    let outer = [u64::from(ahead), 7];
    let run = RunRequest::new(
        Target {
            group: Bytes::new(&values.group),
            replica: values.replica,
            script: Bytes::new(&values.script),
            script_mtime: values.mtime,
            script_reloading,
            load_timeout,
            callable: Bytes::new(b"application"),
            resource: Bytes::new(&values.script),
            app: values.app,
        },
        Environ {
            https,
            header_only,
            ..Environ::new(&entries)
        },
        BodyPlan { is_there, ahead },
        Limits {
            request,
            grace,
            slow,
        },
        Timing {
            received: values.mtime,
            queue_start: values.mtime,
            daemon_start: 0,
            times: is_timed.then_some(&times),
        },
    );
    let mut frame = Vec::new();
    let body = BodyStart {
        start: &values.body,
        is_whole: https,
    };
    let request = OutgoingRequest {
        level: Level::Debug,
        is_activity: https,
        since: u64::from(https) << 40,
        nesting: Nesting {
            id: values.mtime.cast_unsigned(),
            within: Slice::new(&outer),
        },
        ..outgoing(&run, body)
    };
    pack_request(&mut frame, &request).expect("it is short");
    let unpacked = UnpackedRequest::unpack(frame[5], &frame[6..]).expect("what was packed");
    assert_eq!(unpacked.level, Level::Debug);
    assert_eq!(unpacked.is_activity, https);
    assert_eq!(unpacked.since, u64::from(https) << 40);
    assert_eq!(unpacked.body.is_whole, https);
    let theirs = Times::default();
    let found = unpacked.run_request(7, Some(&theirs));
    let bytes = |bytes: Bytes<'_>| bytes.get_or_empty().to_vec();
    let (target, environ) = (&found.target, &found.environ);
    assert_eq!(bytes(target.callable), b"application");
    assert_eq!(bytes(target.resource), values.script);
    assert_eq!(found.timing.received, values.mtime);
    assert_eq!(
        (found.timing.queue_start, found.timing.daemon_start),
        (values.mtime, 7)
    );
    assert_eq!(found.nesting.id, request.nesting.id);
    assert_eq!(found.nesting.within.get_or_empty(), outer);
    assert!(environ.apache_request.is_null() && found.host().is_null());
    let entries = environ.entries.get_or_empty().iter();
    Values {
        group: bytes(target.group),
        replica: target.replica,
        script: bytes(target.script),
        mtime: target.script_mtime,
        numbers: [
            target.load_timeout,
            found.body.ahead,
            found.limits.request,
            found.limits.grace,
            found.limits.slow,
        ],
        app: target.app,
        flags: [
            target.script_reloading,
            environ.https,
            environ.header_only,
            found.body.is_there,
            found.timing.times.is_some(),
        ],
        entries: entries
            .map(|entry| {
                let value = entry.value.get().map(<[u8]>::to_vec);
                (entry.kind as u8, entry.id, bytes(entry.key), value)
            })
            .collect(),
        body: unpacked.body.start.to_vec(),
    }
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was_sent(mut values in values()) {
        let back = there_and_back(&values);
        for (kind, id, key, _) in &mut values.entries {
            if *kind == 0 { key.clear() } else { *id = 0 }
        }
        prop_assert_eq!(back, values);
    }

    /// A frame that was cut anywhere is refused.
    #[test]
    fn a_part_of_a_request_is_none(values in values(), cut in any::<proptest::sample::Index>()) {
        let mut frame = Vec::new();
        let entries = [];
        let mut run = simple(&entries);
        run.target.script = Bytes::new(&values.script);
        let request = outgoing(&run, BodyStart::default());
        pack_request(&mut frame, &request).expect("it is short");
        let body = &frame[6..];
        let part = &body[..cut.index(body.len())];
        prop_assert!(UnpackedRequest::unpack(0, part).is_err());
    }

    #[test]
    fn no_bytes_are_taken_for_more_than_they_hold(bytes in proptest::collection::vec(any::<u8>(), 0..500), level in any::<u8>()) {
        if let Ok(request) = UnpackedRequest::unpack(level, &bytes) {
            let run = request.run_request(0, None);
            let entries = run.environ.entries.get_or_empty();
            prop_assert!(entries.len() * 7 <= bytes.len());
        }
    }
}

#[test]
fn lengths_at_their_limits() {
    for (length, fits) in [
        (limits::BODY - 1, true),
        (limits::BODY, true),
        (limits::BODY + 1, false),
    ] {
        let start = vec![b'x'; length];
        let run = simple(&[]);
        let body = BodyStart {
            start: &start,
            is_whole: false,
        };
        let mut frame = Vec::new();
        let sent = pack_request(&mut frame, &outgoing(&run, body)).is_ok();
        let read = sent && UnpackedRequest::unpack(0, &frame[6..]).is_ok();
        assert_eq!(read, fits, "{length}");
    }
    for (length, fits) in [
        (limits::LINE - 1, true),
        (limits::LINE, true),
        (limits::LINE + 1, false),
    ] {
        let mut frame = Vec::new();
        let appended = append(&mut frame, Kind::Log, 0, |to| to.0.resize(6 + length, 0));
        assert_eq!(appended.is_ok(), fits, "{length}");
        assert_eq!(frame.len(), if fits { 6 + length } else { 0 });
    }
}

/// A request that is longer than the limits is not sent, and the connection stays usable.
#[test]
fn a_request_that_is_too_long() {
    let (ours, theirs) = pair();
    let (ours, theirs) = (connection(ours), connection(theirs));
    let long = vec![b'x'; limits::REQUEST + limits::BODY];
    let entries = [EnvEntry {
        kind: KeyKind::Header,
        id: 0,
        key: Bytes::new(b"Long"),
        value: Bytes::new(&long),
    }];
    let start = BodyStart {
        start: &long[..=limits::BODY],
        is_whole: false,
    };
    let client = Client::default();
    let (long, short) = (simple(&entries), simple(&[]));
    for request in [
        outgoing(&long, BodyStart::default()),
        outgoing(&short, start),
    ] {
        let exchanged = exchange(&ours, &request, &client, Some(PATIENCE));
        assert_eq!(exchanged, Ok(Exchanged::TooLong));
    }
    assert_eq!(receive(&theirs, &mut RequestBuffer::default()), Ok(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            serve_one(&theirs, |remote| {
                remote.start_response(&head(&[]));
                remote.write(&[], WriteEnd::End);
                RunOutcome::Responded
            });
        });
        assert_eq!(ask(&ours, &client), Ok(ENDED));
    });
}
