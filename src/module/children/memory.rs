//! Checks whether the memory suffices for all children that the MPM may start. Each child compares its own memory with
//! that of the server; the first child that finds too little logs it for all.

use std::time::{Duration, Instant};

use wsgi_core::plan::mpm_plan::MpmPlan;
use wsgi_telemetry::board::Warning;

use super::slot::ChildSlot;
use crate::log::log_line;

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

/// Returns the memory that this process shares with no file and no other process, in bytes; 0 if the kernel does not
/// tell (proc(5), `statm`).
pub(crate) fn own_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_ascii_whitespace().skip(1);
    let mut next = || pages.next().and_then(|word| word.parse::<u64>().ok());
    let (resident, shared) = (next().unwrap_or(0), next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}
