//! CPython and the WSGI machinery, without httpd: what a request needs from outside comes through the host table of
//! `wsgi_abi`, which the unit tests fill in themselves.
//!
//! From `pyo3` only `pyo3::ffi` is used: the high-level API attaches to the main interpreter and keeps type objects
//! in process-wide statics, which is unsound with several interpreters. The `[S-n]` in comments are the numbered
//! facts of `SAFETY.md`.

mod admission;
mod application;
mod cell;
mod cpython;
pub mod host;
mod lifecycle;
mod metrics;
mod request;
mod turns;
mod watch;
mod wsgi;

#[cfg(test)]
mod tests;

pub use admission::run::run;
pub use application::sources::changed_source;
pub use lifecycle::runtime::{Config, VERSION, load, replicas, start};
pub use lifecycle::stop::stop;
pub use request::flusher::hold;
pub use request::running::stuck;
pub use watch::stacks::dump;
pub use wsgi::setup::Process;

#[cfg(all(Py_GIL_DISABLED, not(Py_3_14)))]
compile_error!("free-threaded builds of Python are supported from 3.14 on");
