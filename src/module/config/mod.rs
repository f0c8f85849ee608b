//! Our part of httpd's configuration: read and resolved by the parent, inherited by its children.

use std::sync::Arc;

use wsgi_core::config::{ProcessGroup, process_groups};
use wsgi_httpd::log::LogServer;
use wsgi_httpd::module::ServerName;

use inherited::Process;

pub(crate) mod inherited;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod single_process;

/// A process group.
pub(crate) struct GroupSettings {
    pub(crate) config: ProcessGroup,
    /// The settings of its processes.
    pub(crate) process: Arc<Process>,
    /// The log of the server in which it is defined.
    pub(crate) log: LogServer,
}

/// Resolves a valid configuration for the children and the process groups, and logs what an administrator should know.
/// Returns the process groups.
pub(crate) fn prepare(servers: &[(&read::Server, ServerName<'_>)]) -> Vec<GroupSettings> {
    single_process::read();
    let plan = plan::of_server();
    let Some((process, of_children)) = Process::new(servers, plan, None) else {
        return Vec::new();
    };
    let mut alias_groups = vec![of_children];
    let mut groups = Vec::new();
    let configs = servers.iter().map(|(server, _)| &server.config);
    let written = (!single_process::is_on()).then(|| process_groups(configs));
    for config in written.into_iter().flatten() {
        let plan = plan::of_process_group(config);
        if let Some((process, of_group)) = Process::new(servers, plan, Some(config)) {
            alias_groups.push(of_group);
            let defines = |server: &read::Server| {
                let defined = &server.config.process_groups;
                defined.iter().any(|defined| defined.name == config.name)
            };
            // A virtual host without our directives shares the configuration of the main server, which comes first.
            let server = servers.iter().find(|(server, _)| defines(server));
            groups.extend(server.map(|(_, name)| GroupSettings {
                config: config.clone(),
                process: Arc::new(process),
                log: name.log,
            }));
        }
    }
    if !single_process::is_on() {
        read::warn_of_unknown_groups(servers);
    }
    inherited::set_alias_groups(alias_groups);
    inherited::warn_of_interpreters(&process);
    plan::tell(&process);
    for group in &groups {
        inherited::warn_of_interpreters(&group.process);
        plan::tell(&group.process);
    }
    Process::put_in_force(Arc::new(process));
    inherited::warn_of_directives_without_effect();
    groups
}
