//! The file by which a segment is found: what is written comes back, and no change of the file does harm.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use wsgi_telemetry::published::{Copied, LARGEST_COPY, Location, Memory, Mirror, Origin, publish};
use wsgi_telemetry::{Format, Geometry, Mismatch, Segment, memory, render};

struct Server {
    memory: OwnedFd,
    segment: Segment,
    file: File,
}

fn server(geometry: Geometry) -> Server {
    let (memory, cells) = memory::sealed("test", geometry.words()).expect("memory");
    Server {
        memory,
        segment: Segment::create(cells, geometry, 7).expect("a segment"),
        file: tempfile::tempfile().expect("a file"),
    }
}

impl Server {
    fn publish(&self) -> Copied {
        let known = Origin {
            parent: 4711,
            start: 12_345,
            descriptor: self.memory.as_raw_fd().cast_unsigned(),
        };
        publish(&self.segment, &self.memory, known, &self.file).expect("written")
    }

    fn header(&self) -> Vec<u64> {
        let mut bytes = vec![0; Segment::HEADER_WORDS * 8];
        self.file.read_exact_at(&mut bytes, 0).expect("a header");
        let words = bytes.as_chunks::<8>().0;
        words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }

    fn mirror(&self) -> Mirror {
        let file = self.file.try_clone().expect("another descriptor");
        Mirror::new(file, self.segment.geometry()).expect("memory")
    }
}

fn small() -> Geometry {
    Geometry::new(2, 1, 2, 8)
}

fn words(cells: &[AtomicU64]) -> Vec<u64> {
    cells.iter().map(|cell| cell.load(Relaxed)).collect()
}

#[test]
fn what_is_published_comes_back() {
    let server = server(small());
    assert_eq!(server.publish(), Copied::Whole);
    let header = server.header();
    assert_eq!(Segment::claimed_geometry(&header), Ok(small()));
    let place = Location::of(&header).expect("a place");
    let inode = File::from(server.memory.try_clone().expect("a descriptor"));
    let expected = Memory {
        descriptor: server.memory.as_raw_fd().cast_unsigned(),
        inode: inode.metadata().expect("metadata").ino(),
    };
    assert_eq!((place.parent, place.start), (4711, 12_345));
    assert_eq!(place.memory, Some(expected));
    assert!(place.copied > 0);
    let mirror = server.mirror();
    for round in 1..4_u64 {
        let cells = server.segment.cells();
        for at in (Segment::HEADER_WORDS..cells.len()).step_by(97) {
            cells[at].store(round * at as u64, Relaxed);
        }
        server.publish();
        let seen = mirror.look().expect("read").cells();
        let from = Segment::HEADER_WORDS;
        assert!(words(&seen[from..]) == words(&cells[from..]));
    }
}

/// Children write to the memory, but the header of the file only has what the parent knows.
#[test]
fn what_children_write_does_not_say_where_the_memory_is() {
    let server = server(small());
    for cell in server.segment.cells() {
        cell.store(u64::MAX, Relaxed);
    }
    server.publish();
    let header = server.header();
    assert_eq!(Segment::claimed_geometry(&header), Ok(small()));
    let place = Location::of(&header).expect("a place");
    assert_eq!((place.parent, place.start), (4711, 12_345));
    let descriptor = place.memory.expect("memory").descriptor;
    assert_eq!(descriptor, server.memory.as_raw_fd().cast_unsigned());
}

#[test]
fn the_memory_cannot_be_cut() {
    let server = server(small());
    assert!(memory::is_sealed(&server.memory));
    let memory = File::from(server.memory.try_clone().expect("a descriptor"));
    let length = memory.metadata().expect("metadata").len();
    for other in [0, 1, length - 1, length + 1] {
        let refused = memory.set_len(other).expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{other}");
    }
    // Neither through its name among the open files, nor by opening it again.
    let name = format!("/proc/self/fd/{}", memory.as_raw_fd());
    assert!(File::create(name).is_err());
    assert_eq!(memory.metadata().expect("metadata").len(), length);
    let last = server.segment.cells().last().expect("a cell");
    last.store(1, Relaxed);
    // Files of a file system are not sealed.
    assert!(!memory::is_sealed(&server.file));
}

#[test]
fn a_file_that_is_cut_is_seen_to_be() {
    let server = server(small());
    server.publish();
    let mirror = server.mirror();
    let whole = small().bytes() as u64;
    for length in [0, 1, 4095, 4096, whole / 2, whole - 1] {
        server.file.set_len(length).expect("cut");
        let error = mirror.look().map(drop).expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length}");
        server.publish();
        mirror.look().expect("whole again");
    }
    server.file.set_len(whole + 1).expect("longer");
    mirror.look().expect("long enough");
}

/// A large segment of which little was touched makes a small copy, and a segment that is too large is not copied.
#[test]
fn a_copy_is_as_large_as_what_was_touched() {
    let geometry = Geometry::new(1_000, 40, 1_000, 100);
    assert!(geometry.bytes() > 1 << 30, "{}", geometry.bytes());
    let server = server(geometry);
    assert_eq!(server.publish(), Copied::Whole);
    let blocks = |file: &File| file.metadata().expect("metadata").blocks() * 512;
    assert!(blocks(&server.file) < 8 << 20, "{}", blocks(&server.file));
    let mirror = server.mirror();
    let last = geometry.words() - 1;
    server.segment.cells()[last].store(9, Relaxed);
    server.publish();
    assert_eq!(mirror.look().expect("read").cells()[last].load(Relaxed), 9);
    for page in 0..LARGEST_COPY / 4096 {
        let at = last - page as usize * 512;
        server.segment.cells()[at].store(1, Relaxed);
    }
    assert_eq!(server.publish(), Copied::TooLarge);
    let place = Location::of(&server.header()).expect("a place");
    assert_eq!(place.copied, 0);
    assert!(place.memory.is_some());
}

#[test]
fn too_little_of_a_header_is_none() {
    assert_eq!(Location::of(&[]), Err(Mismatch::TooShort));
    assert_eq!(Location::of(&[1; 57]), Err(Mismatch::TooShort));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A file may hold anything, and be of any length.
    #[test]
    fn any_file_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<bool>()), 0..200),
        length in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut server = server(small());
        server.publish();
        let whole = small().bytes();
        for (index, word, in_header) in changes {
            let room = if in_header { Segment::HEADER_WORDS } else { whole / 8 };
            let at = index.index(room) as u64 * 8;
            server.file.write_all_at(&word.to_ne_bytes(), at).expect("written");
        }
        let length = length.map_or(whole, |length| length.index(whole));
        server.file.set_len(length as u64).expect("cut");
        server.file.flush().expect("flushed");
        let mirror = server.mirror();
        match mirror.look() {
            Ok(segment) => {
                prop_assert_eq!(length, whole);
                let snapshot = segment.snapshot();
                let _ = (segment.history(), segment.board().snapshot(), segment.events());
                let mut page = String::new();
                render(&snapshot, Format::Text, &mut page);
                prop_assert!(page.len() < 4_000_000);
            }
            Err(error) => {
                prop_assert!(length < whole);
                prop_assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            }
        }
        if length >= Segment::HEADER_WORDS * 8 {
            let header = server.header();
            let _ = (Segment::claimed_geometry(&header), Location::of(&header));
        }
    }
}
