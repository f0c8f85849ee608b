//! One request: whose it is, whether it may run, what the engine is given, and what the client gets.

pub(crate) mod client;
pub(crate) mod environ;
pub(crate) mod handler;
pub(crate) mod timeline;
pub(crate) mod translate;
