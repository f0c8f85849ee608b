//! What parent and children of these tests tell each other: a shared file besides the segment, in which nothing is ever
//! taken back and every addition is atomic.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release},
};

use wsgi_telemetry::{Geometry, Segment, memory};

/// Children at a time.
pub(crate) const CHILDREN: usize = 6;
/// Threads of a child that record.
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

    /// Everybody is to finish what he has begun, and to end.
    pub(crate) fn stop(self) {
        self.0[STOP].store(1, Release);
    }

    pub(crate) fn has_stopped(self) -> bool {
        self.0[STOP].load(Acquire) != 0
    }

    /// Child `number` of `slot` is to end in the middle of its work, as a server does that waits for nobody.
    pub(crate) fn end(self, slot: usize, number: u64) {
        self.0[ENDING + slot * LINE].store(number, Release);
    }

    pub(crate) fn is_to_end(self, slot: usize, number: u64) -> bool {
        self.0[ENDING + slot * LINE].load(Acquire) >= number
    }

    /// Child `number` of `slot` records.
    pub(crate) fn arrive(self, slot: usize, number: u64) {
        self.0[ARRIVED + slot * LINE].fetch_max(number, AcqRel);
    }

    pub(crate) fn has_arrived(self, slot: usize, number: u64) -> bool {
        self.0[ARRIVED + slot * LINE].load(Acquire) >= number
    }

    /// A request of an application was recorded in full.
    pub(crate) fn acknowledge(self, slot: usize, thread: usize, application: usize) {
        self.0[acknowledged(slot, thread) + application].fetch_add(1, AcqRel);
    }

    /// Requests that were, by application.
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

/// A new segment, in a file.
pub(crate) fn create_segment(folder: &Path, geometry: Geometry) -> Segment {
    let cells = made(&folder.join("segment"), geometry.words());
    let segment = Segment::create(cells, geometry, std::process::id()).unwrap();
    segment.begin_generation(0);
    segment
}

/// The segment of the parent.
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
