//! What the MPM means for Python: how many threads may be inside a child, and what `wsgi.multithread` and
//! `wsgi.multiprocess` are (4.3).

use std::fmt;

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
}
