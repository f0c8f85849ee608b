//! The end of a child, as far as this module takes part in it.
//!
//! A child ends in one of three ways here: the MPM ends it because its accept function has refused connections; it ends
//! itself inside `child_init`, where it must not serve; or the process ends at once because one of its threads cannot
//! be waited for.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

use super::accept;
use crate::pool::Pool;
use crate::sys;

/// Whether the child ends before it has begun to serve, while its other threads may still be running code.
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(false);
/// The child's pool.
static CHILD_POOL: AtomicPtr<sys::apr_pool_t> = AtomicPtr::new(std::ptr::null_mut());

/// Registers our last clean-up in the child's pool. Called on the main thread when a child starts, before other modules
/// register clean-ups in `pool`: clean-ups run in reverse order, so ours is the last one.
///
/// # Safety
/// `pool` must be the child's pool.
pub(crate) unsafe fn child_begins(pool: *mut sys::apr_pool_t) {
    unsafe extern "C" fn last(_: *mut c_void) -> sys::apr_status_t {
        if ENDS_AT_ONCE.load(Acquire) {
            end_as_it_is();
        }
        if accept::has_refused() {
            // SAFETY: on the main thread, which would itself call `exit` right after this, but with a status for which
            // the parent may end the whole server. [S-16]
            unsafe { libc::exit(0) }
        }
        0
    }
    // SAFETY: by contract; `last` stays mapped. [S-1]
    unsafe { Pool::from_raw(pool).cleanup(std::ptr::null_mut(), last) };
    CHILD_POOL.store(pool, Relaxed);
}

/// Proof that its thread is inside `child_init`: the value neither leaves that thread nor outlives the hook.
pub struct ChildInit(PhantomData<*mut ()>);

impl ChildInit {
    /// # Safety
    /// The calling thread must be inside a `child_init` hook for as long as the value lives.
    pub(crate) unsafe fn new() -> Self {
        Self(PhantomData)
    }

    /// Ends this child with status 0. It runs the clean-ups of the child's pool, which are all that httpd and its
    /// modules owe to other processes. It then ends the process by `_exit`, as another thread may be loading an
    /// application: `atexit` handlers, C++ destructors and the clean-ups of the whole process would destroy what that
    /// thread uses.
    pub fn end_child(&self) -> ! {
        ENDS_AT_ONCE.store(true, Release);
        let pool = CHILD_POOL.load(Relaxed);
        if !pool.is_null() {
            // SAFETY: the child's pool, destroyed by the thread on which the MPM would destroy it; the MPM's code below
            // this call does not run again, as the call never returns. Other threads of the child are ours and do not
            // use the pool. The clean-up that was registered first runs last and ends the process. [S-56]
            unsafe { sys::apr_pool_destroy(pool) };
        }
        end_as_it_is()
    }
}

/// Ends this process without any clean-up. For when other threads run code that cannot be waited for: what they use
/// must not be destroyed. No clean-up of any module runs.
pub fn end_as_it_is() -> ! {
    // SAFETY: ends the process without running any code in it. [S-56]
    unsafe { libc::_exit(0) }
}
