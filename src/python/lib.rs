//! CPython and the WSGI machinery, without httpd: what a request needs from outside comes through the host table of
//! `wsgi_abi`, which the unit tests fill in themselves.
//!
//! From `pyo3` only `pyo3::ffi` is used: the high-level API attaches to the main interpreter and keeps type objects
//! in process-wide statics, which is unsound with several interpreters. The `[S-n]` in comments are the numbered
//! facts of `SAFETY.md`.

mod agent;
mod call;
mod cell;
mod context;
mod copy;
mod course;
mod endings;
mod environ;
mod errors;
mod events;
mod executor;
mod faults;
mod files;
mod flusher;
mod gauges;
mod gil;
mod group;
pub mod host;
mod interpreter;
mod life;
mod loads;
mod metrics;
mod object;
mod output;
mod parallel;
mod refusal;
mod request;
mod response;
mod running;
mod runtime;
mod script;
mod setup;
mod share;
mod sources;
mod stacks;
mod stop;
mod telemetry;
mod thread_state;
mod turns;
mod types;
mod visit;
mod watchdog;

#[cfg(test)]
mod tests;

pub use call::run;
pub use flusher::hold;
pub use running::stuck;
pub use runtime::{Config, VERSION, load, replicas, start};
pub use setup::Process;
pub use sources::changed_source;
pub use stacks::dump;
pub use stop::stop;

#[cfg(all(Py_GIL_DISABLED, not(Py_3_14)))]
compile_error!("free-threaded builds of Python are supported from 3.14 on");
