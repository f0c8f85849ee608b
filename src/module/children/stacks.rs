//! `wsgictl stack` asks this child, through the board, for the stacks of its threads.
//!
//! Threads that already look at the board a few times a second also look for such a request, until the child ends.
//! Another thread makes the answer, as that may wait for a GIL.

use std::sync::atomic::{AtomicBool, Ordering};

use wsgi_telemetry::board::{Board, StacksRequest};

use super::slot;
use crate::engine::start;

/// Whether an answer is being made.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Looks for a request, and starts a thread that answers it. Never waits; called a few times a second.
pub(crate) fn look() {
    let Some(slot) = slot::get() else { return };
    let board = slot.board();
    // The next request waits. If its time runs out, `wsgictl` reports that no process has taken it.
    if BUSY.load(Ordering::Acquire) {
        return;
    }
    let Some(request) = board.take_stacks_request() else {
        return;
    };
    BUSY.store(true, Ordering::Release);
    let thread = std::thread::Builder::new().name(String::from("wsgi-stacks"));
    let begun = thread.spawn(move || {
        let _busy = Busy;
        answer(board, request);
    });
    if let Err(error) = begun {
        let _busy = Busy;
        let text = format!("This process has no thread that could find out: {error}\n");
        // The result does not matter: `wsgictl` may have ended.
        let _wanted = board.tell_stacks(request, &text);
    }
}

fn answer(board: Board, request: StacksRequest) {
    let text = match start::engine() {
        Some(engine) => engine.dump_stacks(request.patience),
        None => b"Python does not run in this process; the error log says why.\n".to_vec(),
    };
    let _wanted = board.tell_stacks(request, &String::from_utf8_lossy(&text));
}

/// Stands for an answer that is being made; clears [`BUSY`] when dropped.
struct Busy;

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}
