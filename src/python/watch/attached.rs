//! The threads of the interpreter that the calling thread is attached to.
//!
//! `sys._current_frames` would be shorter, but it goes through all interpreters of the process, even those with another
//! GIL, and makes frame objects of code that their threads are running. [S-28]

use std::ffi::c_ulong;

use crate::cpython::object::Attached;
use crate::watch::thread_list::{Thread, Threads};

/// Returns the thread with this identity.
pub(super) fn thread(py: &Attached<'_>, ident: c_ulong) -> Option<Thread> {
    imp::threads(py, Some(ident)).all.pop()
}

/// Returns all threads except the calling one.
pub(super) fn threads(py: &Attached<'_>) -> Threads {
    imp::threads(py, None)
}

/// With a GIL: the thread that has it may look at the frames of all threads.
#[cfg(not(Py_GIL_DISABLED))]
mod imp {
    use std::ffi::c_ulong;
    use std::sync::OnceLock;

    use pyo3::ffi;

    use crate::cpython::object::{Attached, Obj};
    use crate::watch::thread_list::{MOST_FRAMES, MOST_THREADS, Thread, Threads, frame};

    pub(super) fn threads(py: &Attached<'_>, wanted: Option<c_ulong>) -> Threads {
        let Some(layout) = Layout::get(py) else {
            return Threads::default();
        };
        let _quiet = NoCollections::begin();
        // SAFETY: attached.
        let own = unsafe { ffi::PyThread_get_thread_ident() };
        let is_wanted = |ident: c_ulong| wanted.map_or(ident != own, |wanted| ident == wanted);
        let mut found = Vec::new();
        let mut is_cut = false;
        // SAFETY: attached, so that no state leaves the list, and nothing in this loop releases the GIL; new states are
        // added at the head of the list. Each state is of this interpreter, and alive. [S-28]
        unsafe {
            let interpreter = ffi::PyThreadState_GetInterpreter(ffi::PyThreadState_Get());
            let mut state = ffi::PyInterpreterState_ThreadHead(interpreter);
            while !state.is_null() {
                if found.len() == MOST_THREADS {
                    is_cut = true;
                    break;
                }
                let (ident, native) = layout.identity(state);
                if is_wanted(ident) {
                    match py.own(ffi::PyThreadState_GetFrame(state).cast()) {
                        Ok(frame) => found.push((ident, native, Some(frame))),
                        Err(raised) => {
                            py.clear(raised);
                            found.push((ident, native, None));
                        }
                    }
                }
                state = ffi::PyThreadState_Next(state);
            }
        }
        let threads = found.into_iter().map(|(ident, native, innermost)| {
            let (frames, is_cut) = innermost.map_or_else(Default::default, |it| walk(py, it));
            Thread {
                ident,
                native,
                frames,
                is_cut,
            }
        });
        Threads::merged(threads, is_cut)
    }

    /// Returns the frames from the innermost outwards, and whether there are more.
    fn walk<'i>(py: &Attached<'i>, innermost: Obj<'i>) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        let mut next = Some(innermost);
        while let Some(current) = next {
            if lines.len() == MOST_FRAMES {
                return (lines, true);
            }
            lines.push(line(py, &current));
            // SAFETY: attached, and a frame; the result is a new reference, or null for the outermost frame.
            next = match unsafe { py.own(ffi::PyFrame_GetBack(current.as_ptr().cast()).cast()) } {
                Ok(back) => Some(back),
                Err(raised) => {
                    py.clear(raised);
                    None
                }
            };
        }
        (lines, false)
    }

    fn line<'i>(py: &Attached<'i>, of: &Obj<'i>) -> String {
        // SAFETY: attached, and a frame; its code is a new reference.
        let (code, number) = unsafe {
            let of = of.as_ptr().cast();
            (
                py.own(ffi::PyFrame_GetCode(of).cast()),
                ffi::PyFrame_GetLineNumber(of),
            )
        };
        let text = |name| {
            let text = code.as_ref().ok().map(|code| code.attr(py, name));
            match text {
                Some(Ok(text)) => text.to_text(),
                Some(Err(raised)) => {
                    py.clear(raised);
                    String::from("?")
                }
                None => String::from("?"),
            }
        };
        frame(&text(c"co_filename"), &number, &text(c"co_name"))
    }

    /// Keeps the garbage collector off, which could run code of the application, until this is dropped. From 3.12 on
    /// CPython only collects between two steps of Python code anyway.
    struct NoCollections {
        #[cfg(not(Py_3_12))]
        were_on: bool,
    }

    impl NoCollections {
        fn begin() -> Self {
            Self {
                // SAFETY: attached, as the caller has a token.
                #[cfg(not(Py_3_12))]
                were_on: unsafe { ffi::PyGC_Disable() } != 0,
            }
        }
    }

    #[cfg(not(Py_3_12))]
    impl Drop for NoCollections {
        fn drop(&mut self) {
            if self.were_on {
                // SAFETY: attached, as in `begin`.
                unsafe { ffi::PyGC_Enable() };
            }
        }
    }

    /// Where a thread state holds the identity of its thread, which no function returns. [S-28]
    #[derive(Clone, Copy)]
    struct Layout {
        /// The offset, in words.
        ident: usize,
    }

    /// How many words are searched. The field is among these first words, and each version has at least that many.
    const SEARCHED: usize = 32;

    impl Layout {
        /// Searches the calling thread's own state for the only word with its identity, with the kernel's number behind
        /// it.
        fn get(_py: &Attached<'_>) -> Option<Self> {
            static LAYOUT: OnceLock<Option<Layout>> = OnceLock::new();
            *LAYOUT.get_or_init(|| {
                // SAFETY: attached, and the words read are part of the thread's own state. [S-28]
                let (words, ident) = unsafe {
                    let state = ffi::PyThreadState_Get().cast::<c_ulong>();
                    let words = std::slice::from_raw_parts(state, SEARCHED);
                    (words, ffi::PyThread_get_thread_ident())
                };
                let mut found = words.iter().enumerate().filter(|(_, word)| **word == ident);
                let (at, _) = found.next()?;
                let has_native =
                    cfg!(not(Py_3_11)) || words.get(at + 1).copied() == Some(own_number());
                (found.next().is_none() && has_native).then_some(Layout { ident: at })
            })
        }

        /// # Safety
        /// The state must be alive, and the caller attached to its interpreter.
        unsafe fn identity(self, state: *mut ffi::PyThreadState) -> (c_ulong, Option<u32>) {
            let words = state.cast::<c_ulong>();
            // SAFETY: by contract; the words are fields of that type. [S-28]
            unsafe {
                let ident = words.add(self.ident).read();
                let native = cfg!(Py_3_11)
                    .then(|| words.add(self.ident + 1).read())
                    .and_then(|native| u32::try_from(native).ok());
                (ident, native)
            }
        }
    }

    /// Returns the kernel's number of the calling thread.
    fn own_number() -> c_ulong {
        // SAFETY: may be called at any time.
        unsafe { libc::gettid() as c_ulong }
    }
}

/// Without a GIL: CPython stops the other threads while its `faulthandler` looks at them.
#[cfg(Py_GIL_DISABLED)]
mod imp {
    use std::ffi::c_ulong;
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::{AsRawFd, FromRawFd};

    use crate::cpython::object::{Attached, PyResult};
    use crate::watch::{snapshot, thread_list::Threads};

    pub(super) fn threads(py: &Attached<'_>, wanted: Option<c_ulong>) -> Threads {
        let Some(mut file) = memory() else {
            return Threads::default();
        };
        if let Err(raised) = write(py, &file) {
            py.clear(raised);
            return Threads::default();
        }
        let mut text = Vec::new();
        if file.rewind().is_err() || file.read_to_end(&mut text).is_err() {
            return Threads::default();
        }
        let mut threads = snapshot::parse(&String::from_utf8_lossy(&text), wanted.is_some());
        threads
            .all
            .retain(|thread| wanted.is_none_or(|wanted| thread.ident == wanted));
        threads
    }

    /// Writes at most 100 threads of 100 frames.
    fn write(py: &Attached<'_>, file: &File) -> PyResult<()> {
        let file = py.int(file.as_raw_fd().into())?;
        let faulthandler = py.import(c"faulthandler")?;
        faulthandler.call_method(py, c"dump_traceback", [&file])?;
        Ok(())
    }

    /// Makes a file that no other process has, and that never makes its writer wait.
    fn memory() -> Option<File> {
        // SAFETY: the name is a C string; the descriptor is new, and owned by the file.
        unsafe {
            let file = libc::memfd_create(c"wsgi-stacks".as_ptr(), libc::MFD_CLOEXEC);
            (file >= 0).then(|| File::from_raw_fd(file))
        }
    }
}
