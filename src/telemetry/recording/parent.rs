//! What only the parent does: it makes the segment, begins generations, and frees the arenas of ended children.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::clock;
use crate::segment::App;
use crate::segment::Owner;
use crate::segment::entry::{Role, owner_of, state};
use crate::segment::layout::{self, Geometry, header};
use crate::segment::memory;
use crate::segment::{Mismatch, Segment};
use crate::sync::AtomicU64;

impl Segment {
    /// Returns a segment in fresh memory, which is never unmapped.
    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub(crate) fn fresh(geometry: Geometry) -> Self {
        let cells = memory::anonymous(geometry.words()).expect("memory");
        Self::create(cells, geometry, 1).expect("enough of it")
    }

    /// Makes a segment from fresh, zeroed memory of at least [`Geometry::words`] words. `parent` is the process that
    /// frees arenas.
    ///
    /// # Errors
    /// The memory is too short, or there is no memory for the parts that are always in use.
    pub fn create(
        cells: &'static [AtomicU64],
        geometry: Geometry,
        parent: u32,
    ) -> Result<Self, Mismatch> {
        let segment = Self::known(cells, geometry)?;
        if !memory::populate(segment.words(0, geometry.block(0, 1))) {
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
        // Opened now, so that numbers that find no memory later are at least counted here.
        let _ = segment.spill().application(App::OTHER);
        cells[header::MAGIC].store(layout::MAGIC, Release);
        Ok(segment)
    }

    /// Records that a new configuration is in force. For the parent.
    pub fn begin_generation(&self, generation: u64) {
        #[cfg(feature = "faults")]
        super::breaking::all_for_dead(self);
        self.set(header::GENERATION, generation);
        self.set(header::CONFIG_LOAD, clock::unix());
        self.board().begin_generation();
    }

    /// Frees the arenas of a reaped child, none of whose threads can write any more. Returns how the child ended. For
    /// the parent, which looks at nothing but pids here.
    ///
    /// Counters stay and the next owner continues from them; gauges are cleared.
    pub fn free_arenas_of(&self, pid: u32) -> Option<Ended> {
        let mut ended = None;
        for at in 1..self.geometry().arenas {
            let entry = self.entry_cells(at);
            let owner = entry[state::OWNER].load(Acquire);
            if owner == 0 || Owner::pid_of(owner) != pid {
                continue;
            }
            // Another process may have found the child dead before and taken the entry. While the entry changes hands
            // in the name of the dead child itself, no other process can take it.
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

    /// Frees the entries of applications and of their own metrics that a child was writing when it was killed. If few
    /// entries are free, also frees those of applications that no child serves any more, and returns them: the segments
    /// of process groups must [forget](Self::forget_application) them as well. Call this after a child was reaped.
    pub fn reclaim(&self, reaped: u32) -> Vec<App> {
        self.reclaim_series(reaped);
        self.reclaim_applications(reaped)
    }

    /// Returns the processes that own arenas or a slot on the board but no longer exist, because they ended without the
    /// parent being told. For the parent, which then frees what each of them has as if it had just been reaped. Leaves
    /// out a pid that a living child has got since.
    pub fn owners_gone(&self) -> BTreeSet<u32> {
        let owners = (1..self.geometry().arenas).filter_map(|at| {
            let entry = self.entry_cells(at);
            let (owner, ticks) = (owner_of(entry), entry[state::TICKS].load(Relaxed));
            (owner != 0).then_some((Owner::pid_of(owner), ticks))
        });
        let owners: BTreeSet<(u32, u64)> = owners.chain(self.board().owners()).collect();
        let (living, gone): (Vec<_>, Vec<_>) = owners
            .into_iter()
            .partition(|&(pid, ticks)| Owner::is_alive(pid, ticks));
        let reused = |pid: &u32| living.iter().any(|(living, _)| living == pid);
        let gone = gone.into_iter().map(|(pid, _)| pid);
        gone.filter(|pid| !reused(pid)).collect()
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The child had announced its end.
    Clean,
    /// The child was killed, or crashed.
    Killed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Geometry;

    #[test]
    fn a_process_that_is_gone_is_told_from_one_that_is_there() {
        let geometry = Geometry {
            arenas: 8,
            applications: 2,
            series: 1,
        };
        let segment = Segment::fresh(geometry);
        let here = Owner::of_this_process(0);
        // One pid that belonged to another process before this one, and one that no process can have.
        let before = Owner {
            ticks: here.ticks + 1,
            ..here
        };
        let nobody = Owner {
            pid: u32::MAX,
            ..here
        };
        let claim = |owner: Owner, thread| segment.claim(owner, thread, Role::Ready);
        let mine = claim(here, 0).expect("a free one");
        let _ = claim(nobody, 0).expect("a free one");
        assert_eq!(segment.owners_gone(), BTreeSet::from([nobody.pid]));
        segment.free_arenas_of(nobody.pid);
        assert!(segment.owners_gone().is_empty());
        segment.arena_of(mine).hand_over(here, 7);
        assert!(segment.owners_gone().is_empty());
        let entry = segment.entry_cells(mine as usize);
        assert_eq!(owner_of(entry), here.word(7));
        let _ = claim(before, 0).expect("a free one");
        // Freeing by pid alone would free the arenas of a living process.
        assert!(segment.owners_gone().is_empty());
        segment.entry_cells(mine as usize)[state::OWNER].store(0, Relaxed);
        assert_eq!(segment.owners_gone(), BTreeSet::from([here.pid]));
    }
}
