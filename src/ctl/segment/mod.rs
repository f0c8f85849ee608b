//! The metrics segment of a running server: how it is found, and when it is trusted.
//!
//! 1. A file is found by a known name, or by the given one. Any user may have put a file there, so it must belong to
//!    root or the caller, and no other user may be able to write to it or replace it. This is checked on the open file.
//! 2. Its header names the server's parent and the parent's descriptor of the memory. The memory is mapped if the
//!    caller may open it, it has the same owner as the file, and its size is fixed: then no process can truncate it
//!    under the reader.
//! 3. If the caller may not open the memory, or the server has ended, each look reads the file's copy of the memory
//!    into private memory of `wsgictl`.
//!
//! Children write to the memory, so `wsgictl` trusts nothing in it, neither the process id of the parent nor any
//! offset. It sends no signal to a process named there, and opens no file named there.

pub(crate) mod find;
pub(crate) mod group;
pub(crate) mod server;
mod trust;
