//! Starts and stops a private httpd, which has its own root, a free loopback port and one child; and before it, the
//! server to which it forwards requests, if there is one.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::User;
use rustix::process::{Signal, getuid};
use serde::Serialize;
use tempfile::TempDir;

use crate::subjects::backend::Backend;
use crate::subjects::interrupt::{self, send};
use crate::subjects::processes::{self, ProcessKey, children_of};
use crate::subjects::subject::Subject;

/// The installed httpd, as `apxs` describes it.
pub(crate) struct Httpd {
    pub(crate) program: PathBuf,
    modules: PathBuf,
}

/// How the server processes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mpm {
    /// One child, one connection at a time
    Prefork,
    /// One child with this many threads
    Event(usize),
}

/// The tool under which httpd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Under {
    Nothing,
    Callgrind,
}

/// The processes of a server that a measurement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// The only child of httpd
    Child,
    /// httpd's parent and all of its descendants, and the same of the server to which it forwards requests
    All,
}

/// A running server; dropping it ends it.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    under: Under,
    /// Ends after httpd
    backend: Option<Backend>,
    root: TempDir,
}

impl Httpd {
    pub(crate) fn find() -> Result<Self> {
        let ask = |what: &str| -> Result<String> {
            for apxs in ["apxs", "apxs2"] {
                match Command::new(apxs).args(["-q", what]).output() {
                    Ok(answer) if answer.status.success() => {
                        return Ok(String::from_utf8(answer.stdout)?.trim().to_owned());
                    }
                    _ => {}
                }
            }
            bail!(
                "apxs does not answer `-q {what}`: install httpd's development package (apache2-dev, httpd-devel)"
            )
        };
        Ok(Self {
            program: Path::new(&ask("SBINDIR")?).join(ask("PROGNAME")?),
            modules: PathBuf::from(ask("LIBEXECDIR")?),
        })
    }

    /// Starts httpd with the module of `subject`. Returns once httpd accepts connections.
    pub(crate) fn start(&self, subject: &Subject, mpm: Mpm, under: Under) -> Result<Server> {
        let root = tempfile::Builder::new().prefix("wsgi-bench-").tempdir()?;
        open_to_children(root.path())?;
        let address = free_address()?;
        let configuration = root.path().join("httpd.conf");
        fs::write(
            &configuration,
            self.configuration(subject, mpm, address, root.path())?,
        )?;
        let backend = subject.start_backend(root.path())?;

        let mut command = match under {
            Under::Nothing => Command::new(&self.program),
            Under::Callgrind => {
                let mut valgrind = Command::new("valgrind");
                valgrind
                    .args([
                        "--tool=callgrind",
                        "--trace-children=yes",
                        "--dump-instr=no",
                        "--vgdb=no",
                    ])
                    .arg(format!(
                        "--log-file={}/valgrind.%p.log",
                        root.path().join(DUMPS).display()
                    ))
                    .arg(format!(
                        "--callgrind-out-file={}/callgrind.out.%p",
                        root.path().join(DUMPS).display()
                    ))
                    .arg(&self.program);
                valgrind
            }
        };
        let output = File::create(root.path().join("output"))?;
        let process = command
            .arg("-d")
            .arg(root.path())
            .arg("-f")
            .arg(&configuration)
            .arg("-DFOREGROUND")
            // Each subject has the same few variables: the caller's environment must not change a count.
            .env_clear()
            .envs(ENVIRONMENT)
            // At its end, httpd sends a signal to its whole process group. This program must not be in that group.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;

        let mut server = Server {
            process,
            address,
            under,
            backend,
            root,
        };
        interrupt::running(server.process.id())?;
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn configuration(
        &self,
        subject: &Subject,
        mpm: Mpm,
        address: SocketAddr,
        root: &Path,
    ) -> Result<String> {
        let shape = match mpm {
            Mpm::Prefork => "StartServers 1\nServerLimit 1\nMaxRequestWorkers 1\nMinSpareServers 1\nMaxSpareServers 1\n"
                .to_owned(),
            Mpm::Event(threads) => format!(
                "StartServers 1\nServerLimit 1\nThreadLimit {threads}\nThreadsPerChild {threads}\n\
                 MaxRequestWorkers {threads}\nMinSpareThreads {threads}\nMaxSpareThreads {threads}\n"
            ),
        };
        let mpm = match mpm {
            Mpm::Prefork => "mpm_prefork",
            Mpm::Event(_) => "mpm_event",
        };
        let mut text = String::new();
        let always = [mpm, "unixd", "authz_core"];
        for module in always.iter().chain(subject.modules()) {
            let file = self.modules.join(format!("mod_{module}.so"));
            // If there is no file, the module is compiled in.
            if file.exists() {
                text += &format!("LoadModule {module}_module \"{}\"\n", file.display());
            }
        }
        if getuid().is_root() {
            let user = unprivileged_user()?;
            text += &format!("User {}\nGroup #{}\n", user.name, user.gid);
        }
        let folder = root.display();
        text += &format!(
            "Define ROOT \"{folder}\"\nDefine APP \"{folder}/app\"\n\
             ServerRoot \"{folder}\"\nServerName localhost\nListen {address}\nPidFile \"{folder}/httpd.pid\"\n\
             DefaultRuntimeDir \"{folder}\"\nErrorLog \"{folder}/error.log\"\nLogLevel warn\n{shape}\
             MaxConnectionsPerChild 0\nKeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\nTimeout 120\n\
             DocumentRoot \"${{APP}}\"\n\
             <Directory \"/\">\n  Options FollowSymLinks\n  AllowOverride None\n</Directory>\n\
             <Directory \"${{APP}}\">\n  Require all granted\n</Directory>\n"
        );
        text += &subject.install(root)?;
        Ok(text)
    }
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process id of the only child. Call this after the child has answered a request: only then is it
    /// certain which process the child is.
    pub(crate) fn child(&self) -> Result<u32> {
        let mut children = children_of(self.process.id())?;
        // The module's own processes serve no requests.
        children.retain(|(_, name)| !name.starts_with("wsgi-"));
        ensure!(
            children.len() == 1,
            "expected one child of httpd, found {children:?}\n{}",
            self.log()
        );
        Ok(children[0].0)
    }

    /// Returns the processes that run now and that a measurement counts. For the child, the same holds as for
    /// [`Self::child`].
    pub(crate) fn processes(&self, counted: Counted) -> Result<Vec<ProcessKey>> {
        match counted {
            Counted::Child => Ok(vec![processes::key_of(self.child()?)?]),
            Counted::All => {
                let backend = self.backend.as_ref().map(Backend::pid);
                let roots: Vec<u32> = backend.into_iter().chain([self.process.id()]).collect();
                processes::trees_of(&roots)
            }
        }
    }

    /// Returns the file name of the libpython that the child has mapped. Both WSGI modules must run the same one.
    pub(crate) fn libpython(&self) -> Result<Option<String>> {
        processes::libpython(&self.processes(Counted::Child)?)
    }

    /// Ends the server and returns callgrind's file of `child`.
    pub(crate) fn stop_and_dump(mut self, child: u32) -> Result<String> {
        self.stop();
        let file = self
            .root
            .path()
            .join(DUMPS)
            .join(format!("callgrind.out.{child}"));
        fs::read_to_string(&file)
            .with_context(|| format!("callgrind left no count of the child\n{}", self.log()))
    }

    /// Ends the server and returns callgrind's files of all processes.
    pub(crate) fn stop_and_dump_all(mut self) -> Result<Vec<String>> {
        self.stop();
        let mut dumps = Vec::new();
        for entry in fs::read_dir(self.root.path().join(DUMPS))? {
            let entry = entry?;
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("callgrind.out.")
            {
                dumps.push(fs::read_to_string(entry.path())?);
            }
        }
        Ok(dumps)
    }

    /// Returns the last lines of httpd's output and error log, for error messages.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        for name in ["output", "error.log", Backend::LOG] {
            let lines = fs::read_to_string(self.root.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = lines.lines().collect();
            for line in &lines[lines.len().saturating_sub(20)..] {
                text += &format!("  {name}: {line}\n");
            }
        }
        text
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The parent listens before it forks, so this one connection waits in the queue until the child is ready.
            // It is closed unused. Its cost is constant, so it drops out of the difference of two runs.
            match TcpStream::connect(self.address) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("httpd ended at start: {status}\n{}", self.log());
            }
            ensure!(
                Instant::now() < deadline,
                "httpd does not listen after {PATIENCE:?}\n{}",
                self.log()
            );
            thread::sleep(POLL);
        }
    }

    fn stop(&mut self) {
        interrupt::ended();
        let all = processes::trees_of(&[self.process.id()]).unwrap_or_default();
        // Under callgrind the stop is graceful: at SIGTERM httpd kills a child that has not ended after nine seconds,
        // and the count would be lost.
        let signal = if self.under == Under::Callgrind {
            Signal::WINCH
        } else {
            Signal::TERM
        };
        send(self.process.id(), signal);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                // Processes of groups may end later than httpd. They would disturb the next measurement, and under
                // callgrind they still have to write their counts.
                let patience = match self.under {
                    Under::Nothing => PATIENCE_AFTER_PARENT,
                    Under::Callgrind => PATIENCE,
                };
                processes::wait_for_end(&all, patience);
                return;
            }
            thread::sleep(POLL);
        }
        processes::kill(&all);
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// Prepares the root so that the user of the children can read the application and write the counts.
fn open_to_children(root: &Path) -> Result<()> {
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    let app = root.join("app");
    fs::create_dir(&app)?;
    fs::write(app.join("app.wsgi"), HELLO)?;
    // The same under a name that Python can import.
    fs::write(app.join("app.py"), HELLO)?;
    fs::write(app.join("work.wsgi"), WORK)?;
    fs::write(app.join("spin.wsgi"), SPIN)?;
    let dumps = root.join(DUMPS);
    fs::create_dir(&dumps)?;
    fs::set_permissions(&dumps, Permissions::from_mode(0o777))?;
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Returns the user that httpd's children become.
fn unprivileged_user() -> Result<User> {
    for name in ["www-data", "apache", "httpd", "daemon", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("no unprivileged user (www-data, apache, ...) for the children of httpd")
}

/// The threads of the only child under event, unless a measurement sets another number.
pub(crate) const EVENT_THREADS: usize = 25;
/// The environment of every server.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
    ),
    ("LC_ALL", "C.UTF-8"),
    ("PYTHONHASHSEED", "0"),
];
const HELLO: &str = include_str!("../app.wsgi");
const WORK: &str = include_str!("../work.wsgi");
pub(crate) const SPIN: &str = include_str!("../spin.wsgi");
const DUMPS: &str = "dumps";
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest time that a process may run after httpd's parent has ended, before it is killed.
const PATIENCE_AFTER_PARENT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
