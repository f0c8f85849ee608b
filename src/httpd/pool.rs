//! Pools: memory that httpd frees all at once at a known moment. The lifetime of a [`Pool`] stands for that moment.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;

use crate::guard::guard_or;
use crate::sys;

/// Each address that `apr_palloc` returns is a multiple of this (`APR_ALIGN_DEFAULT`).
const POOL_ALIGNMENT: usize = 8;

/// A pool that lives at least as long as `'p`. Pool allocation does not fail: httpd ends the process instead.
#[derive(Clone, Copy)]
pub struct Pool<'p> {
    raw: *mut sys::apr_pool_t,
    life: PhantomData<&'p ()>,
}

impl<'p> Pool<'p> {
    /// # Safety
    /// `raw` must be a pool that is not cleared or destroyed during `'p`, and used by one thread at a time.
    pub(crate) unsafe fn from_raw(raw: *mut sys::apr_pool_t) -> Self {
        Self {
            raw,
            life: PhantomData,
        }
    }

    /// Returns the raw pool, for calls that have no wrapper.
    pub fn as_ptr(self) -> *mut sys::apr_pool_t {
        self.raw
    }

    /// Copies `bytes` into the pool, with a NUL behind them.
    pub fn dup(self, bytes: &[u8]) -> *mut c_char {
        // SAFETY: pointer and length describe `bytes`; the pool is alive.
        unsafe { sys::apr_pstrmemdup(self.raw, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// Copies `bytes` into the pool and returns the copy as a slice.
    pub fn dup_bytes(self, bytes: &[u8]) -> &'p [u8] {
        // SAFETY: `dup` has just copied `bytes.len()` bytes into the pool.
        unsafe { std::slice::from_raw_parts(self.dup(bytes).cast(), bytes.len()) }
    }

    /// Moves `value` into the pool, which drops it when it is cleared: on whatever thread clears it, and perhaps after
    /// the end of `'p`.
    pub fn own<T: Send + 'static>(self, value: T) -> &'p mut T {
        unsafe extern "C" fn drop_value<T>(value: *mut c_void) -> sys::apr_status_t {
            guard_or(0, || {
                // SAFETY: registered once for a value that was moved into the pool below and may be dropped on any
                // thread; clean-ups run once, before the memory is freed. [S-58]
                unsafe { value.cast::<T>().drop_in_place() };
                0
            })
        }
        const { assert!(align_of::<T>() <= POOL_ALIGNMENT) };
        // SAFETY: the memory is new, large enough, and aligned for `T`; it stays valid until the clean-ups have run,
        // which is at the end of `'p` or later.
        unsafe {
            let place = sys::apr_palloc(self.raw, size_of::<T>()).cast::<T>();
            place.write(value);
            self.cleanup(place.cast(), drop_value::<T>);
            &mut *place
        }
    }

    /// Makes the pool call `function(data)` when it is cleared.
    ///
    /// # Safety
    /// `data` must be valid for `function` until then, and `function` must still be mapped, as code of this module is
    /// (`nodelete`). [S-1]
    pub(crate) unsafe fn cleanup(
        self,
        data: *mut c_void,
        function: unsafe extern "C" fn(*mut c_void) -> sys::apr_status_t,
    ) {
        // SAFETY: by contract; a process that executes another program needs no clean-up, so `apr_pool_cleanup_null` is
        // passed for it.
        unsafe {
            sys::apr_pool_cleanup_register(
                self.raw,
                data,
                Some(function),
                Some(sys::apr_pool_cleanup_null),
            );
        }
    }
}
