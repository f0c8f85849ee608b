//! Memory in models: it is not shared with other processes.

use std::io;

use crate::sync::AtomicU64;

/// Returns `words` of fresh memory.
///
/// # Errors
/// None.
pub fn anonymous(words: usize) -> io::Result<&'static [AtomicU64]> {
    let cells: Box<[AtomicU64]> = (0..words).map(|_| AtomicU64::default()).collect();
    Ok(Box::leak(cells))
}

/// Does nothing: the memory is there.
pub(crate) fn populate(_: &'static [AtomicU64]) -> bool {
    true
}

/// Returns `None`: the size is unknown.
pub(crate) fn resident(_: &'static [AtomicU64]) -> Option<u64> {
    None
}
