//! Children that ended without announcing it: a ring that the parent writes and every process reads.
//!
//! Any child can overwrite it, too, so readers trust nothing in it: texts are bounded and printable.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::clock;
use crate::segment::Owner;
use crate::segment::Segment;
use crate::segment::entry::owner_of;
use crate::segment::layout::{DEATH_WORDS, DEATHS, header};
use crate::segment::text;

use super::running::Running;

/// The unexpected end of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Unix time at which the parent saw the end, nanoseconds.
    pub at: u64,
    /// Process id of the child.
    pub pid: u32,
    /// How the child ended, in words.
    pub how: String,
    /// What the child was running, in words.
    pub running: String,
}

const AT: usize = 0;
const PID: usize = 1;
const HOW: std::ops::Range<usize> = 2..12;
const RUNNING: std::ops::Range<usize> = 12..DEATH_WORDS;

impl Segment {
    /// Returns at most `most` requests that a process was running when it last wrote its state, the oldest first. For
    /// the parent, after the process was reaped and before its arenas are freed.
    pub fn running_of(&self, pid: u32, most: usize) -> Vec<Running> {
        let is_its = |at: &usize| Owner::pid_of(owner_of(self.entry_cells(*at))) == pid;
        let arenas = (1..self.geometry().arenas).filter(is_its);
        let mut running: Vec<Running> = arenas.filter_map(|at| self.running(at)).collect();
        running.sort_unstable_by_key(|running| running.since);
        running.truncate(most);
        running
    }

    /// Notes the unexpected end of a child. For the parent.
    pub fn note_death(&self, pid: u32, how: &str, running: &str) {
        let next = &self.cells()[header::DEATHS];
        let number = next.load(Relaxed);
        let cells = self.death_cells(number);
        cells[AT].store(clock::unix(), Relaxed);
        cells[PID].store(pid.into(), Relaxed);
        text::put(&cells[HOW], how.as_bytes());
        text::put(&cells[RUNNING], running.as_bytes());
        next.store(number.wrapping_add(1), Release);
    }

    /// Returns the last deaths, newest first.
    pub fn deaths(&self) -> Vec<Death> {
        let next = self.cells()[header::DEATHS].load(Acquire);
        let numbers = (1..=DEATHS as u64).map_while(|back| next.checked_sub(back));
        let death = |number| {
            let cells = self.death_cells(number);
            Death {
                at: cells[AT].load(Relaxed),
                pid: u32::try_from(cells[PID].load(Relaxed)).unwrap_or(0),
                how: text::get(&cells[HOW]),
                running: text::get(&cells[RUNNING]),
            }
        };
        numbers.map(death).collect()
    }

    fn death_cells(&self, number: u64) -> &'static [crate::sync::AtomicU64] {
        let at = self.geometry().death((number % DEATHS as u64) as usize);
        self.words(at, DEATH_WORDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::App;
    use crate::segment::Geometry;
    use crate::segment::Role;

    fn segment() -> Segment {
        let geometry = Geometry {
            arenas: 16,
            applications: 2,
            series: 1,
        };
        Segment::fresh(geometry)
    }

    #[test]
    fn the_last_ones_are_kept_newest_first_and_lies_are_bounded() {
        let segment = segment();
        assert_eq!(segment.deaths(), []);
        for pid in 1..=20 {
            segment.note_death(pid, "by SIGKILL", &"x".repeat(5_000));
        }
        let deaths = segment.deaths();
        assert_eq!(deaths.len(), DEATHS);
        assert_eq!(deaths[0].pid, 20);
        assert_eq!(deaths[DEATHS - 1].pid, 21 - DEATHS as u32);
        assert_eq!(deaths[0].how, "by SIGKILL");
        assert_eq!(deaths[0].running.len(), (RUNNING.len() - 1) * 8);
        // Stands for anything that a child may write there.
        let geometry = segment.geometry();
        for at in 0..DEATHS {
            for cell in segment.words(geometry.death(at), DEATH_WORDS) {
                cell.store(u64::MAX, Relaxed);
            }
        }
        segment.cells()[header::DEATHS].store(u64::MAX, Relaxed);
        for death in segment.deaths() {
            assert!(death.running.chars().all(|c| c == '?'), "{death:?}");
            assert!(death.running.len() <= RUNNING.len() * 8 && death.pid == 0);
        }
    }

    #[test]
    fn what_a_process_was_running_is_its_own_and_bounded() {
        let segment = segment();
        let owner = |pid| Owner {
            pid,
            ticks: 1,
            generation: 0,
        };
        for (thread, pid) in [(1, 7), (2, 7), (3, 8), (4, 7)] {
            let at = segment
                .claim(owner(pid), thread, Role::Thread)
                .expect("a free one");
            let since = u64::from(10 - thread);
            segment
                .arena_of(at)
                .begin(since, App::new(1), 0, b"/a\x1b", b"");
        }
        let running = segment.running_of(7, 2);
        let threads: Vec<u32> = running.iter().map(|running| running.thread).collect();
        assert_eq!(threads, [4, 2]);
        assert_eq!(running[0].url, "/a?");
        assert_eq!(segment.running_of(9, 2), []);
    }
}
