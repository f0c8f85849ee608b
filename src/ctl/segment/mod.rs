//! The metrics segment of a running server: where it is, and whether it can be believed.
//!
//! 1. A file is found by a known name, or by the given one. Any user may have put a file there, so it counts only where root
//!    or the caller owns it and no other user may write to it or move it. That is checked on the open file.
//! 2. Its header names the server's parent and the parent's descriptor of the memory. If the caller may open the memory, it
//!    has the same owner, and its size is fixed, it is mapped: no one can cut it off under the reader.
//! 3. If the caller may not open it, or the server has ended, each look reads the file's copy of the memory into memory of
//!    `wsgictl`'s own.
//!
//! Children write to the memory, so `wsgictl` trusts nothing in it: neither which process the parent is, nor where anything
//! lies. It sends no signal to a process named there, and opens no file named there.

pub(crate) mod find;
pub(crate) mod server;
mod trust;
