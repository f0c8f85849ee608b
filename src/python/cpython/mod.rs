//! A small safe layer over CPython: interpreters, thread states, and objects that belong to an attachment.

pub(crate) mod context;
pub(crate) mod gil_clock;
pub(crate) mod interpreter;
pub(crate) mod object;
pub(crate) mod thread_state;
pub(crate) mod threads;
