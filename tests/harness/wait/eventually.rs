//! Waiting by asking again: nothing in the suite sleeps for a fixed time to let something happen.

use std::time::{Duration, Instant};

/// Longest wait on a loaded machine for what should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How long ten children may take, one after the other.
const BY_TURNS: Duration = Duration::from_secs(90);

/// Asks until there is an answer; panics with `what` when there is none in time.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, ask)
        .unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// As [`eventually`], for what children do by turns: prefork starts one a second, and each waits for its turn to retire.
pub fn eventually_by_turns<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(BY_TURNS, ask)
        .unwrap_or_else(|| panic!("waited {BY_TURNS:?} in vain: {what}"))
}

/// Asks until there is an answer or the time is over.
pub fn eventually_within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() > time {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
