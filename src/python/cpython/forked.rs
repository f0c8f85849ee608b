//! A process that an application has forked is a copy of this child with one thread. The copy may do anything inside
//! the application; many copies run for long or end with `os._exit()`. A copy that returns from the application has
//! nothing to return to, because the process that it was forked from answers the request. So the copy ends there.

use std::sync::OnceLock;

use crate::cpython::object::Attached;
use crate::process;

/// The last work of a copy; returns the exit status.
type End = fn(&Attached<'_>) -> i32;

static END: OnceLock<End> = OnceLock::new();

/// The error of a call that only the process can serve that the copy was forked from.
pub(crate) const REFUSAL: &str = "this process was forked by the application: the request belongs to the process \
     that it was forked from, which alone can read its body and answer it";

/// Sets the last work of a copy, which returns its exit status. Called once, before any application runs.
pub(crate) fn set_end(end: End) {
    END.get_or_init(|| end);
}

/// Ends the process if it is a copy. Called wherever code of an application has returned to the module or has raised,
/// before anything else is done.
#[inline]
pub(crate) fn ends(py: &Attached<'_>) {
    if process::is_copy() {
        end(py);
    }
}

#[cold]
fn end(py: &Attached<'_>) -> ! {
    process::exit(END.get().map_or(1, |end| end(py)))
}
