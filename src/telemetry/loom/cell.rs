//! A cell that loom watches if it is told to.

use std::sync::atomic::{self, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ::loom::sync::atomic::AtomicU64 as Watched;

/// In place of the standard library's.
#[derive(Debug, Default)]
pub struct AtomicU64 {
    plain: atomic::AtomicU64,
    watched: Mutex<Option<Arc<Watched>>>,
}

/// Methods that both kinds have.
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
    /// A cell that nobody watches.
    pub fn new(value: u64) -> Self {
        Self {
            plain: atomic::AtomicU64::new(value),
            watched: Mutex::default(),
        }
    }

    /// From now on loom watches it; to be said before there are threads.
    #[cfg(test)]
    pub(crate) fn watch(&self) {
        let watched = Arc::new(Watched::new(self.plain.load(Ordering::Relaxed)));
        *self.lock() = Some(watched);
    }

    /// Zero, and watched by nobody.
    #[cfg(test)]
    pub(crate) fn reset(&self) {
        *self.lock() = None;
        self.plain.store(0, Ordering::Relaxed);
    }

    /// Not to be locked while loom lets another thread go on.
    fn watched(&self) -> Option<Arc<Watched>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    operations! {
        /// As the standard library's.
        load(order: Ordering) -> u64;
        /// As the standard library's.
        store(value: u64, order: Ordering) -> ();
        /// As the standard library's.
        swap(value: u64, order: Ordering) -> u64;
        /// As the standard library's.
        fetch_add(value: u64, order: Ordering) -> u64;
        /// As the standard library's.
        fetch_or(value: u64, order: Ordering) -> u64;
        /// As the standard library's.
        fetch_max(value: u64, order: Ordering) -> u64;
        /// As the standard library's.
        compare_exchange(from: u64, to: u64, ok: Ordering, failed: Ordering) -> Result<u64, u64>;
        /// As the standard library's.
        compare_exchange_weak(from: u64, to: u64, ok: Ordering, failed: Ordering) -> Result<u64, u64>;
        /// As the standard library's.
        fetch_update(ok: Ordering, failed: Ordering, new: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64>;
    }
}
