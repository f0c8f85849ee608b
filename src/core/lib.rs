//! The rules of mod_wsgi_rs: what a directive means, which script a URL belongs to, what the environ holds, which
//! responses are valid, what is logged, and which requests may be inside Python.
//!
//! This crate does not know httpd or Python, has no unsafe code, starts no threads and keeps no state: values go in,
//! values come out, so that every rule is tested without a server. The exceptions are [`python_home`] and [`files`],
//! which read the file system, and [`admission`], whose values threads share.
//!
//! Numbers such as [M-5] refer to the facts about mod_wsgi in `docs/mod_wsgi.md`.

#![forbid(unsafe_code)]

// How many threads are inside an interpreter, and the queue before it.
pub mod admission;
// The order in which children are replaced, and threads that outlive a panic.
pub mod child;
// The configuration as written, its merging, and the settings of one request.
pub mod config;
// The table of directives.
pub mod directives;
// Checks of paths that may not be regular files.
pub mod files;
// Ids and lines of the log.
pub mod log;
// The numbered log messages.
pub mod messages;
// What follows from configuration, MPM and machine.
pub mod plan;
// Which Python a `WSGIPythonHome` contains.
pub mod python_home;
// Rules of requests and responses.
pub mod request;
mod sync;
