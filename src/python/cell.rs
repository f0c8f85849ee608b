//! State of an interpreter that several threads may come to look at.
//!
//! With a GIL only one thread is attached at a time, and a look is a single step in which no code of Python runs: a
//! `RefCell` does. Free-threaded builds have no such turn, so there it is a mutex.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::RefCell as Inner;
#[cfg(Py_GIL_DISABLED)]
use std::sync::Mutex as Inner;

/// A value that attached threads look at in single steps.
pub(crate) struct GilCell<T>(Inner<T>);

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Looks at the value. Nothing that takes long, and no code of Python, may run meanwhile.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }

    /// The same for what can be done without: `None` where another thread looks at it just now.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0
            .try_borrow_mut()
            .ok()
            .map(|mut value| look(&mut value))
    }

    /// Looks at the value. Nothing that takes long, and no code of Python, may run meanwhile.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut crate::request::state::lock(&self.0))
    }

    /// The same for what can be done without: `None` where another thread looks at it just now.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        use std::sync::TryLockError;
        match self.0.try_lock() {
            Ok(mut value) => Some(look(&mut value)),
            Err(TryLockError::Poisoned(value)) => Some(look(&mut value.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
