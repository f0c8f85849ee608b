//! Data that outlives restarts: httpd keeps them from its start to its end, across reloads of the module.
//!
//! They are private memory of the parent. A child has its own copy.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys;

/// Must change together with [`Data`], so that no release of the module reads the data of another one.
const KEY: &CStr = c"mod_wsgi_rs/1";

/// The data that outlive restarts.
#[derive(Clone, Copy)]
pub struct Retained(&'static Data);

/// The layout of the data. All bytes are zero when httpd makes them.
#[repr(C)]
struct Data {
    cells: AtomicPtr<AtomicU64>,
    count: AtomicUsize,
    /// The number of a descriptor plus one; 0 for none.
    descriptor: AtomicI32,
    numbers: [AtomicU64; NUMBERS],
}

/// The length of the table of numbers. The last one is `MEMORY`.
pub const NUMBERS: usize = 32;

/// The index of the number of the memory's descriptor plus one. It lies among the numbers, as releases of the module
/// that do not know it have zero there.
const MEMORY: usize = NUMBERS - 1;

impl Retained {
    /// Finds the data, or makes them.
    pub fn get() -> Self {
        // SAFETY: httpd allocates `size_of::<Data>()` zeroed bytes, aligned for any type, which live as long as the
        // process; all fields are atomic, and zero is a valid value of each.
        unsafe {
            let mut data = sys::ap_retained_data_get(KEY.as_ptr());
            if data.is_null() {
                data = sys::ap_retained_data_create(KEY.as_ptr(), size_of::<Data>() as _);
            }
            Self(&*data.cast::<Data>())
        }
    }

    /// Returns number `at`; 0 if it was never set.
    pub fn number(self, at: usize) -> u64 {
        self.0.numbers[at].load(Relaxed)
    }

    /// Sets number `at`.
    pub fn set_number(self, at: usize, number: u64) {
        self.0.numbers[at].store(number, Relaxed);
    }

    /// Keeps a mapping.
    pub fn keep_cells(self, cells: &'static [AtomicU64]) {
        self.0.cells.store(cells.as_ptr().cast_mut(), Relaxed);
        self.0.count.store(cells.len(), Release);
    }

    /// Returns the mapping that was kept last.
    pub fn cells(self) -> Option<&'static [AtomicU64]> {
        let count = self.0.count.load(Acquire);
        let cells = self.0.cells.load(Relaxed);
        // SAFETY: [`Self::keep_cells`] was given them as a static slice, in this process or in its parent, whose
        // mappings a child inherits. [S-12]
        (count != 0).then(|| unsafe { std::slice::from_raw_parts(cells, count) })
    }

    /// Keeps a descriptor, and closes the one that was kept before.
    pub fn keep_descriptor(self, descriptor: Option<OwnedFd>) {
        let _alone = changing();
        let next = descriptor.map_or(0, |descriptor| descriptor.into_raw_fd() + 1);
        let before = self.0.descriptor.swap(next, Relaxed);
        if before != 0 {
            // SAFETY: an [`OwnedFd`] gave it away, in this process or in its parent, and only this function closes it.
            // [S-12]
            drop(unsafe { OwnedFd::from_raw_fd(before - 1) });
        }
    }

    /// Returns a duplicate of the kept descriptor. It stays open when another descriptor is kept.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub fn descriptor(self) -> io::Result<Option<OwnedFd>> {
        let _alone = changing();
        let kept = self.0.descriptor.load(Relaxed);
        if kept == 0 {
            return Ok(None);
        }
        // SAFETY: an [`OwnedFd`] gave it away, and it is open until the lock is released: only the functions of this
        // type close it, and they forget it then. [S-12]
        unsafe { BorrowedFd::borrow_raw(kept - 1) }
            .try_clone_to_owned()
            .map(Some)
    }

    /// Keeps the descriptor of mapped memory, and closes the one that was kept before.
    pub fn keep_memory(self, descriptor: Option<OwnedFd>) {
        let _alone = changing();
        let next = descriptor.map_or(0, |descriptor| descriptor.into_raw_fd() + 1);
        let next = u64::try_from(next).unwrap_or(0);
        let before = self.0.numbers[MEMORY].swap(next, Relaxed);
        if let Ok(before @ 1..) = i32::try_from(before) {
            // SAFETY: an [`OwnedFd`] gave it away, in this process or in its parent, and only this function closes it.
            // [S-12]
            drop(unsafe { OwnedFd::from_raw_fd(before - 1) });
        }
    }

    /// Returns the number of the memory's descriptor, and a duplicate of the descriptor.
    pub fn memory(self) -> Option<(u32, OwnedFd)> {
        let _alone = changing();
        let number = i32::try_from(self.number(MEMORY)).ok()?.checked_sub(1)?;
        let shown = u32::try_from(number).ok()?;
        // SAFETY: as in [`Self::descriptor`]. [S-12]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        Some((shown, descriptor.try_clone_to_owned().ok()?))
    }

    /// Closes this process's copies of both descriptors. For a child, which uses neither.
    pub(crate) fn close_descriptors(self) {
        self.keep_descriptor(None);
        self.keep_memory(None);
    }

    /// Forgets both descriptors. For a process that has closed all its descriptors by number, and has its own copy of
    /// the data.
    pub(crate) fn forget_descriptors(self) {
        let _alone = changing();
        self.0.descriptor.store(0, Relaxed);
        self.set_number(MEMORY, 0);
    }
}

/// Takes the lock under which this process exchanges descriptors. Not held while a helper is forked.
fn changing() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}
