//! The servers to which httpd forwards requests: gunicorn and uWSGI, each with two processes of five threads, as the
//! process groups have.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::subjects::interrupt::{self, send};
use crate::subjects::processes;
use crate::subjects::server::ENVIRONMENT;

/// The kinds of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// gunicorn with worker threads
    Gunicorn,
    /// uWSGI with its own protocol
    Uwsgi,
}

/// A running server; dropping it ends it.
pub(crate) struct Backend {
    process: Child,
}

impl Kind {
    /// Returns the modules with which httpd forwards requests.
    pub(crate) const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Gunicorn => &["proxy", "proxy_http"],
            Self::Uwsgi => &["proxy", "proxy_uwsgi"],
        }
    }

    /// Returns the lines of configuration with which httpd forwards all requests.
    ///
    /// There are no options: by default mod_proxy_http keeps its connections and uses them again. mod_proxy_uwsgi opens
    /// one for each request, because uWSGI closes it after the response.
    pub(crate) fn lines(self) -> String {
        let scheme = match self {
            Self::Gunicorn => "http",
            Self::Uwsgi => "uwsgi",
        };
        format!("ProxyPass \"/\" \"unix:${{ROOT}}/{SOCKET}|{scheme}://localhost/\"\n")
    }

    /// Returns the arguments of `program` for the application below `root`.
    fn arguments(self, program: &Path, root: &Path) -> Vec<String> {
        let (root, processes, threads) =
            (root.display(), PROCESSES.to_string(), THREADS.to_string());
        let mut arguments = match self {
            Self::Gunicorn => vec![
                format!("--bind=unix:{root}/{SOCKET}"),
                "--worker-class=gthread".to_owned(),
                format!("--workers={processes}"),
                format!("--chdir={root}/app"),
                "--log-level=warning".to_owned(),
                "app:application".to_owned(),
            ],
            Self::Uwsgi => vec![
                format!("--socket={root}/{SOCKET}"),
                // httpd's child is often another user.
                "--chmod-socket=666".to_owned(),
                "--master".to_owned(),
                format!("--processes={processes}"),
                "--need-app".to_owned(),
                "--disable-logging".to_owned(),
                format!("--wsgi-file={root}/app/app.wsgi"),
            ],
        };
        let threads = format!("--threads={threads}");
        arguments.insert(0, threads);
        // uWSGI does not look for the virtual environment in which it is.
        if let (Self::Uwsgi, Some(folder)) = (self, program.ancestors().nth(2)) {
            arguments.push(format!("--virtualenv={}", folder.display()));
        }
        arguments
    }
}

impl Backend {
    /// The file in the root with the server's output.
    pub(crate) const LOG: &'static str = "backend.log";

    /// Starts `program`. Returns once it accepts connections.
    pub(crate) fn start(kind: Kind, program: &Path, root: &Path) -> Result<Self> {
        interrupt::check()?;
        let output = File::create(root.join(Self::LOG))?;
        let process = Command::new(program)
            .args(kind.arguments(program, root))
            .current_dir(root)
            .env_clear()
            .envs(ENVIRONMENT)
            // gunicorn makes its control socket there.
            .env("HOME", root)
            // The signal of a terminal must not end it before httpd.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut backend = Self { process };
        backend.wait_until_it_listens(root)?;
        Ok(backend)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_it_listens(&mut self, root: &Path) -> Result<()> {
        let last_line = || {
            let output = fs::read_to_string(root.join(Self::LOG)).unwrap_or_default();
            last_line(&output).to_owned()
        };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(root.join(SOCKET)).is_err() {
            interrupt::check()?;
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended at its start, {status}: {}", last_line());
            }
            ensure!(
                Instant::now() < deadline,
                "it does not listen after {PATIENCE:?}: {}",
                last_line()
            );
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let all = processes::trees_of(&[self.process.id()]).unwrap_or_default();
            // At SIGTERM gunicorn waits for idle connections, and uWSGI starts again.
            send(self.process.id(), Signal::INT);
            processes::wait_for_end(&all, PATIENCE_AT_END);
            let _ = self.process.wait();
        }
    }
}

fn last_line(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim);
    lines.rfind(|line| !line.is_empty()).unwrap_or("no output")
}

/// The processes of a server, as of a process group.
pub(crate) const PROCESSES: usize = 2;
/// The threads of each process.
pub(crate) const THREADS: usize = 5;
/// The file in the root at which the server listens.
const SOCKET: &str = "backend.sock";
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_AT_END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_have_the_shape_of_the_groups() {
        let program = Path::new("/venv/bin/server");
        for (kind, processes) in [
            (Kind::Gunicorn, "--workers=2"),
            (Kind::Uwsgi, "--processes=2"),
        ] {
            let arguments = kind.arguments(program, Path::new("/root"));
            for wanted in [processes, "--threads=5"] {
                assert!(
                    arguments.iter().any(|one| one == wanted),
                    "{wanted}: {arguments:?}"
                );
            }
        }
        let arguments = Kind::Uwsgi.arguments(program, Path::new("/root"));
        assert!(arguments.contains(&"--virtualenv=/venv".to_owned()));
    }

    #[test]
    fn httpd_forwards_to_the_socket_in_its_root() {
        assert_eq!(
            Kind::Gunicorn.lines(),
            "ProxyPass \"/\" \"unix:${ROOT}/backend.sock|http://localhost/\"\n"
        );
    }

    #[test]
    fn the_last_line_of_an_output_has_text() {
        assert_eq!(last_line("one\n  two\n\n"), "two");
        assert_eq!(last_line("\n"), "no output");
    }
}
