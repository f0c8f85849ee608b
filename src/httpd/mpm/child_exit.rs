//! The end of a child, as far as we have a hand in it.
//!
//! Three ways lead here: the MPM ends the child because its accept function has refused connections; the child ends itself
//! from inside of `child_init`, where it must not serve; and a process in which a thread cannot be waited for ends at once.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

use super::accept;
use crate::pool::Pool;
use crate::sys;

/// Whether the child ends before it has begun to serve, while other threads may be in the middle of something.
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(false);
/// The pool of the child.
static CHILD_POOL: AtomicPtr<sys::apr_pool_t> = AtomicPtr::new(std::ptr::null_mut());

/// A child begins, on its main thread. The clean-ups of other modules in `pool` are not registered yet, so that ours is the
/// last one that runs.
///
/// # Safety
/// `pool` must be the pool of the child.
pub(crate) unsafe fn child_begins(pool: *mut sys::apr_pool_t) {
    unsafe extern "C" fn last(_: *mut c_void) -> sys::apr_status_t {
        if ENDS_AT_ONCE.load(Acquire) {
            end_as_it_is();
        }
        if accept::has_refused() {
            // SAFETY: on the main thread, which would call `exit` itself right after this, but with a status by which the
            // parent may end the whole server. [S-16]
            unsafe { libc::exit(0) }
        }
        0
    }
    // SAFETY: by contract; the code stays mapped. [S-1]
    unsafe { Pool::from_raw(pool).cleanup(std::ptr::null_mut(), last) };
    CHILD_POOL.store(pool, Relaxed);
}

/// Says that the thread which has it is inside of `child_init`: it neither leaves that thread nor outlives the hook.
pub struct ChildInit(PhantomData<*mut ()>);

impl ChildInit {
    /// # Safety
    /// The calling thread must be inside of a `child_init` hook for as long as the value lives.
    pub(crate) unsafe fn new() -> Self {
        Self(PhantomData)
    }

    /// Ends this child, with status 0. The clean-ups of the child's pool run, which is all that httpd and its modules owe to
    /// other processes; then the process ends by `_exit`, as another thread may be loading an application: handlers of
    /// `atexit`, destructors of C++ and the clean-ups of the whole process would take down what that thread uses.
    pub fn end_child(&self) -> ! {
        ENDS_AT_ONCE.store(true, Release);
        let pool = CHILD_POOL.load(Relaxed);
        if !pool.is_null() {
            // SAFETY: the pool of this child, destroyed by the thread that the MPM would destroy it with; the code of the MPM
            // is below this call, which never returns. Other threads of the child are ours and do not use the pool. The
            // clean-up that was registered first ends the process. [S-56]
            unsafe { sys::apr_pool_destroy(pool) };
        }
        end_as_it_is()
    }
}

/// Ends this process as it is: other threads are in code that cannot be waited for, and must not find what they use taken
/// down. Nothing that modules do at the end of a child is done.
pub fn end_as_it_is() -> ! {
    // SAFETY: ends the process without running any of its code. [S-56]
    unsafe { libc::_exit(0) }
}
