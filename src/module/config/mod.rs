//! Our part of httpd's configuration: read and resolved by the parent, inherited by its children.

use std::sync::Arc;

use wsgi_core::config::{ProcessGroup, process_groups};
use wsgi_httpd::module::ServerName;

use inherited::Process;

pub(crate) mod inherited;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod switch;

/// A process group, and the settings of its processes.
pub(crate) type GroupSettings = (ProcessGroup, Arc<Process>);

/// Resolves a valid configuration for the children and the process groups, and logs what an administrator should know.
/// Returns the process groups.
pub(crate) fn prepare(servers: &[(&read::Server, ServerName<'_>)]) -> Vec<GroupSettings> {
    switch::read();
    let plan = plan::of_server();
    let Some((process, of_children)) = Process::new(servers, plan, None) else {
        return Vec::new();
    };
    let mut alias_groups = vec![of_children];
    let mut groups = Vec::new();
    let configs = servers.iter().map(|(server, _)| &server.config);
    let written = switch::process_groups().then(|| process_groups(configs));
    for config in written.into_iter().flatten() {
        let plan = plan::of_process_group(config);
        if let Some((process, of_group)) = Process::new(servers, plan, Some(config)) {
            alias_groups.push(of_group);
            groups.push((config.clone(), Arc::new(process)));
        }
    }
    inherited::set_alias_groups(alias_groups);
    inherited::warn_of_interpreters(&process);
    plan::tell(&process);
    for (_, process) in &groups {
        inherited::warn_of_interpreters(process);
        plan::tell(process);
    }
    Process::put_in_force(Arc::new(process));
    inherited::warn_of_directives_without_effect();
    groups
}
