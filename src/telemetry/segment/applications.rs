//! The table of applications, which maps values of the label `app` to blocks of cells.
//!
//! An application keeps its entry, and so its counters, over restarts. An application that is no longer configured is
//! hidden once no child serves it; its entry may later go to another application.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::app::App;
use super::entry::{owner_of, state};
use super::layout::{HISTORY, HISTORY_WORDS};
use super::mapped::Segment;
use super::owner::Owner;
use super::text;
use crate::catalogue::{Id, OTHER, OVERFLOW, fnv, value};
use crate::sync::AtomicU64;

const STATE: usize = 0;
const HASH: usize = 1;
const LABEL: std::ops::Range<usize> = 8..25;
const MOUNT: std::ops::Range<usize> = 25..42;
const SCRIPT: std::ops::Range<usize> = 42..75;
const GROUP: std::ops::Range<usize> = 75..92;

const TAG: u64 = 0xff << 56;
/// A process is writing the entry; the rest of the word is its pid.
const WRITING: u64 = 1 << 56;
/// The entry is in use; the rest of the word is the last generation that has the application.
const LIVE: u64 = 2 << 56;
/// The parent is zeroing the cells of the application.
const CLEARING: u64 = 3 << 56;

/// An entry of the table of applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Number of the application.
    pub app: App,
    /// Value of the label `app`.
    pub label: String,
    /// URL path at which the application is mounted.
    pub mount: String,
    /// Path of the script.
    pub script: String,
    /// Application group as configured; empty for the main interpreter.
    pub group: String,
    /// Last generation whose configuration has the application.
    pub generation: u64,
}

impl Segment {
    /// Returns the application with this label and enters it into the table if it is new. If the table is full, returns
    /// `_other` and counts an overflow.
    pub fn application_named(
        &self,
        label: &str,
        [mount, script, group]: [&str; 3],
        owner: Owner,
    ) -> App {
        let texts = [mount, script, group];
        let known = self.renew_application(self.numbers(), label, texts, owner);
        known.unwrap_or_else(|| self.enter_application(&mut self.numbers(), label, texts, owner))
    }

    /// Does the same for many applications with one pass over the table.
    pub fn applications_named<'a>(
        &self,
        named: impl Iterator<Item = (&'a str, [&'a str; 3])>,
        owner: Owner,
    ) -> Vec<App> {
        let mut by_hash: HashMap<u64, Vec<App>> = HashMap::new();
        for app in self.numbers() {
            let cells = self.application_cells(app.number().into());
            if cells[STATE].load(Acquire) != 0 {
                let hash = cells[HASH].load(Relaxed);
                by_hash.entry(hash).or_default().push(app);
            }
        }
        let mut free = self.numbers();
        named
            .map(|(label, texts)| {
                let known = by_hash.entry(fnv(0, label.as_bytes())).or_default();
                let found = self.renew_application(known.iter().copied(), label, texts, owner);
                found.unwrap_or_else(|| {
                    let new = self.enter_application(&mut free, label, texts, owner);
                    known.push(new);
                    new
                })
            })
            .collect()
    }

    fn numbers(&self) -> impl Iterator<Item = App> + use<> {
        let count = self.geometry().applications;
        (1..count).filter_map(|at| u16::try_from(at).ok().map(App::new))
    }

    /// Returns the first of `entries` that has the label, and renews all of them: if two children entered it at the
    /// same time, both entries stay, since their counts belong together.
    fn renew_application(
        &self,
        entries: impl Iterator<Item = App>,
        label: &str,
        [mount, script, group]: [&str; 3],
        owner: Owner,
    ) -> Option<App> {
        let hash = fnv(0, label.as_bytes());
        let has_it = |app: &App| {
            let cells = self.application_cells(app.number().into());
            cells[HASH].load(Relaxed) == hash
                && text::get(&cells[LABEL]) == label
                && renew(&cells[STATE], owner.generation)
        };
        let mut found = entries.filter(has_it);
        let first = found.next()?;
        found.for_each(drop);
        // The script may have changed since the last restart.
        self.name_application(first, label, mount, script, group);
        Some(first)
    }

    /// Enters the application into the first free entry of `entries`. If none is free, returns `_other` and counts an
    /// overflow.
    fn enter_application(
        &self,
        entries: &mut impl Iterator<Item = App>,
        label: &str,
        [mount, script, group]: [&str; 3],
        owner: Owner,
    ) -> App {
        for app in entries {
            let state = &self.application_cells(app.number().into())[STATE];
            let writing = WRITING | u64::from(owner.pid);
            if state.load(Relaxed) == 0
                && state.compare_exchange(0, writing, AcqRel, Relaxed).is_ok()
            {
                self.name_application(app, label, mount, script, group);
                state.store(LIVE | owner.generation, Release);
                return app;
            }
        }
        self.count(Id::MetricsOverflows, value(OVERFLOW, "application"), 1);
        App::OTHER
    }

    pub(crate) fn name_application(
        &self,
        app: App,
        label: &str,
        mount: &str,
        script: &str,
        group: &str,
    ) {
        let cells = self.application_cells(app.number().into());
        cells[HASH].store(fnv(0, label.as_bytes()), Relaxed);
        text::put(&cells[LABEL], label.as_bytes());
        text::put(&cells[MOUNT], mount.as_bytes());
        text::put(&cells[SCRIPT], script.as_bytes());
        text::put(&cells[GROUP], group.as_bytes());
    }

    /// Takes over the names of all applications of the server's segment, with their numbers. For the segment of a process
    /// group, in which no process enters applications itself.
    pub fn copy_applications(&self, server: Segment) {
        for application in server.applications() {
            self.copy_application(server, application.app);
        }
    }

    /// Does the same for one application.
    pub fn copy_application(&self, server: Segment, app: App) {
        let number = usize::from(app.number());
        if number
            >= self
                .geometry()
                .applications
                .min(server.geometry().applications)
        {
            return;
        }
        let (to, from) = (
            self.application_cells(number),
            server.application_cells(number),
        );
        for at in HASH..GROUP.end {
            to[at].store(from[at].load(Relaxed), Relaxed);
        }
        to[STATE].store(from[STATE].load(Acquire), Release);
    }

    /// Returns the application with this label, if the table has it.
    pub(crate) fn application_labelled(&self, label: &str) -> Option<App> {
        if label == OTHER {
            return Some(App::OTHER);
        }
        let hash = fnv(0, label.as_bytes());
        let has_it = |app: &App| {
            let cells = self.application_cells(app.number().into());
            cells[HASH].load(Relaxed) == hash
                && cells[STATE].load(Acquire) & TAG == LIVE
                && text::get(&cells[LABEL]) == label
        };
        self.numbers().find(has_it)
    }

    /// Returns the label of an application.
    pub fn label_of_application(&self, app: App) -> String {
        let at = usize::from(app.number());
        if at < self.geometry().applications {
            label_or_other(at, text::get(&self.application_cells(at)[LABEL]))
        } else {
            String::from(OTHER)
        }
    }

    /// Returns the applications that are configured, or that a child still serves; `_other` first.
    pub fn applications(&self) -> Vec<Application> {
        let oldest = self.oldest_generation();
        let count = self.geometry().applications;
        (0..count)
            .filter_map(|at| self.application(at, oldest))
            .collect()
    }

    fn application(&self, at: usize, oldest: u64) -> Option<Application> {
        let cells = self.application_cells(at);
        let state = cells[STATE].load(Acquire);
        let generation = state & !TAG;
        if at != 0 && (state & TAG != LIVE || generation < oldest) {
            return None;
        }
        Some(Application {
            app: App::new(u16::try_from(at).ok()?),
            label: label_or_other(at, text::get(&cells[LABEL])),
            mount: text::get(&cells[MOUNT]),
            script: text::get(&cells[SCRIPT]),
            group: text::get(&cells[GROUP]),
            generation,
        })
    }

    /// Returns the oldest generation that a living child serves, or the current one if no child serves an older one.
    pub(crate) fn oldest_generation(&self) -> u64 {
        let entries = (1..self.geometry().arenas).map(|at| self.entry_cells(at));
        entries
            .filter(|entry| owner_of(entry) != 0)
            .map(|entry| entry[state::GENERATION].load(Relaxed))
            .fold(self.generation(), u64::min)
    }

    /// Frees the entry that the `reaped` child was writing when it was killed. If few entries are free, also frees the
    /// entries of applications that no child serves any more, after zeroing their cells.
    ///
    /// While there is room, these entries stay, hidden: an application that comes back then continues from its counts.
    /// Applications without an alias come back after each restart.
    pub(crate) fn reclaim_applications(&self, reaped: u32) -> Vec<App> {
        let count = self.geometry().applications;
        let mut free = 0;
        for at in 1..count {
            let state = &self.application_cells(at)[STATE];
            let seen = state.load(Acquire);
            if seen == WRITING | u64::from(reaped) {
                state.store(0, Release);
            }
            free += usize::from(seen == 0 || seen == WRITING | u64::from(reaped));
        }
        let mut freed = Vec::new();
        if free >= count / 4 {
            return freed;
        }
        let oldest = self.oldest_generation();
        for at in 1..count {
            let state = &self.application_cells(at)[STATE];
            let seen = state.load(Acquire);
            if seen & TAG == LIVE
                && seen & !TAG < oldest
                && state
                    .compare_exchange(seen, CLEARING, AcqRel, Relaxed)
                    .is_ok()
            {
                self.zero_application(at);
                state.store(0, Release);
                freed.extend(u16::try_from(at).ok().map(App::new));
            }
        }
        freed
    }

    /// Zeroes all numbers of an application that the server's segment has freed. For the segment of a process group.
    pub fn forget_application(&self, app: App) {
        if usize::from(app.number()) < self.geometry().applications {
            self.zero_application(app.number().into());
        }
    }

    fn zero_application(&self, app: usize) {
        let geometry = self.geometry();
        for arena in 0..geometry.arenas {
            if self.blocks_in_use(arena).any(|used| used.app == app) {
                for cell in self.block_cells(arena, app) {
                    cell.store(0, Relaxed);
                }
            }
        }
        for sample in 0..HISTORY {
            let at = geometry.sample(sample) + 1 + HISTORY_WORDS * app;
            for cell in self.words(at, HISTORY_WORDS) {
                cell.store(0, Relaxed);
            }
        }
    }
}

/// Replaces a label that a child overwrote with nothing, since the exposition needs one.
fn label_or_other(at: usize, label: String) -> String {
    if at == 0 {
        String::from(OTHER)
    } else if label.is_empty() {
        format!("_unnamed-{at}")
    } else {
        label
    }
}

/// Records that `generation` has the application. Returns whether the entry is still in use.
fn renew(state: &AtomicU64, generation: u64) -> bool {
    state
        .fetch_update(AcqRel, Acquire, |seen| {
            (seen & TAG == LIVE).then_some(LIVE | (seen & !TAG).max(generation))
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Geometry;

    fn segment() -> Segment {
        let geometry = Geometry {
            arenas: 4,
            applications: 8,
            series: 1,
        };
        Segment::fresh(geometry)
    }

    fn owner(generation: u64) -> Owner {
        Owner {
            pid: 10,
            ticks: 1,
            generation,
        }
    }

    fn numbers(segment: &Segment) -> Vec<u16> {
        let applications = segment.applications().into_iter();
        applications.map(|known| known.app.number()).collect()
    }

    #[test]
    fn many_are_entered_as_one_by_one() {
        let (segment, one_by_one) = (segment(), segment());
        let labels = ["/a", "/b", "/a", "/c", "/d", "/e", "/f", "/g", "/h", "/b"];
        let texts = ["", "/a.wsgi", ""];
        for generation in [0, 1] {
            let owner = owner(generation);
            let named = labels.iter().map(|&label| (label, texts));
            let all = segment.applications_named(named, owner);
            let each = labels.map(|label| one_by_one.application_named(label, texts, owner));
            assert_eq!(all, each, "{generation}");
            // The eighth application does not fit any more.
            assert_eq!(all[0], all[2]);
            assert_eq!((all[7], all[8]), (App::new(7), App::OTHER));
            assert_eq!(numbers(&segment), [0, 1, 2, 3, 4, 5, 6, 7]);
            segment.begin_generation(generation + 1);
            assert_eq!(numbers(&segment), [0], "nobody has them any more");
        }
    }

    #[test]
    fn an_application_that_was_entered_twice_stays_whole() {
        let segment = segment();
        let texts = ["", "/a.wsgi", ""];
        let first = segment.application_named("/a", texts, owner(0));
        // As if another child had searched before the first one had entered the application.
        let second = App::new(first.number() + 1);
        segment.name_application(second, "/a", "", "/a.wsgi", "");
        segment.application_cells(second.number().into())[STATE].store(LIVE, Release);
        assert_eq!(numbers(&segment), [0, 1, 2]);
        segment.begin_generation(1);
        assert_eq!(numbers(&segment), [0], "nobody has it any more");
        assert_eq!(segment.application_named("/a", texts, owner(1)), first);
        assert_eq!(numbers(&segment), [0, 1, 2]);
    }
}
