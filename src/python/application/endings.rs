//! How iterables end after they have given everything that they declared: by themselves and at once, as most do, or
//! not.
//!
//! A response that has its declared length is complete, but its iterable may have more to do before it ends. If such
//! iterables are known to end quickly, the response waits for the end and is sent in one piece after Python was left;
//! otherwise it is sent first.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::ffi;

use crate::cpython::object::{Attached, Obj};

/// How many kinds of iterables of an application are remembered. Kinds that share a cell replace each other.
const KINDS: usize = 16;

/// Mask of the low bits of an address, which are 0: objects lie at multiples of 16. The cells keep their count there.
const COUNT: usize = 15;

/// How many quick ends make a kind count as quick.
const ENOUGH: usize = 4;

/// The longest time between the last byte and a quick end. Nanoseconds.
const QUICK: u64 = 20_000_000;

/// What is known of the iterables of one application. Each cell holds the address that identifies a kind, with a count
/// of quick ends in its low bits. A wrong guess only costs time.
#[derive(Default)]
pub(crate) struct Endings([AtomicUsize; KINDS]);

/// Identifies a kind of iterables by an address: that of the code of a generator, or of the type of any other iterable.
#[derive(Clone, Copy)]
pub(crate) struct IterableKind(usize);

impl IterableKind {
    pub(crate) fn of<'i>(py: &Attached<'i>, iterable: &Obj<'i>) -> Self {
        // SAFETY: attached and alive.
        let class = unsafe { ffi::Py_TYPE(iterable.as_ptr()) };
        // SAFETY: the address of a static.
        let is_generator = std::ptr::eq(class, &raw const ffi::PyGen_Type);
        let code = is_generator.then(|| iterable.attr(py, c"gi_code"));
        Self(match code {
            Some(Ok(code)) => code.as_ptr().addr() & !COUNT,
            Some(Err(raised)) => {
                py.clear(raised);
                class.addr() & !COUNT
            }
            None => class.addr() & !COUNT,
        })
    }
}

impl Endings {
    fn place(&self, kind: IterableKind) -> &AtomicUsize {
        &self.0[(kind.0 >> 4) % KINDS]
    }

    fn count(&self, kind: IterableKind) -> usize {
        match self.place(kind).load(Relaxed) {
            known if known & !COUNT == kind.0 => known & COUNT,
            _ => 0,
        }
    }

    /// Whether iterables of this kind end quickly.
    pub(crate) fn are_quick(&self, kind: IterableKind) -> bool {
        self.count(kind) >= ENOUGH
    }

    /// Notes that an iterable has ended by itself, `took` nanoseconds after its last byte.
    pub(crate) fn note(&self, kind: IterableKind, took: u64) {
        let count = self.count(kind);
        let count = if took <= QUICK {
            (count + 1).min(COUNT)
        } else {
            count / 2
        };
        self.place(kind).store(kind.0 | count, Relaxed);
    }

    /// Notes that an iterable has not ended with its last byte.
    pub(crate) fn note_more(&self, kind: IterableKind) {
        self.place(kind).store(kind.0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IterableKind = IterableKind(0x1000);
    const B: IterableKind = IterableKind(0x2000);

    #[test]
    fn a_kind_is_quick_after_a_few_quick_ends() {
        let endings = Endings::default();
        for _ in 0..4 {
            assert!(!endings.are_quick(A));
            endings.note(A, 1_000);
        }
        assert!(endings.are_quick(A));
        endings.note_more(A);
        assert!(!endings.are_quick(A));
    }

    #[test]
    fn slow_ends_are_forgiven_where_most_are_quick() {
        let endings = Endings::default();
        (0..100).for_each(|_| endings.note(A, 0));
        endings.note(A, QUICK + 1);
        assert!(endings.are_quick(A));
        endings.note(A, QUICK + 1);
        assert!(!endings.are_quick(A));
    }

    #[test]
    fn kinds_that_share_a_place_do_not_count_for_each_other() {
        let endings = Endings::default();
        (0..5).for_each(|_| endings.note(A, 0));
        assert!(endings.are_quick(A) && !endings.are_quick(B));
        endings.note(B, 0);
        assert!(!endings.are_quick(A) && !endings.are_quick(B));
    }
}
