//! A process that an application has forked is a copy of this child with one thread. The copy may do as it likes while it is
//! inside the application, and many go on for long or end with `os._exit()`. One that comes back from the application has
//! nothing to come back to: the request is answered by the process that it was forked from. So the copy ends there.

use std::sync::OnceLock;

use crate::cpython::object::Attached;
use crate::process;

/// How a copy ends.
type End = fn(&Attached<'_>) -> i32;

static END: OnceLock<End> = OnceLock::new();

/// What is asked of a copy that only the process can give that it was forked from.
pub(crate) const REFUSAL: &str = "this process was forked by the application: the request belongs to the process \
     that it was forked from, which alone can read its body and answer it";

/// Sets what a copy does before it ends; the result is its status. Set once, before any application runs.
pub(crate) fn set_end(end: End) {
    END.get_or_init(|| end);
}

/// Ends the process if it is a copy. Called wherever code of an application has returned to the module, or has raised,
/// before anything is done about that.
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
