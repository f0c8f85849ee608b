//! A server that a test has started: its output, its pages, its end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running program that serves on a port of this machine.
pub(crate) struct Subject {
    child: Child,
    port: u16,
    /// Files with its standard output and error; they outlive the server.
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

impl Subject {
    /// Starts `command` and waits until it answers on `port`. Its output goes to files in `folder`.
    pub(crate) fn start(mut command: Command, port: u16, folder: &std::path::Path) -> Subject {
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let child = command
            // httpd passes its SIGTERM on to its whole process group, which must not be that of the tests.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file"))
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the program runs");
        let mut subject = Subject {
            child,
            port,
            stdout,
            stderr,
        };
        let end = Instant::now() + PATIENCE;
        while !subject.said().contains("resuming normal operations") {
            let ended = subject.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < end,
                "not serving ({ended:?}):\n{}",
                subject.said()
            );
            sleep(STEP);
        }
        subject
    }

    /// Returns status and body of a page.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (
            status.unwrap_or_else(|| panic!("no status: {answer:?}\n{}", self.said())),
            body.to_owned(),
        )
    }

    /// Returns the body of a page that must exist.
    pub(crate) fn page(&self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}\n{}", self.said());
        body
    }

    /// Returns what the server has written to standard error so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    pub(crate) fn send(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    /// Sends `signal` and waits for the end of the process and of everything that listened on its port.
    pub(crate) fn end_by(mut self, signal: Signal) -> ExitStatus {
        self.wait_until_quiet();
        self.send(signal);
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.said());
            sleep(STEP);
        };
        while TcpListener::bind(("127.0.0.1", self.port)).is_err() {
            assert!(
                Instant::now() < end,
                "something still listens on port {}:\n{}",
                self.port,
                self.said()
            );
            sleep(STEP);
        }
        status
    }

    /// Lets the server finish the connections that it is closing. A child of the event MPM that is told to end during
    /// that may log AH03092 for one of them, because httpd has already closed the socket.
    fn wait_until_quiet(&self) {
        let end = Instant::now() + Duration::from_secs(1);
        while self.holds_a_connection() && Instant::now() < end {
            sleep(STEP);
        }
    }

    /// Returns whether a process has an open connection whose local port is the server's.
    fn holds_a_connection(&self) -> bool {
        let own = format!(":{:04X}", self.port);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, .., inode] = fields[..10.min(fields.len())] else {
                return false;
            };
            local.ends_with(&own) && state != LISTENING && inode != "0"
        })
    }

    /// Ends the server as Ctrl-C or a service manager would, and checks that it logged no complaint.
    pub(crate) fn end(self, signal: Signal) {
        let stderr = self.stderr.clone();
        let status = self.end_by(signal);
        let said = std::fs::read_to_string(stderr).unwrap_or_default();
        assert!(status.success(), "{status} {:?}:\n{said}", status.signal());
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| {
                ["emerg]", "alert]", "crit]", "error]"]
                    .iter()
                    .any(|level| line.contains(level))
            })
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Only after a failed test. Asked to end rather than killed, so that its children end, too.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Returns a port that nothing listens on. Another process may by chance take it before it is used.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);
/// TCP_LISTEN in the kernel's table.
const LISTENING: &str = "0A";
