//! What threads share memory with: the standard library's, or in models of it loom's (`admission/models.rs`).

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

/// A panic inside one of the short steps under these locks leaves nothing half done, so poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
