//! The engine of the configured Python: finding and starting it, what it asks of the module, and what the module has it do
//! before there are requests.

mod find;
mod gil;
pub(crate) mod host;
pub(crate) mod load;
pub(crate) mod start;
mod warmup;
