//! The file in a `wsgi.file_wrapper`, for the case that httpd can send it itself.
//!
//! PEP 3333 has a server send what `read()` returns. That is the content of the descriptor if `read` is the method of
//! CPython's own `FileIO`, or of a `BufferedReader` or `BufferedRandom` over a `FileIO`. An object with another `read`
//! may have a `fileno()` that means something else: that of `gzip.open()` is the compressed file. So what counts is
//! which function `read` is, not what the object says about itself. All other objects are read.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use pyo3::ffi;
use rustix::fs::{FileType, OFlags};

use crate::cpython::module_state::{FileClass, FileTypes, ITERATION};
use crate::cpython::object::{Attached, Immortal, Obj, PyResult, Raised};

/// A regular file that can be sent from its descriptor.
pub(crate) struct Regular {
    /// A duplicate of the descriptor, owned here.
    pub(crate) fd: OwnedFd,
    /// Where the next `read()` would begin.
    pub(crate) offset: u64,
    /// The number of bytes from there to the end, at least 1.
    pub(crate) length: u64,
}

impl<'i> FileClass<'i> {
    fn new(py: &Attached<'i>, class: &Obj<'i>) -> PyResult<Self> {
        Ok(Self {
            class: Immortal::new(class.clone()),
            read: Immortal::new(class.attr(py, c"read")?),
            tell: Immortal::new(class.attr(py, c"tell")?),
        })
    }

    /// Whether `read` is this type's method, bound to the instance `this`.
    fn is_read_of(&self, py: &Attached<'i>, read: &Obj<'i>, this: &Obj<'i>) -> PyResult<bool> {
        // SAFETY: attached and alive; class and method are kept in this interpreter. Bound methods of built-in types
        // are equal if they are the same function of the same instance.
        unsafe {
            // No subclass: its inherited `read` may call methods that it overrides.
            if ffi::Py_TYPE(this.as_ptr()).cast() != self.class.as_ptr() {
                return Ok(false);
            }
            let own = self.read.get(py).call_method(py, c"__get__", [this])?;
            match ffi::PyObject_RichCompareBool(read.as_ptr(), own.as_ptr(), ffi::Py_EQ) {
                -1 => Err(Raised),
                equal => Ok(equal != 0),
            }
        }
    }
}

impl<'i> FileTypes<'i> {
    /// Looks up the types in the interpreter that the thread is attached to; `wrapper` is its class `FileWrapper`.
    pub(crate) fn new(py: &Attached<'i>, wrapper: &Obj<'i>) -> PyResult<Self> {
        let io = py.import(c"_io")?;
        let raw = io.attr(py, c"FileIO")?;
        let buffered = |name: &CStr| {
            let class = io.attr(py, name)?;
            let (raw, flush) = (class.attr(py, c"raw")?, class.attr(py, c"flush")?);
            Ok((
                FileClass::new(py, &class)?,
                Immortal::new(raw),
                Immortal::new(flush),
            ))
        };
        let attribute = |name: &CStr| wrapper.attr(py, name).map(Immortal::new);
        let [iter, next, filelike, getattribute] = ITERATION;
        Ok(Self {
            wrapper: Immortal::new(wrapper.clone()),
            iteration: [
                attribute(iter)?,
                attribute(next)?,
                attribute(filelike)?,
                attribute(getattribute)?,
            ],
            raw: FileClass::new(py, &raw)?,
            fileno: Immortal::new(raw.attr(py, c"fileno")?),
            readable: Immortal::new(raw.attr(py, c"readable")?),
            buffered: [buffered(c"BufferedReader")?, buffered(c"BufferedRandom")?],
        })
    }

    /// Returns the file in a `FileWrapper`, if iteration over it is the wrapper's own, so that it gives what `read()`
    /// gives. `None` for any other object, even if its `__class__` claims to be `FileWrapper`.
    pub(crate) fn wrapped(&self, py: &Attached<'i>, result: &Obj<'i>) -> PyResult<Option<Obj<'i>>> {
        // SAFETY: attached and alive; the class is kept in this interpreter.
        let class = unsafe {
            if ffi::PyObject_TypeCheck(result.as_ptr(), self.wrapper.as_ptr().cast()) == 0 {
                return Ok(None);
            }
            py.share(ffi::Py_TYPE(result.as_ptr()).cast())?
        };
        for (name, own) in ITERATION.iter().zip(&self.iteration) {
            if class.attr(py, name)?.as_ptr() != own.as_ptr() {
                return Ok(None);
            }
        }
        result.attr(py, c"filelike").map(Some)
    }

    /// Returns the regular file that `filelike.read()` reads; `None`, which is not an error, if `read()` has to be
    /// called.
    pub(crate) fn regular(&self, py: &Attached<'i>, filelike: &Obj<'i>) -> Option<Regular> {
        let (fd, offset) = self.descriptor(py, filelike).unwrap_or_else(|raised| {
            // The same exception is raised again when the file is read.
            py.clear(raised);
            None
        })?;
        // SAFETY: only used while the file is alive; a number that is not an open descriptor makes the calls fail.
        let fd = unsafe { BorrowedFd::borrow_raw(i32::try_from(fd).ok().filter(|&fd| fd >= 0)?) };
        let offset = u64::try_from(offset).ok()?;
        py.detach(|| open_regular(fd, offset))
    }

    /// Returns the number of the descriptor from which `filelike.read()` reads, and the offset.
    fn descriptor(&self, py: &Attached<'i>, filelike: &Obj<'i>) -> PyResult<Option<(i64, i64)>> {
        let read = filelike.attr(py, c"read")?;
        // SAFETY: attached and alive; the instance belongs to the bound method, and everything else is kept in this
        // interpreter.
        unsafe {
            if ffi::PyCFunction_Check(read.as_ptr()) == 0 {
                return Ok(None);
            }
            let this = ffi::PyCFunction_GetSelf(read.as_ptr());
            if this.is_null() {
                return Ok(None);
            }
            let this = py.share(this)?;
            let call = |method: &Immortal<'i>, file: &Obj<'i>| method.get(py).call(py, [file]);
            if self.raw.is_read_of(py, &read, &this)? {
                if !call(&self.readable, &this)?.is_true()? {
                    return Ok(None);
                }
                let fd = call(&self.fileno, &this)?.as_i64()?;
                return Ok(Some((fd, call(&self.raw.tell, &this)?.as_i64()?)));
            }
            for (kind, raw_of, flush) in &self.buffered {
                if !kind.is_read_of(py, &read, &this)? {
                    continue;
                }
                let raw = raw_of.get(py).call_method(py, c"__get__", [&this])?;
                if !self.is_plain(py, &raw)? || !call(&self.readable, &raw)?.is_true()? {
                    return Ok(None);
                }
                // Flushes as `read()` does: data that was written and not passed on yet belongs to the file.
                call(flush, &this)?;
                let fd = call(&self.fileno, &raw)?.as_i64()?;
                return Ok(Some((fd, call(&kind.tell, &this)?.as_i64()?)));
            }
        }
        Ok(None)
    }

    /// Whether a buffer reads from a `FileIO` whose methods are not replaced: buffers call them by name.
    fn is_plain(&self, py: &Attached<'i>, raw: &Obj<'i>) -> PyResult<bool> {
        // SAFETY: alive.
        if unsafe { ffi::Py_TYPE(raw.as_ptr()) }.cast() != self.raw.class.as_ptr() {
            return Ok(false);
        }
        let own = raw.attr(py, c"__dict__")?;
        // The one attribute that `FileIO` itself sets.
        let known = usize::from(own.item(py, c"name").is_some());
        Ok(own.len()? == known)
    }
}

/// Duplicates the descriptor of a regular file that has bytes from `offset` on.
fn open_regular(fd: BorrowedFd<'_>, offset: u64) -> Option<Regular> {
    let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3).ok()?;
    let flags = rustix::fs::fcntl_getfl(&fd).ok()?;
    // With O_DIRECT, httpd's buffers would have to be aligned.
    let is_readable = flags & OFlags::RWMODE != OFlags::WRONLY;
    if !is_readable || flags.intersects(OFlags::PATH | OFlags::DIRECT) {
        return None;
    }
    let stat = rustix::fs::fstat(&fd).ok()?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return None;
    }
    // Files of /proc have contents and the size 0.
    let length = u64::try_from(stat.st_size).ok()?.checked_sub(offset)?;
    if length == 0 {
        return None;
    }
    // Files of /sys have a size that their contents do not reach. They occupy no blocks; nor do files that are one hole
    // or very small.
    let mut last = [0];
    if stat.st_blocks == 0 && rustix::io::pread(&fd, &mut last, offset + length - 1) != Ok(1) {
        return None;
    }
    Some(Regular { fd, offset, length })
}
