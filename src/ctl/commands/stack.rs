//! `wsgictl stack`: asks a child for the stacks of its threads, and shows them with the child's running requests, which
//! it reads from the segment.

use std::fmt::Write;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use wsgi_telemetry::Segment;
use wsgi_telemetry::board::{Board, ChildEntry, StacksAnswer, StacksTicket};
use wsgi_telemetry::status::{self, RequestStatus, Status};

use crate::cli::StackArgs;
use crate::output::failure::{Failure, Outcome};
use crate::output::{messages, terminal};
use crate::segment::find;
use crate::segment::server::Server;

/// Asks, waits, and shows the stacks; without an answer, only what the segment has of the child.
pub(crate) fn stack(args: &StackArgs) -> Outcome<ExitCode> {
    let (server, segment) = find::open_to_ask(args.segment.segment.as_deref())?;
    let child = child(&server, segment, args.pid)?;
    let asked = StacksRequest::ask(segment, child, Duration::from_secs_f64(args.timeout))?;
    let answer = asked.wait();
    // Read right after the stacks, so that both show nearly the same moment.
    let requests = Requests::of(&segment, args.pid);
    let (stacks, problem) = match answer {
        Ok(stacks) => (Some(stacks), None),
        Err(failure) => (None, Some(failure)),
    };
    let text = page(&child, &requests, stacks.as_deref());
    let _read = terminal::write(&text)?;
    match problem {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => {
            messages::failure(&failure);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Returns the child with this process id.
fn child(server: &Server, segment: Segment, pid: u32) -> Outcome<ChildEntry> {
    let children = segment.board().children();
    if let Some(found) = children.iter().find(|child| child.pid == pid) {
        return Ok(*found);
    }
    let what = if pid == server.parent() {
        format!("process {pid} is the server's parent, which runs no Python.")
    } else {
        format!("this server has no child {pid}.")
    };
    let failure = Failure::new(what);
    if children.is_empty() {
        // `httpd -X` runs one process, and a server that has just started has no children yet.
        return Err(failure.remedy(
            "It has no children: it runs as one process (httpd -X), or has just started.",
        ));
    }
    let mut list = String::from("It has:");
    for child in children {
        let _ = write!(list, "\n  {}  {}", child.pid, state(&child));
    }
    Err(failure.remedy(list))
}

/// Returns the state of a child in words, with its duration.
fn state(child: &ChildEntry) -> String {
    let since = wsgi_telemetry::clock::unix().saturating_sub(child.since);
    let time = status::duration(since as f64 / 1e9);
    let state = child.state.text();
    match child.retire {
        Some(reason) => format!("{state} for {time}; it will retire: {}", reason.text()),
        None => format!("{state} for {time}"),
    }
}

/// A request for the stacks of a child.
struct StacksRequest {
    board: Board,
    pid: u32,
    ticks: u64,
    ticket: StacksTicket,
    began: Instant,
    timeout: Duration,
}

impl StacksRequest {
    fn ask(segment: Segment, child: ChildEntry, timeout: Duration) -> Outcome<Self> {
        let (board, began) = (segment.board(), Instant::now());
        let patience = (timeout / 2).min(PATIENCE);
        let ticket = loop {
            if let Some(ticket) = board.ask_for_stacks(child.pid, patience) {
                break ticket;
            }
            if began.elapsed() >= timeout {
                return Err(Failure::new(
                    "another request for stacks of this server is still under way.",
                )
                .remedy("Ask again in half a minute at the latest."));
            }
            thread::sleep(STEP);
        };
        Ok(Self {
            board,
            pid: child.pid,
            ticks: child.ticks,
            ticket,
            began,
            timeout,
        })
    }

    fn wait(&self) -> Outcome<String> {
        let pid = self.pid;
        loop {
            let late = self.began.elapsed() >= self.timeout;
            let time = status::duration(self.timeout.as_secs_f64());
            match self.board.stacks(self.ticket) {
                StacksAnswer::Told(text) => return Ok(text),
                StacksAnswer::Lost => {
                    return Err(Failure::new(format!("the answer of child {pid} was lost."))
                        .remedy("Ask again."));
                }
                StacksAnswer::Waiting if late => {
                    return Err(Failure::new(format!(
                        "child {pid} did not take the request within {time}."
                    ))
                    .remedy(
                        "Is it stopped, or starved of CPU time? kill -ABRT ends it, with a core where the system keeps \
                         them.",
                    ));
                }
                StacksAnswer::Taken if late => {
                    return Err(Failure::new(format!(
                        "child {pid} took the request, but did not answer within {time}."
                    ))
                    .remedy("Wait longer: --timeout 25"));
                }
                StacksAnswer::Waiting | StacksAnswer::Taken => {}
            }
            let is_it = |child: &ChildEntry| (child.pid, child.ticks) == (pid, self.ticks);
            if !self.board.children().iter().any(is_it) {
                return Err(Failure::new(format!("child {pid} has ended.")));
            }
            thread::sleep(STEP);
        }
    }
}

impl Drop for StacksRequest {
    fn drop(&mut self) {
        self.board.release_stacks(self.ticket);
    }
}

/// The running requests of a child.
enum Requests {
    /// The server measures nothing.
    Unknown,
    Known(Vec<RequestStatus>),
}

impl Requests {
    fn of(segment: &Segment, pid: u32) -> Self {
        let snapshot = segment.snapshot();
        if !snapshot.records {
            return Requests::Unknown;
        }
        let status = Status::new(&snapshot, &segment.history());
        let running = status.running.into_iter();
        Requests::Known(running.filter(|request| request.pid == pid).collect())
    }
}

/// Returns the text to show.
fn page(child: &ChildEntry, requests: &Requests, stacks: Option<&str>) -> String {
    let mut page = format!("Child {}: {}\n\n", child.pid, state(child));
    match requests {
        Requests::Unknown => {
            page.push_str("The requests it serves are not known: WSGIMetrics is off.\n")
        }
        Requests::Known(requests) if requests.is_empty() => {
            page.push_str("It serves no WSGI request.\n");
        }
        Requests::Known(requests) => {
            for request in requests {
                let _ = writeln!(
                    page,
                    "Thread {}: {} {}  {}, {}",
                    request.thread,
                    request.method,
                    request.path,
                    status::duration(request.age_seconds),
                    request.phase
                );
            }
        }
    }
    if let Some(stacks) = stacks {
        page.push('\n');
        page.push_str(stacks.trim_end());
        page.push('\n');
    }
    page
}

/// Longest wait for a GIL.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use wsgi_telemetry::board::{ChildState, RetireReason};

    fn child() -> ChildEntry {
        ChildEntry {
            pid: 4711,
            ticks: 1,
            generation: 0,
            revision: 1,
            state: ChildState::Ready,
            retire: Some(RetireReason::Memory),
            since: wsgi_telemetry::clock::unix(),
            groups: 0,
        }
    }

    fn request() -> RequestStatus {
        RequestStatus {
            application: String::from("shop"),
            group: String::new(),
            method: "GET",
            path: String::from("/slow"),
            phase: "in the application",
            age_seconds: 3.2,
            pid: 4711,
            thread: 4715,
        }
    }

    #[test]
    fn a_page_has_the_child_its_requests_and_the_stacks() {
        let page = page(
            &child(),
            &Requests::Known(vec![request()]),
            Some("== main interpreter ==\n\nThread 4715\n\n"),
        );
        let lines: Vec<&str> = page.lines().collect();
        let [first, "", second, "", rest @ ..] = &lines[..] else {
            panic!("{page}");
        };
        assert!(first.starts_with("Child 4711: ready for "), "{first}");
        assert!(first.ends_with("; it will retire: it uses too much memory"));
        assert_eq!(*second, "Thread 4715: GET /slow  3.2 s, in the application");
        assert_eq!(rest, ["== main interpreter ==", "", "Thread 4715"]);
    }

    #[test]
    fn the_page_says_what_is_not_known() {
        assert!(page(&child(), &Requests::Unknown, None).contains("WSGIMetrics is off"));
        let idle = page(&child(), &Requests::Known(Vec::new()), None);
        assert!(idle.ends_with("It serves no WSGI request.\n"));
    }
}
