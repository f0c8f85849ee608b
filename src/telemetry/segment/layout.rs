//! The layout of the segment, in words of eight bytes.
//!
//! ```text
//! Header       512 words   magic, layout hash, geometry, facts about the server, the parent's own counters
//! Board        16          revision of the code, process that drives rolls
//! Rolls        2 x 128     progress of the current roll; readers use one while the other is written
//! Reloads      8 x 64      requests for a roll
//! Groups       64 x 56     application groups: GIL mode, the reason for it, and the plan of each
//! Stacks       8200        child whose stacks are asked for, and the stacks that it has written
//! Events       64 x 64     recent slow and refused requests
//! Deaths       8 x 128     children that ended unexpectedly
//! Applications A x 128     state, name, mount, script, group                       (0: "_other")
//! History      60 x (1 + 4A)  a sample of each application every few seconds
//! Families     F x 96      the applications' own metrics
//! Series       S x 64      series of these families; entry and cell have the same number   (0: overflow)
//! Arena table  N x 8       owner, generation, state, running request               (0: the spill arena)
//! Running      N x 32      URL and group of the running request
//! Children     N x 8       owner, revision, state, whether the child must retire
//! Arenas       N x arena   head: process cells | 3 maps of blocks in use | A x application block | S cells
//! ```
//!
//! Application blocks begin on cache lines and arenas on pages, so that no two writers share a line.
//!
//! Few of the N x A blocks are ever used, and only used blocks take memory. Three parts are always in use: everything
//! before the arenas, the head of the spill arena, and its block of `_other`. Every other part gets its memory before
//! it is first written ([`Segment::open`](crate::Segment::open)), and a bit in the head of its arena records that.
//! Parts without this bit are not even read, since reading alone would take memory.

use crate::catalogue::{APPLICATION_CELLS, HEADER_CELLS, LAYOUT_HASH, PROCESS_CELLS, fnv};

/// First word of every segment: "wsgi_rs" and the version of this layout.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"wsgi_rs\x02");

/// Words of a page.
pub(crate) const PAGE: usize = 512;
/// Words of a cache line.
const LINE: usize = 8;

pub(crate) const HEADER_WORDS: usize = PAGE;
pub(crate) const BOARD_WORDS: usize = 16;
pub(crate) const ROLLS: usize = 2;
pub(crate) const ROLL_WORDS: usize = 128;
/// Most requests for a roll that may wait at the same time.
pub(crate) const RELOADS: usize = 8;
pub(crate) const RELOAD_WORDS: usize = 64;
/// Most application groups that the children share decisions about.
pub(crate) const GROUPS: usize = 64;
pub(crate) const GROUP_WORDS: usize = 56;
/// The state of the stacks, then the text of one child at a time.
pub(crate) const STACKS_WORDS: usize = LINE + 8192;
pub(crate) const EVENTS: usize = 64;
pub(crate) const EVENT_WORDS: usize = 64;
pub(crate) const DEATHS: usize = 8;
pub(crate) const DEATH_WORDS: usize = 128;
pub(crate) const APPLICATION_ENTRY_WORDS: usize = 128;
/// Samples that the history keeps.
pub(crate) const HISTORY: usize = 60;
pub(crate) const HISTORY_WORDS: usize = 4;
/// Most families of the applications' own metrics.
pub(crate) const FAMILIES: usize = 64;
pub(crate) const FAMILY_WORDS: usize = 96;
pub(crate) const SERIES_WORDS: usize = 64;
pub(crate) const ENTRY_WORDS: usize = LINE;
pub(crate) const RUNNING_WORDS: usize = 32;
pub(crate) const CHILD_WORDS: usize = LINE;

/// Cells of an application block that are not in the catalogue: start of the oldest and of the newest interpreter of
/// the process, Unix time in nanoseconds.
pub(crate) const OLDEST_START: usize = APPLICATION_CELLS;
pub(crate) const NEWEST_START: usize = APPLICATION_CELLS + 1;
/// Words of an application block.
pub(crate) const BLOCK_WORDS: usize = (APPLICATION_CELLS + 2).next_multiple_of(LINE);
/// Cell of an arena that is not in the catalogue: resident memory of the child that owns the arena, bytes; 0 for
/// unknown.
pub(crate) const RESIDENT: usize = PROCESS_CELLS;
/// Words before the first application block of an arena.
pub(crate) const PROCESS_WORDS: usize = (PROCESS_CELLS + 1).next_multiple_of(LINE);

/// Words of the header.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const LAYOUT: usize = 1;
    pub(crate) const ARENAS: usize = 2;
    pub(crate) const APPLICATIONS: usize = 3;
    pub(crate) const SERIES: usize = 4;
    /// Number of the arena at which the next measurement of the children's memory starts.
    pub(crate) const NEXT_MEASURED: usize = 5;
    /// Number of deaths noted so far.
    pub(crate) const DEATHS: usize = 6;
    /// Number of times that there was no memory for a part of the segment.
    pub(crate) const NO_MEMORY: usize = 7;
    pub(crate) const PARENT: usize = 8;
    /// Unix time, nanoseconds.
    pub(crate) const START: usize = 9;
    /// Unix time, nanoseconds.
    pub(crate) const CONFIG_LOAD: usize = 10;
    pub(crate) const GENERATION: usize = 11;
    /// Nanoseconds.
    pub(crate) const LAST_SCRAPE: usize = 12;
    /// Number of events noted so far.
    pub(crate) const EVENTS: usize = 13;
    /// Number of samples of the history taken so far.
    pub(crate) const SAMPLES: usize = 14;
    /// One more than the highest number of a series in use so far.
    pub(crate) const SERIES_USED: usize = 15;
    pub(crate) const WORKERS_LIMIT: usize = 32;
    pub(crate) const CHILDREN_LIMIT: usize = 33;
    pub(crate) const THREADS_PER_CHILD: usize = 34;
    pub(crate) const THREADED: usize = 35;
    pub(crate) const FORKED: usize = 36;
    /// Whether `WORKERS` and `CONNECTIONS` hold values.
    pub(crate) const SCOREBOARD: usize = 37;
    pub(crate) const WORKERS: usize = 38;
    pub(crate) const CONNECTIONS: usize = 48;
    /// Bytes of the segment that are in memory, as last measured; 0 for unknown.
    pub(crate) const RESIDENT: usize = 56;
    /// Only in the published file: Unix time at which the memory was copied into it, nanoseconds; 0 if it was not
    /// copied.
    pub(crate) const COPIED: usize = 57;
    /// Only in the published file: one more than the number of the parent's descriptor of the memory, and the memory's
    /// inode number.
    pub(crate) const DESCRIPTOR: usize = 58;
    pub(crate) const INODE: usize = 59;
    /// The facts about the server: texts of [`TEXT_WORDS`] words each.
    pub(crate) const TEXTS: usize = 64;
    pub(crate) const TEXT_WORDS: usize = 17;
    /// Cells of the catalogue.
    pub(crate) const CELLS: usize = 200;
    /// In the segment of a process group: how many requests the process of each slot has.
    pub(crate) const LOADS: usize = 256;
    pub(crate) const MOST_LOADS: usize = 256;
}

const _: () = assert!(header::LOADS + header::MOST_LOADS <= HEADER_WORDS);
const _: () = assert!(header::TEXTS + 8 * header::TEXT_WORDS <= header::CELLS);
const _: () = assert!(header::CELLS + HEADER_CELLS <= header::LOADS);

/// Numbers of arenas, applications and series that a segment has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Arenas, the spill arena among them.
    pub arenas: usize,
    /// Applications, `_other` among them.
    pub applications: usize,
    /// Series of the applications' own metrics, the overflow entry among them.
    pub series: usize,
}

impl Geometry {
    /// Upper bounds that are accepted in the header of a segment of another server.
    const MOST: Self = Self {
        arenas: 100_000,
        applications: 16_384,
        series: 65_536,
    };

    /// Most bytes of a segment. They are only addresses: memory is taken for what is used.
    pub const LARGEST: usize = 1 << 40;

    /// Most applications that a segment has room for beyond the configured ones.
    const SPARE: usize = 1_024;

    /// Returns the geometry for `workers` requests at once in `children` children, with `applications` configured
    /// applications and `series` series.
    ///
    /// Each child takes an arena besides those of its workers, and new children start while their predecessors still
    /// end. Applications that do not fit into [`Self::LARGEST`] are counted together.
    pub fn new(workers: usize, children: usize, applications: usize, series: usize) -> Self {
        let wanted = (workers + children) * 3 / 2 + 16;
        let room = applications + applications.clamp(8, Self::SPARE);
        Self {
            arenas: wanted.min(Self::MOST.arenas),
            applications: (room.max(16) + 1).min(Self::MOST.applications),
            series: series.clamp(1, Self::MOST.series),
        }
        .within(Self::LARGEST)
    }

    /// Returns the same geometry with as many applications as fit into `bytes`, at least one.
    fn within(self, bytes: usize) -> Self {
        let with = |applications| Self {
            applications,
            ..self
        };
        let (mut fits, mut above) = (1, self.applications + 1);
        while above - fits > 1 {
            let middle = fits.midpoint(above);
            if with(middle).bytes() <= bytes {
                fits = middle;
            } else {
                above = middle;
            }
        }
        with(fits)
    }

    /// Returns the geometry for a server that records nothing: the [board](crate::board) of `children` children, and
    /// the minimum of everything else.
    pub fn of_board(children: usize) -> Self {
        Self {
            arenas: (children * 3 / 2 + 16).min(Self::MOST.arenas),
            applications: 1,
            series: 1,
        }
    }

    /// Returns whether the segment has room for more than the board.
    pub fn records(&self) -> bool {
        self.applications > 1
    }

    /// Returns whether a segment may have this geometry.
    pub(crate) fn is_possible(&self) -> bool {
        (1..=Self::MOST.arenas).contains(&self.arenas)
            && (1..=Self::MOST.applications).contains(&self.applications)
            && (1..=Self::MOST.series).contains(&self.series)
    }

    /// Words of the whole segment.
    pub fn words(&self) -> usize {
        self.arena(self.arenas)
    }

    /// Bytes of the whole segment.
    pub fn bytes(&self) -> usize {
        self.words() * 8
    }

    /// Words of one arena.
    pub(crate) fn arena_words(&self) -> usize {
        (self.cells_of_series() + self.series).next_multiple_of(PAGE)
    }

    /// Words of a map with a bit for each application.
    pub(crate) fn map_words(&self) -> usize {
        self.applications.div_ceil(64).next_multiple_of(LINE)
    }

    /// Offset in an arena of the map of blocks that have memory and have counted something.
    pub(crate) fn map_of_touched(&self) -> usize {
        PROCESS_WORDS
    }

    /// Offset in an arena of the map of blocks that hold gauges.
    pub(crate) fn map_of_gauged(&self) -> usize {
        self.map_of_touched() + self.map_words()
    }

    /// Offset in an arena of the map of series that have memory: one bit for each page of cells.
    pub(crate) fn map_of_series(&self) -> usize {
        self.map_of_gauged() + self.map_words()
    }

    /// Words before the first application block of an arena: the part that every used arena has.
    pub(crate) fn head_words(&self) -> usize {
        let pages = self.series.div_ceil(PAGE);
        self.map_of_series() + pages.div_ceil(64).next_multiple_of(LINE)
    }

    /// Offset in an arena of the cells of series.
    pub(crate) fn cells_of_series(&self) -> usize {
        self.head_words() + self.applications * BLOCK_WORDS
    }

    /// Offset of the block of an application in an arena.
    pub(crate) fn block(&self, arena: usize, app: usize) -> usize {
        self.arena(arena) + self.head_words() + app * BLOCK_WORDS
    }

    pub(crate) fn board(&self) -> usize {
        HEADER_WORDS
    }

    pub(crate) fn roll(&self, at: usize) -> usize {
        self.board() + BOARD_WORDS + at * ROLL_WORDS
    }

    pub(crate) fn reload(&self, at: usize) -> usize {
        self.roll(ROLLS) + at * RELOAD_WORDS
    }

    pub(crate) fn group(&self, at: usize) -> usize {
        self.reload(RELOADS) + at * GROUP_WORDS
    }

    pub(crate) fn stacks(&self) -> usize {
        self.group(GROUPS)
    }

    pub(crate) fn event(&self, at: usize) -> usize {
        self.stacks() + STACKS_WORDS + at * EVENT_WORDS
    }

    pub(crate) fn death(&self, at: usize) -> usize {
        self.event(EVENTS) + at * DEATH_WORDS
    }

    pub(crate) fn application(&self, at: usize) -> usize {
        self.death(DEATHS) + at * APPLICATION_ENTRY_WORDS
    }

    /// Offset of sample `at` of the history: its time, then the numbers of the applications.
    pub(crate) fn sample(&self, at: usize) -> usize {
        self.application(self.applications) + at * (1 + HISTORY_WORDS * self.applications)
    }

    pub(crate) fn family(&self, at: usize) -> usize {
        self.sample(HISTORY) + at * FAMILY_WORDS
    }

    pub(crate) fn series_entry(&self, at: usize) -> usize {
        self.family(FAMILIES) + at * SERIES_WORDS
    }

    pub(crate) fn entry(&self, at: usize) -> usize {
        self.series_entry(self.series).next_multiple_of(LINE) + at * ENTRY_WORDS
    }

    pub(crate) fn running(&self, at: usize) -> usize {
        self.entry(self.arenas) + at * RUNNING_WORDS
    }

    /// Offset of a child's entry on the board. There are as many entries as arenas, since each child has at least one
    /// arena.
    pub(crate) fn child(&self, at: usize) -> usize {
        self.running(self.arenas) + at * CHILD_WORDS
    }

    pub(crate) fn arena(&self, at: usize) -> usize {
        self.child(self.arenas).next_multiple_of(PAGE) + at * self.arena_words()
    }
}

/// Hash of the layout. It changes whenever a word moves or gets another meaning.
pub(crate) const HASH: u64 = {
    let sizes = [
        HEADER_WORDS,
        BOARD_WORDS,
        ROLLS,
        ROLL_WORDS,
        RELOADS,
        RELOAD_WORDS,
        GROUPS,
        GROUP_WORDS,
        STACKS_WORDS,
        EVENTS,
        EVENT_WORDS,
        DEATHS,
        DEATH_WORDS,
        APPLICATION_ENTRY_WORDS,
        HISTORY,
        HISTORY_WORDS,
        FAMILIES,
        FAMILY_WORDS,
        SERIES_WORDS,
        ENTRY_WORDS,
        RUNNING_WORDS,
        CHILD_WORDS,
        BLOCK_WORDS,
        PROCESS_WORDS,
        header::LOADS,
        // The number of maps in the head of an arena.
        3,
    ];
    let mut hash = LAYOUT_HASH;
    let mut at = 0;
    while at < sizes.len() {
        hash = fnv(hash, &sizes[at].to_le_bytes());
        at += 1;
    }
    hash
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_there_up_to_the_limits() {
        for (applications, room) in [
            (0, 17),
            (8, 17),
            (9, 19),
            (1_023, 2_047),
            (1_024, 2_049),
            (1_025, 2_050),
            (15_358, 16_383),
            (15_359, 16_384),
            (15_360, 16_384),
        ] {
            let geometry = Geometry::new(4, 2, applications, 1_024);
            assert_eq!(geometry.applications, room, "{applications}");
            assert!(geometry.is_possible());
        }
    }

    #[test]
    fn a_segment_is_as_large_as_the_limit_and_no_larger() {
        let wanted = Geometry {
            arenas: 40,
            applications: 100,
            series: 64,
        };
        for (bytes, applications) in [
            (wanted.bytes() - 1, 99),
            (wanted.bytes(), 100),
            (wanted.bytes() + 1, 100),
            (0, 1),
        ] {
            assert_eq!(wanted.within(bytes).applications, applications, "{bytes}");
        }
        let most = Geometry::new(1_000_000, 100_000, 100_000, 100_000);
        assert!(most.bytes() <= Geometry::LARGEST && most.is_possible());
        let one_more = Geometry {
            applications: most.applications + 1,
            ..most
        };
        assert!(one_more.bytes() > Geometry::LARGEST, "{most:?}");
    }

    #[test]
    fn nothing_lies_on_anything_else() {
        for geometry in [
            Geometry {
                arenas: 3,
                applications: 1,
                series: 1,
            },
            Geometry {
                arenas: 3,
                applications: 64,
                series: 512,
            },
            Geometry {
                arenas: 3,
                applications: 65,
                series: 513,
            },
            Geometry {
                arenas: 3,
                applications: 2_001,
                series: 65_536,
            },
        ] {
            assert!(geometry.map_words() * 64 >= geometry.applications);
            assert!(geometry.map_of_gauged() >= geometry.map_of_touched() + geometry.map_words());
            assert!(geometry.block(1, 0) == geometry.arena(1) + geometry.head_words());
            let end = geometry.block(1, geometry.applications);
            assert!(geometry.arena(1) + geometry.cells_of_series() >= end);
            let end = geometry.arena(1) + geometry.cells_of_series() + geometry.series;
            assert!(geometry.arena(2) >= end);
        }
    }
}
