//! What is measured, in a private httpd, and the load on it.

pub(crate) mod interrupt;
pub(crate) mod load;
pub(crate) mod server;
pub(crate) mod subject;
