//! The metrics segment of a running server: where it is, and whether it can be believed.
//!
//! 1. A file is found by a known name, or by the one that was given. Anybody may have put something there, so it counts only
//!    where root or the caller owns it, and nobody else may write to it or move it. That is asked of the open file.
//! 2. Its header names the server's parent and the descriptor behind which that has the memory. Where the caller may open
//!    that, and it is the owner's, too, and its size is fixed, it is mapped: nothing can be cut off there.
//! 3. Where the caller may not, or the server has ended, the file's copy of the memory is read into memory of `wsgictl`'s
//!    own, each time that somebody looks.
//!
//! Children write to the memory, so what is in it is believed by nobody: neither which process the parent is, nor where
//! anything lies. Nothing that is read there is sent a signal or opened.

pub(crate) mod find;
pub(crate) mod server;
mod trust;
