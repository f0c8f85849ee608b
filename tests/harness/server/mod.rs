//! One httpd for a test: described, started, asked, stopped, and held to a silent error log.

mod asks;
pub(crate) mod config;
pub(crate) mod description;
pub(crate) mod limit;
pub(crate) mod log;
mod root;
pub(crate) mod running;
mod start;
