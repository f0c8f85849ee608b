//! Pools: memory that httpd frees at a moment it names. A [`Pool`] carries that moment as its lifetime.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;

use crate::guard::guard_or;
use crate::sys;

/// What every address that `apr_palloc` gives is a multiple of (`APR_ALIGN_DEFAULT`).
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

    /// The pool, for calls that have no wrapper.
    pub fn as_ptr(self) -> *mut sys::apr_pool_t {
        self.raw
    }

    /// A copy of `bytes` with a NUL behind it.
    pub fn dup(self, bytes: &[u8]) -> *mut c_char {
        // SAFETY: pointer and length describe `bytes`; the pool is alive.
        unsafe { sys::apr_pstrmemdup(self.raw, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// A copy of `bytes` as a slice.
    pub fn dup_bytes(self, bytes: &[u8]) -> &'p [u8] {
        // SAFETY: `dup` has just copied that many bytes into the pool.
        unsafe { std::slice::from_raw_parts(self.dup(bytes).cast(), bytes.len()) }
    }

    /// Moves `value` into the pool, which drops it when it is cleared: on whatever thread that is, and perhaps after the end
    /// of `'p`.
    pub fn own<T: Send + 'static>(self, value: T) -> &'p mut T {
        unsafe extern "C" fn drop_value<T>(value: *mut c_void) -> sys::apr_status_t {
            guard_or(0, || {
                // SAFETY: registered once for a value that was moved into the pool below, and may be dropped on any thread;
                // cleanups run once, before the memory is given back. [S-58]
                unsafe { value.cast::<T>().drop_in_place() };
                0
            })
        }
        const { assert!(align_of::<T>() <= POOL_ALIGNMENT) };
        // SAFETY: the memory is new, large enough, and aligned for `T`; it stays valid until the clean-ups have run, which is
        // the end of `'p` or later.
        unsafe {
            let place = sys::apr_palloc(self.raw, size_of::<T>()).cast::<T>();
            place.write(value);
            self.cleanup(place.cast(), drop_value::<T>);
            &mut *place
        }
    }

    /// Has `function(data)` called when the pool is cleared.
    ///
    /// # Safety
    /// `data` must be valid for `function` until then, and both must still be there: function code of this module
    /// is (`nodelete`). [S-1]
    pub(crate) unsafe fn cleanup(
        self,
        data: *mut c_void,
        function: unsafe extern "C" fn(*mut c_void) -> sys::apr_status_t,
    ) {
        // SAFETY: by contract; a process that executes another program needs no clean-up.
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
