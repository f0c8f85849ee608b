//! Requests for a roll: a few slots, which any process may write to and which the reloader empties.
//!
//! ```text
//!       request_reload            take_requests          raise_revision, settle_requests
//! Free ───────────────► Waiting ──────────────► Taken ──────────────────────────────────► Free
//! ```
//!
//! Equal requests share one slot: all children of a server ask for the same roll when a file has changed.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::common::Board;
use super::retire::RetireReason;
use super::state_word::{StateWord, change};
use crate::segment::Owner;
use crate::segment::layout::{RELOAD_WORDS, RELOADS};
use crate::segment::text;
use crate::sync::AtomicU64;

/// A request for a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRequest {
    /// Application group that the request is about: `None` for all groups, empty for the main interpreter.
    pub group: Option<String>,
    /// Reason for the request.
    pub reason: RetireReason,
    /// Detail of the reason: the file that has changed, or the process that asked.
    pub what: String,
}

impl ReloadRequest {
    /// Returns whether the request is about the group `name`. Only the part of the name that the board has room for
    /// counts.
    pub fn is_about(&self, name: &[u8]) -> bool {
        let kept = &name[..name.len().min((GROUP.len() - 1) * 8)];
        let asked = self.group.as_deref();
        asked.is_none_or(|group| group == text::shown(kept))
    }
}

/// Identifies a request on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadTicket {
    at: usize,
    number: u64,
}

const STATE: usize = 0;
const REASON: usize = 1;
const GROUP: std::ops::Range<usize> = 2..19;
const WHAT: std::ops::Range<usize> = 19..60;

/// Bit of the reason word: the request is about one group.
const ONE_GROUP: u64 = 1 << 8;

/// Parts of the state. The process is the one that writes the request or has taken it.
const WORD: StateWord = StateWord::with_tag_bits(2);
const FREE: u64 = 0;
const WRITING: u64 = 1;
const WAITING: u64 = 2;
const TAKEN: u64 = 3;

impl Board {
    /// Asks for a roll because of `what`, for one application group or for all. Returns `None` if all slots are taken:
    /// then a roll is due anyway, or no process takes requests.
    pub fn request_reload(
        &self,
        group: Option<&str>,
        reason: RetireReason,
        what: &str,
    ) -> Option<ReloadTicket> {
        let waiting = (0..RELOADS).find_map(|at| {
            let state = self.request(at)[STATE].load(Acquire);
            let same = || self.says(at, group, reason, what);
            let is_it = WORD.tag(state) == WAITING && same();
            // The slot must still wait with the content that was just read.
            let unchanged = || self.request(at)[STATE].load(Acquire) == state;
            (is_it && unchanged()).then(|| ReloadTicket {
                at,
                number: WORD.number(state),
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
        let abandoned = WORD.tag(seen) == WRITING && !Owner::is_alive(WORD.pid(seen), 0);
        let number = WORD.next_number(seen);
        let writing = WORD.of(number, std::process::id(), WRITING);
        if WORD.tag(seen) != FREE && !abandoned || !change(state, seen, writing) {
            return None;
        }
        cells[REASON].store(reason_word(group, reason), Relaxed);
        text::put(&cells[GROUP], group.unwrap_or_default().as_bytes());
        text::put(&cells[WHAT], what.as_bytes());
        // Fails if another process has taken this one for dead.
        let waiting = WORD.of(number, 0, WAITING);
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

    /// Returns whether a request is still open. When it no longer is, the revision was raised for it, unless the
    /// reloader [settled](Self::settle_requests) it otherwise.
    pub fn is_open(&self, ticket: ReloadTicket) -> bool {
        let state = self.request(ticket.at)[STATE].load(Acquire);
        WORD.tag(state) != FREE && WORD.number(state) == ticket.number
    }

    /// Takes the waiting requests, and those that a dead reloader took but did not settle. For the reloader, which then
    /// calls [`raise_revision`](Self::raise_revision) or [`settle_requests`](Self::settle_requests).
    pub fn take_requests(&self) -> Vec<ReloadRequest> {
        (0..RELOADS).filter_map(|at| self.take(at)).collect()
    }

    fn take(&self, at: usize) -> Option<ReloadRequest> {
        let me = std::process::id();
        let cells = self.request(at);
        let seen = cells[STATE].load(Acquire);
        let left = || WORD.pid(seen) != me && !Owner::is_alive(WORD.pid(seen), 0);
        let is_open = WORD.tag(seen) == WAITING || WORD.tag(seen) == TAKEN && left();
        let taken = WORD.of(WORD.number(seen), me, TAKEN);
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

    /// Settles the requests that this process has taken.
    pub fn settle_requests(&self) {
        let me = std::process::id();
        for at in 0..RELOADS {
            let state = &self.request(at)[STATE];
            let seen = state.load(Acquire);
            if WORD.tag(seen) == TAKEN && WORD.pid(seen) == me {
                change(state, seen, WORD.of(WORD.number(seen), 0, FREE));
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
