//! A slot: the right of a thread to be inside Python with a request. The slot is free for another request while the
//! thread waits for something that needs no GIL. Executors give out slots (`admission`).

use std::cell::{Cell, RefCell};

/// An executor that gives out slots.
pub(crate) trait Slot: Send + Sync {
    /// Whether a request that is inside keeps its slot while it waits for something that needs no GIL. Such an executor
    /// lets one request inside at a time: its application was told so, and must not be called again in the middle of a
    /// request.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Frees the slot of a request that is inside, while the request waits for something that needs no GIL.
    fn step_out(&'static self);

    /// Takes a slot again for a request that goes on.
    fn step_in(&self);
}

thread_local! {
    /// The executor that gave the calling thread its slot.
    static CURRENT: Cell<Option<&'static dyn Slot>> = const { Cell::new(None) };
    /// The executors that gave the calling thread its exclusive slots, the outermost first.
    static EXCLUSIVE: RefCell<Vec<&'static dyn Slot>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread has a slot until this is dropped. The thread may have several: while a request is in a call of
/// the host, httpd may run another request on the same thread.
pub(crate) struct InSlot {
    before: Option<&'static dyn Slot>,
    /// Whether the slot is noted in [`EXCLUSIVE`].
    is_noted: bool,
}

impl InSlot {
    pub(crate) fn of(slot: &'static dyn Slot) -> Self {
        let is_noted = slot.is_exclusive();
        if is_noted {
            EXCLUSIVE.with_borrow_mut(|slots| slots.push(slot));
        }
        Self {
            before: CURRENT.replace(Some(slot)),
            is_noted,
        }
    }
}

impl Drop for InSlot {
    fn drop(&mut self) {
        CURRENT.set(self.before);
        // Slots are given back in the reverse order.
        if self.is_noted {
            EXCLUSIVE.with_borrow_mut(|slots| slots.pop());
        }
    }
}

/// Returns the executor that gave the calling thread its slot.
pub(crate) fn current() -> Option<&'static dyn Slot> {
    CURRENT.get()
}

/// Whether the calling thread keeps its slot while it waits.
pub(crate) fn is_kept() -> bool {
    current().is_some_and(|slot| slot.is_exclusive())
}

/// Whether the calling thread has an exclusive slot of `slot`.
pub(crate) fn has_exclusive<S: ?Sized>(slot: &S) -> bool {
    EXCLUSIVE.with_borrow(|slots| {
        let mut slots = slots.iter();
        slots.any(|other| std::ptr::addr_eq(*other, slot))
    })
}

/// Returns the executors that gave the calling thread its exclusive slots.
pub(crate) fn exclusive() -> Vec<&'static dyn Slot> {
    EXCLUSIVE.with_borrow(Vec::clone)
}

/// The calling thread runs a job for another thread, which waits and has these exclusive slots. Dropping this ends it.
pub(crate) struct InSlotsOf(usize);

impl InSlotsOf {
    pub(crate) fn enter(owner: &[&'static dyn Slot]) -> Self {
        if !owner.is_empty() {
            EXCLUSIVE.with_borrow_mut(|slots| slots.extend(owner));
        }
        Self(owner.len())
    }
}

impl Drop for InSlotsOf {
    fn drop(&mut self) {
        if self.0 != 0 {
            EXCLUSIVE.with_borrow_mut(|slots| slots.truncate(slots.len().saturating_sub(self.0)));
        }
    }
}

/// Does `work`, which needs no GIL and may take long, for the request that the calling thread runs. The thread's slot
/// is free for other requests until then. The thread must not be attached.
pub(crate) fn outside<R>(work: impl FnOnce() -> R) -> R {
    /// Takes the slot back, also if the work panics.
    struct Out(&'static dyn Slot);
    impl Drop for Out {
        fn drop(&mut self) {
            self.0.step_in();
            CURRENT.set(Some(self.0));
        }
    }
    let _out = CURRENT.take().map(|slot| {
        slot.step_out();
        Out(slot)
    });
    work()
}
