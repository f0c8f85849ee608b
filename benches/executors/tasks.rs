//! The kernel's counts for all threads of a process.

use std::time::Duration;

use anyhow::Result;
use procfs::ProcResult;
use procfs::process::Task;

use crate::subjects::processes::{process, unless_ended};

/// The counts of the living threads; those of a thread that has ended are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// How often a thread lost its CPU, or gave it up to wait
    pub(crate) switches: u64,
    pub(crate) cpu: Duration,
}

impl Tasks {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut sum = Self::default();
        for task in process(pid)?.tasks()? {
            let Some((switches, cpu)) = unless_ended(task.and_then(|task| counts(&task)))? else {
                continue;
            };
            sum.switches += switches;
            sum.cpu += cpu;
        }
        Ok(sum)
    }

    /// Returns the difference between `self` and `later`.
    pub(crate) fn until(self, later: Self) -> Self {
        Self {
            switches: later.switches.saturating_sub(self.switches),
            cpu: later.cpu.saturating_sub(self.cpu),
        }
    }
}

/// Returns the context switches and the CPU time of a thread.
fn counts(task: &Task) -> ProcResult<(u64, Duration)> {
    let status = task.status()?;
    let switches = status.voluntary_ctxt_switches.unwrap_or(0)
        + status.nonvoluntary_ctxt_switches.unwrap_or(0);
    let cpu = Duration::from_nanos(task.schedstat()?.sum_exec_runtime);
    Ok((switches, cpu))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use anyhow::Context;

    use super::*;

    #[test]
    fn waiting_shows_in_the_counts_of_a_process() -> Result<()> {
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (mut to, mut from) = (
            cat.stdin.take().context("a pipe")?,
            cat.stdout.take().context("a pipe")?,
        );
        let mut echo = || -> Result<()> {
            to.write_all(b"x")?;
            Ok(from.read_exact(&mut [0])?)
        };
        echo()?;
        let before = Tasks::of(cat.id())?;
        (0..20).try_for_each(|_| echo())?;
        let spent = before.until(Tasks::of(cat.id())?);
        drop(to);
        cat.wait()?;
        assert!((15..200).contains(&spent.switches), "{spent:?}");
        assert!(spent.cpu > Duration::ZERO, "{spent:?}");
        Ok(())
    }
}
