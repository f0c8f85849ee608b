//! What the MPM means for Python: how many threads may be inside a child, and what `wsgi.multithread` and
//! `wsgi.multiprocess` are (4.3).

use std::fmt;

use crate::executor::{Executor, PoolSize, Share, Strategy, Written};
use crate::interpreters::Replicas;

/// Multi-processing module of httpd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mpm {
    /// One thread per child.
    Prefork,
    /// Threads, each with a connection.
    Worker,
    /// Threads, and a listener that holds idle connections.
    Event,
    /// Any other.
    Other,
}

impl Mpm {
    /// The MPM of this name, as `ap_show_mpm` says it.
    pub fn from_name(name: &str) -> Mpm {
        match name.to_ascii_lowercase().as_str() {
            "prefork" => Mpm::Prefork,
            "worker" => Mpm::Worker,
            "event" => Mpm::Event,
            _ => Mpm::Other,
        }
    }
}

/// Made once, from `ap_mpm_query`. The display is the line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpmPlan {
    mpm: Mpm,
    processes: u32,
    threads: u32,
    cores: u32,
}

impl MpmPlan {
    /// `processes`: most children at a time; `threads_per_child`: most threads that serve in one. Both count as 1
    /// where the MPM says 0. `cores`: how many the server may use.
    pub fn new(mpm: Mpm, processes: u32, threads_per_child: u32, cores: u32) -> MpmPlan {
        let threads = if mpm == Mpm::Prefork {
            1
        } else {
            threads_per_child.max(1)
        };
        MpmPlan {
            mpm,
            processes: processes.max(1),
            threads,
            cores: cores.max(1),
        }
    }

    /// How many replicas of an application a child has: no more than it has threads to run them.
    pub fn replicas(&self, wanted: Replicas) -> u32 {
        let count = match wanted {
            Replicas::Count(count) => count,
            Replicas::Auto => self.cores.div_ceil(self.processes),
        };
        count.clamp(1, self.threads.min(Replicas::MOST))
    }

    /// Who runs the requests of a group, and who waits how long. `has_gil`: whether the process has one.
    pub fn executor(&self, written: &Written, has_gil: bool) -> Executor {
        let strategy = match written.asked() {
            // Nobody waits for a thread that nobody else has.
            _ if self.threads == 1 => Strategy::Direct,
            Strategy::Auto if has_gil => Strategy::Delegate,
            Strategy::Auto => Strategy::Direct,
            asked => asked,
        };
        let most = written.most.unwrap_or(self.threads).clamp(1, self.threads);
        let pool_size = match written.pool_size {
            Some(PoolSize::Count(count)) => count,
            Some(PoolSize::Auto) | None => self.cores.saturating_mul(2).max(4),
        };
        Executor {
            strategy,
            least: written.least.unwrap_or(Executor::LEAST).clamp(1, most),
            most,
            pool_size: pool_size.clamp(1, self.threads),
            queue_depth: written.queue_depth.unwrap_or(Executor::NO_BOUND),
            queue_timeout: written.queue_timeout.unwrap_or(Executor::QUEUE_TIMEOUT),
            share: written
                .share
                .map_or(Executor::NO_BOUND, |share| share.of(self.threads)),
        }
    }

    /// How many threads of a child all groups together leave to others; one is always theirs.
    pub fn reserve(&self, written: Option<Share>) -> u32 {
        let reserve = written.map_or(0, |share| share.of(self.threads));
        reserve.min(self.threads - 1)
    }

    /// `wsgi.multithread`.
    pub fn multithread(&self) -> bool {
        self.threads > 1
    }

    /// `wsgi.multiprocess`.
    pub fn multiprocess(&self) -> bool {
        self.processes > 1
    }

    /// Most children at a time: `mod_wsgi.maximum_processes`.
    pub fn processes(&self) -> u32 {
        self.processes
    }

    /// Most threads of a child that may be in Python: `mod_wsgi.threads_per_process`.
    pub fn python_threads(&self) -> u32 {
        self.threads
    }
}

impl fmt::Display for MpmPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.mpm {
            Mpm::Prefork => "prefork",
            Mpm::Worker => "worker",
            Mpm::Event => "event",
            Mpm::Other => "this MPM",
        };
        let children = if self.processes == 1 {
            "child"
        } else {
            "children"
        };
        let threads = if self.threads == 1 {
            "thread"
        } else {
            "threads"
        };
        let total = u64::from(self.processes) * u64::from(self.threads);
        let requests = if total == 1 { "request" } else { "requests" };
        write!(
            f,
            "{name}: {} {children} x {} {threads}, up to {total} {requests} at once",
            self.processes, self.threads
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        for (mpm, processes, threads, multithread, multiprocess, text) in [
            (
                "event",
                4,
                25,
                true,
                true,
                "event: 4 children x 25 threads, up to 100 requests at once",
            ),
            (
                "Worker",
                1,
                25,
                true,
                false,
                "worker: 1 child x 25 threads, up to 25 requests at once",
            ),
            (
                "prefork",
                8,
                0,
                false,
                true,
                "prefork: 8 children x 1 thread, up to 8 requests at once",
            ),
            (
                "prefork",
                1,
                1,
                false,
                false,
                "prefork: 1 child x 1 thread, up to 1 request at once",
            ),
            (
                "itk",
                0,
                2,
                true,
                false,
                "this MPM: 1 child x 2 threads, up to 2 requests at once",
            ),
        ] {
            let plan = MpmPlan::new(Mpm::from_name(mpm), processes, threads, 2);
            assert_eq!(
                (plan.multithread(), plan.multiprocess()),
                (multithread, multiprocess),
                "{mpm}"
            );
            assert_eq!(plan.to_string(), text);
        }
    }

    #[test]
    fn replicas_are_as_many_as_cores_for_a_child_and_threads_of_it() {
        for (processes, threads, cores, wanted, expected) in [
            (1, 25, 8, Replicas::Auto, 8),
            (4, 25, 8, Replicas::Auto, 2),
            (3, 25, 8, Replicas::Auto, 3),
            (16, 25, 2, Replicas::Auto, 1),
            (1, 4, 8, Replicas::Auto, 4),
            (1, 25, 2, Replicas::Count(6), 6),
            (1, 4, 2, Replicas::Count(6), 4),
            (1, 100, 0, Replicas::Auto, 1),
        ] {
            let plan = MpmPlan::new(Mpm::Event, processes, threads, cores);
            assert_eq!(plan.replicas(wanted), expected, "{plan:?} {wanted:?}");
        }
        assert_eq!(
            MpmPlan::new(Mpm::Prefork, 8, 1, 4).replicas(Replicas::Count(4)),
            1
        );
    }
    fn plan(mpm: Mpm, threads: u32, cores: u32) -> MpmPlan {
        MpmPlan::new(mpm, 4, threads, cores)
    }

    #[test]
    fn auto_delegates_where_threads_share_a_gil() {
        use Strategy::*;
        let asked = |strategy| Written {
            strategy: Some(strategy),
            ..Written::default()
        };
        for (mpm, threads, has_gil, wanted, expected) in [
            (Mpm::Event, 25, true, Auto, Delegate),
            (Mpm::Worker, 25, true, Auto, Delegate),
            (Mpm::Worker, 1, true, Auto, Direct),
            (Mpm::Event, 25, false, Auto, Direct),
            (Mpm::Prefork, 1, true, Auto, Direct),
            (Mpm::Prefork, 1, true, Delegate, Direct),
            (Mpm::Prefork, 1, true, Pool, Direct),
            (Mpm::Event, 25, true, Direct, Direct),
            (Mpm::Event, 25, true, Pool, Pool),
            (Mpm::Event, 25, false, Delegate, Delegate),
        ] {
            let found = plan(mpm, threads, 2).executor(&asked(wanted), has_gil);
            assert_eq!(found.strategy, expected, "{mpm:?} {threads} {wanted:?}");
        }
        let unsaid = plan(Mpm::Event, 25, 2).executor(&Written::default(), true);
        let expected = Executor {
            strategy: Delegate,
            least: 3,
            most: 25,
            pool_size: 4,
            queue_depth: u32::MAX,
            queue_timeout: std::time::Duration::from_secs(60),
            share: u32::MAX,
        };
        assert_eq!(unsaid, expected);
    }

    #[test]
    fn bounds_are_within_the_threads_of_a_child() {
        for (threads, least, most, expected) in [
            (25, None, None, (3, 25)),
            (2, None, None, (2, 2)),
            (25, Some(10), None, (10, 25)),
            (25, None, Some(2), (2, 2)),
            (25, Some(50), None, (25, 25)),
            (25, None, Some(50), (3, 25)),
        ] {
            let written = Written {
                least,
                most,
                ..Written::default()
            };
            let found = plan(Mpm::Event, threads, 2).executor(&written, true);
            assert_eq!((found.least, found.most), expected, "{written:?}");
        }
    }

    #[test]
    fn pools_are_as_large_as_suits_the_cores_and_never_larger_than_the_threads() {
        for (threads, cores, size, expected) in [
            (25, 2, None, 4),
            (25, 2, Some(PoolSize::Auto), 4),
            (25, 8, None, 16),
            (25, 64, None, 25),
            (3, 2, None, 3),
            (25, 2, Some(PoolSize::Count(9)), 9),
            (25, 2, Some(PoolSize::Count(90)), 25),
        ] {
            let written = Written {
                pool_size: size,
                ..Written::default()
            };
            let found = plan(Mpm::Event, threads, cores).executor(&written, true);
            assert_eq!(found.pool_size, expected, "{threads} {cores} {size:?}");
        }
    }

    #[test]
    fn a_reserve_leaves_a_thread_to_python() {
        let event = plan(Mpm::Event, 25, 2);
        for (written, expected) in [
            (None, 0),
            (Some(Share::Threads(5)), 5),
            (Some(Share::Percent(20)), 5),
            (Some(Share::Percent(1)), 1),
            (Some(Share::Percent(100)), 24),
            (Some(Share::Threads(99)), 24),
        ] {
            assert_eq!(event.reserve(written), expected, "{written:?}");
        }
        let prefork = plan(Mpm::Prefork, 1, 2);
        assert_eq!(prefork.reserve(Some(Share::Percent(50))), 0);
    }
}
