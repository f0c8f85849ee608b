//! Memory that processes share. The only unsafe code of the crate.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};

/// Maps `words` of fresh memory. Every process forked from now on shares it; it is never unmapped.
///
/// # Errors
/// Those of `mmap(2)`.
pub fn anonymous(words: usize) -> io::Result<&'static [AtomicU64]> {
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            words * 8,
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )?
    };
    // SAFETY: the mapping has this length, is zeroed, page-aligned and never unmapped; all access is atomic.
    Ok(unsafe { settle(address, words) })
}

/// `MFD_NOEXEC_SEAL`: unknown to kernels before 6.3, required by some later ones.
const NOEXEC_SEAL: MemfdFlags = MemfdFlags::from_bits_retain(8);

/// Maps `words` of fresh memory as [`anonymous`] does, and returns the descriptor of it, so that root and processes of
/// the same user can map it, too. The size is sealed: no process can make the memory shorter or longer, so a process
/// that has it mapped is safe from `SIGBUS`. [S-63]
///
/// Pages take memory when they are touched.
///
/// # Errors
/// Those of `memfd_create(2)`, `fcntl(2)` and `mmap(2)`.
pub fn sealed(name: &str, words: usize) -> io::Result<(OwnedFd, &'static [AtomicU64])> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create(name, flags | NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        made => made?,
    };
    rustix::fs::fchmod(&memory, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ftruncate(&memory, words as u64 * 8)?;
    rustix::fs::fcntl_add_seals(&memory, FIXED | SealFlags::SEAL)?;
    let cells = file(&memory, words, true)?;
    Ok((memory, cells))
}

/// The seals that fix the size of memory.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Returns whether the file behind a descriptor can never become shorter, as is the case for memory from [`sealed`].
pub fn is_sealed(memory: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(FIXED))
}

/// Maps `words` of a file, and never unmaps them. `writable` is for the server and for commands that write requests to
/// it.
///
/// The file must have this length and must not become shorter: a process that touches a page beyond its end gets
/// `SIGBUS`. Check a file of another process with [`is_sealed`] first.
///
/// # Errors
/// Those of `mmap(2)`.
pub fn file(file: impl AsFd, words: usize, writable: bool) -> io::Result<&'static [AtomicU64]> {
    let protection = if writable {
        ProtFlags::READ | ProtFlags::WRITE
    } else {
        ProtFlags::READ
    };
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { mmap(std::ptr::null_mut(), words * 8, protection, flags, file, 0)? };
    // SAFETY: the mapping has this length and is never unmapped. Relaxed and acquire loads of a word are plain loads on
    // every platform that httpd runs on, so they are allowed on read-only memory; readers do nothing else.
    Ok(unsafe { settle(address, words) })
}

/// Gives this process zeroed memory of its own in place of a whole mapping from this module. The other processes go on
/// sharing theirs; this one can neither read nor change it any more. References to the cells stay valid. [S-65]
///
/// # Errors
/// Those of `mmap(2)`. Then nothing has changed.
pub fn leave(cells: &'static [AtomicU64]) -> io::Result<()> {
    // Private memory would count for RLIMIT_DATA.
    let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
    let address = std::ptr::from_ref(cells).cast::<std::ffi::c_void>();
    // SAFETY: the range is one mapping of this module, which is never unmapped. The kernel replaces it in one step by
    // memory of the same size and protection, so every reference into it still points to valid words; all access to
    // them is atomic. [S-65]
    unsafe {
        mmap_anonymous(
            address.cast_mut(),
            size_of_val(cells),
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )?;
    }
    Ok(())
}

/// Returns the memory at `address` again, after the module was reloaded.
///
/// # Safety
/// `address` must come from [`anonymous`] or [`file()`] in this process (or in the process that it was forked from),
/// for the same number of words.
pub unsafe fn again(address: *const AtomicU64, words: usize) -> &'static [AtomicU64] {
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(address, words) }
}

/// Gives these cells of a mapping their memory, so that a later access neither fails nor kills the process. Returns
/// `false` if no memory is left, and does not ask the kernel again for a second. Kernels before Linux 5.14 do not
/// support this; there the access itself takes the memory.
pub(crate) fn populate(cells: &'static [AtomicU64]) -> bool {
    /// Stamp of the last failure; 0 for none.
    static FAILED: AtomicU64 = AtomicU64::new(0);
    const PAUSE: u64 = 1_000_000_000;
    let failed = FAILED.load(Relaxed);
    if failed != 0 && crate::clock::now().saturating_sub(failed) < PAUSE {
        return false;
    }
    let is_there = matches!(ask_to_populate(cells), Ok(()) | Err(Errno::INVAL));
    if !is_there {
        FAILED.store(crate::clock::now().max(1), Relaxed);
    }
    is_there
}

fn ask_to_populate(cells: &'static [AtomicU64]) -> Result<(), Errno> {
    let page = rustix::param::page_size();
    let start = cells.as_ptr().addr();
    let before = start % page;
    let bytes = (before + size_of_val(cells)).next_multiple_of(page);
    let address = cells.as_ptr().map_addr(|address| address - before);
    loop {
        // SAFETY: mappings begin and end on pages and are never unmapped; populating changes no byte of them. [S-61]
        let asked = unsafe { madvise(address as *mut _, bytes, Advice::LinuxPopulateWrite) };
        if asked != Err(Errno::INTR) {
            return asked;
        }
    }
}

/// Wraps a mapping in a slice and excludes it from core dumps.
///
/// # Safety
/// `address` must be a shared mapping of `words` that is never unmapped.
unsafe fn settle(address: *mut std::ffi::c_void, words: usize) -> &'static [AtomicU64] {
    // SAFETY: by contract. A core dump of a child needs none of this memory; nothing is lost if the advice is unknown.
    unsafe {
        let _ = madvise(address, words * 8, Advice::LinuxDontDump);
        std::slice::from_raw_parts(address.cast(), words)
    }
}
