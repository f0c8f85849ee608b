//! How the parent and the children of these tests communicate: through a shared file besides the segment. Its numbers
//! never decrease, and every addition is atomic.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

use wsgi_telemetry::{Geometry, Segment, memory};

/// Number of children at a time.
pub(crate) const CHILDREN: usize = 6;
/// Number of threads of a child that record.
pub(crate) const THREADS: usize = 3;
/// Labels of the applications.
pub(crate) const APPLICATIONS: [&str; 2] = ["/shop", "/api"];

/// Words of a cache line.
const LINE: usize = 8;
const STOP: usize = 0;
const ENDING: usize = LINE;
const ARRIVED: usize = ENDING + CHILDREN * LINE;
const ACKNOWLEDGED: usize = ARRIVED + CHILDREN * LINE;
const WORDS: usize = ACKNOWLEDGED + CHILDREN * THREADS * LINE;

/// The shared file.
#[derive(Clone, Copy)]
pub(crate) struct Board(&'static [AtomicU64]);

impl Board {
    pub(crate) fn create(folder: &Path) -> Self {
        Self(made(&folder.join("board"), WORDS))
    }

    pub(crate) fn open(folder: &Path) -> Self {
        Self(opened(&folder.join("board"), WORDS))
    }

    /// Tells all children to finish their requests and to end.
    pub(crate) fn stop(self) {
        self.0[STOP].store(1, Release);
    }

    pub(crate) fn has_stopped(self) -> bool {
        self.0[STOP].load(Acquire) != 0
    }

    /// Tells child `number` of `slot` to end in the middle of its work, as in a server that does not wait for its
    /// children.
    pub(crate) fn end(self, slot: usize, number: u64) {
        self.0[ENDING + slot * LINE].store(number, Release);
    }

    pub(crate) fn is_to_end(self, slot: usize, number: u64) -> bool {
        self.0[ENDING + slot * LINE].load(Acquire) >= number
    }

    /// Records that child `number` of `slot` is recording.
    pub(crate) fn arrive(self, slot: usize, number: u64) {
        self.0[ARRIVED + slot * LINE].fetch_max(number, AcqRel);
    }

    pub(crate) fn has_arrived(self, slot: usize, number: u64) -> bool {
        self.0[ARRIVED + slot * LINE].load(Acquire) >= number
    }

    /// Records that a request of an application was recorded in full.
    pub(crate) fn acknowledge(self, slot: usize, thread: usize, application: usize) {
        self.0[acknowledged(slot, thread) + application].fetch_add(1, AcqRel);
    }

    /// Returns the numbers of acknowledged requests, by application.
    pub(crate) fn acknowledged(self) -> [u64; APPLICATIONS.len()] {
        let lanes =
            (0..CHILDREN * THREADS).map(|lane| acknowledged(lane / THREADS, lane % THREADS));
        let sum = |application: usize| {
            lanes
                .clone()
                .map(|at: usize| self.0[at + application].load(Acquire))
                .sum()
        };
        std::array::from_fn(sum)
    }
}

const fn acknowledged(slot: usize, thread: usize) -> usize {
    ACKNOWLEDGED + (slot * THREADS + thread) * LINE
}

/// Creates a segment in a file.
pub(crate) fn create_segment(folder: &Path, geometry: Geometry) -> Segment {
    let cells = made(&folder.join("segment"), geometry.words());
    let segment = Segment::create(cells, geometry, std::process::id()).unwrap();
    segment.begin_generation(0);
    segment
}

/// Opens the parent's segment.
pub(crate) fn open_segment(folder: &Path, geometry: Geometry) -> Segment {
    Segment::known(opened(&folder.join("segment"), geometry.words()), geometry).unwrap()
}

fn made(path: &Path, words: usize) -> &'static [AtomicU64] {
    let file = File::create_new(path).unwrap();
    file.set_len(words as u64 * 8).unwrap();
    opened(path, words)
}

fn opened(path: &Path, words: usize) -> &'static [AtomicU64] {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    memory::file(file, words, true).unwrap()
}
