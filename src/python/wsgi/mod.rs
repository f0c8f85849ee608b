//! Everything an application meets: the `mod_wsgi` module, the environ, the streams, and the call of the application.

pub(crate) mod bridge;
pub(crate) mod collector;
pub(crate) mod environ;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod faults;
pub(crate) mod file_wrapper;
pub(crate) mod gil_notice;
pub(crate) mod input;
pub(crate) mod metric;
pub(crate) mod module;
pub(crate) mod native;
pub(crate) mod output;
pub(crate) mod perform;
pub(crate) mod private_environ;
pub(crate) mod setup;
pub(crate) mod signals;
pub(crate) mod start_response;
