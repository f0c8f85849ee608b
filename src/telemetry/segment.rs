//! The segment: made by the parent, written by its children, read by everybody.
//!
//! Where things lie is known from the [`Geometry`] that each process keeps for itself. What the segment says of its own
//! geometry is for those who come from outside, and is only believed within bounds.

use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::applications::App;
use crate::arena::{Arena, Owner, Role, owner_of, state};
use crate::catalogue::{Id, OVERFLOW, Source, cell, value};
use crate::layout::{
    self, APPLICATION_ENTRY_WORDS, ENTRY_WORDS, EVENT_WORDS, Geometry, HEADER_WORDS, RESIDENT,
    header,
};
use crate::sync::AtomicU64;
use crate::{clock, map, text};

/// A mapped segment.
#[derive(Clone, Copy)]
pub struct Segment {
    cells: &'static [AtomicU64],
    geometry: Geometry,
}

/// Facts about the server, texts of at most 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fact {
    /// What httpd calls itself.
    Httpd,
    /// Version of the module.
    Version,
    /// Revision that it was built from.
    Revision,
    /// The compiler.
    Rustc,
    /// Name of the MPM.
    Mpm,
    /// Version of Python, set by the children.
    Python,
    /// Name of the implementation of Python.
    Implementation,
    /// Whether Python has its GIL: `enabled` or `disabled`.
    Gil,
}

/// Why something is not a segment that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It does not begin as a segment does.
    NoSegment,
    /// Another release has made it.
    OtherLayout,
    /// It says that it is larger than it is.
    TooShort,
    /// There is no memory for what every segment uses.
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
    /// A segment of memory of its own, which is never given back.
    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub(crate) fn fresh(geometry: Geometry) -> Self {
        let cells = map::anonymous(geometry.words()).expect("memory");
        Self::create(cells, geometry, 1).expect("enough of it")
    }

    /// Makes a segment of fresh, zeroed memory, which must have [`Geometry::words`]. `parent` is the process that frees
    /// arenas.
    ///
    /// # Errors
    /// The memory is too short, or there is none for what is always in use.
    pub fn create(
        cells: &'static [AtomicU64],
        geometry: Geometry,
        parent: u32,
    ) -> Result<Self, Mismatch> {
        let segment = Self::known(cells, geometry)?;
        if !map::populate(segment.words(0, geometry.block(0, 1))) {
            return Err(Mismatch::NoMemory);
        }
        segment.set(header::ARENAS, geometry.arenas as u64);
        segment.set(header::APPLICATIONS, geometry.applications as u64);
        segment.set(header::SERIES, geometry.series as u64);
        segment.set(header::PARENT, parent.into());
        segment.set(header::START, clock::unix());
        segment.board().begin();
        segment.set(header::LAYOUT, layout::HASH);
        segment.name_application(App::OTHER, "_other", "", "", "");
        // So that what finds no memory is counted at least.
        let _ = segment.spill().application(App::OTHER);
        cells[header::MAGIC].store(layout::MAGIC, Release);
        Ok(segment)
    }

    /// The segment of this very process (or of its parent), whose geometry is known.
    ///
    /// # Errors
    /// The memory is too short.
    pub fn known(cells: &'static [AtomicU64], geometry: Geometry) -> Result<Self, Mismatch> {
        if !geometry.is_possible() || cells.len() < geometry.words() {
            return Err(Mismatch::TooShort);
        }
        Ok(Self { cells, geometry })
    }

    /// The geometry that the header of a segment claims, for those who come from outside. `header` are the first words.
    ///
    /// # Errors
    /// It is no segment, or not one of this release.
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

    /// Differs between releases that lay a segment out differently.
    pub const LAYOUT: u64 = layout::HASH;

    /// Words that [`Self::claimed_geometry`] needs.
    pub const HEADER_WORDS: usize = HEADER_WORDS;

    /// How many of everything there is room for.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The memory.
    pub fn cells(&self) -> &'static [AtomicU64] {
        self.cells
    }

    /// `count` words from `at` on. Only called with places that the geometry gave.
    pub(crate) fn words(&self, at: usize, count: usize) -> &'static [AtomicU64] {
        &self.cells[at..at + count]
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        self.cells[at].load(Relaxed)
    }

    pub(crate) fn set(&self, at: usize, value: u64) {
        self.cells[at].store(value, Relaxed);
    }

    /// Gives words of an arena their memory before they are first used. `false` where there is none left.
    pub(crate) fn open(&self, at: usize, count: usize) -> bool {
        let is_there = map::populate(self.words(at, count));
        if !is_there {
            self.cells[header::NO_MEMORY].fetch_add(1, Relaxed);
        }
        is_there
    }

    /// How many times there was no memory for a part of the segment, so that others were counted together.
    pub fn lacked_memory(&self) -> u64 {
        self.get(header::NO_MEMORY)
    }

    /// Process that made the segment.
    pub fn parent(&self) -> u32 {
        u32::try_from(self.get(header::PARENT)).unwrap_or(0)
    }

    /// Unix time at which the segment was made, nanoseconds.
    pub fn start(&self) -> u64 {
        self.get(header::START)
    }

    /// Number of the configuration that is in force, from 0.
    pub fn generation(&self) -> u64 {
        self.get(header::GENERATION)
    }

    /// A new configuration is in force. For the parent.
    pub fn begin_generation(&self, generation: u64) {
        #[cfg(feature = "faults")]
        crate::faults::all_for_dead(self);
        self.set(header::GENERATION, generation);
        self.set(header::CONFIG_LOAD, clock::unix());
        self.board().begin_generation();
    }

    /// Sets a fact.
    pub fn set_fact(&self, fact: Fact, value: &str) {
        text::put(self.fact_cells(fact), value.as_bytes());
    }

    /// A fact; empty where nobody has set it.
    pub fn fact(&self, fact: Fact) -> String {
        text::get(self.fact_cells(fact))
    }

    fn fact_cells(&self, fact: Fact) -> &'static [AtomicU64] {
        self.words(
            header::TEXTS + fact as usize * header::TEXT_WORDS,
            header::TEXT_WORDS,
        )
    }

    /// Adds to a counter of the header, which several processes may do at the same time.
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

    /// The arena that threads share which have none of their own: slower, never wrong.
    pub fn spill(&self) -> Arena {
        self.arena(0, true)
    }

    /// Arena `at`, for a process that knows it to be the calling thread's; the spill arena where there is none of that
    /// number.
    pub fn arena_of(&self, at: u32) -> Arena {
        let at = at as usize;
        if at == 0 || at >= self.geometry.arenas {
            self.spill()
        } else {
            self.arena(at, false)
        }
    }

    /// The arena of a child as a whole, which several threads may write to.
    pub fn process_arena_of(&self, at: u32) -> Arena {
        let at = at as usize;
        self.arena(if at < self.geometry.arenas { at } else { 0 }, true)
    }

    fn arena(&self, at: usize, shared: bool) -> Arena {
        Arena::new(*self, at, shared)
    }

    /// Takes a free arena for `owner`, in the name of `thread` (0 for the process itself). `None` where all are taken;
    /// that is counted.
    pub fn claim(&self, owner: Owner, thread: u32, role: Role) -> Option<u32> {
        #[cfg(feature = "faults")]
        if let Some(crowded) = crate::faults::crowded(role) {
            return Some(crowded);
        }
        let word = owner.word(thread);
        let count = self.geometry.arenas - 1;
        // Far apart, so that threads that start at the same time seldom look at the same entries.
        let start = (thread as usize).wrapping_mul(0x9e37_79b1) % count.max(1);
        let found = (0..count)
            .map(|step| 1 + (start + step) % count)
            .find(|&at| self.take(at, 0, word, owner, role))
            .or_else(|| (1..=count).find(|&at| self.take_from_the_dead(at, word, owner, role)));
        if found.is_none() {
            self.count(Id::MetricsOverflows, value(OVERFLOW, "arena"), 1);
        }
        found.and_then(|at| u32::try_from(at).ok())
    }

    /// Until everything is said of the new owner, the entry says that it changes hands: others could take the new
    /// process for dead by the start of the old one.
    fn take(&self, at: usize, from: u64, to: u64, owner: Owner, role: Role) -> bool {
        let entry = self.entry_cells(at);
        let changing = to | state::CHANGING;
        if entry[state::OWNER].load(Relaxed) != from
            || entry[state::OWNER]
                .compare_exchange(from, changing, AcqRel, Relaxed)
                .is_err()
        {
            return false;
        }
        if from != 0 {
            self.leave(at);
        }
        let is_new = entry[state::STARTED].load(Relaxed) == 0;
        if is_new && !self.open(self.geometry.arena(at), self.geometry.head_words()) {
            entry[state::OWNER].store(0, Release);
            return false;
        }
        entry[state::TICKS].store(owner.ticks, Relaxed);
        entry[state::GENERATION].store(owner.generation, Relaxed);
        entry[state::STARTED].store(clock::unix(), Relaxed);
        entry[state::RUNNING].store(0, Relaxed);
        self.set(self.geometry.arena(at) + RESIDENT, 0);
        entry[state::ROLE].store(role as u64, Relaxed);
        #[cfg(feature = "faults")]
        crate::faults::taken(self, at);
        entry[state::OWNER].store(to, Release);
        true
    }

    /// An entry whose process is gone although nobody was told of its end.
    fn take_from_the_dead(&self, at: usize, to: u64, owner: Owner, role: Role) -> bool {
        let entry = self.entry_cells(at);
        let from = owner_of(entry);
        let ticks = entry[state::TICKS].load(Relaxed);
        from != 0
            && !Owner::is_alive(Owner::pid_of(from), ticks)
            && self.take(at, from, to, owner, role)
    }

    /// Takes back what only a living owner has; for whoever has said that the entry changes hands.
    fn leave(&self, at: usize) {
        let entry = self.entry_cells(at);
        let arena = self.arena(at, false);
        arena.count_stopped_interpreters();
        arena.clear_gauges();
        entry[state::RUNNING_SINCE].store(0, Relaxed);
        entry[state::ROLE].store(0, Relaxed);
    }

    /// Frees the arenas of a child that was reaped, so that no thread of it can write any more; whether it had announced
    /// its end. For the parent, which looks at nothing but numbers of processes here.
    ///
    /// Counters stay and the next owner goes on from them; gauges are cleared.
    pub fn free_arenas_of(&self, pid: u32) -> Option<Ended> {
        let mut ended = None;
        for at in 1..self.geometry.arenas {
            let entry = self.entry_cells(at);
            let owner = entry[state::OWNER].load(Acquire);
            if owner == 0 || Owner::pid_of(owner) != pid {
                continue;
            }
            // Somebody may have found it dead before, and have taken the entry. Where it changes hands in the name of
            // the dead child itself, nobody else can.
            let changing = owner | state::CHANGING;
            if owner != changing
                && entry[state::OWNER]
                    .compare_exchange(owner, changing, AcqRel, Relaxed)
                    .is_err()
            {
                continue;
            }
            let role = entry[state::ROLE].load(Relaxed);
            if Role::is_process(role) {
                ended = Some(if role == Role::Draining as u64 {
                    Ended::Clean
                } else {
                    Ended::Killed
                });
            }
            self.leave(at);
            entry[state::OWNER].store(0, Release);
        }
        ended
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It had said that it was about to.
    Clean,
    /// It was killed, or crashed.
    Killed,
}
