//! The segment: made by the parent, written by its children, read by every process.
//!
//! Each process of the server keeps the [`Geometry`] for itself. The geometry in the header is for processes outside of
//! the server, which accept it only within bounds.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use super::layout;
use super::layout::{
    APPLICATION_ENTRY_WORDS, ENTRY_WORDS, EVENT_WORDS, Geometry, HEADER_WORDS, header,
};
use super::{memory, text};
use crate::catalogue::{Id, Source, cell};
use crate::sync::AtomicU64;

/// A mapped segment.
#[derive(Clone, Copy)]
pub struct Segment {
    cells: &'static [AtomicU64],
    geometry: Geometry,
}

/// Facts about the server, stored as texts of at most 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fact {
    /// Server version string of httpd.
    Httpd,
    /// Version of the module.
    Version,
    /// Revision that the module was built from.
    Revision,
    /// Version of the Rust compiler.
    Rustc,
    /// Name of the MPM.
    Mpm,
    /// Version of Python, set by the children.
    Python,
    /// Name of the implementation of Python.
    Implementation,
    /// State of Python's GIL: `enabled` or `disabled`.
    Gil,
}

/// Why something cannot be read as a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The first word is not that of a segment.
    NoSegment,
    /// Another release made the segment.
    OtherLayout,
    /// The memory is shorter than the geometry needs.
    TooShort,
    /// There is no memory for the parts that every segment uses.
    NoMemory,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mismatch::NoSegment => "this is no metrics segment of mod_wsgi_rs",
            Mismatch::OtherLayout => {
                "the metrics segment was made by another release of mod_wsgi_rs"
            }
            Mismatch::TooShort => "the metrics segment is shorter than it says",
            Mismatch::NoMemory => "there is no memory left for the metrics segment",
        })
    }
}

impl std::error::Error for Mismatch {}

impl Segment {
    /// Returns the segment of this process or of its parent, whose geometry is known.
    ///
    /// # Errors
    /// The memory is too short.
    pub fn known(cells: &'static [AtomicU64], geometry: Geometry) -> Result<Self, Mismatch> {
        if !geometry.is_possible() || cells.len() < geometry.words() {
            return Err(Mismatch::TooShort);
        }
        Ok(Self { cells, geometry })
    }

    /// Returns the geometry that the header of a segment claims, for processes outside of the server. `header` holds
    /// the first words.
    ///
    /// # Errors
    /// This is not a segment, or a segment of another release.
    pub fn claimed_geometry(header: &[u64]) -> Result<Geometry, Mismatch> {
        let word = |at: usize| header.get(at).copied().ok_or(Mismatch::TooShort);
        let count = |at| word(at).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        if word(header::MAGIC)? != layout::MAGIC {
            return Err(Mismatch::NoSegment);
        }
        if word(header::LAYOUT)? != layout::HASH {
            return Err(Mismatch::OtherLayout);
        }
        let geometry = Geometry {
            arenas: count(header::ARENAS)?,
            applications: count(header::APPLICATIONS)?,
            series: count(header::SERIES)?,
        };
        if geometry.is_possible() {
            Ok(geometry)
        } else {
            Err(Mismatch::NoSegment)
        }
    }

    /// Hash of the layout: differs between releases with different layouts.
    pub const LAYOUT: u64 = layout::HASH;

    /// Number of words that [`Self::claimed_geometry`] needs.
    pub const HEADER_WORDS: usize = HEADER_WORDS;

    /// Returns the numbers of arenas, applications and series that the segment has room for.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns all words of the segment.
    pub fn cells(&self) -> &'static [AtomicU64] {
        self.cells
    }

    /// Returns `count` words from `at` on. Callers take `at` from the geometry.
    pub(crate) fn words(&self, at: usize, count: usize) -> &'static [AtomicU64] {
        &self.cells[at..at + count]
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        self.cells[at].load(Relaxed)
    }

    pub(crate) fn set(&self, at: usize, value: u64) {
        self.cells[at].store(value, Relaxed);
    }

    /// Gives words of an arena their memory before their first use. Returns `false` if no memory is left.
    pub(crate) fn open(&self, at: usize, count: usize) -> bool {
        let is_there = memory::populate(self.words(at, count));
        if !is_there {
            self.cells[header::NO_MEMORY].fetch_add(1, Relaxed);
        }
        is_there
    }

    /// Returns the number of times that there was no memory for a part of the segment, so that its numbers were counted
    /// together with others.
    pub fn lacked_memory(&self) -> u64 {
        self.get(header::NO_MEMORY)
    }

    /// Returns the process that made the segment.
    pub fn parent(&self) -> u32 {
        u32::try_from(self.get(header::PARENT)).unwrap_or(0)
    }

    /// Returns the Unix time at which the segment was made, in nanoseconds.
    pub fn start(&self) -> u64 {
        self.get(header::START)
    }

    /// Returns the number of the current configuration, from 0.
    pub fn generation(&self) -> u64 {
        self.get(header::GENERATION)
    }

    /// Sets a fact.
    pub fn set_fact(&self, fact: Fact, value: &str) {
        text::put(self.fact_cells(fact), value.as_bytes());
    }

    /// Returns a fact; empty if it was not set.
    pub fn fact(&self, fact: Fact) -> String {
        text::get(self.fact_cells(fact))
    }

    fn fact_cells(&self, fact: Fact) -> &'static [AtomicU64] {
        self.words(
            header::TEXTS + fact as usize * header::TEXT_WORDS,
            header::TEXT_WORDS,
        )
    }

    /// Adds to a counter of the header. Several processes may do this at the same time.
    pub fn count(&self, id: Id, series: usize, by: u64) {
        debug_assert_eq!(id.family().source, Source::Header);
        self.cells[header::CELLS + cell(id, series)].fetch_add(by, Relaxed);
    }

    pub(crate) fn event_cells(&self, at: usize) -> &'static [AtomicU64] {
        self.words(self.geometry.event(at), EVENT_WORDS)
    }

    pub(crate) fn application_cells(&self, app: usize) -> &'static [AtomicU64] {
        self.words(self.geometry.application(app), APPLICATION_ENTRY_WORDS)
    }

    pub(crate) fn entry_cells(&self, at: usize) -> &'static [AtomicU64] {
        self.words(self.geometry.entry(at), ENTRY_WORDS)
    }
}
