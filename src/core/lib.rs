//! The rules of mod_wsgi_rs: what a directive means, which script a URL belongs to, what the environ holds,
//! which responses are valid, what is logged, who may be inside Python.
//!
//! This crate may not know httpd or Python, hold unsafe code, start threads or keep state of its own: values go
//! in, values come out, so that every rule is tested without a server. The exceptions are [`python_home`] and
//! [`files`], which look at the file system, and [`admission`], whose values threads share.
//!
//! Where a page or section number appears in a comment, it is that of the fact sheet on mod_wsgi 6.

#![forbid(unsafe_code)]

// Places inside an interpreter, and the line before them.
pub mod admission;
// `WSGIScriptAlias`: which URLs it takes and which file they become.
pub mod alias;
// The configuration as written, its merging, and the settings of one request.
pub mod config;
// How long requests may run.
pub mod deadline;
// The table of directives.
pub mod directive;
mod directives;
// Rules of the environ: headers, paths, request URI, scheme, method.
pub mod environ;
// How many threads run Python, and who waits for them.
pub mod executor;
// Whose fault a failed request is, and what follows.
pub mod fault;
// Files that may be something else than files.
pub mod files;
// Names of application groups, process groups and callables, with their `%{...}` expansions.
pub mod group;
// What the plan means for one application group.
pub mod group_plan;
// `<WSGIInterpreterOptions>`: options of some application groups.
pub mod interpreter_options;
// Which interpreters hold the groups, and how these hold the GIL.
pub mod interpreters;
// Numbers of connections and requests in the log.
pub mod log_id;
// Streams of text as log records.
pub mod log_lines;
// How much memory the server may have.
pub mod memory;
// What the MPM means for Python.
pub mod mpm_plan;
// The numbered log messages.
pub mod outcome;
// Headers of trusted proxies.
pub mod proxy;
// Which Python a `WSGIPythonHome` holds.
pub mod python_home;
// How new code is taken up.
pub mod recycle;
pub mod reload;
// Checks of a request's framing, before Python is entered.
pub mod request;
// Checks of a response, and the count of its body.
pub mod response;
pub mod rolling;
// Threads that go on after a panic.
pub mod steady;
// Subnets, as `WSGITrustedProxies` names them.
pub mod subnet;
mod sync;
// What is measured, and where it is told.
pub mod telemetry;
// Words and options of a configuration line.
pub mod words;
