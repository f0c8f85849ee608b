//! The parts of `wsgictl serve`: the application, its options, the configuration, httpd, and its run in the foreground.

pub(crate) mod app;
pub(crate) mod conf;
pub(crate) mod foreground;
pub(crate) mod httpd;
pub(crate) mod options;
pub(crate) mod size;
pub(crate) mod tether;
