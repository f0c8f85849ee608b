//! Models: loom runs a few steps of the real code in every order that threads and the memory model allow.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p wsgi-telemetry --release --lib loom`
//!
//! With that flag, `cell.rs` provides the cells of segments. A segment has thousands of cells, and loom would have to
//! try every access to each of them. So a model names the cells that matter, and loom watches only those.

mod cell;
#[cfg(test)]
mod models;

pub(crate) use cell::AtomicU64;
