//! Running httpd in the foreground, from its start to its end.
//!
//! 1. httpd gets its own process group, so that Ctrl-C in a terminal reaches only `wsgictl`: it would kill httpd's
//!    children in the middle of their requests.
//! 2. The output of httpd comes through pipes that `wsgictl` made. httpd opens `/dev/stderr` by name, which fails if
//!    the real standard error is a socket, or a terminal of another user.
//! 3. The first SIGINT, SIGTERM or SIGHUP asks httpd to stop; a second one kills its whole group at once.
//! 4. When httpd has ended, `wsgictl` ends the rest of its group and passes on the last lines of its output before it
//!    returns, so that nothing appears after the shell's prompt.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::launch::tether;
use crate::output::failure::{Failure, Outcome};
use crate::output::messages;
use crate::output::visible::visible_line;

/// Runs `httpd` with `arguments` until it ends or is told to. Calls `ready` once, when httpd serves.
pub(crate) fn foreground(
    httpd: &str,
    arguments: &[&str],
    ready: impl FnOnce(),
) -> Outcome<ExitCode> {
    let (news, incoming) = channel();
    listen_for_signals(news.clone())?;
    let mut child = tether::command(httpd, arguments)?
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("cannot run {httpd}: {error}")))?;
    let outputs = [
        child
            .stdout
            .take()
            .map(|pipe| relay(pipe, std::io::stdout(), None)),
        child
            .stderr
            .take()
            .map(|pipe| relay(pipe, std::io::stderr(), Some(news))),
    ];
    let (status, asked) = supervise(&mut child, &incoming, ready)?;
    sweep(&child);
    finish(outputs);
    verdict(status, asked)
}

/// An event while httpd runs.
enum News {
    /// A signal to `wsgictl`.
    Signal,
    /// httpd has logged that it serves.
    Ready,
}

fn listen_for_signals(news: Sender<News>) -> Outcome<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
    thread::spawn(move || signals.forever().try_for_each(|_| news.send(News::Signal)));
    Ok(())
}

/// Waits for the end of httpd. The second value is whether it was asked to end.
fn supervise(
    child: &mut Child,
    incoming: &Receiver<News>,
    ready: impl FnOnce(),
) -> Outcome<(ExitStatus, bool)> {
    let group = group(child);
    let mut ready = Some(ready);
    let mut asked = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok((status, asked)),
            Ok(None) => {}
            Err(error) => return Err(Failure::new(format!("cannot wait for httpd: {error}"))),
        }
        // Not reaped yet, so the pid still belongs to httpd. A signal that comes too late is not a failure.
        match incoming.recv_timeout(POLL) {
            Ok(News::Ready) => ready.take().into_iter().for_each(|ready| ready()),
            Ok(News::Signal) if !asked => {
                asked = true;
                let _ = kill_process(group, Signal::TERM);
            }
            Ok(News::Signal) => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
        }
    }
}

/// Ends the processes that httpd left behind, such as children of a killed parent.
fn sweep(child: &Child) {
    let group = group(child);
    for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
        if let Some(signal) = signal {
            let _ = kill_process_group(group, signal);
        }
        let end = Instant::now() + GRACE;
        while test_kill_process_group(group).is_ok() {
            if Instant::now() > end {
                break;
            }
            thread::sleep(POLL);
        }
    }
}

fn group(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Passes lines on until the pipe ends. A closed output does not stop the server.
fn relay(
    pipe: impl Read + Send + 'static,
    mut to: impl Write + IsTerminal + Send + 'static,
    news: Option<Sender<News>>,
) -> Output {
    let (ended, end) = channel::<()>();
    let thread = thread::spawn(move || {
        let _ended = ended; // Dropped with the thread, which ends the wait for it.
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        let mut news = news;
        // An application may write to this pipe, too, and need not end its lines.
        let shows = to.is_terminal();
        while matches!(
            (&mut pipe).take(LONGEST).read_until(b'\n', &mut line),
            Ok(1..)
        ) {
            let written = if shows {
                to.write_all(visible_line(&line).as_bytes())
            } else {
                to.write_all(&line)
            };
            let _ = written.and_then(|()| to.flush());
            if line.windows(SERVING.len()).any(|part| part == SERVING)
                && let Some(news) = news.take()
            {
                let _ = news.send(News::Ready);
            }
            line.clear();
        }
    });
    Output { thread, end }
}

/// A thread that passes output on, with a way to wait for it for a limited time.
struct Output {
    thread: JoinHandle<()>,
    end: Receiver<()>,
}

/// Waits for the last lines, for a limited time: a process that has left the group may keep a pipe open.
fn finish(outputs: [Option<Output>; 2]) {
    for output in outputs.into_iter().flatten() {
        if output.end.recv_timeout(GRACE) == Err(RecvTimeoutError::Disconnected) {
            let _ = output.thread.join();
        }
    }
}

fn verdict(status: ExitStatus, asked: bool) -> Outcome<ExitCode> {
    if asked {
        return Ok(ExitCode::SUCCESS);
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => messages::line("wsgictl: httpd has ended."),
        (Some(code), _) => messages::line(&format!(
            "wsgictl: httpd has ended with status {code}; its messages are above."
        )),
        (None, signal) => messages::line(&format!(
            "wsgictl: httpd was ended by signal {}.",
            signal.unwrap_or_default()
        )),
    }
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Bytes of a line from httpd that are passed on at once.
const LONGEST: u64 = 64 * 1024;
const POLL: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_secs(3);
/// Part of the notice that every MPM logs when its children have been started.
const SERVING: &[u8] = b"resuming normal operations";
