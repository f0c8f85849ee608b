//! Our part of httpd's configuration: read and resolved by the parent, inherited by its children.

use wsgi_httpd::module::ServerName;

pub(crate) mod inherited;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod read;

/// Resolves a valid configuration for the children, and logs what an administrator should know.
pub(crate) fn prepare(servers: &[(&read::Server, ServerName<'_>)]) {
    let Some(process) = inherited::Process::new(servers, plan::of_server()) else {
        return;
    };
    inherited::warn_of_interpreters(&process);
    plan::tell(&process);
    process.put_in_force();
    inherited::warn_of_directives_without_effect();
}
