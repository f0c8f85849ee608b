//! One request: whether it is ours, whether it may run, what the engine gets, and what the client gets.

mod admit;
mod body;
mod client;
mod environ;
pub(crate) mod handler;
mod ours;
mod refused;
mod run;
mod timeline;
pub(crate) mod translate;
mod variables;
