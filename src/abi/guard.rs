//! No panic crosses into C: every function that C calls runs its body in here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`. Where it panics, the answer is that of `panicked`; the panic hook has said in the log where that was.
pub fn guard<R>(panicked: impl FnOnce() -> R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| panicked())
}
