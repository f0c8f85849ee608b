//! The children: a place each, with its state and the mark that it is to retire.
//!
//! ```text
//! enter ─► Starting ─► Ready ─► Draining ─► (ended; the parent frees the place)
//!              │         ▲
//!              └► NotReady
//! ```

use std::collections::BTreeMap;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::common::Board;
use super::groups::GroupSlot;
use super::retire::RetireReason;
use crate::catalogue::Id;
use crate::clock;
use crate::segment::Owner;
use crate::segment::layout::CHILD_WORDS;
use crate::sync::AtomicU64;

/// What a child is for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChildState {
    /// Starts Python, loads and warms up.
    Starting = 1,
    /// Serves.
    Ready = 2,
    /// Could not load what it is to load ahead, and leaves connections to others.
    NotReady = 3,
    /// Takes no more connections.
    Draining = 4,
}

impl ChildState {
    /// What is no state is that of a child from which nothing is expected.
    fn of_word(word: u64) -> Self {
        match word {
            1 => ChildState::Starting,
            2 => ChildState::Ready,
            4 => ChildState::Draining,
            _ => ChildState::NotReady,
        }
    }

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            ChildState::Starting => "starting",
            ChildState::Ready => "ready",
            ChildState::NotReady => "not ready",
            ChildState::Draining => "draining",
        }
    }
}

/// A child that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildEntry {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub ticks: u64,
    /// Configuration that it serves.
    pub generation: u64,
    /// Revision of the code that it serves, or is loading.
    pub revision: u64,
    /// What it is.
    pub state: ChildState,
    /// Why it is to retire.
    pub retire: Option<RetireReason>,
    /// Unix time since when it is in this state, nanoseconds.
    pub since: u64,
    /// The groups that it has loaded: a bit for each [`GroupSlot::number`].
    pub groups: u64,
}

/// A child's own place.
#[derive(Clone, Copy)]
pub struct ChildSlot {
    board: Board,
    at: usize,
    owner: u64,
}

/// Processes by number and start, and the stamp at which the kernel was asked for the start.
type Seen = BTreeMap<(u32, u64), u64>;

/// What this process knows. The start of a process takes the kernel 20 µs to tell, and whether there is one of that
/// number a fraction of that.
static SEEN: Mutex<Seen> = Mutex::new(Seen::new());

/// How long that is believed, nanoseconds.
const SURE: u64 = 1_000_000_000;

/// Process in the upper half; 0 is free.
const OWNER: usize = 0;
const TICKS: usize = 1;
const GENERATION: usize = 2;
const REVISION: usize = 3;
const STATE: usize = 4;
/// Process that is to retire in the upper half, why in the lower: a mark that comes too late marks nobody else.
const RETIRE: usize = 5;
const SINCE: usize = 6;
const GROUPS: usize = 7;

/// Added to the owner while the place changes hands: nobody but the parent may take it then.
const CHANGING: u64 = 1;

fn owner_word(pid: u32) -> u64 {
    u64::from(pid) << 32
}

impl Board {
    /// A child begins, and will load the code of `revision`. `None` where all places are taken, as in a server with far
    /// more children than its limits allow. A process that has a place already keeps it, as if it began again.
    pub fn enter(&self, owner: Owner, revision: u64) -> Option<ChildSlot> {
        let word = owner_word(owner.pid);
        let take = |at: usize, from: u64| {
            let cell = &self.child(at)[OWNER];
            cell.compare_exchange(from, word | CHANGING, AcqRel, Relaxed)
                .is_ok()
        };
        let held = |at: usize| self.child(at)[OWNER].load(Relaxed);
        let mine = |at: &usize| Owner::pid_of(held(*at)) == owner.pid && take(*at, held(*at));
        let free = |at: &usize| held(*at) == 0 && take(*at, 0);
        let dead = |at: &usize| {
            let from = self.child(*at)[OWNER].load(Acquire);
            let ticks = self.child(*at)[TICKS].load(Relaxed);
            let is_whole = from & CHANGING == 0;
            is_whole && !Owner::is_alive(Owner::pid_of(from), ticks) && take(*at, from)
        };
        let mut all = 0..self.places();
        let at = all
            .clone()
            .find(mine)
            .or_else(|| all.clone().find(free))
            .or_else(|| all.find(dead))?;
        let cells = self.child(at);
        cells[TICKS].store(owner.ticks, Relaxed);
        cells[GENERATION].store(owner.generation, Relaxed);
        cells[REVISION].store(revision, Relaxed);
        cells[RETIRE].store(0, Relaxed);
        cells[GROUPS].store(0, Relaxed);
        cells[SINCE].store(clock::unix(), Relaxed);
        cells[STATE].store(ChildState::Starting as u64, Relaxed);
        cells[OWNER].store(word, Release);
        let board = *self;
        let owner = word;
        Some(ChildSlot { board, at, owner })
    }

    /// The children that are there. A process whose number is another's now is none of them, from a second later at the
    /// latest. This may be asked ten times a second.
    pub fn children(&self) -> Vec<ChildEntry> {
        // Nobody waits for another thread here, which a fork may have left behind.
        let mut seen = SEEN.try_lock().ok();
        let before = seen.as_deref_mut().map(mem::take).unwrap_or_default();
        let mut known = Seen::new();
        let now = clock::now();
        let is_alive = |child: &ChildEntry| {
            let who = (child.pid, child.ticks);
            let looked = before.get(&who).copied();
            let looked = looked.filter(|at| now.saturating_sub(*at) < SURE);
            let alive = match looked {
                Some(_) => Owner::exists(child.pid),
                None => Owner::is_alive(child.pid, child.ticks),
            };
            if alive {
                known.insert(who, looked.unwrap_or(now));
            }
            alive
        };
        let children = self.entries().filter(is_alive).collect();
        if let Some(seen) = &mut seen {
            **seen = known;
        }
        children
    }

    /// All that have a place, the dead among them.
    pub(super) fn entries(self) -> impl Iterator<Item = ChildEntry> {
        (0..self.places()).filter_map(move |at| self.entry(at))
    }

    /// Tells a child that it is to retire; whether there is such a child and nobody had told it before.
    pub fn mark(&self, pid: u32, ticks: u64, reason: RetireReason) -> bool {
        let is_it = |at: &usize| {
            let child = self.entry(*at);
            child.is_some_and(|child| (child.pid, child.ticks) == (pid, ticks))
        };
        let Some(at) = (0..self.places()).find(is_it) else {
            return false;
        };
        let cell = &self.child(at)[RETIRE];
        let before = cell.load(Relaxed);
        retire_of(before, pid).is_none()
            && cell
                .compare_exchange(before, owner_word(pid) | reason.word(), AcqRel, Relaxed)
                .is_ok()
    }

    /// Children of this configuration that were told to retire, and have not begun to, are to stay.
    pub fn unmark_all(&self, generation: u64) {
        for at in 0..self.places() {
            let is_meant = |child: &ChildEntry| {
                child.generation == generation && child.state != ChildState::Draining
            };
            if let Some(child) = self.entry(at).filter(is_meant) {
                let cell = &self.child(at)[RETIRE];
                let mark = cell.load(Relaxed);
                if retire_of(mark, child.pid).is_some() {
                    let _ = cell.compare_exchange(mark, 0, AcqRel, Relaxed);
                }
            }
        }
    }

    /// Frees the place of a child that was reaped. For the parent, beside
    /// [`free_arenas_of`](crate::Segment::free_arenas_of).
    pub fn free(&self, pid: u32) {
        for at in 0..self.places() {
            let cell = &self.child(at)[OWNER];
            let owner = cell.load(Acquire);
            // Where another child has found it dead and taken the place, the exchange fails.
            if owner != 0 && Owner::pid_of(owner) == pid {
                let _ = cell.compare_exchange(owner, 0, AcqRel, Relaxed);
            }
        }
    }

    /// Whether a child that has a place has said that it ends. For the parent.
    pub fn is_draining(&self, pid: u32) -> Option<bool> {
        let mut its = self.entries().filter(|child| child.pid == pid);
        its.next().map(|child| child.state == ChildState::Draining)
    }

    /// Numbers and starts of all that have a place, the dead among them.
    pub(crate) fn owners(self) -> impl Iterator<Item = (u32, u64)> {
        self.entries().map(|child| (child.pid, child.ticks))
    }

    fn entry(&self, at: usize) -> Option<ChildEntry> {
        let cells = self.child(at);
        let owner = cells[OWNER].load(Acquire);
        if owner == 0 || owner & CHANGING != 0 {
            return None;
        }
        let pid = Owner::pid_of(owner);
        Some(ChildEntry {
            pid,
            ticks: cells[TICKS].load(Relaxed),
            generation: cells[GENERATION].load(Relaxed),
            revision: cells[REVISION].load(Relaxed),
            state: ChildState::of_word(cells[STATE].load(Acquire)),
            retire: retire_of(cells[RETIRE].load(Relaxed), pid),
            since: cells[SINCE].load(Relaxed),
            groups: cells[GROUPS].load(Relaxed),
        })
    }

    pub(super) fn places(&self) -> usize {
        self.segment.geometry().arenas
    }

    fn child(&self, at: usize) -> &'static [AtomicU64] {
        let at = self.segment.geometry().child(at);
        self.segment.words(at, CHILD_WORDS)
    }
}

/// What a mark says to process `pid`.
fn retire_of(word: u64, pid: u32) -> Option<RetireReason> {
    (Owner::pid_of(word) == pid)
        .then(|| RetireReason::of_word(word & u64::from(u32::MAX)))
        .flatten()
}

impl ChildSlot {
    /// Says what the child is now.
    pub fn set_state(&self, state: ChildState) {
        if let Some(cells) = self.cells() {
            cells[SINCE].store(clock::unix(), Relaxed);
            cells[STATE].store(state as u64, Release);
        }
    }

    /// What the child has said that it is; `None` where it has lost its place.
    pub fn state(&self) -> Option<ChildState> {
        Some(ChildState::of_word(self.cells()?[STATE].load(Relaxed)))
    }

    /// Whether the child is to retire, and why.
    pub fn retire(&self) -> Option<RetireReason> {
        let word = self.cells()?[RETIRE].load(Acquire);
        retire_of(word, Owner::pid_of(self.owner))
    }

    /// Takes a mark back that the child has given itself for this reason.
    pub fn unmark(&self, reason: RetireReason) {
        if let Some(cells) = self.cells() {
            let mark = owner_word(Owner::pid_of(self.owner)) | reason.word();
            // Where another one has taken it back meanwhile, there is nothing to do.
            let _ = cells[RETIRE].compare_exchange(mark, 0, AcqRel, Relaxed);
        }
    }

    /// The child begins to leave, whatever becomes of its mark from now on. That is counted.
    pub fn count_leaving(&self, reason: RetireReason) {
        let segment = self.board.segment;
        segment.count(Id::ChildrenRecycles, reason as usize, 1);
    }

    /// Revision of the code that it serves, as it said when it entered.
    pub fn revision(&self) -> Option<u64> {
        Some(self.cells()?[REVISION].load(Relaxed))
    }

    /// The child has loaded a group.
    pub fn add_group(&self, group: &GroupSlot) {
        if let Some(cells) = self.cells() {
            cells[GROUPS].fetch_or(1 << group.number(), Relaxed);
        }
    }

    /// None where the place is no longer the child's.
    fn cells(&self) -> Option<&'static [AtomicU64]> {
        let cells = self.board.child(self.at);
        (cells[OWNER].load(Acquire) == self.owner).then_some(cells)
    }
}
