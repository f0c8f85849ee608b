//! Threads of httpd that the requests of a group hold (`WSGIThreadShare`). The module counts those that all groups hold
//! together (`reserve=`).
//!
//! A thread counts once against the share of each group that has a request on it, however many requests httpd nests there
//! (included parts, error pages). If another thread runs the request while its own thread waits, its own thread counts,
//! and requests nested in it count as they would there.

use std::cell::RefCell;

use wsgi_core::admission::limit::{Limit, Permit};

thread_local! {
    /// The limits that the calling thread, and the threads for which it runs something, count against. Empty without
    /// limits.
    static HELD: RefCell<Vec<&'static Limit>> = const { RefCell::new(Vec::new()) };
}

/// A thread counts against a limit until this is dropped, on the same thread and in reverse order.
#[must_use = "the thread counts until this is dropped"]
pub(crate) struct Hold {
    _permit: Permit<'static>,
    _noted: Noted,
}

/// How many limits were added to the list of the thread. Dropping this removes them.
struct Noted(usize);

impl Noted {
    fn note(limits: impl IntoIterator<Item = &'static Limit>) -> Self {
        let note = |held: &RefCell<Vec<&'static Limit>>| {
            let mut held = held.borrow_mut();
            let before = held.len();
            held.extend(limits);
            held.len() - before
        };
        // A thread that is ending runs no nested request.
        Self(HELD.try_with(note).unwrap_or(0))
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.0 != 0 {
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                let left = held.len().saturating_sub(self.0);
                held.truncate(left);
            });
        }
    }
}

/// Counts the calling thread against the share of the group whose request it runs, unless it counts already. Returns
/// `None` if the share is used up.
pub(crate) fn hold(limit: &'static Limit) -> Option<Hold> {
    let is_held = |held: &RefCell<Vec<&'static Limit>>| {
        let held = held.borrow();
        held.iter().any(|held| std::ptr::eq(*held, limit))
    };
    if limit.is_open() || HELD.try_with(is_held).unwrap_or(false) {
        return Some(Hold {
            _permit: Permit::already(),
            _noted: Noted(0),
        });
    }
    Some(Hold {
        _permit: limit.take()?,
        _noted: Noted::note([limit]),
    })
}

/// Returns the limits that the calling thread counts against, for another thread that runs something for it.
pub(crate) fn held() -> Vec<&'static Limit> {
    HELD.try_with(|held| held.borrow().clone())
        .unwrap_or_default()
}

/// The calling thread runs something for a thread that counts against these limits and waits.
pub(crate) struct StandsIn {
    _noted: Noted,
}

/// Begins a [`StandsIn`], which ends when dropped.
pub(crate) fn stand_in(held: &[&'static Limit]) -> StandsIn {
    StandsIn {
        _noted: match held.is_empty() {
            true => Noted(0),
            false => Noted::note(held.iter().copied()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(limit: u32) -> &'static Limit {
        Box::leak(Box::new(Limit::new(limit)))
    }

    #[test]
    fn a_thread_counts_once_for_each_group() {
        let (one, other) = (limit(1), limit(1));
        let on_another_thread = |share| {
            let taken = std::thread::scope(|scope| scope.spawn(|| hold(share).is_some()).join());
            taken.is_ok_and(|taken| taken)
        };
        let outer = hold(one);
        assert!(outer.is_some());
        let nested = hold(one);
        assert!(nested.is_some(), "the thread counts already");
        assert!(!on_another_thread(one) && on_another_thread(other));
        let of_other = hold(other);
        assert!(of_other.is_some() && !on_another_thread(other));
        drop(of_other);
        drop(nested);
        assert!(!on_another_thread(one), "the outer one is still there");
        drop(outer);
        assert!(on_another_thread(one));
        assert!(held().is_empty());
    }

    #[test]
    fn a_thread_that_runs_something_for_another_one_does_not_count() {
        let share = limit(1);
        let holds = hold(share);
        let lent = held();
        assert_eq!(lent.len(), 1);
        let runner = std::thread::scope(|scope| {
            let run = || {
                let stands_in = stand_in(&lent);
                let nested = hold(share).is_some();
                drop(stands_in);
                (nested, hold(share).is_some(), held().len())
            };
            scope.spawn(run).join()
        });
        assert_eq!(runner.ok(), Some((true, false, 0)));
        drop(holds);
        assert!(hold(share).is_some());
    }

    #[test]
    fn one_that_is_refused_holds_nothing() {
        assert!(hold(limit(0)).is_none() && held().is_empty());
        assert!(hold(limit(u32::MAX)).is_some() && held().is_empty());
    }
}
