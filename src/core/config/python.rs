//! The configuration of Python as a whole, as written in the main server, or as a process group has it.

use std::time::Duration;

use wsgi_abi::FreeThreading;

use super::executor::{self, Share};
use super::interpreters::InterpreterConfig;

/// The directives for Python as a whole, which may stand in the main server only.
/// [`ProcessGroup::python`](super::ProcessGroup::python) gives those of a process group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PythonConfig {
    /// `WSGIPythonHome`: a prefix or a virtual environment.
    pub home: Option<String>,
    /// `WSGIPythonPath`, split at its colons.
    pub path: Option<Vec<String>>,
    /// `home=` of a process group, which is the first of `sys.path`, before the directories of all `WSGIPythonPath`;
    /// `None` in httpd's children.
    pub first_directory: Option<String>,
    /// `WSGIPythonEggs`.
    pub eggs: Option<String>,
    /// `WSGIPythonOptimize`; 0 leaves CPython's own level.
    pub optimize: u32,
    /// `WSGIPythonWarnings`, in order.
    pub warnings: Vec<String>,
    /// `WSGIPythonHashSeed`; `None` for `random`, which is also the default.
    pub hash_seed: Option<u32>,
    /// `WSGIDontWriteBytecode`; the default is Off.
    pub dont_write_bytecode: bool,
    /// `WSGISwitchInterval`, seconds, above 0.
    pub switch_interval: Option<f64>,
    /// `WSGIRestrictStdin`; the default is Off.
    pub restrict_stdin: Option<bool>,
    /// `WSGIRestrictStdout`; the default is Off.
    pub restrict_stdout: Option<bool>,
    /// `WSGIRestrictSignal`; the default is On.
    pub restrict_signal: Option<bool>,
    /// `WSGIRestrictEmbedded On`: no request may run Python in the httpd children, so all are answered with 500.
    pub restrict_embedded: bool,
    /// `WSGIApplicationGroupLimit`.
    pub group_limit: Option<u32>,
    /// `WSGICaseSensitivity`; the default is On, as file systems on Linux are case-sensitive.
    pub case_sensitivity: Option<bool>,
    /// `WSGIInterpreter`, `WSGIGILMode`, `WSGIPerInterpreterGIL`, `WSGIInterpreters`.
    pub interpreters: InterpreterConfig,
    /// `WSGIExecutor`, `WSGIThreadPool`, `WSGIQueue`, `WSGIThreadShare`.
    pub executor: executor::ExecutorConfig,
    /// `reserve=` of `WSGIThreadShare`.
    pub thread_reserve: Option<Share>,
    /// `WSGIDeadlockTimeout`; the inner `None` is Off.
    pub deadlock_timeout: Option<Option<Duration>>,
    /// `WSGIStartupTimeout`; the inner `None` is Off.
    pub startup_timeout: Option<Option<Duration>>,
    /// `WSGIFreeThreading`.
    pub free_threading: Option<FreeThreading>,
    /// `WSGIPrivateEnviron`; the default is On.
    pub private_environ: Option<bool>,
    /// `WSGIDestroyInterpreter`.
    pub destroy: Option<bool>,
}

/// The default of `WSGIStartupTimeout`.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

impl PythonConfig {
    /// Returns how long a GIL may be held before that counts as a deadlock; `None` if there is no limit.
    pub fn deadlock_timeout(&self) -> Option<Duration> {
        self.deadlock_timeout
            .unwrap_or(Some(Duration::from_secs(300)))
    }

    /// Returns how long Python may take to start, and an application to load if its group has no own limit; `None` if
    /// there is no limit.
    pub fn startup_timeout(&self) -> Option<Duration> {
        self.startup_timeout.unwrap_or(Some(STARTUP_TIMEOUT))
    }
}
