//! The description of a server that a test needs.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::machine::ports::free_port;
use crate::mpm::Mpm;

/// The description of a server that is not running yet.
pub struct Builder {
    pub(crate) mpm: Mpm,
    pub(crate) apps: Vec<(String, String)>,
    pub(crate) conf: String,
    pub(crate) modules: Vec<&'static str>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) writable: Vec<String>,
    pub(crate) alone: bool,
    pub(crate) example: Option<PathBuf>,
    pub(crate) processes: usize,
    pub(crate) threads: usize,
    pub(crate) one_child: bool,
    pub(crate) single_process: bool,
    pub(crate) python_home: Option<PathBuf>,
    pub(crate) log_level: &'static str,
    pub(crate) metrics: bool,
    pub(crate) listener: bool,
    pub(crate) own_executor: bool,
}

/// Returns a script whose application answers with this text.
pub fn script_answering(text: impl fmt::Display) -> String {
    format!(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{text}']\n"
    )
}

/// The ports of a server.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) server: u16,
    /// The port of `WSGIMetricsListen`.
    pub(crate) metrics: u16,
}

impl Builder {
    /// Describes a server with one child under this MPM, and no application.
    pub(super) fn new(mpm: Mpm) -> Builder {
        Builder {
            mpm,
            apps: Vec::new(),
            conf: String::new(),
            modules: Vec::new(),
            files: Vec::new(),
            writable: Vec::new(),
            alone: false,
            example: None,
            processes: 1,
            threads: 4,
            one_child: false,
            single_process: false,
            python_home: None,
            log_level: "info",
            metrics: false,
            listener: false,
            own_executor: false,
        }
    }

    /// Mounts `tests/apps/<script>` at a URL path.
    pub fn app(mut self, url: &str, script: &str) -> Self {
        self.apps.push((url.into(), script.into()));
        self
    }

    /// Adds lines to the configuration; they may use `${ROOT}`, `${APPS}` and `${PORT}`.
    pub fn conf(mut self, lines: &str) -> Self {
        self.conf.push_str(lines);
        self.conf.push('\n');
        self
    }

    /// Loads more of httpd's own modules, by name: `deflate`, `auth_basic`.
    pub fn modules(mut self, names: &[&'static str]) -> Self {
        self.modules.extend(names);
        self
    }

    /// Writes a file in the server root before the start; `htdocs/` is the document root.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((path.into(), content.as_ref().into()));
        self
    }

    /// Makes a folder in the server root to which the children may write.
    pub fn writable_folder(mut self, path: &str) -> Self {
        self.writable.push(path.into());
        self
    }

    /// Runs a file of `config-examples/`, with the names of its README defined, and nothing else.
    pub fn example(mut self, file: &Path) -> Self {
        self.example = Some(file.into());
        self
    }

    /// Loads a copy of the module that has no engine beside it.
    pub fn module_without_engines(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Asks for exactly one child; it has four threads if children have threads.
    pub fn one_child(mut self) -> Self {
        self.one_child = true;
        self
    }

    /// Asks for `processes` children of `threads` threads; under prefork for the product of both as children.
    pub fn pool(mut self, processes: usize, threads: usize) -> Self {
        (self.processes, self.threads) = (processes, threads);
        self
    }

    /// Runs `httpd -X`, which never forks.
    pub fn single_process(mut self) -> Self {
        self.single_process = true;
        self
    }

    /// Sets another `WSGIPythonHome` than that of the whole suite.
    pub fn python_home(mut self, path: &Path) -> Self {
        self.python_home = Some(path.into());
        self
    }

    /// Sets another `LogLevel` than `info`.
    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// Serves `/metrics` and `/wsgi-status`.
    pub fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// Does the same as [`Builder::metrics`], and the helper process serves them, too, for [`crate::Server::scrape`].
    pub fn metrics_listener(mut self) -> Self {
        (self.metrics, self.listener) = (true, true);
        self
    }

    /// Lets the module choose the executor, even if the suite runs with a certain one: for tests of that choice.
    pub fn own_executor(mut self) -> Self {
        self.own_executor = true;
        self
    }
}

impl Ports {
    pub(super) fn free() -> Self {
        Ports {
            server: free_port(),
            metrics: free_port(),
        }
    }
}
