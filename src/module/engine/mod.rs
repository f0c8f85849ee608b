//! The engine for the configured Python: finding and starting it, the functions that it calls, and what it does before
//! the first request.

mod find;
mod gil;
pub(crate) mod host;
pub(crate) mod load;
pub(crate) mod start;
mod warmup;
