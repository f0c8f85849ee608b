//! A small safe layer over CPython: interpreters, thread states, and objects that belong to an attachment.

pub(crate) mod context;
pub(crate) mod forked;
pub(crate) mod gil_clock;
pub(crate) mod interpreter;
pub(crate) mod module_state;
pub(crate) mod object;
pub(crate) mod status;
pub(crate) mod sub_interpreter;
pub(crate) mod thread_state;
pub(crate) mod threads;
pub(crate) mod traceback;
