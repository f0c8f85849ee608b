//! The plan of one application group: its line in the log and in `wsgictl status`, and the parts of its configuration
//! that cannot work.

use std::fmt;

use wsgi_abi::Strategy;

use crate::config::executor::{self, Executor, ExecutorConfig, PoolSize, Share};
use crate::messages::Message;
use crate::plan::mpm_plan::MpmPlan;

/// Which GIL a group has, as far as is known before Python runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gil {
    /// The GIL of the process.
    Shared,
    /// One GIL for each of this number of interpreters.
    Own(u32),
    /// Like [`Gil::Own`] if the application can be loaded in such an interpreter, else like [`Gil::Shared`].
    Tried(u32),
    /// No GIL.
    Free,
    /// No GIL if the build of Python is free-threaded, else like [`Gil::Tried`].
    Best(u32),
}

impl Gil {
    /// Returns whether threads wait for a GIL, as far as is known.
    fn is_there(self) -> bool {
        self != Gil::Free
    }
}

/// The plan of one group. `Display` writes it as a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupPlan {
    written: ExecutorConfig,
    executor: Executor,
    gil: Gil,
    threads: u32,
    reserve: u32,
}

/// A part of a group's configuration that has no effect, or an unwanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The configured strategy needs several threads.
    OneThread(&'static str),
    /// The pool has more threads than httpd: pool threads, httpd threads.
    PoolAboveThreads(u32, u32),
    /// A pool is configured, but another strategy.
    PoolUnused(&'static str),
    /// A queue is configured, but no request waits in one.
    QueueUnused,
    /// This number of threads compete for one GIL.
    ManyThreads(u32),
}

impl Problem {
    /// Returns the message for `groups`.
    pub fn line(&self, groups: &dyn fmt::Display) -> (Message, String) {
        let (message, values): (_, Vec<&dyn fmt::Display>) = match self {
            Problem::OneThread(strategy) => (Message::OneThread, vec![groups, strategy]),
            Problem::PoolAboveThreads(size, threads) => {
                (Message::PoolAboveThreads, vec![groups, size, threads])
            }
            Problem::PoolUnused(strategy) => (Message::PoolUnused, vec![groups, strategy]),
            Problem::QueueUnused => (Message::QueueUnused, vec![groups]),
            Problem::ManyThreads(threads) => (Message::ManyThreads, vec![groups, threads]),
        };
        (message, message.line(&values))
    }
}

impl GroupPlan {
    /// More threads than one GIL can possibly keep busy.
    const MANY: u32 = 64;

    /// Makes the plan of a group. `reserve`: threads that all groups together leave to other requests.
    pub fn new(
        plan: &MpmPlan,
        written: ExecutorConfig,
        gil: Gil,
        reserve: Option<Share>,
    ) -> GroupPlan {
        GroupPlan {
            written,
            executor: plan.executor(&written, gil.is_there()),
            gil,
            threads: plan.python_threads(),
            reserve: plan.reserve(reserve),
        }
    }

    /// Returns which GIL the group has.
    pub fn gil(&self) -> Gil {
        self.gil
    }

    /// Returns the problems of the group's configuration.
    pub fn problems(&self) -> Vec<Problem> {
        let asked = self.written.asked();
        let mut problems = Vec::new();
        if self.threads == 1 {
            if matches!(asked, Some(Strategy::Delegate | Strategy::Pool)) {
                problems.push(Problem::OneThread(executor::word(asked)));
            }
            return problems;
        }
        match self.written.pool_size {
            Some(_) if asked != Some(Strategy::Pool) => {
                problems.push(Problem::PoolUnused(executor::word(asked)));
            }
            Some(PoolSize::Count(size)) if size > self.threads => {
                problems.push(Problem::PoolAboveThreads(size, self.threads));
            }
            _ => {}
        }
        let says_queue = self.written.queue_depth.is_some() || self.written.queue_timeout.is_some();
        if says_queue && self.executor.strategy == Strategy::Direct {
            problems.push(Problem::QueueUnused);
        }
        let threads = match self.gil {
            Gil::Shared => self.threads,
            Gil::Own(interpreters) => self.threads / interpreters.max(1),
            Gil::Tried(_) | Gil::Best(_) | Gil::Free => 0,
        };
        if self.executor.strategy == Strategy::Direct && threads > Self::MANY {
            problems.push(Problem::ManyThreads(threads));
        }
        problems
    }
}

impl fmt::Display for GroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (executor, threads) = (&self.executor, self.threads);
        match executor.strategy {
            Strategy::Pool => write!(f, "pool of {}", counted(executor.pool_size))?,
            Strategy::Delegate if executor.least == executor.most => {
                write!(f, "delegate, {} of {threads} threads inside", executor.most)?;
            }
            Strategy::Delegate => write!(
                f,
                "delegate, {} to {} of {threads} threads inside",
                executor.least, executor.most
            )?,
            Strategy::Direct => write!(f, "direct, {} inside", counted(threads))?,
        }
        match self.gil {
            Gil::Shared => write!(f, ", GIL shared")?,
            Gil::Own(1) => write!(f, ", GIL of its own")?,
            Gil::Own(count) => write!(f, ", {count} interpreters with a GIL each")?,
            Gil::Tried(count) => write!(f, ", up to {count} with a GIL of its own")?,
            Gil::Free => write!(f, ", no GIL")?,
            Gil::Best(count) => write!(f, ", no GIL or up to {count} with a GIL of its own")?,
        }
        if executor.strategy != Strategy::Direct {
            match executor.queue_depth {
                Executor::NO_BOUND => write!(f, ", queue")?,
                depth => write!(f, ", queue of {depth}")?,
            }
            write!(f, " for {} s", executor.queue_timeout.as_secs_f64())?;
        }
        if executor.share < threads {
            write!(f, ", share {}", executor.share)?;
        }
        if self.reserve > 0 {
            write!(f, ", reserve {}", self.reserve)?;
        }
        Ok(())
    }
}

fn counted(threads: u32) -> String {
    let noun = if threads == 1 { "thread" } else { "threads" };
    format!("{threads} {noun}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plan::mpm_plan::Mpm;

    /// Returns the plan that these lines of a container make for children of `threads` threads.
    fn plan(mpm: Mpm, threads: u32, lines: &[&str], gil: Gil) -> GroupPlan {
        let mut written = ExecutorConfig::default();
        let mut reserve = None;
        for line in lines {
            let (name, args) = line.split_once(' ').unwrap();
            let done = match name {
                "WSGIExecutor" => written.parse_executor(args),
                "WSGIThreadPool" => written.parse_pool(args),
                "WSGIQueue" => written.parse_queue(args),
                _ => crate::config::executor::Shares::parse(args).map(|shares| {
                    (written.share, reserve) = (shares.share, shares.reserve);
                }),
            };
            assert_eq!(done, Ok(()), "{line}");
        }
        GroupPlan::new(&MpmPlan::new(mpm, 4, threads, 2), written, gil, reserve)
    }

    #[test]
    fn lines() {
        for (mpm, lines, gil, expected) in [
            (
                Mpm::Event,
                &[][..],
                Gil::Shared,
                "delegate, 1 to 25 of 25 threads inside, GIL shared, queue for 60 s",
            ),
            (
                Mpm::Worker,
                &["WSGIExecutor delegate min=5 max=5"],
                Gil::Own(1),
                "delegate, 5 of 25 threads inside, GIL of its own, queue for 60 s",
            ),
            (
                Mpm::Event,
                &[
                    "WSGIQueue depth=100 timeout=2.5",
                    "WSGIThreadShare 60% reserve=3",
                ],
                Gil::Shared,
                "delegate, 1 to 25 of 25 threads inside, GIL shared, queue of 100 for 2.5 s, share 15, reserve 3",
            ),
            (
                Mpm::Event,
                &["WSGIThreadPool size=auto"],
                Gil::Tried(2),
                "pool of 4 threads, up to 2 with a GIL of its own, queue for 60 s",
            ),
            (
                Mpm::Event,
                &["WSGIExecutor direct"],
                Gil::Own(2),
                "direct, 25 threads inside, 2 interpreters with a GIL each",
            ),
            (
                Mpm::Event,
                &[],
                Gil::Free,
                "direct, 25 threads inside, no GIL",
            ),
            (
                Mpm::Event,
                &[],
                Gil::Best(2),
                "delegate, 1 to 25 of 25 threads inside, no GIL or up to 2 with a GIL of its own, queue for 60 s",
            ),
            (
                Mpm::Prefork,
                &["WSGIThreadShare 50%"],
                Gil::Shared,
                "direct, 1 thread inside, GIL shared",
            ),
        ] {
            let plan = plan(mpm, 25, lines, gil);
            assert_eq!(plan.to_string(), expected, "{lines:?}");
            assert_eq!(plan.problems(), [], "{lines:?}");
        }
    }

    #[test]
    fn what_has_no_effect_is_found() {
        for (mpm, threads, lines, gil, expected) in [
            (
                Mpm::Prefork,
                1,
                &["WSGIExecutor delegate", "WSGIQueue depth=1"][..],
                Gil::Shared,
                &[Problem::OneThread("delegate")][..],
            ),
            (
                Mpm::Prefork,
                1,
                &["WSGIThreadPool size=9"],
                Gil::Shared,
                &[Problem::OneThread("pool")],
            ),
            (
                Mpm::Prefork,
                1,
                &["WSGIExecutor direct", "WSGIQueue depth=1"],
                Gil::Shared,
                &[],
            ),
            (
                Mpm::Event,
                25,
                &["WSGIThreadPool size=26"],
                Gil::Shared,
                &[Problem::PoolAboveThreads(26, 25)],
            ),
            (
                Mpm::Event,
                25,
                &["WSGIThreadPool size=25"],
                Gil::Shared,
                &[],
            ),
            (
                Mpm::Event,
                25,
                &["WSGIExecutor auto", "WSGIThreadPool size=26"],
                Gil::Shared,
                &[Problem::PoolUnused("auto")],
            ),
            (
                Mpm::Event,
                25,
                &["WSGIExecutor direct", "WSGIQueue timeout=1"],
                Gil::Shared,
                &[Problem::QueueUnused],
            ),
            (
                Mpm::Event,
                65,
                &["WSGIExecutor direct"],
                Gil::Shared,
                &[Problem::ManyThreads(65)],
            ),
            (Mpm::Event, 64, &["WSGIExecutor direct"], Gil::Shared, &[]),
            (Mpm::Event, 200, &["WSGIExecutor direct"], Gil::Own(4), &[]),
            (Mpm::Event, 200, &["WSGIExecutor direct"], Gil::Free, &[]),
            (Mpm::Event, 200, &[], Gil::Shared, &[]),
        ] {
            let found = plan(mpm, threads, lines, gil).problems();
            assert_eq!(found, expected, "{lines:?} {threads}");
        }
    }

    #[test]
    fn each_problem_has_its_message() {
        for problem in [
            Problem::OneThread("pool"),
            Problem::PoolAboveThreads(30, 25),
            Problem::PoolUnused("direct"),
            Problem::QueueUnused,
            Problem::ManyThreads(65),
        ] {
            let (_, line) = problem.line(&"application group 'x'");
            assert!(line.contains("application group 'x'"), "{line}");
            assert!(!line.contains('?') && !line.contains("{}"), "{line}");
        }
    }
}
