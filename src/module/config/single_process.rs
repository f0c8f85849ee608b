//! `httpd -X`: whether the parent is the only process of the server. Then there are no processes of groups.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wsgi_httpd::mpm;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Notes how httpd was started. For the parent, before it reads the configuration.
pub(super) fn read() {
    IS_ON.store(mpm::single_process(), Relaxed);
}

/// Returns whether the server has a single process. Each request asks.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Relaxed)
}
