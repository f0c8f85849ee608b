//! One request as the engine sees it: its state, its deadline, its calls of the host.

pub(crate) mod alarm;
pub(crate) mod deadline;
pub(crate) mod flusher;
pub(crate) mod host;
pub(crate) mod log;
pub(crate) mod nesting;
pub(crate) mod permit;
pub(crate) mod response;
pub(crate) mod running;
pub(crate) mod state;
