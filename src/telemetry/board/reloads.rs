//! Requests for a roll: a few places, which any process may write to and the reloader empties.
//!
//! ```text
//!       request_reload            take_requests          raise_revision, settle_requests
//! Free ───────────────► Waiting ──────────────► Taken ──────────────────────────────────► Free
//! ```
//!
//! Requests for the same roll, as all children of a server make when a file has changed, share one place.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::common::Board;
use super::retire::RetireReason;
use crate::segment::Owner;
use crate::segment::layout::{RELOAD_WORDS, RELOADS};
use crate::segment::text;
use crate::sync::AtomicU64;

/// A request for a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRequest {
    /// Application group that it is about; `None` for all. Empty for the main interpreter.
    pub group: Option<String>,
    /// What kind of reason.
    pub reason: RetireReason,
    /// The reason itself: the file that has changed, or the process that asked.
    pub what: String,
}

impl ReloadRequest {
    /// Whether it is about the group of this name, of which the board keeps as much as it has room for.
    pub fn is_about(&self, name: &[u8]) -> bool {
        let kept = &name[..name.len().min((GROUP.len() - 1) * 8)];
        let asked = self.group.as_deref();
        asked.is_none_or(|group| group == text::shown(kept))
    }
}

/// By which a request is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadTicket {
    at: usize,
    number: u64,
}

const STATE: usize = 0;
const REASON: usize = 1;
const GROUP: std::ops::Range<usize> = 2..19;
const WHAT: std::ops::Range<usize> = 19..60;

/// The reason word where the request is about one group.
const ONE_GROUP: u64 = 1 << 8;

/// Parts of a state: what it is, a process, and how often the place was used, by which tickets differ.
const TAG: u64 = 3;
const FREE: u64 = 0;
const WRITING: u64 = 1;
const WAITING: u64 = 2;
const TAKEN: u64 = 3;
const PID_SHIFT: u32 = 2;
const NUMBER_SHIFT: u32 = 34;

fn pid_of(state: u64) -> u32 {
    (state >> PID_SHIFT) as u32
}

fn number_of(state: u64) -> u64 {
    state >> NUMBER_SHIFT
}

fn state_of(number: u64, pid: u32, tag: u64) -> u64 {
    number << NUMBER_SHIFT | u64::from(pid) << PID_SHIFT | tag
}

fn change(state: &AtomicU64, from: u64, to: u64) -> bool {
    state.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
}

impl Board {
    /// Asks for a roll: because of `what`, and about one application group or all. `None` where all places are taken:
    /// then a roll is wanted anyway, or no process takes requests.
    pub fn request_reload(
        &self,
        group: Option<&str>,
        reason: RetireReason,
        what: &str,
    ) -> Option<ReloadTicket> {
        let waiting = (0..RELOADS).find_map(|at| {
            let state = self.request(at)[STATE].load(Acquire);
            let same = || self.says(at, group, reason, what);
            let is_it = state & TAG == WAITING && same();
            // Still waiting with what was just read.
            let unchanged = || self.request(at)[STATE].load(Acquire) == state;
            (is_it && unchanged()).then(|| ReloadTicket {
                at,
                number: number_of(state),
            })
        });
        waiting.or_else(|| (0..RELOADS).find_map(|at| self.write(at, group, reason, what)))
    }

    fn write(
        &self,
        at: usize,
        group: Option<&str>,
        reason: RetireReason,
        what: &str,
    ) -> Option<ReloadTicket> {
        let cells = self.request(at);
        let state = &cells[STATE];
        let seen = state.load(Acquire);
        let abandoned = seen & TAG == WRITING && !Owner::is_alive(pid_of(seen), 0);
        let number = number_of(seen).wrapping_add(1) & (u64::MAX >> NUMBER_SHIFT);
        let writing = state_of(number, std::process::id(), WRITING);
        if seen & TAG != FREE && !abandoned || !change(state, seen, writing) {
            return None;
        }
        cells[REASON].store(reason_word(group, reason), Relaxed);
        text::put(&cells[GROUP], group.unwrap_or_default().as_bytes());
        text::put(&cells[WHAT], what.as_bytes());
        // Fails where somebody has taken us for dead.
        let waiting = state_of(number, 0, WAITING);
        change(state, writing, waiting).then_some(ReloadTicket { at, number })
    }

    fn says(&self, at: usize, group: Option<&str>, reason: RetireReason, what: &str) -> bool {
        let cells = self.request(at);
        let same = |cells: &[AtomicU64], text: &str| {
            text::bytes(cells) == text::fitting(cells, text.as_bytes())
        };
        cells[REASON].load(Relaxed) == reason_word(group, reason)
            && same(&cells[GROUP], group.unwrap_or_default())
            && same(&cells[WHAT], what)
    }

    /// Whether a request has not led to anything yet. Where it has, the revision was raised for it before, unless the
    /// reloader has [settled](Self::settle_requests) it otherwise.
    pub fn is_open(&self, ticket: ReloadTicket) -> bool {
        let state = self.request(ticket.at)[STATE].load(Acquire);
        state & TAG != FREE && number_of(state) == ticket.number
    }

    /// The requests that wait, and those that a reloader before this process has taken but not settled. To be followed by
    /// [`raise_revision`](Self::raise_revision) or [`settle_requests`](Self::settle_requests). For the reloader.
    pub fn take_requests(&self) -> Vec<ReloadRequest> {
        (0..RELOADS).filter_map(|at| self.take(at)).collect()
    }

    fn take(&self, at: usize) -> Option<ReloadRequest> {
        let me = std::process::id();
        let cells = self.request(at);
        let seen = cells[STATE].load(Acquire);
        let left = || pid_of(seen) != me && !Owner::is_alive(pid_of(seen), 0);
        let is_open = seen & TAG == WAITING || seen & TAG == TAKEN && left();
        let taken = state_of(number_of(seen), me, TAKEN);
        if !is_open || !change(&cells[STATE], seen, taken) {
            return None;
        }
        let reason = cells[REASON].load(Relaxed);
        Some(ReloadRequest {
            group: (reason & ONE_GROUP != 0).then(|| text::get(&cells[GROUP])),
            reason: RetireReason::of_word(reason & 0xff).unwrap_or(RetireReason::Api),
            what: text::get(&cells[WHAT]),
        })
    }

    /// The requests that this process has taken are done with.
    pub fn settle_requests(&self) {
        let me = std::process::id();
        for at in 0..RELOADS {
            let state = &self.request(at)[STATE];
            let seen = state.load(Acquire);
            if seen & TAG == TAKEN && pid_of(seen) == me {
                change(state, seen, state_of(number_of(seen), 0, FREE));
            }
        }
    }

    fn request(&self, at: usize) -> &'static [AtomicU64] {
        let at = self.segment.geometry().reload(at);
        self.segment.words(at, RELOAD_WORDS)
    }
}

fn reason_word(group: Option<&str>, reason: RetireReason) -> u64 {
    reason.word() | if group.is_some() { ONE_GROUP } else { 0 }
}
