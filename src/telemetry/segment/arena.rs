//! Arenas: cells with one writer each, elsewhere called the *shards* of a counter.
//!
//! An arena belongs to the segment, not to a process: its next owner continues from the values in it, so no counter
//! ever decreases. The writer loads, adds and stores without a lock prefix. Arenas with several writers (the arena of a
//! child as a whole, and the spill arena) use atomic additions instead.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::app::App;
use super::entry::{Role, has_gauges, state};
use super::layout::{BLOCK_WORDS, NEWEST_START, OLDEST_START, PAGE, PROCESS_WORDS};
use super::mapped::Segment;
use super::owner::Owner;
use crate::catalogue::{
    APPLICATION_CELLS, FAMILIES, Family, Id, Kind, PROCESS_CELLS, STOP_REASON, Source, cell, value,
};
use crate::sync::AtomicU64;

/// A handle of an arena, for the thread or the child that may write to it.
#[derive(Clone, Copy)]
pub struct Arena {
    segment: Segment,
    index: usize,
    /// Whether several threads write to it.
    shared: bool,
    cells: &'static [AtomicU64],
}

/// The cells of one application in one arena.
#[derive(Clone, Copy)]
pub struct Block {
    cells: &'static [AtomicU64; BLOCK_WORDS],
    shared: bool,
}

#[inline]
fn add(cell: &AtomicU64, value: u64, shared: bool) {
    if shared {
        cell.fetch_add(value, Relaxed);
    } else {
        let before = cell.load(Relaxed);
        #[cfg(feature = "faults")]
        crate::faults::in_addition();
        cell.store(before.wrapping_add(value), Relaxed);
    }
}

impl Arena {
    pub(crate) fn new(segment: Segment, index: usize, shared: bool) -> Self {
        let geometry = segment.geometry();
        Self {
            segment,
            index,
            shared,
            cells: segment.words(geometry.arena(index), geometry.arena_words()),
        }
    }

    /// Returns the number of the arena.
    pub fn index(&self) -> u32 {
        u32::try_from(self.index).unwrap_or(0)
    }

    /// Returns the segment that the arena belongs to.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    pub(crate) fn entry(&self) -> &'static [AtomicU64] {
        self.segment.entry_cells(self.index)
    }

    /// Gives this arena to another thread of the process `owner`.
    pub(crate) fn hand_over(&self, owner: Owner, thread: u32) {
        self.entry()[state::OWNER].store(owner.word(thread), Release);
    }

    /// Sets the generation that the owner serves. For the arena of a child.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.entry()[state::GENERATION].store(generation, Relaxed);
    }

    /// Returns whether this is the arena of a child as a whole.
    pub fn is_of_child(&self) -> bool {
        Role::is_process(self.entry()[state::ROLE].load(Relaxed))
    }

    /// Sets the role of the owner. For the arena of a child.
    pub fn set_role(&self, role: Role) {
        self.entry()[state::ROLE].store(role as u64, Release);
    }

    /// Returns the cells of an application, or those of `_other` if `app` is out of range.
    #[inline]
    pub fn application(&self, app: App) -> Block {
        let map = self.segment.geometry().map_of_touched();
        self.block(app, map, state::TOUCHED)
    }

    /// Returns the cells of an application for gauges only, in the arena of a child. Readers then read nothing but the
    /// gauges.
    pub fn gauges(&self, app: App) -> Block {
        let map = self.segment.geometry().map_of_gauged();
        self.block(app, map, state::GAUGED)
    }

    #[inline]
    fn block(&self, app: App, map: usize, word: usize) -> Block {
        let app = usize::from(app.number());
        let app = if app < self.segment.geometry().applications {
            app
        } else {
            0
        };
        if self.cells[map + app / 64].load(Relaxed) & bit(app) == 0 && !self.open(app, map, word) {
            return self.block_elsewhere(app);
        }
        let at = self.segment.geometry().head_words() + app * BLOCK_WORDS;
        match self.cells[at..at + BLOCK_WORDS].try_into() {
            Ok(cells) => Block {
                cells,
                shared: self.shared,
            },
            Err(_) => unreachable!("the slice has just that length"),
        }
    }

    /// Marks a block as used, in a map and in a word of the entry, at its first use. Returns `false` if there is no
    /// memory for it.
    #[cold]
    fn open(&self, app: usize, map: usize, word: usize) -> bool {
        let at = self.segment.geometry().block(self.index, app);
        // The block of last resort got its memory when the segment was made.
        let is_certain = self.index == 0 && app == 0;
        if !is_certain && !self.segment.open(at, BLOCK_WORDS) {
            return false;
        }
        self.cells[map + app / 64].fetch_or(bit(app), Release);
        self.entry()[word].fetch_or(BLOCKS_BIT, Release);
        true
    }

    /// Returns the block to use if this arena has no memory for one: the application's block in the spill arena, or
    /// there the block of `_other`.
    #[cold]
    fn block_elsewhere(&self, app: usize) -> Block {
        let app = if self.index == 0 { 0 } else { app };
        let app = u16::try_from(app).map_or(App::OTHER, App::new);
        self.segment.spill().application(app)
    }

    /// Adds to a counter that each arena has once.
    pub fn add(&self, id: Id, series: usize, value: u64) {
        debug_assert_eq!(id.family().source, Source::Process);
        let touched = &self.entry()[state::TOUCHED];
        if touched.load(Relaxed) & PROCESS_BIT == 0 {
            touched.fetch_or(PROCESS_BIT, Release);
        }
        add(&self.cells[cell(id, series)], value, self.shared);
    }

    /// Returns the cell of a series of the applications' own metrics, for writing; `None` if there is no memory for it.
    #[inline]
    pub(crate) fn series_cell(&self, series: usize) -> Option<&'static AtomicU64> {
        self.used_series_cell(series)
            .or_else(|| self.open_series(series))
    }

    /// Returns the same cell if it already has memory.
    #[inline]
    pub(crate) fn used_series_cell(&self, series: usize) -> Option<&'static AtomicU64> {
        let geometry = self.segment.geometry();
        let series = if series < geometry.series { series } else { 0 };
        let page = series / PAGE;
        let map = &self.cells[geometry.map_of_series() + page / 64];
        (map.load(Acquire) & bit(page) != 0)
            .then(|| &self.cells[geometry.cells_of_series() + series])
    }

    #[cold]
    fn open_series(&self, series: usize) -> Option<&'static AtomicU64> {
        let geometry = self.segment.geometry();
        let series = if series < geometry.series { series } else { 0 };
        let page = series / PAGE;
        let at = geometry.arena(self.index) + geometry.cells_of_series() + page * PAGE;
        let count = (geometry.series - page * PAGE).min(PAGE);
        if !self.segment.open(at, count) {
            return None;
        }
        self.cells[geometry.map_of_series() + page / 64].fetch_or(bit(page), Release);
        self.used_series_cell(series)
    }

    /// Returns whether several threads write to this arena.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Returns the applications that have counted something or have gauges in this arena, with their blocks.
    fn touched_blocks(&self) -> impl Iterator<Item = (usize, &'static [AtomicU64])> {
        let segment = self.segment;
        let arena = self.index;
        segment
            .blocks_in_use(arena)
            .map(move |used| (used.app, segment.block_cells(arena, used.app)))
    }

    /// Counts the interpreters of a killed child as stopped, since the child could not count them itself.
    pub(crate) fn count_stopped_interpreters(&self) {
        let states = cell(Id::Interpreters, 0);
        let geometry = self.segment.geometry();
        for (app, block) in self.touched_blocks() {
            let living: i64 = [0, 1, 2]
                .iter()
                .map(|at| block[states + at].load(Relaxed).cast_signed())
                .fold(0, i64::wrapping_add);
            if let Ok(living @ 1..) = u64::try_from(living) {
                // The block now has a counter, too.
                let map = geometry.map_of_touched() + app / 64;
                self.cells[map].fetch_or(bit(app), Release);
                self.entry()[state::TOUCHED].fetch_or(BLOCKS_BIT, Release);
                let stops = cell(Id::InterpreterStops, value(STOP_REASON, "child_exit"));
                add(&block[stops], living, false);
            }
        }
    }

    /// Resets the cells that only have a meaning while their owner lives.
    pub(crate) fn clear_gauges(&self) {
        for (_, block) in self.touched_blocks() {
            for cell in gauge_cells() {
                block[cell].store(0, Relaxed);
            }
            block[OLDEST_START].store(0, Relaxed);
            block[NEWEST_START].store(0, Relaxed);
        }
        if has_gauges(self.entry()) {
            self.entry()[state::GAUGED].store(0, Relaxed);
            let map = self.segment.geometry().map_of_gauged();
            for word in &self.cells[map..map + self.segment.geometry().map_words()] {
                word.store(0, Relaxed);
            }
        }
    }
}

/// How an application uses its block in an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockUse {
    pub(crate) app: usize,
    /// The block has counted something.
    pub(crate) is_touched: bool,
    /// The block has gauges of a living child.
    pub(crate) is_gauged: bool,
}

impl Segment {
    /// Returns the arena shared by the threads that have no arena of their own: slower, never wrong.
    pub fn spill(&self) -> Arena {
        self.arena(0, true)
    }

    /// Returns arena `at`, which the caller knows to belong to the calling thread, or the spill arena if `at` is out of
    /// range.
    pub fn arena_of(&self, at: u32) -> Arena {
        let at = at as usize;
        if at == 0 || at >= self.geometry().arenas {
            self.spill()
        } else {
            self.arena(at, false)
        }
    }

    /// Returns arena `at` as the arena of a child, which several threads may write to.
    pub fn process_arena_of(&self, at: u32) -> Arena {
        let at = at as usize;
        self.arena(if at < self.geometry().arenas { at } else { 0 }, true)
    }

    pub(crate) fn arena(&self, at: usize, shared: bool) -> Arena {
        Arena::new(*self, at, shared)
    }

    /// Returns the blocks of an arena that are in use, by application. Do not read any other block: it may have no
    /// memory.
    pub(crate) fn blocks_in_use(&self, arena: usize) -> impl Iterator<Item = BlockUse> + use<> {
        let geometry = self.geometry();
        let entry = self.entry_cells(arena);
        let count = geometry.map_words();
        let map = |is_used: bool, at: usize| {
            let count = if is_used { count } else { 0 };
            self.words(geometry.arena(arena) + at, count)
        };
        let is_touched = entry[state::TOUCHED].load(Acquire) & BLOCKS_BIT != 0;
        let touched = map(is_touched, geometry.map_of_touched());
        let gauged = map(has_gauges(entry), geometry.map_of_gauged());
        let word = |map: &[AtomicU64], at: usize| map.get(at).map_or(0, |word| word.load(Acquire));
        let words = touched.len().max(gauged.len());
        let used = (0..words).flat_map(move |at| {
            let (touched, gauged) = (word(touched, at), word(gauged, at));
            let mut left = touched | gauged;
            std::iter::from_fn(move || {
                let lowest = left & left.wrapping_neg();
                left ^= lowest;
                (lowest != 0).then(|| BlockUse {
                    app: at * 64 + lowest.trailing_zeros() as usize,
                    is_touched: touched & lowest != 0,
                    is_gauged: gauged & lowest != 0,
                })
            })
        });
        used.filter(move |used| used.app < geometry.applications)
    }

    /// Returns the cells of an application in an arena. The block must be in use.
    pub(crate) fn block_cells(&self, arena: usize, app: usize) -> &'static [AtomicU64] {
        self.words(self.geometry().block(arena, app), BLOCK_WORDS)
    }
}

/// Returns the bit of `number` in its word of a map.
const fn bit(number: usize) -> u64 {
    1 << (number % 64)
}

/// Bit of [`state::TOUCHED`] and [`state::GAUGED`]: the arena has blocks of applications.
pub(crate) const BLOCKS_BIT: u64 = 1;

/// Bit of [`state::TOUCHED`]: the arena has counted in the cells that it has once.
pub(crate) const PROCESS_BIT: u64 = 1 << 63;

/// Returns the cells of an application block that hold gauges.
pub(crate) fn gauge_cells() -> impl Iterator<Item = usize> {
    let is_gauge =
        |family: &&Family| family.source == Source::Application && family.kind == Kind::Gauge;
    FAMILIES
        .iter()
        .filter(is_gauge)
        .flat_map(|family| (0..family.series()).map(|series| cell(family.id, series)))
}

const _: () = assert!(APPLICATION_CELLS + 2 <= BLOCK_WORDS && PROCESS_CELLS < PROCESS_WORDS);

impl Block {
    /// Adds to a counter.
    #[inline]
    pub fn add(&self, id: Id, series: usize, value: u64) {
        debug_assert_eq!(id.family().source, Source::Application);
        add(&self.cells[cell(id, series)], value, self.shared);
    }

    /// Adds one observation to a histogram, in nanoseconds.
    #[inline]
    pub fn observe(&self, id: Id, series: usize, nanoseconds: u64) {
        let Kind::Histogram(buckets) = id.family().kind else {
            debug_assert!(false, "no histogram");
            return;
        };
        let first = cell(id, series);
        add(
            &self.cells[first + buckets.index(nanoseconds)],
            1,
            self.shared,
        );
        let sum = first + buckets.cells() - 1;
        add(&self.cells[sum], nanoseconds, self.shared);
    }

    /// Counts a finished request. Call this last: a reader that sees the request counted then also sees its
    /// observations.
    #[inline]
    pub fn finish_request(&self, series: usize) {
        let cell = &self.cells[cell(Id::Requests, series)];
        if self.shared {
            cell.fetch_add(1, Release);
        } else {
            cell.store(cell.load(Relaxed).wrapping_add(1), Release);
        }
    }

    /// Adds `by` to a gauge.
    pub fn change(&self, id: Id, series: usize, by: i64) {
        debug_assert_eq!(id.family().kind, Kind::Gauge);
        add(
            &self.cells[cell(id, series)],
            by.cast_unsigned(),
            self.shared,
        );
    }

    /// Sets a gauge.
    pub fn set(&self, id: Id, series: usize, value: i64) {
        debug_assert_eq!(id.family().kind, Kind::Gauge);
        self.cells[cell(id, series)].store(value.cast_unsigned(), Relaxed);
    }

    /// Records that an interpreter of the process started `at` this Unix time in nanoseconds.
    pub fn interpreter_started(&self, at: u64) {
        let oldest = &self.cells[OLDEST_START];
        if oldest.load(Relaxed) == 0 {
            oldest.store(at, Relaxed);
        }
        self.cells[NEWEST_START].fetch_max(at, Relaxed);
    }
}
