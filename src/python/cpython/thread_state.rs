//! One `PyThreadState` per thread and interpreter, made at first use and kept: making one costs about 6 µs, attaching
//! with an existing one 0.1 µs.
//!
//! On CPython 3.10 and 3.11 a thread that owns states of two interpreters deadlocks in any nested `PyGILState_Ensure`
//! of an extension, so there a thread keeps only the state of the interpreter that it used last.
//!
//! An interpreter must never be without a state [S-27]. So each sub-interpreter keeps the state that it was made with,
//! which no thread uses. The main one keeps the state of the thread that started Python, and before 3.12 one more
//! ([`keep_one`]).
//!
//! A thread that ends deletes its states, because threads come and go in a child (mod_http2's, an application's, ours).
//! If the child is ending, Python is left as it is.

use std::cell::RefCell;

use pyo3::ffi;

use crate::cpython::interpreter::Interpreter;
use crate::cpython::object::Attached;
use crate::cpython::{forked, gil_clock};
#[cfg(not(Py_3_12))]
use crate::host::{self, Level};
use crate::process;

thread_local! {
    static STATES: States = const { States(RefCell::new(Vec::new())) };
}

/// The states of a thread; deleted when the thread ends.
struct States(RefCell<Vec<Entry>>);

/// A state of this thread.
struct Entry {
    /// The number of the interpreter.
    number: u32,
    state: *mut ffi::PyThreadState,
    /// How many calls of [`attach`] use the state. While a request is in a call of the host, httpd may run another
    /// request on the same thread (`ErrorDocument`, `#include virtual`).
    uses: u32,
}

/// Runs `work` attached to `interpreter`. The thread must not be attached; it may be in a call of the host.
pub(crate) fn attach<R>(
    interpreter: &'static Interpreter,
    work: impl for<'i> FnOnce(&Attached<'i>) -> R,
) -> R {
    let number = interpreter.number();
    let state = state_for(interpreter);
    count_use(number, 1);
    // SAFETY: the state belongs to this thread and interpreter, and the thread is not attached. `Leave` detaches on
    // every way out. [S-20]
    unsafe {
        ffi::PyEval_RestoreThread(state);
        let leave = Leave(number);
        gil_clock::attached();
        let py = Attached::assume(interpreter);
        let result = work(&py);
        forked::ends(&py);
        drop(leave);
        result
    }
}

/// Remembers the state that the calling thread got by making the interpreter.
pub(crate) fn adopt(interpreter: &Interpreter, state: *mut ffi::PyThreadState) {
    let number = interpreter.number();
    with_states(|states| {
        states.push(Entry {
            number,
            state,
            uses: 0,
        });
    });
}

fn count_use(number: u32, change: i32) {
    with_states(|states| {
        if let Some(entry) = states.iter_mut().find(|entry| entry.number == number) {
            entry.uses = entry.uses.saturating_add_signed(change);
        }
    });
}

/// Ends an attachment to the interpreter with this number.
struct Leave(u32);

impl Drop for Leave {
    fn drop(&mut self) {
        // SAFETY: `attach` attached this thread, and work inside attaches and detaches in pairs.
        unsafe {
            if std::thread::panicking() {
                // The code that panicked may have left an exception set; the next request must not find it.
                ffi::PyErr_Clear();
            }
            debug_assert!(ffi::PyErr_Occurred().is_null(), "an exception is left set");
            gil_clock::leaving();
            ffi::PyEval_SaveThread();
        }
        count_use(self.0, -1);
    }
}

fn state_for(interpreter: &Interpreter) -> *mut ffi::PyThreadState {
    let number = interpreter.number();
    let found = with_states(|states| {
        let mut known = states.iter();
        known
            .find(|entry| entry.number == number)
            .map(|entry| entry.state)
    });
    if let Some(state) = found {
        return state;
    }
    #[cfg(not(Py_3_12))]
    forget_unused();
    // SAFETY: the interpreter is never ended; making a state needs no GIL.
    let state = unsafe { ffi::PyThreadState_New(interpreter.as_ptr()) };
    adopt(interpreter, state);
    state
}

/// Leaves a state in the interpreter that no thread uses, so that no thread deletes it.
#[cfg(not(Py_3_12))]
pub(crate) fn keep_one(interpreter: &'static Interpreter) {
    // On a separate thread: CPython finds the state of a thread by its number and takes the first that fits.
    let made = std::thread::spawn(|| {
        // SAFETY: the interpreter is never ended; making a state needs no GIL.
        unsafe { ffi::PyThreadState_New(interpreter.as_ptr()) };
    });
    if made.join().is_err() {
        host::log(Level::Error, "no thread state could be set aside");
    }
}

/// Passes this thread's states to `look` for a single step, in which no other code runs.
fn with_states<R>(look: impl FnOnce(&mut Vec<Entry>) -> R) -> R {
    STATES.with(|states| look(&mut states.0.borrow_mut()))
}

/// Deletes this thread's states, except those with frames on them. The thread must not be attached.
#[cfg(not(Py_3_12))]
fn forget_unused() {
    let unused: Vec<_> =
        with_states(|states| states.extract_if(.., |entry| entry.uses == 0).collect());
    for entry in unused {
        // SAFETY: of this thread, which is not attached; a state that no attachment uses has no frames. [S-21]
        unsafe { entry.delete() };
    }
}

impl Entry {
    /// Deletes the state.
    ///
    /// # Safety
    /// The state must be the calling thread's own and have no frames on it, and the thread must not be attached.
    unsafe fn delete(self) {
        // SAFETY: by contract; deleting the current state releases the GIL. [S-21]
        unsafe {
            ffi::PyEval_RestoreThread(self.state);
            ffi::PyThreadState_Clear(self.state);
            ffi::PyThreadState_DeleteCurrent();
        }
    }
}

impl Drop for States {
    /// The thread is ending, so it is attached to nothing, and no frame is left.
    fn drop(&mut self) {
        let states = std::mem::take(self.0.get_mut());
        // While a child is ending, its threads must not wait for the GIL, which may never be released.
        if !process::is_closing() && !process::is_copy() {
            for entry in states {
                // SAFETY: of this thread, which is ending: it is attached to nothing, and no frame is left. [S-21]
                unsafe { entry.delete() };
            }
        }
    }
}
