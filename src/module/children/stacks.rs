//! `wsgictl stack` asks this child, on the board, what its threads run.
//!
//! The threads that look at the board anyway look for such a request, for as long as the child lives. The answer is made on a
//! thread of its own, as it may wait for a GIL.

use std::sync::atomic::{AtomicBool, Ordering};

use wsgi_telemetry::board::{Board, StacksRequest};

use super::slot;
use crate::engine::start;

/// Whether an answer is being made.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Looks for a request, and begins to answer it. Never waits; called a few times a second.
pub(crate) fn look() {
    let Some(slot) = slot::get() else { return };
    let board = slot.board();
    // The next request waits meanwhile. Its time runs, and `wsgictl` says that no process has taken it.
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
        let text = format!("This child has no thread that could find out: {error}\n");
        // `wsgictl` may have ended.
        let _wanted = board.tell_stacks(request, &text);
    }
}

fn answer(board: Board, request: StacksRequest) {
    let text = match start::engine() {
        Some(engine) => engine.dump_stacks(request.patience),
        None => b"Python does not run in this child; the error log says why.\n".to_vec(),
    };
    let _wanted = board.tell_stacks(request, &String::from_utf8_lossy(&text));
}

/// An answer that is being made.
struct Busy;

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}
