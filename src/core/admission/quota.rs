//! How many of something may be held at a time: threads of httpd by a group, or by all groups together; requests in line.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::sync::AtomicU32;

/// So many may be held.
pub struct Quota {
    held: AtomicU32,
    limit: u32,
}

/// One of them, given back by drop.
#[must_use = "it is given back by drop"]
pub struct Held<'a>(Option<&'a Quota>);

impl Quota {
    /// `u32::MAX` for no limit.
    pub fn new(limit: u32) -> Self {
        Self {
            held: AtomicU32::new(0),
            limit,
        }
    }

    /// Whether there is no limit, so that nothing is counted.
    pub fn is_open(&self) -> bool {
        self.limit == u32::MAX
    }

    /// Takes one; `None` where all are held. Costs nothing where there is no limit.
    pub fn take(&self) -> Option<Held<'_>> {
        self.try_hold().then(|| Held(Some(self)))
    }

    /// Takes one, which the caller owes a [`Quota::release`]; whether there was one.
    pub(super) fn try_hold(&self) -> bool {
        if self.is_open() {
            return true;
        }
        let mut seen = self.held.load(Relaxed);
        while seen < self.limit {
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

    /// Gives one back.
    pub(super) fn release(&self) {
        if !self.is_open() {
            let held = self.held.fetch_sub(1, AcqRel);
            debug_assert!(held != 0, "one is given back that nobody has");
        }
    }

    /// How many are held; 0 where there is no limit.
    #[cfg(test)]
    pub(super) fn held(&self) -> u32 {
        self.held.load(Relaxed)
    }
}

impl<'a> Held<'a> {
    /// Of nothing: the caller has one already.
    pub fn already() -> Self {
        Self(None)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(quota) = self.0 {
            quota.release();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let quota = Quota::new(2);
        let first = quota.take();
        let second = quota.take();
        assert!(first.is_some() && second.is_some() && quota.take().is_none());
        drop(first);
        assert!(quota.take().is_some());
        let none = Quota::new(0);
        assert!(none.take().is_none());
        let open = Quota::new(u32::MAX);
        let all: Vec<_> = (0..1000).map_while(|_| open.take()).collect();
        assert_eq!(all.len(), 1000);
    }
}
