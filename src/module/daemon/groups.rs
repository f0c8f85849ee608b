//! The process groups of the configuration in force.

use std::sync::{Arc, PoisonError, RwLock};

use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;

use super::sockets::{self, Address};
use crate::config::GroupSettings;
use crate::config::inherited::Process;
use crate::log::log_message;

/// A process group.
pub(crate) struct Group {
    pub(crate) config: ProcessGroup,
    /// The settings that its processes share.
    pub(crate) process: Arc<Process>,
    /// Where each slot listens.
    pub(crate) slots: Vec<Address>,
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

/// Logs the options of a group that have no effect yet, or need none.
fn tell(group: &ProcessGroup) {
    let options = [
        (
            "eviction-timeout",
            group.eviction_timeout.is_some(),
            "graceful-timeout= holds for every replacement of a process",
        ),
        (
            "server-metrics",
            group.server_metrics,
            "mod_wsgi.server_metrics() is not there yet",
        ),
        (
            "send-buffer-size",
            group.send_buffer_size.is_some(),
            "the buffers of the kernel are used as they are",
        ),
        (
            "receive-buffer-size",
            group.receive_buffer_size.is_some(),
            "the buffers of the kernel are used as they are",
        ),
        (
            "header-buffer-size",
            group.header_buffer_size.is_some(),
            "headers of up to 1 MiB need no option",
        ),
        (
            "response-buffer-size",
            group.response_buffer_size.is_some(),
            "a response is passed on as it comes",
        ),
        (
            "response-socket-timeout",
            group.response_socket_timeout.is_some(),
            "Timeout holds for clients",
        ),
    ];
    for (option, is_written, why) in options {
        if is_written {
            let shown = format!(
                "{}: {option}= of WSGIDaemonProcess '{}'",
                group.location, group.name
            );
            log_message(Message::NoEffectYet, &[&shown, &why]);
        }
    }
}

/// Opens the sockets of the groups, and makes the groups the ones in force.
pub(crate) fn prepare(groups: Vec<GroupSettings>, prefix: Option<&str>) {
    sockets::begin();
    let groups = groups.into_iter().filter_map(|(config, process)| {
        tell(&config);
        let slots = sockets::open(&config, prefix)?;
        Some(Arc::new(Group {
            config,
            process,
            slots,
        }))
    });
    put_in_force(groups.collect());
    sockets::close_unused();
}
