//! `Define WSGI_PROCESS_GROUPS`: whether applications run in the process groups that the configuration defines. Without
//! it, httpd's children serve the requests of all groups.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wsgi_httpd::mpm;

static ARE_ENABLED: AtomicBool = AtomicBool::new(false);

/// Reads whether the configuration switches process groups on. For the parent.
pub(super) fn read() {
    let enabled = mpm::is_defined(c"WSGI_PROCESS_GROUPS") && !mpm::single_process();
    ARE_ENABLED.store(enabled, Relaxed);
}

/// Returns whether process groups are switched on.
pub(crate) fn process_groups() -> bool {
    ARE_ENABLED.load(Relaxed)
}
