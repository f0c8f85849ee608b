//! The primitives of shared memory: those of the standard library, or loom's in the models (see `loom/mod.rs`).

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, fence},
};

#[cfg(loom)]
pub(crate) use crate::loom::AtomicU64;
#[cfg(loom)]
pub(crate) use ::loom::sync::{Mutex, MutexGuard, atomic::fence};
