//! Making a sub-interpreter.

use pyo3::ffi;

use crate::cpython::gil_clock::LoadTimer;
use crate::cpython::interpreter::{self, Identity, Interpreter};
use crate::cpython::object::Attached;
use crate::cpython::thread_state;

/// Makes a sub-interpreter on the calling thread, which must not be attached, and runs `set_up` in it. A replica has
/// its own GIL; any other shares the GIL of the main interpreter. The error says why none was made.
///
/// From 3.14 on, the calling thread must live as long as the interpreter: `faulthandler` has the C library look at the
/// thread of each state, and the first state stays. [S-32]
pub(crate) fn make<R>(
    main: &'static Interpreter,
    identity: Identity,
    set_up: impl for<'i> FnOnce(&Attached<'i>) -> R,
) -> Result<R, String> {
    thread_state::attach(main, |_| {
        let _making = LoadTimer::begin();
        // SAFETY: attached to the main interpreter. Afterwards the state of the new interpreter is the current one,
        // with or without its own GIL; then the state of the main one is put back, so that the caller's attachment ends
        // as it began. [S-22]
        unsafe {
            let back = ffi::PyThreadState_Get();
            let state = match identity.replica {
                Some(_) => new_with_own_gil()?,
                None => ffi::Py_NewInterpreter(),
            };
            if state.is_null() {
                return Err(String::from("Python did not say why"));
            }
            let made = in_new_interpreter(interpreter::begin(identity), set_up);
            // The interpreter's first state stays and belongs to no thread: an interpreter must never be without a
            // state. [S-27]
            ffi::PyEval_SaveThread();
            ffi::PyEval_RestoreThread(back);
            Ok(made)
        }
    })
}

/// # Safety
/// The calling thread must be attached to that interpreter.
unsafe fn in_new_interpreter<R>(
    interpreter: &'static Interpreter,
    set_up: impl for<'i> FnOnce(&Attached<'i>) -> R,
) -> R {
    // SAFETY: by contract; `'i` is fresh.
    set_up(&unsafe { Attached::assume(interpreter) })
}

/// # Safety
/// The calling thread must be attached to the main interpreter. On success it is attached to the new one instead.
#[cfg(Py_3_12)]
unsafe fn new_with_own_gil() -> Result<*mut ffi::PyThreadState, String> {
    let config = ffi::PyInterpreterConfig {
        use_main_obmalloc: 0,
        // CPython ends a process that was forked from a sub-interpreter.
        allow_fork: 0,
        allow_exec: 0,
        allow_threads: 1,
        // Daemon threads die with the process, because no interpreter is ever ended.
        allow_daemon_threads: 1,
        check_multi_interp_extensions: 1,
        gil: ffi::PyInterpreterConfig_OWN_GIL,
    };
    let mut state = std::ptr::null_mut();
    // SAFETY: attached by contract; both arguments live during the call.
    let status = unsafe { ffi::Py_NewInterpreterFromConfig(&mut state, &config) };
    crate::cpython::status::check(status)?;
    Ok(state)
}

#[cfg(not(Py_3_12))]
unsafe fn new_with_own_gil() -> Result<*mut ffi::PyThreadState, String> {
    Err(String::from("this Python has one GIL for all interpreters"))
}
