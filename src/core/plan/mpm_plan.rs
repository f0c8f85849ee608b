//! What the MPM, or a process group, means for Python: how many threads of a process may be inside, and the values of
//! `wsgi.multithread` and `wsgi.multiprocess` [M-12].

use std::fmt;

use wsgi_abi::Strategy;

use crate::config::ProcessGroup;
use crate::config::executor::{Executor, ExecutorConfig, PoolSize, Share};
use crate::config::interpreters::Replicas;
use crate::messages::Message;
use crate::plan::memory::MemoryLimit;

/// The multi-processing module of httpd.
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
    /// Returns the MPM with this name, as `ap_show_mpm` returns it.
    pub fn from_name(name: &str) -> Mpm {
        match name.to_ascii_lowercase().as_str() {
            "prefork" => Mpm::Prefork,
            "worker" => Mpm::Worker,
            "event" => Mpm::Event,
            _ => Mpm::Other,
        }
    }

    /// Returns the name for the log.
    fn name(self) -> &'static str {
        match self {
            Mpm::Prefork => "prefork",
            Mpm::Worker => "worker",
            Mpm::Event => "event",
            Mpm::Other => "this MPM",
        }
    }
}

/// How many idle children (prefork) or idle threads (other MPMs) the MPM keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// `MinSpareServers`, `MinSpareThreads`.
    pub least: u32,
    /// `MaxSpareServers`, `MaxSpareThreads`.
    pub most: u32,
}

/// The plan of a server, made once, from `ap_mpm_query`, or of a process group. `Display` writes the line for the log.
///
/// What is said of children holds for the processes of a process group, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MpmPlan {
    origin: Origin,
    processes: u32,
    threads: u32,
    cores: u32,
    memory: Option<MemoryLimit>,
}

/// What starts the processes of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// The MPM starts children.
    Mpm(Mpm),
    /// The parent starts the processes of a process group.
    Group {
        name: String,
        multiprocess: bool,
        is_service: bool,
    },
}

impl ProcessGroup {
    /// Returns the plan of the group. `cores`: how many cores the server may use.
    pub fn plan(&self, cores: u32) -> MpmPlan {
        MpmPlan {
            origin: Origin::Group {
                name: self.name.clone(),
                multiprocess: self.multiprocess(),
                is_service: self.is_service(),
            },
            processes: self.processes().max(1),
            threads: self.threads.max(1),
            cores: cores.max(1),
            memory: None,
        }
    }
}

impl MpmPlan {
    /// Makes the plan of a server. `processes`: most children at a time; `threads_per_child`: most threads that serve in
    /// one. Both count as 1 if the MPM says 0. `cores`: how many cores the server may use.
    pub fn new(mpm: Mpm, processes: u32, threads_per_child: u32, cores: u32) -> MpmPlan {
        let threads = if mpm == Mpm::Prefork {
            1
        } else {
            threads_per_child.max(1)
        };
        MpmPlan {
            origin: Origin::Mpm(mpm),
            processes: processes.max(1),
            threads,
            cores: cores.max(1),
            memory: None,
        }
    }

    /// Returns the plan with this memory limit.
    pub fn with_memory(self, memory: Option<MemoryLimit>) -> MpmPlan {
        MpmPlan { memory, ..self }
    }

    /// Returns a message if the MPM ends idle children: each new child has to load Python and its applications.
    pub fn spare_problem(&self, spare: Spare) -> Option<(Message, String)> {
        let (unit, all, name) = match self.origin {
            Origin::Mpm(Mpm::Prefork) => (1, self.processes, "MaxSpareServers"),
            Origin::Mpm(Mpm::Worker | Mpm::Event) => (
                self.threads,
                self.threads.saturating_mul(self.processes),
                "MaxSpareThreads",
            ),
            Origin::Mpm(Mpm::Other) | Origin::Group { .. } => return None,
        };
        if self.processes == 1 || spare.most >= all {
            return None;
        }
        // httpd raises a smaller maximum to this.
        let narrowest = spare.least.saturating_add(unit);
        let message = if spare.most <= narrowest {
            Message::ChildrenComeAndGo
        } else {
            Message::ChildrenEndIdle
        };
        Some((message, message.line(&[&name, &spare.most, &all])))
    }

    /// Returns a message if the reserve leaves no thread to Python.
    pub fn reserve_problem(&self, written: Option<Share>) -> Option<(Message, String)> {
        let asked = written?.of(self.threads);
        if self.threads == 1 || asked < self.threads {
            return None;
        }
        let left = self.threads - self.reserve(written);
        let line = Message::ReserveCut.line(&[&left, &self.threads]);
        Some((Message::ReserveCut, line))
    }

    /// Returns a message if all children together exceed the memory; `own` is the private memory of a child that has
    /// loaded its applications, bytes. The MPM's directives limit children only, so there is none for a process group.
    pub fn memory_problem(&self, own: u64) -> Option<(Message, String)> {
        let limit = self.memory?;
        if matches!(self.origin, Origin::Group { .. }) {
            return None;
        }
        let all = own.saturating_mul(u64::from(self.processes));
        if all <= limit.bytes {
            return None;
        }
        let whose = limit.owner();
        let (own, all, has) = (own >> 20, all >> 20, limit.bytes >> 20);
        let line = Message::MemoryShort.line(&[&own, &self.processes, &all, &whose, &has]);
        Some((Message::MemoryShort, line))
    }

    /// Returns the numbers of children, threads and cores as text, for the line of an application group.
    pub fn shape(&self) -> String {
        let cores = if self.cores == 1 { "core" } else { "cores" };
        format!("{}, {} {cores}", self.processes_and_threads(), self.cores)
    }

    fn processes_and_threads(&self) -> String {
        let (name, one, many) = match &self.origin {
            Origin::Mpm(mpm) => (mpm.name().to_owned(), "child", "children"),
            Origin::Group { name, .. } => {
                (format!("process group '{name}'"), "process", "processes")
            }
        };
        let processes = if self.processes == 1 { one } else { many };
        let threads = match self.threads {
            _ if self.is_service() => "without threads for requests".into(),
            1 => "x 1 thread".into(),
            threads => format!("x {threads} threads"),
        };
        format!("{name}: {} {processes} {threads}", self.processes)
    }

    /// Returns whether the processes only run the scripts that they load (`threads=0`).
    pub fn is_service(&self) -> bool {
        matches!(
            self.origin,
            Origin::Group {
                is_service: true,
                ..
            }
        )
    }

    /// Returns how many replicas of an application a child has: no more than its threads.
    pub fn replicas(&self, wanted: Replicas) -> u32 {
        let count = match wanted {
            Replicas::Count(count) => count,
            Replicas::Auto => self.cores.div_ceil(self.processes),
        };
        count.clamp(1, self.threads.min(Replicas::MOST))
    }

    /// Returns how the requests of a group get into Python. `has_gil`: whether the process has a GIL.
    pub fn executor(&self, written: &ExecutorConfig, has_gil: bool) -> Executor {
        let strategy = match (written.asked(), &self.origin) {
            // A process of a group has more threads than may be inside Python, so its executor must keep the limit.
            (None | Some(Strategy::Direct), Origin::Group { .. }) => Strategy::Delegate,
            // The only thread of a child never waits for another one.
            (_, Origin::Mpm(_)) if self.threads == 1 => Strategy::Direct,
            (None, _) if has_gil => Strategy::Delegate,
            (None, _) => Strategy::Direct,
            (Some(asked), _) => asked,
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
            // Threads of httpd's children are held there, also by requests that a process group runs.
            share: match self.origin {
                Origin::Mpm(_) => self.share(written),
                Origin::Group { .. } => Executor::NO_BOUND,
            },
        }
    }

    /// Returns how many threads of a child the requests of a group may hold.
    pub fn share(&self, written: &ExecutorConfig) -> u32 {
        let share = written.share;
        share.map_or(Executor::NO_BOUND, |share| share.of(self.threads))
    }

    /// Returns how many threads of a child all groups together leave to other requests; they always keep one.
    pub fn reserve(&self, written: Option<Share>) -> u32 {
        if matches!(self.origin, Origin::Group { .. }) {
            return 0;
        }
        let reserve = written.map_or(0, |share| share.of(self.threads));
        reserve.min(self.threads - 1)
    }

    /// Returns how many requests may be inside an interpreter of a group at a time, including those that wait for their
    /// clients: `mod_wsgi.threads_per_process`. `wsgi.multithread` is true if it is more than 1.
    pub fn threads_inside(&self, executor: &Executor, reserve: Option<Share>) -> u32 {
        if executor.is_exclusive() {
            return 1;
        }
        let threads = self.threads - self.reserve(reserve);
        threads.min(executor.share).max(1)
    }

    /// Returns `wsgi.multiprocess`. For a process group it says whether `processes=` is written, as in mod_wsgi.
    pub fn multiprocess(&self) -> bool {
        match self.origin {
            Origin::Mpm(_) => self.processes > 1,
            Origin::Group { multiprocess, .. } => multiprocess,
        }
    }

    /// Returns the most children at a time: `mod_wsgi.maximum_processes`.
    pub fn processes(&self) -> u32 {
        self.processes
    }

    /// Returns the most threads of a child that may be in Python: `apache.threads_per_process`.
    pub fn python_threads(&self) -> u32 {
        self.threads
    }
}

impl fmt::Display for MpmPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.processes_and_threads())?;
        if !self.is_service() {
            let total = u64::from(self.processes) * u64::from(self.threads);
            let requests = if total == 1 { "request" } else { "requests" };
            write!(f, ", up to {total} {requests} at once")?;
        }
        match self.memory {
            Some(limit) => write!(
                f,
                ", {} MiB of memory in the {}",
                limit.bytes >> 20,
                limit.owner()
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
