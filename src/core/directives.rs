//! The table of directives, from which httpd's command records, the reference page and `wsgictl` are made.

mod arguments;
mod auth;
mod daemon;
mod directive;
mod interpreters;
mod mapping;
mod pools;
mod python;
mod requests;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;

pub use directive::{Context, Directive, Effect, Target};
pub use table::{DIRECTIVES, TOPICS, find};
