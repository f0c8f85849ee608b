//! The httpd of a test: its description, its start and stop, requests to it, and the check of its error log.

mod asks;
pub(crate) mod config;
pub(crate) mod description;
pub(crate) mod limit;
pub(crate) mod log;
mod root;
pub(crate) mod running;
mod start;
