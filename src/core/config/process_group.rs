//! `WSGIDaemonProcess`: a process group as written, what its values mean where nothing is written, and what follows for
//! Python in its processes.

use std::time::Duration;

use super::deadline::Deadline;
use super::executor::ExecutorConfig;
use super::python::PythonConfig;
use super::recycle::Recycle;

/// A process group: processes beside httpd's children that serve the applications which choose the group.
///
/// Where 0 and no value mean the same, the field is `None` for both. Times are at most a year.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessGroup {
    /// Name of the group, unique in all servers.
    pub name: String,
    /// Where it is written: "file:line".
    pub location: String,
    /// `user=`: the user of the processes, by name or as `#number`; `None` for httpd's `User`.
    pub user: Option<String>,
    /// `group=`: the group of the processes, by name or as `#number`; `None` for httpd's `Group`.
    pub group: Option<String>,
    /// `supplementary-groups=`: further groups of the processes, by name or as `#number`; empty for those of the user.
    pub supplementary_groups: Vec<String>,
    /// `processes=`: the number of processes, at least 1, if it is written; see [`processes`](Self::processes).
    pub processes: Option<u32>,
    /// `threads=`: the number of threads that serve requests in each process; 0 for a process that only runs the
    /// scripts which it loads at its start.
    pub threads: u32,
    /// `umask=`; `None` for httpd's.
    pub umask: Option<u32>,
    /// `chroot=`: absolute path of the root directory of the processes.
    pub chroot: Option<String>,
    /// `home=`: absolute path of the working directory of the processes, which is also the first of `sys.path`.
    pub home: Option<String>,
    /// `lang=`: the variable `LANG` of the processes.
    pub lang: Option<String>,
    /// `locale=`: the locale of the processes, and their variable `LC_ALL`.
    pub locale: Option<String>,
    /// `python-home=`: a prefix or a virtual environment; `None` for `WSGIPythonHome`.
    pub python_home: Option<String>,
    /// `python-path=`: directories for the front of `sys.path`, without empty ones.
    pub python_path: Vec<String>,
    /// `python-eggs=`: the variable `PYTHON_EGG_CACHE`.
    pub python_eggs: Option<String>,
    /// `switch-interval=`: after how long a thread gives up the GIL if others wait for it, seconds, above 0.
    pub switch_interval: Option<f64>,
    /// `stack-size=`: the stack of each thread that serves requests, bytes; `None` for the system's default.
    pub stack_size: Option<usize>,
    /// `maximum-requests=`: after how many requests a process is replaced; 0 for never.
    pub maximum_requests: u64,
    /// `startup-timeout=`: how long an application may take to load; the inner `None` is 0, no limit.
    pub startup_timeout: Option<Option<Duration>>,
    /// `shutdown-timeout=`, if it is written; see [`shutdown_timeout`](Self::shutdown_timeout).
    pub shutdown_timeout: Option<Duration>,
    /// `graceful-timeout=`, if it is written; see [`graceful_timeout`](Self::graceful_timeout).
    pub graceful_timeout: Option<Duration>,
    /// `eviction-timeout=`, above 0; see [`eviction_timeout`](Self::eviction_timeout).
    pub eviction_timeout: Option<Duration>,
    /// `deadlock-timeout=`: after how long a GIL that no other thread can get counts as a deadlock; the inner `None` is
    /// 0, no limit.
    pub deadlock_timeout: Option<Option<Duration>>,
    /// `inactivity-timeout=`: after how long without a request a process ends; `None` for never.
    pub inactivity_timeout: Option<Duration>,
    /// `request-timeout=`: how long a request may run; `None` for no limit. See [`deadline`](Self::deadline).
    pub request_timeout: Option<Duration>,
    /// `interrupt-timeout=`: how long a request may then take to end; see [`deadline`](Self::deadline).
    pub interrupt_timeout: Option<Duration>,
    /// `restart-interval=`: after how long a process is replaced; `None` for never.
    pub restart_interval: Option<Duration>,
    /// `connect-timeout=`, if it is written; see [`connect_timeout`](Self::connect_timeout).
    pub connect_timeout: Option<Duration>,
    /// `socket-timeout=`: the longest wait for a read or write between an httpd child and a process; `None` for httpd's
    /// `Timeout`.
    pub socket_timeout: Option<Duration>,
    /// `queue-timeout=`: how long a request may wait for a thread; `None` if it is not written, or 0. It holds where
    /// `WSGIQueue` sets no time; see [`python`](Self::python).
    pub queue_timeout: Option<Duration>,
    /// `response-socket-timeout=`, above 0; see [`response_socket_timeout`](Self::response_socket_timeout).
    pub response_socket_timeout: Option<Duration>,
    /// `cpu-time-limit=`: CPU time after which a process is replaced, the soft limit of `RLIMIT_CPU`; `None` for no
    /// limit.
    pub cpu_time_limit: Option<Duration>,
    /// `cpu-priority=`: the nice value of the processes.
    pub cpu_priority: Option<i32>,
    /// `memory-limit=`: `RLIMIT_DATA`, bytes; `None` for no limit.
    pub memory_limit: Option<u64>,
    /// `virtual-memory-limit=`: `RLIMIT_AS`, bytes; `None` for no limit.
    pub virtual_memory_limit: Option<u64>,
    /// `listen-backlog=`: most connections to a socket that may wait to be accepted.
    pub listen_backlog: u32,
    /// `display-name=`, as written; see [`title`](Self::title).
    pub display_name: Option<String>,
    /// `send-buffer-size=`: `SO_SNDBUF` of the sockets, bytes, at least 512; `None` for the system's default.
    pub send_buffer_size: Option<usize>,
    /// `receive-buffer-size=`: `SO_RCVBUF` of the sockets, bytes, at least 512; `None` for the system's default.
    pub receive_buffer_size: Option<usize>,
    /// The options that are written but need no effect, each with the reason.
    pub needless: Vec<(&'static str, &'static str)>,
    /// `socket-user=`: the owner of the sockets, by name or as `#number`; `None` for httpd's `User`.
    pub socket_user: Option<String>,
    /// `script-user=` or `script-group=`.
    pub script_owner: Option<ScriptOwner>,
    /// `server-metrics=`: whether `mod_wsgi.server_metrics()` returns data in the processes.
    pub server_metrics: bool,
}

/// The owner that a script and its directory must have, by name or as `#number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptOwner {
    /// `script-user=`
    User(String),
    /// `script-group=`
    Group(String),
}

/// Where the sockets of all process groups are; main server only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketConfig {
    /// `WSGISocketPrefix`: the beginning of the path of each socket, not empty; `None` for `wsgi` in the run-time
    /// directory. A relative path begins at `ServerRoot`.
    pub prefix: Option<String>,
}

impl Default for ProcessGroup {
    /// Returns the values of a group without options.
    fn default() -> Self {
        ProcessGroup {
            name: String::new(),
            location: String::new(),
            user: None,
            group: None,
            supplementary_groups: Vec::new(),
            processes: None,
            threads: Self::THREADS,
            umask: None,
            chroot: None,
            home: None,
            lang: None,
            locale: None,
            python_home: None,
            python_path: Vec::new(),
            python_eggs: None,
            switch_interval: None,
            stack_size: None,
            maximum_requests: 0,
            startup_timeout: None,
            shutdown_timeout: None,
            graceful_timeout: None,
            eviction_timeout: None,
            deadlock_timeout: None,
            inactivity_timeout: None,
            request_timeout: None,
            interrupt_timeout: None,
            restart_interval: None,
            connect_timeout: None,
            socket_timeout: None,
            queue_timeout: None,
            response_socket_timeout: None,
            cpu_time_limit: None,
            cpu_priority: None,
            memory_limit: None,
            virtual_memory_limit: None,
            listen_backlog: Self::LISTEN_BACKLOG,
            display_name: None,
            send_buffer_size: None,
            receive_buffer_size: None,
            needless: Vec::new(),
            socket_user: None,
            script_owner: None,
            server_metrics: false,
        }
    }
}

impl ProcessGroup {
    /// The default of `threads=`.
    pub const THREADS: u32 = 15;
    /// The default of `shutdown-timeout=`.
    pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of `graceful-timeout=`.
    pub const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(15);
    /// The default of `connect-timeout=`.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
    /// The default of `listen-backlog=`.
    pub const LISTEN_BACKLOG: u32 = 100;
    /// By how many percent `maximum-requests=` and `restart-interval=` of one process are reduced by chance, at most.
    pub const JITTER: u8 = 10;

    /// Returns the number of processes.
    pub fn processes(&self) -> u32 {
        self.processes.unwrap_or(1)
    }

    /// Returns `wsgi.multiprocess`: true if `processes=` is written, also as `processes=1`.
    pub fn multiprocess(&self) -> bool {
        self.processes.is_some()
    }

    /// Returns whether the processes serve no requests and only run the scripts that they load at their start
    /// (`threads=0`).
    pub fn is_service(&self) -> bool {
        self.threads == 0
    }

    /// Returns how long a process may take to end before it is killed; zero for no time.
    pub fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout.unwrap_or(Self::SHUTDOWN_TIMEOUT)
    }

    /// Returns how long a process that is replaced may finish its requests before it must end; zero for no time.
    pub fn graceful_timeout(&self) -> Duration {
        self.graceful_timeout.unwrap_or(Self::GRACEFUL_TIMEOUT)
    }

    /// Returns the same for a process that is told to end by SIGUSR1.
    pub fn eviction_timeout(&self) -> Duration {
        self.eviction_timeout
            .unwrap_or_else(|| self.graceful_timeout())
    }

    /// Returns how long an httpd child tries to reach a process before it answers a request with 503; zero for one try.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(Self::CONNECT_TIMEOUT)
    }

    /// Returns the longest wait of a write to the client; `None` for httpd's `Timeout`.
    pub fn response_socket_timeout(&self) -> Option<Duration> {
        self.response_socket_timeout.or(self.socket_timeout)
    }

    /// Returns the title of the processes, as `ps` shows it; `None` if it stays httpd's.
    pub fn title(&self) -> Option<String> {
        match self.display_name.as_deref()? {
            "%{GROUP}" => Some(format!("(wsgi:{})", self.name)),
            written => Some(written.into()),
        }
    }

    /// Returns how long a request may run where `WSGIRequestTimeout` is not written; `None` for no limit.
    /// [`Settings::deadline_in`](super::Settings::deadline_in) regards both.
    pub fn deadline(&self) -> Option<Deadline> {
        Some(Deadline {
            limit: self.request_timeout?,
            grace: self.interrupt_timeout.unwrap_or(Deadline::GRACE),
        })
    }

    /// Returns when a process of the group is replaced. `server` is `WSGIRecycle`, each of whose limits holds before
    /// that of the group. Processes that started together do not all end together, even where `WSGIRecycle` is not
    /// written and sets no `jitter=`.
    pub fn recycle(&self, server: Recycle) -> Recycle {
        let requests = Some(self.maximum_requests).filter(|requests| *requests > 0);
        Recycle {
            requests: server.requests.or(requests),
            age: server.age.or(self.restart_interval),
            jitter: if server.is_set() {
                server.jitter
            } else {
                Self::JITTER
            },
            ..server
        }
    }

    /// Returns the settings of Python in a process of the group. `server` are those of the main server.
    ///
    /// As in mod_wsgi, `WSGIPythonPath`, `WSGIPythonEggs` and `WSGISwitchInterval` of the server are for httpd's children
    /// only, and in a process without request threads the application may handle signals. A process serves nothing but
    /// its applications, so it keeps no threads in reserve.
    pub fn python(&self, server: &PythonConfig) -> PythonConfig {
        PythonConfig {
            home: self.python_home.clone().or_else(|| server.home.clone()),
            path: Some(self.python_path.clone()).filter(|path| !path.is_empty()),
            first_directory: self.home.clone(),
            eggs: self.python_eggs.clone(),
            switch_interval: self.switch_interval,
            restrict_signal: if self.is_service() {
                Some(false)
            } else {
                server.restrict_signal
            },
            restrict_embedded: false,
            executor: ExecutorConfig {
                queue_timeout: server.executor.queue_timeout.or(self.queue_timeout),
                ..server.executor
            },
            thread_reserve: None,
            deadlock_timeout: self.deadlock_timeout.or(server.deadlock_timeout),
            startup_timeout: self.startup_timeout.or(server.startup_timeout),
            ..server.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::executor::Share;
    use crate::config::interpreter_options::{InterpreterOptions, group_options};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn group() -> ProcessGroup {
        ProcessGroup {
            name: "site".into(),
            ..ProcessGroup::default()
        }
    }

    #[test]
    fn without_options_the_defaults_of_mod_wsgi_hold() {
        let group = group();
        assert_eq!((group.processes(), group.threads), (1, 15));
        assert!(!group.multiprocess() && !group.is_service());
        assert_eq!(group.shutdown_timeout(), seconds(5));
        assert_eq!(group.graceful_timeout(), seconds(15));
        assert_eq!(group.eviction_timeout(), seconds(15));
        assert_eq!(group.connect_timeout(), seconds(15));
        assert_eq!(group.response_socket_timeout(), None);
        assert_eq!(group.listen_backlog, 100);
        assert_eq!((group.title(), group.deadline()), (None, None));
        assert!(!group.recycle(Recycle::default()).is_set());
        let python = group.python(&PythonConfig::default());
        assert_eq!(python, PythonConfig::default());
        assert_eq!(python.deadlock_timeout(), Some(seconds(300)));
    }

    #[test]
    fn there_are_several_processes_if_a_number_is_written() {
        for (processes, expected) in [
            (None, (1, false)),
            (Some(1), (1, true)),
            (Some(3), (3, true)),
        ] {
            let group = ProcessGroup {
                processes,
                ..group()
            };
            assert_eq!((group.processes(), group.multiprocess()), expected);
        }
    }

    #[test]
    fn times_that_are_not_written_follow_from_others() {
        let group = ProcessGroup {
            shutdown_timeout: Some(Duration::ZERO),
            graceful_timeout: Some(seconds(60)),
            connect_timeout: Some(Duration::ZERO),
            socket_timeout: Some(seconds(7)),
            ..group()
        };
        assert_eq!(group.shutdown_timeout(), Duration::ZERO);
        assert_eq!(group.graceful_timeout(), seconds(60));
        assert_eq!(group.eviction_timeout(), seconds(60));
        assert_eq!(group.connect_timeout(), Duration::ZERO);
        assert_eq!(group.response_socket_timeout(), Some(seconds(7)));
        let group = ProcessGroup {
            eviction_timeout: Some(seconds(3)),
            response_socket_timeout: Some(seconds(8)),
            ..group
        };
        assert_eq!(group.eviction_timeout(), seconds(3));
        assert_eq!(group.response_socket_timeout(), Some(seconds(8)));
    }

    #[test]
    fn a_title_may_be_made_from_the_name() {
        for (written, expected) in [
            ("%{GROUP}", "(wsgi:site)"),
            ("my site", "my site"),
            // As in all values, only the whole text is a token.
            ("x-%{GROUP}", "x-%{GROUP}"),
        ] {
            let group = ProcessGroup {
                display_name: Some(written.into()),
                ..group()
            };
            assert_eq!(group.title().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_deadline_has_a_limit_and_a_grace() {
        for (limit, grace, expected) in [
            (None, None, None),
            (None, Some(5), None),
            (Some(60), None, Some((60, 1))),
            (Some(60), Some(5), Some((60, 5))),
        ] {
            let group = ProcessGroup {
                request_timeout: limit.map(seconds),
                interrupt_timeout: grace.map(seconds),
                ..group()
            };
            let expected = expected.map(|(limit, grace)| Deadline {
                limit: seconds(limit),
                grace: seconds(grace),
            });
            assert_eq!(group.deadline(), expected, "{limit:?} {grace:?}");
        }
    }

    #[test]
    fn limits_of_the_group_hold_where_the_server_has_none() {
        let group = ProcessGroup {
            maximum_requests: 1000,
            restart_interval: Some(seconds(3600)),
            ..group()
        };
        let of_group = Recycle {
            requests: Some(1000),
            age: Some(seconds(3600)),
            jitter: ProcessGroup::JITTER,
            ..Recycle::default()
        };
        assert_eq!(group.recycle(Recycle::default()), of_group);
        let server = Recycle {
            requests: Some(5),
            memory: Some(1 << 30),
            jitter: 10,
            ..Recycle::default()
        };
        let expected = Recycle {
            age: Some(seconds(3600)),
            ..server
        };
        assert_eq!(group.recycle(server), expected);
    }

    /// Returns settings of a server in which all that a group replaces is set.
    fn server() -> PythonConfig {
        PythonConfig {
            home: Some("/server/home".into()),
            path: Some(vec!["/server/path".into()]),
            eggs: Some("/server/eggs".into()),
            optimize: 2,
            switch_interval: Some(0.5),
            restrict_signal: Some(true),
            restrict_embedded: true,
            thread_reserve: Some(Share::Threads(5)),
            deadlock_timeout: Some(Some(seconds(100))),
            startup_timeout: Some(Some(seconds(200))),
            executor: ExecutorConfig {
                queue_depth: Some(3),
                ..ExecutorConfig::default()
            },
            ..PythonConfig::default()
        }
    }

    #[test]
    fn a_group_without_options_has_the_servers_python_but_not_its_path() {
        let expected = PythonConfig {
            path: None,
            eggs: None,
            switch_interval: None,
            restrict_embedded: false,
            thread_reserve: None,
            ..server()
        };
        assert_eq!(group().python(&server()), expected);
    }

    #[test]
    fn options_of_a_group_replace_settings_of_the_server() {
        let group = ProcessGroup {
            home: Some("/site".into()),
            python_home: Some("/site/venv".into()),
            python_path: vec!["/site/lib".into(), "/lib".into()],
            python_eggs: Some("/site/eggs".into()),
            switch_interval: Some(0.001),
            deadlock_timeout: Some(None),
            startup_timeout: Some(Some(seconds(9))),
            queue_timeout: Some(seconds(45)),
            ..group()
        };
        let python = group.python(&server());
        let expected = PythonConfig {
            home: group.python_home.clone(),
            path: Some(group.python_path.clone()),
            first_directory: group.home.clone(),
            eggs: group.python_eggs.clone(),
            switch_interval: Some(0.001),
            restrict_embedded: false,
            thread_reserve: None,
            deadlock_timeout: Some(None),
            startup_timeout: Some(Some(seconds(9))),
            executor: ExecutorConfig {
                queue_depth: Some(3),
                queue_timeout: Some(seconds(45)),
                ..ExecutorConfig::default()
            },
            ..server()
        };
        assert_eq!(python, expected);
        assert_eq!(python.deadlock_timeout(), None);
        let mut server = server();
        server.executor.queue_timeout = Some(seconds(2));
        let python = group.python(&server);
        assert_eq!(
            python.executor.queue_timeout,
            Some(seconds(2)),
            "WSGIQueue holds"
        );
    }

    #[test]
    fn a_service_may_handle_signals() {
        let service = ProcessGroup {
            threads: 0,
            ..group()
        };
        assert!(service.is_service());
        let python = service.python(&server());
        assert!(!group_options(&[], &python, "site", "").restrict_signal);
        let python = group().python(&PythonConfig::default());
        assert!(group_options(&[], &python, "site", "").restrict_signal);
    }

    #[test]
    fn the_home_of_a_group_is_the_first_directory_and_stands_once() {
        let group = ProcessGroup {
            home: Some("/site".into()),
            python_path: vec!["/lib".into(), "/site/".into()],
            ..group()
        };
        let of_group = InterpreterOptions {
            process_group: Some("site".into()),
            python_path: Some(vec!["/container".into(), "/site".into()]),
            ..InterpreterOptions::default()
        };
        let python = group.python(&server());
        let options = group_options(&[of_group], &python, "site", "");
        // Each list goes to the front of those before it.
        assert_eq!(
            options.python_path,
            [vec!["/lib"], vec!["/container"], vec!["/site"]]
        );
    }
}
