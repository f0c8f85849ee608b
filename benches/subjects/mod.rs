//! The subjects of the measurements, the private httpd that runs them, and the load on it.

pub(crate) mod interrupt;
pub(crate) mod load;
pub(crate) mod server;
pub(crate) mod subject;
