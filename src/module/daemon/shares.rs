//! The threads of this child that requests hold which processes of a group run (`WSGIThreadShare`). For requests that run
//! in this process the engine counts (`admission::share`).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use wsgi_core::admission::limit::Limit;

use crate::config::inherited::{self, Process};

/// The shares of the application groups of one process group.
pub(super) struct Shares {
    /// The settings of the processes of the group; `None` if they give no application group a share.
    process: Option<Arc<Process>>,
    /// The limits by application group, each made by its first request.
    limits: ArcSwap<HashMap<Vec<u8>, Arc<Limit>>>,
}

/// The most limits. Clients may choose the names of application groups; further groups share the limit of the main
/// interpreter.
const MOST: usize = 1024;

impl Shares {
    pub(super) fn new(process: Arc<Process>) -> Self {
        let containers = process.interpreter_options.iter();
        let mut written = containers.map(|container| &container.executor);
        let has_any = process.python.executor.share.is_some()
            || written.any(|executor| executor.share.is_some());
        Self {
            process: has_any.then_some(process),
            limits: ArcSwap::default(),
        }
    }

    /// Returns the limit of an application group; `None` if no group has one.
    pub(super) fn of(&self, application_group: &[u8]) -> Option<Arc<Limit>> {
        let process = self.process.as_ref()?;
        let known = self.limits.load().get(application_group).map(Arc::clone);
        Some(known.unwrap_or_else(|| self.make(process, application_group)))
    }

    #[cold]
    fn make(&self, process: &Process, application_group: &[u8]) -> Arc<Limit> {
        let name = match self.limits.load().len() < MOST {
            true => application_group,
            false => b"",
        };
        let options = process.group_options(&String::from_utf8_lossy(name));
        let most =
            inherited::current().map_or(u32::MAX, |child| child.plan.share(&options.executor));
        let made = Arc::new(Limit::new(most));
        self.limits.rcu(|limits| {
            let mut limits = HashMap::clone(limits);
            limits
                .entry(name.to_vec())
                .or_insert_with(|| Arc::clone(&made));
            limits
        });
        let limits = self.limits.load();
        limits.get(name).map_or(made, Arc::clone)
    }
}
