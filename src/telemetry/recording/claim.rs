//! Claims of arenas: how an arena changes hands.

use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use crate::catalogue::{Id, OVERFLOW, value};
use crate::clock;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::entry::{Role, owner_of, state};
use crate::segment::layout::RESIDENT;
use crate::series;

impl Segment {
    /// Takes a free arena for `owner`, in the name of `thread` (0 for the process itself). If all arenas are taken,
    /// returns `None` and counts an overflow.
    pub fn claim(&self, owner: Owner, thread: u32, role: Role) -> Option<u32> {
        #[cfg(feature = "faults")]
        if let Some(crowded) = super::breaking::crowded(role) {
            return Some(crowded);
        }
        let word = owner.word(thread);
        let count = self.geometry().arenas - 1;
        // Starts at scattered entries, so that threads that start at the same time seldom compete for the same entries.
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

    /// Takes the entry `at` if its owner is `from`. The entry is marked as changing hands until all words of the new
    /// owner are written: other processes could otherwise combine the new pid with the old start time and take the new
    /// owner for dead.
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
        if is_new && !self.open(self.geometry().arena(at), self.geometry().head_words()) {
            entry[state::OWNER].store(0, Release);
            return false;
        }
        entry[state::TICKS].store(owner.ticks, Relaxed);
        entry[state::GENERATION].store(owner.generation, Relaxed);
        entry[state::STARTED].store(clock::unix(), Relaxed);
        entry[state::RUNNING].store(0, Relaxed);
        self.set(self.geometry().arena(at) + RESIDENT, 0);
        entry[state::ROLE].store(role as u64, Relaxed);
        #[cfg(feature = "faults")]
        super::breaking::taken(self, at);
        entry[state::OWNER].store(to, Release);
        true
    }

    /// Takes the entry of a process that no longer exists although the parent was not told of its end.
    fn take_from_the_dead(&self, at: usize, to: u64, owner: Owner, role: Role) -> bool {
        let entry = self.entry_cells(at);
        let from = owner_of(entry);
        let ticks = entry[state::TICKS].load(Relaxed);
        from != 0
            && !Owner::is_alive(Owner::pid_of(from), ticks)
            && self.take(at, from, to, owner, role)
    }

    /// Resets what only has a meaning while the owner lives. The caller must have marked the entry as changing hands.
    pub(super) fn leave(&self, at: usize) {
        let entry = self.entry_cells(at);
        let arena = self.arena(at, false);
        arena.count_stopped_interpreters();
        arena.clear_gauges();
        series::clear_gauges(&arena);
        entry[state::RUNNING_SINCE].store(0, Relaxed);
        entry[state::ROLE].store(0, Relaxed);
    }
}
