//! Locks and cells for short steps, and turns at work that takes long.
//!
//! A process that an application has forked has one thread. A lock that another thread of the child had stays locked there,
//! so a copy waits for a lock only briefly.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::RefCell as Inner;
#[cfg(Py_GIL_DISABLED)]
use std::sync::Mutex as Inner;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::process;

/// The lock, if no thread has it.
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

/// Takes a lock in a copy; `None` where a thread has it that does not exist there.
pub(crate) fn lock_of_copy<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    /// Threads of the copy itself hold locks for short steps only.
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

/// A value of an interpreter that attached threads look at in single steps.
///
/// With a GIL one thread is attached at a time, and no Python code runs during a look: a `RefCell` does. On free-threaded
/// builds several threads are attached at a time, so there it is a mutex.
pub(crate) struct GilCell<T>(Inner<T>);

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Looks at the value. Nothing that takes long, and no Python code, may run meanwhile.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.borrow_mut())
    }

    /// The same for what can be done without: `None` while another thread looks at the value.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0
            .try_borrow_mut()
            .ok()
            .map(|mut value| look(&mut value))
    }

    /// Looks at the value. Nothing that takes long, and no Python code, may run meanwhile.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut lock(&self.0))
    }

    /// The same for what can be done without: `None` while another thread looks at the value.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        try_lock(&self.0).map(|mut value| look(&mut value))
    }
}

/// Turns at work that one thread does at a time and that may take long, as it runs Python code. A thread waits for its turn
/// for a limited time.
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

    /// Waits until no other thread has the turn; `None` if that takes longer than `timeout`, or where `is_hopeless` says so,
    /// which is asked now and after each [`Turns::wake`]. The calling thread must not be attached.
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

    /// Has all waiting threads ask again whether there is any hope.
    pub(crate) fn wake(&self) {
        // With the lock, so that no thread is between its look and its wait.
        let _taken = lock(&self.taken);
        self.free.notify_all();
    }
}

/// The right to do the work; given back by drop.
pub(crate) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.taken) = false;
        // One at a time can go on.
        self.0.free.notify_one();
    }
}
