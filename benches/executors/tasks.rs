//! What the kernel has counted for all threads of a process, and for the machine.

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

/// What all processors have done since the machine started, and what the host of a virtual machine has taken.
pub(crate) fn busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&text).context("no times in /proc/stat")?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// All fields of the first line but those of idle and waiting processors, and of guests, who are users too.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [
        user,
        nice,
        system,
        _idle,
        _waiting,
        interrupts,
        soft,
        stolen,
        ..,
    ] = fields[..]
    else {
        return None;
    };
    Some(user + nice + system + interrupts + soft + stolen)
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
    fn a_busy_processor_is_neither_idle_nor_waiting() {
        let stat =
            "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(87_600_321));
        assert_eq!(busy_ticks("cpu  1 2\n"), None);
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
