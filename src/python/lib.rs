//! CPython and the WSGI machinery, without httpd: everything that a request needs from outside comes through the host
//! table of `wsgi_abi`, which the unit tests fill in themselves.
//!
//! Imports go one way, from the end of this list to its beginning:
//!
//! | where | what |
//! |---|---|
//! | `process`, `sync`, `host` | facts about the process, locks and cells, the calls of the host |
//! | `cpython` | objects, thread states and interpreters; the clock of the GIL |
//! | `metrics` | what is recorded in the segment |
//! | `request` | the state of a request, its deadline, its permit, its calls of the host |
//! | `application` | scripts loaded into interpreters |
//! | `watch` | the watchdog, the probes for GILs, stacks |
//! | `wsgi` | everything an application meets: the module `mod_wsgi`, the environ, the streams, and the call itself |
//! | `admission` | groups, their queues, and the strategies by which requests get into Python |
//! | `run`, `lifecycle` | one request; the beginning and the end of Python |
//!
//! Files in Python are in `python`.
//!
//! From `pyo3` only `pyo3::ffi` is used: the high-level API attaches to the main interpreter and keeps type objects
//! in process-wide statics, which is unsound with several interpreters. The `[S-n]` in comments are the numbered
//! facts of `SAFETY.md`.

mod admission;
mod application;
mod cpython;
pub mod host;
mod lifecycle;
mod metrics;
mod process;
mod request;
mod run;
mod sync;
mod watch;
mod wsgi;

#[cfg(test)]
mod tests;

pub use admission::group::{load, replicas};
pub use admission::queue::waiting;
pub use application::sources::changed_source;
pub use lifecycle::runtime::{Config, start};
pub use lifecycle::stop::stop;
pub use request::flusher::hold;
pub use request::running::stuck;
pub use run::run;
pub use watch::stacks::dump;
pub use wsgi::setup::Process;
pub use wsgi::signals::signal;

/// The Python that the engine was compiled for, as "3.11", or "3.14t" for a free-threaded build.
pub const VERSION: &str = env!("WSGI_ENGINE_VERSION");

#[cfg(all(Py_GIL_DISABLED, not(Py_3_14)))]
compile_error!("free-threaded builds of Python are supported from 3.14 on");
