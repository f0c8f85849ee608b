//! The configuration as written, in which every value may be absent, and [`Settings`], in which every value is set.
//!
//! A value comes from the directory, else from the server, else from the default [M-2]. Contexts are merged as in
//! httpd: the inner one overrides the outer one.

// How long requests may run.
pub mod deadline;
pub mod directory;
// How many threads run Python, and how many requests may wait for them.
pub mod executor;
// `<WSGIInterpreterOptions>`: options of some application groups.
pub mod interpreter_options;
// Which interpreters hold the groups, and how these hold the GIL.
pub mod interpreters;
// `WSGIDaemonProcess`: process groups, and where their sockets are.
pub mod process_group;
pub mod python;
// When a child is replaced because of its requests, memory or age.
pub mod recycle;
pub mod reload;
pub mod server;
pub mod settings;
// What is measured, and where it is published.
pub mod telemetry;
// Words and options of a configuration line.
pub mod conf_words;

pub use directory::{AuxiliaryScript, DirConfig, HandlerScript};
pub use process_group::{ProcessGroup, ScriptOwner, SocketConfig};
pub use python::{PythonConfig, STARTUP_TIMEOUT};
pub use server::{
    ImportScript, ServerConfig, WrittenGroup, group_problems, preloads, process_groups,
    unknown_groups,
};
pub use settings::Settings;
