//! A real httpd for one test: private server root, free loopback port, the module under test, and an error log that may
//! hold only what the test announces.
//!
//! ```no_run
//! use harness::{Mpm, Server};
//!
//! let server = Server::builder(Mpm::Event).app("/hello", "hello.wsgi").start();
//! assert_eq!(server.get("/hello").text(), "Hello world!");
//! // Dropping the server stops it and reads its log: an error or warning that the test did not announce fails it.
//! ```
//!
//! Environment variables say what is tested, and with what:
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `WSGI_TEST_MODULE` | the module under test; engines are expected beside it | `target/release/mod_wsgi_rs.so` |
//! | `WSGI_TEST_PYTHON` | a prefix or virtual environment, becomes `WSGIPythonHome` | none: the module's own default |
//! | `WSGI_TEST_VENV` | virtual environment with `tests/requirements.txt` installed | the one of `scripts/setup tests` |
//! | `WSGI_TEST_PACKAGES` | virtual environment with `tests/requirements-packages.txt` installed | none: those tests are left out |
//! | `WSGI_TEST_HTTPD` | the httpd program | the answer of `apxs`, else the usual places |
//! | `WSGI_TEST_MODULES` | the folder of httpd's own modules | the answer of `apxs`, else the usual places |
//! | `WSGI_TEST_CORES` | a folder, open to the children, for the core files of crashed children (if `ulimit -c` permits) | none |
//! | `WSGI_TEST_EXECUTOR` | `direct`, `delegate` or `pool`: the executor if a test names none | none: the module's own choice |
//! | `WSGI_TEST_PROCESS_GROUP` | `1`: applications run in a process group, unless a test speaks of process groups itself | httpd's children |
//! | `WSGI_TEST_LONG` | `1`: tests run for their full length, and require the throughput that they measure, so the machine must be quiet | short |
//! | `WSGI_TEST_EVERYTHING` | `1`: tests behind [`ours_only!`] run on mod_wsgi, too, to show that they fail there | they are left out |
//! | `WSGI_TEST_LIMIT` | the longest time of a test, seconds; a test that hangs ends the run | 20 minutes; 3 hours with `WSGI_TEST_LONG` |
//! | `WSGI_FAULT` | the rule that `cargo xtask mutants` breaks in the module under test | none |
//!
//! The tests of metrics need `prometheus`, `promtool` and a `curl` that speaks HTTP/2 on the `PATH`.
//!
//! The same suite runs against mod_wsgi itself (`WSGI_TEST_MODULE=.../mod_wsgi-py311.so`), which calibrates it.
//! Deliberate differences from mod_wsgi are behind [`ours_only!`] or [`ours`]. Tests that are about httpd's children are
//! behind [`embedded_only!`], and results that depend on the process group ask for [`process_group`].

mod client;
mod machine;
mod metrics;
mod mpm;
mod server;
mod wait;

pub use client::connection::{ClientError, Connection};
pub use client::http2::{Http2Response, http2_cancel, http2_exchange, http2_get_all};
pub use client::request::Request;
pub use client::response::{Ending, Head, Response};
pub use machine::httpd::has_module;
pub use machine::ports::free_port;
pub use machine::process::{
    Pid, children_of, descriptors, graceful, hang_up, is_alive, kill, listens, maps, own_kib,
    rss_kib, wait_until_ended,
};
pub use machine::stage::{
    another_venv, apps, module, packages, python_home, venv, workspace, wsgictl,
};
pub use machine::wanted::{everything, executor, long, ours, process_group};
pub use metrics::exposition::{Exposition, Labels, Sample};
pub use metrics::prometheus::{Point, Prometheus, Target, promtool_is_silent};
pub use mpm::{Mpm, leave_out};
pub use server::config::Check;
pub use server::description::{Builder, script_answering};
pub use server::limit::Limit;
pub use server::log::Record;
pub use server::running::{LogMark, Server};
pub use wait::eventually::{PATIENCE, eventually, eventually_by_turns, eventually_within};
pub use wait::gate::{Gate, Visitor};
pub use wait::over::{AtEnd, Over};
