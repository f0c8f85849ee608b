//! A limit on a number: of httpd threads that one group or all groups hold, or of requests in a queue.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::sync::AtomicU32;

/// A counter with a maximum.
pub struct Limit {
    held: AtomicU32,
    max: u32,
}

/// One of the permits of a [`Limit`]. Dropping it gives it back.
#[must_use = "dropping a permit returns it"]
pub struct Permit<'a>(Option<&'a Limit>);

impl Limit {
    /// Makes a counter of at most `max`; `u32::MAX` for no limit.
    pub fn new(max: u32) -> Self {
        Self {
            held: AtomicU32::new(0),
            max,
        }
    }

    /// Returns whether there is no limit. Then nothing is counted.
    pub fn is_open(&self) -> bool {
        self.max == u32::MAX
    }

    /// Takes a permit; returns `None` if all are held. Costs nothing if there is no limit.
    pub fn take(&self) -> Option<Permit<'_>> {
        self.try_hold().then(|| Permit(Some(self)))
    }

    /// Counts one permit and returns whether one was left; the caller gives it back with [`Limit::release`].
    pub(super) fn try_hold(&self) -> bool {
        if self.is_open() {
            return true;
        }
        let mut seen = self.held.load(Relaxed);
        while seen < self.max {
            match self
                .held
                .compare_exchange_weak(seen, seen + 1, AcqRel, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Gives one permit back.
    pub(super) fn release(&self) {
        if !self.is_open() {
            let held = self.held.fetch_sub(1, AcqRel);
            debug_assert!(held != 0, "a unit is released that was not held");
        }
    }

    /// Returns how many permits are held; 0 if there is no limit.
    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }
}

impl Permit<'_> {
    /// Makes a permit that counts nothing, for a caller that already holds one.
    pub fn already() -> Self {
        Self(None)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(limit) = self.0 {
            limit.release();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_comes_back() {
        let limit = Limit::new(2);
        let first = limit.take();
        let second = limit.take();
        assert!(first.is_some() && second.is_some() && limit.take().is_none());
        drop(first);
        assert!(limit.take().is_some());
        let none = Limit::new(0);
        assert!(none.take().is_none());
        let open = Limit::new(u32::MAX);
        let all: Vec<_> = (0..1000).map_while(|_| open.take()).collect();
        assert_eq!(all.len(), 1000);
    }
}
