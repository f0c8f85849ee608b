//! The stacks of a child's threads: a process asks for them, and the child writes them. There is room for one request
//! at a time.
//!
//! ```text
//!       ask_for_stacks            take_stacks_request        tell_stacks         release_stacks
//! Free ────────────────► Asked ─────────────────────► Taken ───────────► Told ────────────────► Free
//! ```
//!
//! A request becomes void after half a minute. Then another process may go from any of these states to `Asked`; this
//! raises the number, which tells the new request from the old one.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::common::Board;
use super::state_word::{StateWord, change};
use crate::catalogue::fnv;
use crate::clock;
use crate::segment::Owner;
use crate::segment::layout::STACKS_WORDS;
use crate::segment::text;
use crate::sync::{AtomicU64, fence};

/// Identifies a request for stacks, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StacksTicket {
    number: u64,
    pid: u32,
}

/// The state of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StacksAnswer {
    /// The child has not seen the request.
    Waiting,
    /// The child is collecting the stacks.
    Taken,
    /// The text that the child has written. It may hold anything.
    Told(String),
    /// The request became void, and another process has asked since.
    Lost,
}

/// A request that this process has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StacksRequest {
    number: u64,
    /// Longest wait for a GIL.
    pub patience: Duration,
}

const STATE: usize = 0;
/// Stamp.
const ASKED_AT: usize = 1;
/// Milliseconds.
const PATIENCE: usize = 2;
/// Checksum of number and text.
const CHECK: usize = 3;
const TEXT: std::ops::Range<usize> = 8..STACKS_WORDS;

/// Time after which a request is void, nanoseconds.
const VOID: u64 = 30_000_000_000;
/// Range that the requested patience is clamped to, milliseconds.
const PATIENCES: std::ops::RangeInclusive<u64> = 1..=20_000;
/// The end of a text that is too long.
const REST: &str = "\n... the rest is left out, as there is no room for it\n";

/// Parts of the state. The process is the one that writes the request or is asked.
const WORD: StateWord = StateWord::with_tag_bits(3);
const FREE: u64 = 0;
const WRITING: u64 = 1;
const ASKED: u64 = 2;
const TAKEN: u64 = 3;
const TOLD: u64 = 4;

fn check(number: u64, text: &[u8]) -> u64 {
    fnv(number.wrapping_add(1), text)
}

impl Board {
    /// Asks child `pid` for its stacks. Returns `None` while another request is not done.
    pub fn ask_for_stacks(&self, pid: u32, patience: Duration) -> Option<StacksTicket> {
        let cells = self.stacks_cells();
        let state = &cells[STATE];
        let seen = state.load(Acquire);
        let is_free = match WORD.tag(seen) {
            FREE => true,
            WRITING => !Owner::is_alive(WORD.pid(seen), 0),
            ASKED | TAKEN | TOLD => is_void(cells),
            _ => true,
        };
        let number = WORD.next_number(seen);
        let writing = WORD.of(number, std::process::id(), WRITING);
        if !is_free || !change(state, seen, writing) {
            return None;
        }
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        cells[PATIENCE].store(patience, Relaxed);
        cells[ASKED_AT].store(clock::now(), Relaxed);
        // Fails if another process has taken this one for dead.
        change(state, writing, WORD.of(number, pid, ASKED)).then_some(StacksTicket { number, pid })
    }

    /// Returns the state of a request.
    pub fn stacks(&self, ticket: StacksTicket) -> StacksAnswer {
        let cells = self.stacks_cells();
        let state = cells[STATE].load(Acquire);
        if (WORD.number(state), WORD.pid(state)) != (ticket.number, ticket.pid) {
            return StacksAnswer::Lost;
        }
        match WORD.tag(state) {
            ASKED => StacksAnswer::Waiting,
            TAKEN => StacksAnswer::Taken,
            TOLD => {
                let expected = cells[CHECK].load(Relaxed);
                let text = text::bytes(&cells[TEXT]);
                fence(Acquire);
                let is_whole = check(ticket.number, &text) == expected;
                if is_whole && cells[STATE].load(Relaxed) == state {
                    StacksAnswer::Told(String::from_utf8_lossy(&text).into_owned())
                } else {
                    StacksAnswer::Lost
                }
            }
            _ => StacksAnswer::Lost,
        }
    }

    /// Ends a request of this process, so that others may ask.
    pub fn release_stacks(&self, ticket: StacksTicket) {
        let state = &self.stacks_cells()[STATE];
        let seen = state.load(Acquire);
        let is_ours = (WORD.number(seen), WORD.pid(seen)) == (ticket.number, ticket.pid);
        if is_ours {
            // The child may have advanced the state in between: try once more with the new one.
            let free = WORD.of(ticket.number, 0, FREE);
            if !change(state, seen, free) {
                let seen = state.load(Acquire);
                if (WORD.number(seen), WORD.pid(seen)) == (ticket.number, ticket.pid) {
                    change(state, seen, free);
                }
            }
        }
    }

    /// Takes the request that this process must answer, once. For a child; reads only one word if there is no request.
    pub fn take_stacks_request(&self) -> Option<StacksRequest> {
        let cells = self.stacks_cells();
        let seen = cells[STATE].load(Acquire);
        let me = std::process::id();
        if WORD.tag(seen) != ASKED || WORD.pid(seen) != me || is_void(cells) {
            return None;
        }
        let patience = cells[PATIENCE].load(Relaxed);
        let number = WORD.number(seen);
        change(&cells[STATE], seen, WORD.of(number, me, TAKEN)).then(|| StacksRequest {
            number,
            patience: Duration::from_millis(patience.clamp(*PATIENCES.start(), *PATIENCES.end())),
        })
    }

    /// Answers a request with as much of `text` as there is room for. Returns whether the answer is still wanted.
    pub fn tell_stacks(&self, request: StacksRequest, text: &str) -> bool {
        let cells = self.stacks_cells();
        let me = std::process::id();
        let taken = WORD.of(request.number, me, TAKEN);
        if cells[STATE].load(Acquire) != taken || is_void(cells) {
            return false;
        }
        let room = (TEXT.len() - 1) * 8;
        let mut text = text.to_owned();
        if text.len() > room {
            text.truncate(text.floor_char_boundary(room - REST.len()));
            text.push_str(REST);
        }
        text::put(&cells[TEXT], text.as_bytes());
        cells[CHECK].store(check(request.number, text.as_bytes()), Relaxed);
        fence(Release);
        change(&cells[STATE], taken, WORD.of(request.number, me, TOLD))
    }

    fn stacks_cells(&self) -> &'static [AtomicU64] {
        let at = self.segment.geometry().stacks();
        self.segment.words(at, STACKS_WORDS)
    }
}

fn is_void(cells: &[AtomicU64]) -> bool {
    clock::now().abs_diff(cells[ASKED_AT].load(Relaxed)) > VOID
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;
    use crate::segment::Geometry;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn board() -> Board {
        Segment::fresh(Geometry::of_board(3)).board()
    }

    fn ask(board: Board) -> StacksTicket {
        let me = std::process::id();
        board.ask_for_stacks(me, PATIENCE).expect("nobody asks")
    }

    #[test]
    fn a_child_answers_a_request_for_its_stacks() {
        let board = board();
        assert_eq!(board.take_stacks_request(), None);
        for text in ["the stacks\n", "others: é\u{1b}\"\n"] {
            let ticket = ask(board);
            assert_eq!(board.stacks(ticket), StacksAnswer::Waiting);
            assert_eq!(board.ask_for_stacks(77, PATIENCE), None, "one at a time");
            let request = board.take_stacks_request().expect("it is asked");
            assert_eq!(request.patience, PATIENCE);
            assert_eq!(board.take_stacks_request(), None, "once");
            assert_eq!(board.stacks(ticket), StacksAnswer::Taken);
            assert!(board.tell_stacks(request, text));
            assert_eq!(board.stacks(ticket), StacksAnswer::Told(text.into()));
            assert!(!board.tell_stacks(request, "again"));
            assert_eq!(board.ask_for_stacks(77, PATIENCE), None, "not read yet");
            board.release_stacks(ticket);
            assert_eq!(board.stacks(ticket), StacksAnswer::Lost);
        }
    }

    #[test]
    fn others_are_not_meant() {
        let board = board();
        let ticket = board.ask_for_stacks(77, PATIENCE).expect("nobody asks");
        assert_eq!(board.take_stacks_request(), None);
        board.release_stacks(ticket);
        let _ = ask(board);
        board.release_stacks(ticket);
        assert!(
            board.take_stacks_request().is_some(),
            "not released by another ticket"
        );
    }

    #[test]
    fn what_is_old_is_void() {
        let board = board();
        let old = ask(board);
        let request = board.take_stacks_request().expect("it is asked");
        let cells = board.stacks_cells();
        let long_ago = clock::now() - VOID - 1;
        cells[ASKED_AT].store(long_ago, Relaxed);
        assert!(!board.tell_stacks(request, "too late"));
        let new = ask(board);
        assert_eq!(board.stacks(old), StacksAnswer::Lost);
        assert_eq!(board.stacks(new), StacksAnswer::Waiting);
        assert!(!board.tell_stacks(request, "for another"));
        cells[ASKED_AT].store(long_ago, Relaxed);
        assert_eq!(board.take_stacks_request(), None);
    }

    /// Simulates a process that begins to ask and ends before it has asked.
    #[test]
    fn a_process_that_is_gone_holds_no_other_up() {
        let board = board();
        let state = &board.stacks_cells()[STATE];
        state.store(WORD.of(5, std::process::id(), WRITING), Relaxed);
        assert_eq!(board.ask_for_stacks(77, PATIENCE), None);
        state.store(WORD.of(5, u32::MAX, WRITING), Relaxed);
        assert!(board.ask_for_stacks(77, PATIENCE).is_some());
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let board = board();
        let ticket = ask(board);
        let request = board.take_stacks_request().expect("it is asked");
        assert!(board.tell_stacks(request, &"é".repeat(100_000)));
        let StacksAnswer::Told(text) = board.stacks(ticket) else {
            panic!("not told");
        };
        assert!(text.len() <= (TEXT.len() - 1) * 8);
        assert!(text.trim_end_matches(REST).chars().all(|one| one == 'é'));
        assert!(text.ends_with(REST));
    }

    /// Children may write anything anywhere here.
    #[test]
    fn lies_are_not_believed() {
        let board = board();
        let ticket = ask(board);
        let request = board.take_stacks_request().expect("it is asked");
        assert!(board.tell_stacks(request, "the truth"));
        let cells = board.stacks_cells();
        for (at, lie) in [(TEXT.start, u64::MAX), (TEXT.start + 1, 7), (CHECK, 9)] {
            let before = cells[at].swap(lie, Relaxed);
            assert_eq!(board.stacks(ticket), StacksAnswer::Lost);
            cells[at].store(before, Relaxed);
        }
        assert_eq!(board.stacks(ticket), StacksAnswer::Told("the truth".into()));
        board.release_stacks(ticket);
        let _ = ask(board);
        cells[PATIENCE_AT].store(u64::MAX, Relaxed);
        let patience = board.take_stacks_request().expect("it is asked").patience;
        assert_eq!(patience, Duration::from_secs(20));
        cells[STATE].store(u64::MAX, Relaxed);
        assert_eq!(board.take_stacks_request(), None);
        let _ = ask(board);
    }

    const PATIENCE_AT: usize = super::PATIENCE;
}
