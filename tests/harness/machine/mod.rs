//! What this machine provides and the environment variables ask for: httpd, the module under test, users, processes,
//! folders.

pub(crate) mod account;
pub(crate) mod httpd;
pub(crate) mod process;
pub(crate) mod stage;
pub(crate) mod wanted;
