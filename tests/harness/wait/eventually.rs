//! Waiting by repeated queries: no test sleeps for a fixed time and hopes that something has happened.

use std::time::{Duration, Instant};

/// The longest wait, on a loaded machine, for an event that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The time that ten children may take, one after the other.
const BY_TURNS: Duration = Duration::from_secs(90);

/// Calls `ask` until it returns a value; panics with `what` if it returns none in time.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, ask)
        .unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Does the same as [`eventually`] with more time, for what children do by turns: prefork starts one child a second,
/// and each child waits for its turn to retire.
pub fn eventually_by_turns<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(BY_TURNS, ask)
        .unwrap_or_else(|| panic!("waited {BY_TURNS:?} in vain: {what}"))
}

/// Calls `ask` until it returns a value or the time is over.
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
