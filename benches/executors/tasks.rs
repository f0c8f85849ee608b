//! What the kernel has counted for all threads of a process.

use std::fs;
use std::io::{self, ErrorKind};
use std::time::Duration;

use anyhow::{Context, Result};

/// Of the threads that live; the counts of a thread that ends go with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// How often a processor was taken from a thread, or given up by it to wait
    pub(crate) switches: u64,
    pub(crate) cpu: Duration,
}

impl Tasks {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut sum = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = thread?.path();
            // A thread may end while we look.
            let (Some(status), Some(times)) = (
                unless_ended(fs::read_to_string(folder.join("status")))?,
                unless_ended(fs::read_to_string(folder.join("schedstat")))?,
            ) else {
                continue;
            };
            sum.switches += switches(&status)
                .with_context(|| format!("no context switches in {}", folder.display()))?;
            sum.cpu += cpu(&times)
                .with_context(|| format!("no processor time in {}", folder.display()))?;
        }
        Ok(sum)
    }

    /// From `self` to `later`.
    pub(crate) fn until(self, later: Self) -> Self {
        Self {
            switches: later.switches.saturating_sub(self.switches),
            cpu: later.cpu.saturating_sub(self.cpu),
        }
    }
}

fn unless_ended(text: io::Result<String>) -> io::Result<Option<String>> {
    match text {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn switches(status: &str) -> Option<u64> {
    let count = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some(count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?)
}

fn cpu(schedstat: &str) -> Option<Duration> {
    let nanoseconds = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn both_kinds_of_switches_count() {
        let status =
            "Name:\tapache2\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(switches(status), Some(42));
        assert_eq!(switches("Name:\tapache2\n"), None);
        assert_eq!(cpu("1500 20 3\n"), Some(Duration::from_nanos(1500)));
    }

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
