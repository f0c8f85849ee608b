//! What outlives restarts: httpd keeps it from its start to its end, for whichever copy of the module is loaded.
//!
//! It is private memory of the parent. A child has a copy, which it alone sees.

use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{
    AtomicI32, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys;

/// Changes with [`Data`], so that no release of the module reads the data of another one.
const KEY: &CStr = c"mod_wsgi_rs/1";

/// The one place for what outlives restarts.
#[derive(Clone, Copy)]
pub struct Retained(&'static Data);

/// All zero when httpd makes it.
#[repr(C)]
struct Data {
    cells: AtomicPtr<AtomicU64>,
    count: AtomicUsize,
    /// One more than the number of a descriptor.
    descriptor: AtomicI32,
    numbers: [AtomicU64; NUMBERS],
}

/// How many numbers there is room for; the last one is that of the memory.
pub const NUMBERS: usize = 32;

/// One more than the number of a descriptor. Among the numbers, as a release of the module without it has zero there.
const MEMORY: usize = NUMBERS - 1;

impl Retained {
    /// Looks it up, or makes it.
    pub fn get() -> Self {
        // SAFETY: httpd allocates that many zeroed bytes, aligned for any type, which live as long as the process; all
        // of it is atomic, and zero is a value of each field.
        unsafe {
            let mut data = sys::ap_retained_data_get(KEY.as_ptr());
            if data.is_null() {
                data = sys::ap_retained_data_create(KEY.as_ptr(), size_of::<Data>() as _);
            }
            Self(&*data.cast::<Data>())
        }
    }

    /// Number `at`; 0 where it was never set.
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

    /// The mapping that was kept last.
    pub fn cells(self) -> Option<&'static [AtomicU64]> {
        let count = self.0.count.load(Acquire);
        let cells = self.0.cells.load(Relaxed);
        // SAFETY: [`Self::keep_cells`] was given them as a static slice, in this process or in its parent, whose mappings a
        // child has. [S-12]
        (count != 0).then(|| unsafe { std::slice::from_raw_parts(cells, count) })
    }

    /// Keeps a descriptor, and closes the one that was kept before.
    pub fn keep_descriptor(self, descriptor: Option<OwnedFd>) {
        let _alone = changing();
        let next = descriptor.map_or(0, |descriptor| descriptor.into_raw_fd() + 1);
        let before = self.0.descriptor.swap(next, Relaxed);
        if before != 0 {
            // SAFETY: given away by an [`OwnedFd`] in this process or in its parent, and closed by this function alone. [S-12]
            drop(unsafe { OwnedFd::from_raw_fd(before - 1) });
        }
    }

    /// Another descriptor of what was kept, which stays open whatever is kept next.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub fn descriptor(self) -> io::Result<Option<OwnedFd>> {
        let _alone = changing();
        let kept = self.0.descriptor.load(Relaxed);
        if kept == 0 {
            return Ok(None);
        }
        // SAFETY: given away by an [`OwnedFd`], and open until the lock is free: it is closed by the functions of this type
        // alone, which forget it then. [S-12]
        unsafe { BorrowedFd::borrow_raw(kept - 1) }
            .try_clone_to_owned()
            .map(Some)
    }

    /// Keeps the descriptor of memory that is mapped, and closes the one that was kept before.
    pub fn keep_memory(self, descriptor: Option<OwnedFd>) {
        let _alone = changing();
        let next = descriptor.map_or(0, |descriptor| descriptor.into_raw_fd() + 1);
        let next = u64::try_from(next).unwrap_or(0);
        let before = self.0.numbers[MEMORY].swap(next, Relaxed);
        if let Ok(before @ 1..) = i32::try_from(before) {
            // SAFETY: given away by an [`OwnedFd`] in this process or in its parent, and closed by this function alone. [S-12]
            drop(unsafe { OwnedFd::from_raw_fd(before - 1) });
        }
    }

    /// The number of the descriptor of the memory, and another descriptor for it.
    pub fn memory(self) -> Option<(u32, OwnedFd)> {
        let _alone = changing();
        let number = i32::try_from(self.number(MEMORY)).ok()?.checked_sub(1)?;
        let shown = u32::try_from(number).ok()?;
        // SAFETY: as in [`Self::descriptor`]. [S-12]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        Some((shown, descriptor.try_clone_to_owned().ok()?))
    }

    /// In a child, which has nothing to do with them: closes its copies of both descriptors.
    pub(crate) fn close_descriptors(self) {
        self.keep_descriptor(None);
        self.keep_memory(None);
    }

    /// In a process that has closed all of its descriptors by their numbers. Its copy of the retained data is its own.
    pub(crate) fn forget_descriptors(self) {
        let _alone = changing();
        self.0.descriptor.store(0, Relaxed);
        self.set_number(MEMORY, 0);
    }
}

/// No other thread of this process exchanges the descriptor meanwhile. Not held while a helper is forked.
fn changing() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}
