//! What threads and processes share memory with: the standard library's, or in models of it loom's (see `loom/mod.rs`).

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, fence},
};

#[cfg(loom)]
pub(crate) use crate::loom::AtomicU64;
#[cfg(loom)]
pub(crate) use ::loom::sync::{Mutex, MutexGuard, atomic::fence};
