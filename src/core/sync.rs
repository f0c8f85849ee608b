//! Locks and atomics: the standard library's, or loom's in models (`admission/models.rs`).

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64},
};

#[cfg(loom)]
pub(crate) use ::loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64},
};

/// Locks `mutex`. Ignores poison, as a panic inside one of the short steps under these locks leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
