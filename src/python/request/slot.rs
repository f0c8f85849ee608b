//! A slot inside Python, as the request in it and its thread know it: it is free for another request while the thread waits
//! for something that needs no GIL. Executors are slots (`admission`).

use std::cell::{Cell, RefCell};

/// What gives out slots.
pub(crate) trait Slot: Send + Sync {
    /// Whether a request that is inside keeps its slot while it waits for something that needs no GIL: one at a time is
    /// inside, and an application that is told so must not be called again in the middle of a request.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// A request that is inside waits for something that needs no GIL: its slot is free meanwhile.
    fn step_out(&'static self);

    /// The request goes on.
    fn step_in(&self);
}

thread_local! {
    /// What gave the calling thread the slot that it has.
    static CURRENT: Cell<Option<&'static dyn Slot>> = const { Cell::new(None) };
    /// What gave the calling thread the exclusive slots that it has, the outermost first.
    static EXCLUSIVE: RefCell<Vec<&'static dyn Slot>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread has a slot, until this is dropped. While a request is inside a call of the host, httpd may run another
/// one on the same thread.
pub(crate) struct InSlot {
    before: Option<&'static dyn Slot>,
    /// Whether the slot is noted in [`EXCLUSIVE`].
    is_noted: Cell<bool>,
}

impl InSlot {
    pub(crate) fn of(slot: &'static dyn Slot) -> Self {
        let is_noted = slot.is_exclusive();
        if is_noted {
            EXCLUSIVE.with_borrow_mut(|slots| slots.push(slot));
        }
        Self {
            before: CURRENT.replace(Some(slot)),
            is_noted: Cell::new(is_noted),
        }
    }

    /// The thread goes on without it.
    pub(crate) fn end(&self) {
        CURRENT.set(None);
        self.forget();
    }

    /// Slots are given back in the reverse order.
    fn forget(&self) {
        if self.is_noted.replace(false) {
            EXCLUSIVE.with_borrow_mut(|slots| slots.pop());
        }
    }
}

impl Drop for InSlot {
    fn drop(&mut self) {
        CURRENT.set(self.before);
        self.forget();
    }
}

/// What gave the calling thread its slot.
pub(crate) fn current() -> Option<&'static dyn Slot> {
    CURRENT.get()
}

/// Whether the calling thread has a slot that no other request may have while the thread waits.
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

/// What gave the calling thread its exclusive slots.
pub(crate) fn exclusive() -> Vec<&'static dyn Slot> {
    EXCLUSIVE.with_borrow(Vec::clone)
}

/// The calling thread runs a job for a thread that has these exclusive slots and waits; ended by drop.
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

/// Does something that needs no GIL and may take long, for the request that the calling thread runs. Others have its slot
/// meanwhile. The thread must not be attached.
pub(crate) fn outside<R>(work: impl FnOnce() -> R) -> R {
    /// Also where the work panics.
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
