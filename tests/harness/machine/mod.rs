//! The environment of the tests, from this machine and the environment variables: httpd, the module under test, users,
//! processes, folders.

pub(crate) mod account;
pub(crate) mod httpd;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod stage;
pub(crate) mod wanted;
