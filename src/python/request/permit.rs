//! A permit: the right of a thread to be inside Python with a request. The permit is free for another request while the
//! thread waits for something that needs no GIL. Executors give out permits (`admission`).

use std::cell::{Cell, RefCell};

/// An executor that gives out permits.
pub(crate) trait PermitSource: Send + Sync {
    /// Whether a request that is inside keeps its permit while it waits for something that needs no GIL. Such an executor
    /// lets one request inside at a time: its application was told so, and must not be called again in the middle of a
    /// request.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Frees the permit of a request that is inside, while the request waits for something that needs no GIL.
    fn step_out(&'static self);

    /// Takes a permit again for a request that goes on.
    fn step_in(&self);
}

thread_local! {
    /// The executor that gave the calling thread its permit.
    static CURRENT: Cell<Option<&'static dyn PermitSource>> = const { Cell::new(None) };
    /// The executors that gave the calling thread its exclusive permits, the outermost first.
    static EXCLUSIVE: RefCell<Vec<&'static dyn PermitSource>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread has a permit until this is dropped. The thread may have several: while a request is in a call of
/// the host, httpd may run another request on the same thread.
pub(crate) struct HasPermit {
    before: Option<&'static dyn PermitSource>,
    /// Whether the permit is noted in [`EXCLUSIVE`].
    is_noted: bool,
}

impl HasPermit {
    pub(crate) fn of(source: &'static dyn PermitSource) -> Self {
        let is_noted = source.is_exclusive();
        if is_noted {
            EXCLUSIVE.with_borrow_mut(|sources| sources.push(source));
        }
        Self {
            before: CURRENT.replace(Some(source)),
            is_noted,
        }
    }
}

impl Drop for HasPermit {
    fn drop(&mut self) {
        CURRENT.set(self.before);
        // Permits are given back in the reverse order.
        if self.is_noted {
            EXCLUSIVE.with_borrow_mut(|sources| sources.pop());
        }
    }
}

/// Returns the executor that gave the calling thread its permit.
pub(crate) fn current() -> Option<&'static dyn PermitSource> {
    CURRENT.get()
}

/// Whether the calling thread keeps its permit while it waits.
pub(crate) fn is_kept() -> bool {
    current().is_some_and(|source| source.is_exclusive())
}

/// Whether the calling thread has an exclusive permit of `source`.
pub(crate) fn has_exclusive<S: ?Sized>(source: &S) -> bool {
    EXCLUSIVE.with_borrow(|sources| {
        let mut sources = sources.iter();
        sources.any(|other| std::ptr::addr_eq(*other, source))
    })
}

/// Whether the calling thread has any exclusive permit.
pub(crate) fn is_any_exclusive() -> bool {
    EXCLUSIVE.with_borrow(|sources| !sources.is_empty())
}

/// Returns the executors that gave the calling thread its exclusive permits.
pub(crate) fn exclusive() -> Vec<&'static dyn PermitSource> {
    EXCLUSIVE.with_borrow(Vec::clone)
}

/// The calling thread runs a job for another thread, which waits and has these exclusive permits. Dropping this ends it.
pub(crate) struct HasPermitsOf(usize);

impl HasPermitsOf {
    pub(crate) fn enter(owner: &[&'static dyn PermitSource]) -> Self {
        if !owner.is_empty() {
            EXCLUSIVE.with_borrow_mut(|sources| sources.extend(owner));
        }
        Self(owner.len())
    }
}

impl Drop for HasPermitsOf {
    fn drop(&mut self) {
        if self.0 != 0 {
            EXCLUSIVE
                .with_borrow_mut(|sources| sources.truncate(sources.len().saturating_sub(self.0)));
        }
    }
}

/// Does `work`, which needs no GIL and may take long, for the request that the calling thread runs. The thread's permit
/// is free for other requests until then. The thread must not be attached.
pub(crate) fn outside<R>(work: impl FnOnce() -> R) -> R {
    /// Takes the permit back, also if the work panics.
    struct Out(&'static dyn PermitSource);
    impl Drop for Out {
        fn drop(&mut self) {
            self.0.step_in();
            CURRENT.set(Some(self.0));
        }
    }
    let _out = CURRENT.take().map(|source| {
        source.step_out();
        Out(source)
    });
    work()
}
