//! The process groups of the configuration in force.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;
use wsgi_httpd::log::LogServer;

use super::sockets::{self, Address};
use crate::config::GroupSettings;
use crate::config::inherited::Process;
use crate::log::log_message;
use crate::metrics::segment::InForce;

/// A process group.
pub(crate) struct Group {
    pub(crate) config: ProcessGroup,
    /// The settings that its processes share.
    pub(crate) process: Arc<Process>,
    /// The log of the server in which it is defined.
    pub(super) log: LogServer,
    /// Where each slot listens.
    pub(crate) slots: Vec<Address>,
    /// The segment in which its processes count; not set if nothing is measured.
    pub(super) segment: OnceLock<InForce>,
}

/// Set by the parent.
static IN_FORCE: RwLock<Option<Arc<Vec<Arc<Group>>>>> = RwLock::new(None);

/// Makes these the groups of the configuration in force.
fn put_in_force(groups: Vec<Arc<Group>>) {
    *IN_FORCE.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(groups));
}

/// Returns the groups of the configuration in force.
pub(crate) fn current() -> Arc<Vec<Arc<Group>>> {
    let groups = IN_FORCE.read().unwrap_or_else(PoisonError::into_inner);
    groups.clone().unwrap_or_default()
}

/// Logs the options of a group that need no effect.
fn tell(group: &ProcessGroup) {
    let (location, name) = (&group.location, &group.name);
    if group.server_metrics {
        log_message(Message::ServerMetricsNeedless, &[location, name]);
    }
    for (option, why) in &group.needless {
        log_message(Message::OptionNeedless, &[location, option, name, why]);
    }
}

/// Opens the sockets of the groups, and makes the groups the ones in force.
pub(crate) fn prepare(groups: Vec<GroupSettings>, prefix: Option<&str>) {
    sockets::begin();
    let groups = groups.into_iter().filter_map(|group| {
        tell(&group.config);
        let slots = sockets::open(&group.config, prefix)?;
        Some(Arc::new(Group {
            config: group.config,
            process: group.process,
            log: group.log,
            slots,
            segment: OnceLock::new(),
        }))
    });
    put_in_force(groups.collect());
    sockets::close_unused();
}
