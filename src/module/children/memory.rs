//! Checks whether the memory suffices for all children that the MPM may start. Each child compares its own memory with
//! that of the server; the first child that finds too little logs it for all.

use std::time::{Duration, Instant};

use wsgi_core::plan::mpm_plan::MpmPlan;
use wsgi_telemetry::board::Warning;

use super::slot::ChildSlot;
use crate::log::log_line;
use crate::own_memory::own_memory;

/// The time from loading ahead to the first check, and between later checks: requests may load applications, too.
const FIRST: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(60);

/// Checks the memory of this child.
pub(crate) struct MemoryWatch {
    plan: MpmPlan,
    look: Instant,
}

impl MemoryWatch {
    pub(crate) fn new(plan: MpmPlan) -> Self {
        Self {
            plan,
            look: Instant::now() + FIRST,
        }
    }

    /// Logs that the memory does not suffice for all children, unless another child has logged it.
    pub(crate) fn look(&mut self, slot: &ChildSlot) {
        let now = Instant::now();
        if now < self.look {
            return;
        }
        self.look = now + LOOK;
        if let Some((message, line)) = self.plan.memory_problem(own_memory())
            && slot.board().warn_once(Warning::Memory)
        {
            log_line(message.level(), line.as_bytes());
        }
    }
}
