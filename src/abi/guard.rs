//! Keeps panics out of C: every function that C calls runs its body in `guard`.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` and returns its result, or that of `panicked` if `body` panics. The panic hook has logged the place by
/// then.
pub fn guard<R>(panicked: impl FnOnce() -> R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| panicked())
}
