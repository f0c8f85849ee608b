//! All tests of the real server, in one program: a module a topic.

/// Which URL reaches which script, and what refuses.
mod mapping;
/// Application groups and their names.
mod groups;
/// The environ, key by key.
mod environ;
/// Forwarded headers and who may send them.
mod proxies;
/// wsgi.input in every form.
mod input;
/// wsgi.errors and the standard streams.
mod log_streams;
/// wsgi.file_wrapper.
mod file_wrapper;
/// start_response and the body.
mod response;
/// What applications do wrong.
mod failures;
/// Edited scripts.
mod reload;
/// Scripts loaded at start.
mod imports;
/// wsgiref.validate as a judge.
mod validator;
/// Directives.
mod config;
/// The module without Python, and Pythons that cannot be had.
mod engine;
/// Django, Flask, httpbin.
mod frameworks;
/// Children that are killed, restarted and stopped.
mod lifecycle;
