//! A cell that loom watches on request.

use std::sync::atomic::{self, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::loom::sync::atomic::AtomicU64 as Watched;

/// Replaces the `AtomicU64` of the standard library.
#[derive(Debug, Default)]
pub struct AtomicU64 {
    plain: atomic::AtomicU64,
    watched: Mutex<Option<Arc<Watched>>>,
}

/// Methods of watched and unwatched cells.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, $($argument: $type),*) -> $result {
            match self.watched() {
                Some(watched) => watched.$name($($argument),*),
                None => self.plain.$name($($argument),*),
            }
        }
    )*};
}

impl AtomicU64 {
    /// Returns an unwatched cell.
    pub fn new(value: u64) -> Self {
        Self {
            plain: atomic::AtomicU64::new(value),
            watched: Mutex::default(),
        }
    }

    /// Makes loom watch the cell. Call this before there are threads.
    #[cfg(test)]
    pub(crate) fn watch(&self) {
        let watched = Arc::new(Watched::new(self.plain.load(Ordering::Relaxed)));
        *self.lock() = Some(watched);
    }

    /// Sets the cell to zero, unwatched.
    #[cfg(test)]
    pub(crate) fn reset(&self) {
        *self.lock() = None;
        self.plain.store(0, Ordering::Relaxed);
    }

    /// Must not hold the lock while loom lets another thread run.
    fn watched(&self) -> Option<Arc<Watched>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    operations! {
        /// See the standard library.
        load(order: Ordering) -> u64;
        /// See the standard library.
        store(value: u64, order: Ordering) -> ();
        /// See the standard library.
        swap(value: u64, order: Ordering) -> u64;
        /// See the standard library.
        fetch_add(value: u64, order: Ordering) -> u64;
        /// See the standard library.
        fetch_or(value: u64, order: Ordering) -> u64;
        /// See the standard library.
        fetch_max(value: u64, order: Ordering) -> u64;
        /// See the standard library.
        compare_exchange(from: u64, to: u64, ok: Ordering, failed: Ordering) -> Result<u64, u64>;
        /// See the standard library.
        compare_exchange_weak(from: u64, to: u64, ok: Ordering, failed: Ordering) -> Result<u64, u64>;
        /// See the standard library.
        fetch_update(ok: Ordering, failed: Ordering, new: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64>;
    }
}
