//! Locks and cells for short steps, and turns at work that takes long.
//!
//! A process that an application has forked has one thread. A lock that another thread of the child held stays locked
//! there, so the copy waits for a lock only briefly.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::RefCell as Inner;
#[cfg(Py_GIL_DISABLED)]
use std::sync::Mutex as Inner;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::process;

/// Takes the lock, if no thread has it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Takes the lock. A panic inside one of these short steps leaves nothing half done that matters, so poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    try_lock(mutex).unwrap_or_else(|| lock_in_use(mutex))
}

/// Takes a lock that another thread has. In a copy that thread may not exist; then the copy ends.
#[cold]
fn lock_in_use<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if !process::is_copy() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    match lock_of_copy(mutex) {
        Some(guard) => guard,
        None => process::exit(1),
    }
}

/// Takes a lock in a copy. Returns `None` if a thread has the lock that does not exist in the copy.
pub(crate) fn lock_of_copy<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    /// How long threads of the copy itself hold a lock at most.
    const SHORT: Duration = Duration::from_millis(200);
    let until = Instant::now() + SHORT;
    loop {
        let guard = try_lock(mutex);
        if guard.is_some() || Instant::now() >= until {
            return guard;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A value of an interpreter that attached threads use in single steps.
///
/// With a GIL one thread is attached at a time, and no Python code runs during a step, so a `RefCell` is enough. On
/// free-threaded builds several threads are attached at a time, so there it is a mutex.
pub(crate) struct GilCell<T>(Inner<T>);

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Passes the value to `look`, which must be quick and run no Python code.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }

    /// Does the same as [`Self::with`] for optional work: `None` while another thread uses the value.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0
            .try_borrow_mut()
            .ok()
            .map(|mut value| look(&mut value))
    }

    /// Passes the value to `look`, which must be quick and run no Python code.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut lock(&self.0))
    }

    /// Does the same as [`Self::with`] for optional work: `None` while another thread uses the value.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        try_lock(&self.0).map(|mut value| look(&mut value))
    }
}

/// Turns at work that one thread does at a time and that may take long, because it runs Python code. A thread waits for
/// its turn for a limited time.
pub(crate) struct Turns {
    taken: Mutex<bool>,
    free: Condvar,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Self {
            taken: Mutex::new(false),
            free: Condvar::new(),
        }
    }

    /// Waits until no other thread has the turn. Returns `None` if that takes longer than `timeout`, or if
    /// `is_hopeless` returns `true`; it is called before each wait, and again after each [`Turns::wake`]. The calling
    /// thread must not be attached.
    pub(crate) fn take(
        &self,
        timeout: Duration,
        is_hopeless: impl Fn() -> bool,
    ) -> Option<Turn<'_>> {
        let until = Instant::now().checked_add(timeout);
        let mut taken = lock(&self.taken);
        while *taken {
            if is_hopeless() {
                return None;
            }
            let left = match until {
                Some(until) => until.checked_duration_since(Instant::now())?,
                None => Duration::from_secs(3600),
            };
            taken = self
                .free
                .wait_timeout(taken, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *taken = true;
        Some(Turn(self))
    }

    /// Makes all waiting threads call `is_hopeless` again.
    pub(crate) fn wake(&self) {
        // With the lock, so that no thread is between its check and its wait.
        let _taken = lock(&self.taken);
        self.free.notify_all();
    }
}

/// The right to do the work. Dropping it gives it back.
pub(crate) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        // One at a time can go on.
        self.0.free.notify_one();
    }
}
