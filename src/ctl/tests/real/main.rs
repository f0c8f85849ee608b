//! Tests with a real httpd: `wsgictl serve`, and every file of `config-examples/`.
//!
//! The module under test is `$WSGI_TEST_MODULE`, else the one that `make build` put into `target/release`.

mod config_examples;
mod serve;
mod stage;
mod subject;
