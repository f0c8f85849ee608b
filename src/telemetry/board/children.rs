//! The children: a slot for each, with its state and the mark that it must retire.
//!
//! ```text
//! enter ─► Starting ─► Ready ─► Draining ─► (ended; the parent frees the slot)
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
use crate::clock;
use crate::segment::Owner;
use crate::segment::layout::CHILD_WORDS;
use crate::sync::AtomicU64;

/// The state of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChildState {
    /// The child starts Python, loads and warms up.
    Starting = 1,
    /// The child serves.
    Ready = 2,
    /// The child could not load what must be loaded ahead, and leaves connections to other children.
    NotReady = 3,
    /// The child takes no more connections.
    Draining = 4,
}

impl ChildState {
    /// Converts a word. An unknown word becomes the state of a child from which nothing is expected.
    fn of_word(word: u64) -> Self {
        match word {
            1 => ChildState::Starting,
            2 => ChildState::Ready,
            4 => ChildState::Draining,
            _ => ChildState::NotReady,
        }
    }

    /// Returns the state in words.
    pub const fn text(self) -> &'static str {
        match self {
            ChildState::Starting => "starting",
            ChildState::Ready => "ready",
            ChildState::NotReady => "not ready",
            ChildState::Draining => "draining",
        }
    }
}

/// A child with a slot on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildEntry {
    /// Process id.
    pub pid: u32,
    /// Start of the process, in clock ticks since the machine started.
    pub ticks: u64,
    /// Generation of the configuration that the child serves.
    pub generation: u64,
    /// Revision of the code that the child serves or is loading.
    pub revision: u64,
    /// State of the child.
    pub state: ChildState,
    /// Why the child must retire; `None` if it need not.
    pub retire: Option<RetireReason>,
    /// Unix time at which the child entered this state, nanoseconds.
    pub since: u64,
    /// The groups that the child has loaded: a bit for each [`GroupSlot::number`].
    pub groups: u64,
}

/// The slot of a child, held by the child itself.
#[derive(Clone, Copy)]
pub struct ChildSlot {
    board: Board,
    at: usize,
    owner: u64,
}

/// Processes by pid and start, with the stamp at which the kernel last reported the start.
type Seen = BTreeMap<(u32, u64), u64>;

/// The processes that this process has seen. The kernel takes 20 µs to report the start of a process, and a fraction of
/// that to report whether the pid exists.
static SEEN: Mutex<Seen> = Mutex::new(Seen::new());

/// How long an entry of `SEEN` is believed, nanoseconds.
const SURE: u64 = 1_000_000_000;

/// Process id in the upper half; 0 is free.
const OWNER: usize = 0;
const TICKS: usize = 1;
const GENERATION: usize = 2;
const REVISION: usize = 3;
const STATE: usize = 4;
/// Pid of the child that must retire in the upper half, the reason in the lower. With the pid, a mark that comes too
/// late marks no other child.
const RETIRE: usize = 5;
const SINCE: usize = 6;
const GROUPS: usize = 7;

/// Bit of the owner, set while the slot changes hands. Then only the parent may take the slot.
const CHANGING: u64 = 1;

fn owner_word(pid: u32) -> u64 {
    u64::from(pid) << 32
}

impl Board {
    /// Enters a child that will load the code of `revision`. Returns `None` if all slots are taken, as in a server with
    /// far more children than its limits allow. A process that already has a slot keeps it and starts over in it.
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

    /// Returns the living children. A process whose pid was reused is left out after at most a second. Callers may call
    /// this ten times a second.
    pub fn children(&self) -> Vec<ChildEntry> {
        // `try_lock`, since a fork may have copied the mutex while another thread held it.
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

    /// Returns all children that have a slot, dead ones included.
    pub(super) fn entries(self) -> impl Iterator<Item = ChildEntry> {
        (0..self.places()).filter_map(move |at| self.entry(at))
    }

    /// Marks a child to retire. Returns whether the child exists and was not marked before.
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

    /// Takes back the marks of all children of this configuration that have not begun to retire.
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

    /// Frees the slot of a child that was reaped. The parent calls this together with
    /// [`free_arenas_of`](crate::Segment::free_arenas_of).
    pub fn free(&self, pid: u32) {
        for at in 0..self.places() {
            let cell = &self.child(at)[OWNER];
            let owner = cell.load(Acquire);
            // The exchange fails if another child has found this one dead and taken the slot.
            if owner != 0 && Owner::pid_of(owner) == pid {
                let _ = cell.compare_exchange(owner, 0, AcqRel, Relaxed);
            }
        }
    }

    /// Returns whether a child is draining; `None` if it has no slot. For the parent.
    pub fn is_draining(&self, pid: u32) -> Option<bool> {
        let mut its = self.entries().filter(|child| child.pid == pid);
        its.next().map(|child| child.state == ChildState::Draining)
    }

    /// Returns pid and start of all processes that have a slot, dead ones included.
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

/// Returns the reason in a mark, if the mark is for process `pid`.
fn retire_of(word: u64, pid: u32) -> Option<RetireReason> {
    (Owner::pid_of(word) == pid)
        .then(|| RetireReason::of_word(word & u64::from(u32::MAX)))
        .flatten()
}

impl ChildSlot {
    /// Sets the state of the child.
    pub fn set_state(&self, state: ChildState) {
        if let Some(cells) = self.cells() {
            cells[SINCE].store(clock::unix(), Relaxed);
            cells[STATE].store(state as u64, Release);
        }
    }

    /// Returns the state of the child; `None` if it has lost its slot.
    pub fn state(&self) -> Option<ChildState> {
        Some(ChildState::of_word(self.cells()?[STATE].load(Relaxed)))
    }

    /// Returns why the child must retire; `None` if it need not.
    pub fn retire(&self) -> Option<RetireReason> {
        let word = self.cells()?[RETIRE].load(Acquire);
        retire_of(word, Owner::pid_of(self.owner))
    }

    /// Takes back a mark that the child has set on itself for this reason.
    pub fn unmark(&self, reason: RetireReason) {
        if let Some(cells) = self.cells() {
            let mark = owner_word(Owner::pid_of(self.owner)) | reason.word();
            // Another process may have taken the mark back already.
            let _ = cells[RETIRE].compare_exchange(mark, 0, AcqRel, Relaxed);
        }
    }

    /// Returns the revision of the code with which the child entered.
    pub fn revision(&self) -> Option<u64> {
        Some(self.cells()?[REVISION].load(Relaxed))
    }

    /// Records that the child has loaded a group.
    pub fn add_group(&self, group: &GroupSlot) {
        if let Some(cells) = self.cells() {
            cells[GROUPS].fetch_or(1 << group.number(), Relaxed);
        }
    }

    /// Returns `None` if the slot no longer belongs to the child.
    fn cells(&self) -> Option<&'static [AtomicU64]> {
        let cells = self.board.child(self.at);
        (cells[OWNER].load(Acquire) == self.owner).then_some(cells)
    }
}
