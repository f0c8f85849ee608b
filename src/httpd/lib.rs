//! Safe wrappers of those parts of httpd and APR that the module uses: pools, requests and their bodies, logging, hooks
//! and directives. This crate knows nothing of Python or WSGI.
//!
//! The `[S-n]` in comments are the numbered facts of `SAFETY.md`.

pub mod client;
pub mod command;
mod fork;
pub mod forked;
pub mod group_process;
pub mod guard;
pub mod helper;
pub mod log;
mod log_id;
pub mod module;
pub mod mpm;
pub mod pool;
pub mod process;
pub mod reaped;
mod record;
pub mod regex;
pub mod request;
pub mod retained;
pub mod stream;
pub mod task;
mod text;

pub use httpd_sys as sys;
use text::{c_bytes, c_bytes_opt};
