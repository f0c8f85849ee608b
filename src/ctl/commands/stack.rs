//! `wsgictl stack`: asks a child, or a process of a group, for the stacks of its threads, and shows them with its running
//! requests, which it reads from the segments.

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
    let process = Process::find(&server, segment, args.pid)?;
    let asked = StacksRequest::ask(&process, Duration::from_secs_f64(args.timeout))?;
    let answer = asked.wait();
    // Read right after the stacks, so that both show nearly the same moment.
    let requests = Requests::of(&server, segment, args.pid)?;
    let (stacks, problem) = match answer {
        Ok(stacks) => (Some(stacks), None),
        Err(failure) => (None, Some(failure)),
    };
    let text = page(&process, &requests, stacks.as_deref());
    let _read = terminal::write(&text)?;
    match problem {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => {
            messages::failure(&failure);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The process that is asked.
struct Process {
    entry: ChildEntry,
    /// The board on which it answers.
    board: Board,
    /// The process group that it belongs to; `None` for a child of httpd.
    group: Option<String>,
}

impl Process {
    /// Returns the child or the process of a group with this process id.
    fn find(server: &Server, segment: Segment, pid: u32) -> Outcome<Self> {
        let children = segment.board().children();
        if let Some(entry) = children.iter().find(|child| child.pid == pid) {
            return Ok(Self {
                entry: *entry,
                board: segment.board(),
                group: None,
            });
        }
        let mut list = String::new();
        for child in &children {
            let _ = write!(list, "\n  {}  {}", child.pid, state(child));
        }
        for group in server.group_names() {
            let of_group = server.group_to_ask(group)?;
            let board = find::memory_of_group(&of_group)?.board();
            for entry in board.children() {
                if entry.pid == pid {
                    let group = Some(group.to_owned());
                    return Ok(Self {
                        entry,
                        board,
                        group,
                    });
                }
                let _ = write!(list, "\n  {}  {} (group {group})", entry.pid, state(&entry));
            }
        }
        let what = if pid == server.parent() {
            format!("process {pid} is the server's parent, which runs no Python.")
        } else {
            let more = match server.group_names().next() {
                None => "",
                Some(_) => ", nor a process of a group",
            };
            format!("this server has no child {pid}{more}.")
        };
        Err(Failure::new(what).remedy(match list.as_str() {
            // `httpd -X` runs one process, and a server that has just started has no children yet.
            "" => String::from(
                "It has no children: it runs as one process (httpd -X), or has just started.",
            ),
            list => format!("It has:{list}"),
        }))
    }

    /// Returns what the process is, with its process id.
    fn name(&self) -> String {
        let pid = self.entry.pid;
        match &self.group {
            None => format!("child {pid}"),
            Some(group) => format!("process {pid} of group {group}"),
        }
    }
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

/// A request for the stacks of a process.
struct StacksRequest<'p> {
    process: &'p Process,
    ticket: StacksTicket,
    began: Instant,
    timeout: Duration,
}

impl<'p> StacksRequest<'p> {
    fn ask(process: &'p Process, timeout: Duration) -> Outcome<Self> {
        let began = Instant::now();
        let patience = (timeout / 2).min(PATIENCE);
        let ticket = loop {
            if let Some(ticket) = process.board.ask_for_stacks(process.entry.pid, patience) {
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
            process,
            ticket,
            began,
            timeout,
        })
    }

    fn wait(&self) -> Outcome<String> {
        let Process { entry, board, .. } = self.process;
        let name = self.process.name();
        loop {
            let late = self.began.elapsed() >= self.timeout;
            let time = status::duration(self.timeout.as_secs_f64());
            match board.stacks(self.ticket) {
                StacksAnswer::Told(text) => return Ok(text),
                StacksAnswer::Lost => {
                    return Err(Failure::new(format!("the answer of {name} was lost."))
                        .remedy("Ask again."));
                }
                StacksAnswer::Waiting if late => {
                    return Err(Failure::new(format!(
                        "{name} did not take the request within {time}."
                    ))
                    .remedy(
                        "Is it stopped, or starved of CPU time? kill -ABRT ends it, with a core where the system keeps \
                         them.",
                    ));
                }
                StacksAnswer::Taken if late => {
                    return Err(Failure::new(format!(
                        "{name} took the request, but did not answer within {time}."
                    ))
                    .remedy("Wait longer: --timeout 25"));
                }
                StacksAnswer::Waiting | StacksAnswer::Taken => {}
            }
            let is_it = |child: &ChildEntry| (child.pid, child.ticks) == (entry.pid, entry.ticks);
            if !board.children().iter().any(is_it) {
                return Err(Failure::new(format!("{name} has ended.")));
            }
            thread::sleep(STEP);
        }
    }
}

impl Drop for StacksRequest<'_> {
    fn drop(&mut self) {
        self.process.board.release_stacks(self.ticket);
    }
}

/// The running requests of a process.
enum Requests {
    /// The server measures nothing.
    Unknown,
    Known(Vec<RequestStatus>),
}

impl Requests {
    fn of(server: &Server, segment: Segment, pid: u32) -> Outcome<Self> {
        let snapshot = server.snapshot(segment)?;
        if !snapshot.records {
            return Ok(Requests::Unknown);
        }
        let status = Status::new(&snapshot, &segment.history());
        let running = status.running.into_iter();
        let running = running.filter(|request| request.pid == pid);
        Ok(Requests::Known(running.collect()))
    }
}

/// Returns the text to show.
fn page(process: &Process, requests: &Requests, stacks: Option<&str>) -> String {
    let pid = process.entry.pid;
    let name = match &process.group {
        None => format!("Child {pid}"),
        Some(group) => format!("Process {pid} of group {group}"),
    };
    let mut page = format!("{name}: {}\n\n", state(&process.entry));
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
    use wsgi_telemetry::Geometry;
    use wsgi_telemetry::board::{ChildState, RetireReason};

    fn child() -> Process {
        let geometry = Geometry::of_board(1);
        let cells = wsgi_telemetry::memory::anonymous(geometry.words()).expect("memory");
        let segment = Segment::create(cells, geometry, 1).expect("enough of it");
        Process {
            board: segment.board(),
            group: None,
            entry: ChildEntry {
                pid: 4711,
                ticks: 1,
                generation: 0,
                revision: 1,
                state: ChildState::Ready,
                retire: Some(RetireReason::Memory),
                since: wsgi_telemetry::clock::unix(),
                groups: 0,
            },
        }
    }

    fn request() -> RequestStatus {
        RequestStatus {
            application: String::from("shop"),
            group: String::new(),
            process_group: String::new(),
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
    fn a_process_of_a_group_is_named_with_its_group() {
        let of_group = Process {
            group: Some(String::from("site")),
            ..child()
        };
        let page = page(&of_group, &Requests::Unknown, None);
        assert!(page.starts_with("Process 4711 of group site: ready for "));
        assert_eq!(of_group.name(), "process 4711 of group site");
    }

    #[test]
    fn the_page_says_what_is_not_known() {
        assert!(page(&child(), &Requests::Unknown, None).contains("WSGIMetrics is off"));
        let idle = page(&child(), &Requests::Known(Vec::new()), None);
        assert!(idle.ends_with("It serves no WSGI request.\n"));
    }
}
