//! Models: loom runs a few steps of the real code in every order that threads, and the memory, allow.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p wsgi-telemetry --release --lib loom`
//!
//! With that flag the cells of segments are those of `cell.rs`. A segment has thousands of them, and loom has to try
//! each access to a cell at each point: so a model says which cells it is about, and only those are loom's.

mod cell;
#[cfg(test)]
mod models;

pub(crate) use cell::AtomicU64;
