//! The CPU time of processes and of the machine, as the kernel counts it.

use std::collections::BTreeMap;
use std::time::Duration;

use procfs::{CpuTime, CurrentSI, KernelStats, ProcResult, ticks_per_second};

use crate::subjects::processes::{ProcessKey, process, unless_ended};

/// The counts of some processes at one moment.
#[derive(Default)]
pub(crate) struct Clocks(BTreeMap<ProcessKey, Clock>);

/// The counts of a process.
#[derive(Clone, Copy, Default)]
struct Clock {
    /// Exact, to the nanosecond
    cpu: Duration,
    /// Sampled at clock ticks: good enough for a share, not for a difference of a few percent
    user: Duration,
    system: Duration,
}

/// The CPU time that some processes used between two moments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) cpu: Duration,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// Processes that ended in between. What they used is not counted.
    pub(crate) ended: usize,
}

impl Clocks {
    pub(crate) fn of(processes: &[ProcessKey]) -> ProcResult<Self> {
        let mut clocks = BTreeMap::new();
        for &key in processes {
            if let Some(clock) = unless_ended(Clock::of(key.pid))? {
                clocks.insert(key, clock);
            }
        }
        Ok(Self(clocks))
    }

    /// Returns what was used between `self` and `later`; processes that are new in `later` count from their start.
    pub(crate) fn until(&self, later: &Self) -> Spent {
        let mut spent = Spent::default();
        for (key, after) in &later.0 {
            let before = self.0.get(key).copied().unwrap_or_default();
            spent.cpu += after.cpu.saturating_sub(before.cpu);
            spent.user += after.user.saturating_sub(before.user);
            spent.system += after.system.saturating_sub(before.system);
        }
        let has_ended = |key: &&ProcessKey| !later.0.contains_key(key);
        spent.ended = self.0.keys().filter(has_ended).count();
        spent
    }
}

impl Clock {
    fn of(pid: u32) -> ProcResult<Self> {
        let process = process(pid)?;
        let mut cpu = Duration::ZERO;
        // The file of the process itself counts only its first thread.
        for thread in process.tasks()? {
            if let Some(counted) = unless_ended(thread.and_then(|thread| thread.schedstat()))? {
                cpu += Duration::from_nanos(counted.sum_exec_runtime);
            }
        }
        let stat = process.stat()?;
        let ticks = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64);
        Ok(Self {
            cpu,
            user: ticks(stat.utime),
            system: ticks(stat.stime),
        })
    }
}

/// Returns the time that all CPUs have been busy since the machine started, and that the host of a virtual machine has
/// taken.
pub(crate) fn busy() -> ProcResult<Duration> {
    Ok(busy_time(&KernelStats::current()?.total))
}

/// Returns the sum of all times but those of idle and waiting CPUs; the time of guests is part of the users' time.
fn busy_time(total: &CpuTime) -> Duration {
    let rarely = [
        total.irq_duration(),
        total.softirq_duration(),
        total.steal_duration(),
    ];
    let always = total.user_duration() + total.nice_duration() + total.system_duration();
    always + rarely.into_iter().flatten().sum::<Duration>()
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;
    use crate::subjects::processes::key_of;

    fn key(pid: u32, started: u64) -> ProcessKey {
        ProcessKey { pid, started }
    }

    fn clock(milliseconds: u64) -> Clock {
        let cpu = Duration::from_millis(milliseconds);
        Clock {
            cpu,
            user: cpu,
            system: Duration::ZERO,
        }
    }

    #[test]
    fn every_process_counts_from_its_own_start() {
        // The last two have the same id, one after the other.
        let (stays, ends, begins) = (key(10, 1), key(11, 1), key(11, 2));
        let before = Clocks([(stays, clock(100)), (ends, clock(900))].into());
        let after = Clocks([(stays, clock(130)), (begins, clock(7))].into());
        let wanted = Duration::from_millis(37);
        assert_eq!(
            before.until(&after),
            Spent {
                cpu: wanted,
                user: wanted,
                system: Duration::ZERO,
                ended: 1
            }
        );
    }

    #[test]
    fn the_time_of_this_process_grows() -> Result<()> {
        let own = [key_of(std::process::id())?];
        let before = Clocks::of(&own)?;
        let mut value = 1_u64;
        while before.until(&Clocks::of(&own)?).cpu < Duration::from_millis(5) {
            value = std::hint::black_box(value.wrapping_mul(3));
        }
        assert_eq!(before.until(&Clocks::of(&own)?).ended, 0);
        Ok(())
    }
}
