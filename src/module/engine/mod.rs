//! The engine of the configured Python: finding and starting it, and what it asks of the module.

pub(crate) mod find;
pub(crate) mod gil;
pub(crate) mod host;
pub(crate) mod warmup;
