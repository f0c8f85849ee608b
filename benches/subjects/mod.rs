//! The subjects of the measurements, the private httpd that runs them, and the load on it.

pub(crate) mod backend;
pub(crate) mod interrupt;
pub(crate) mod load;
pub(crate) mod packages;
pub(crate) mod processes;
pub(crate) mod server;
pub(crate) mod subject;
