//! `wsgictl top`: the status again and again, with the rates since the last refresh.

use std::process::ExitCode;
use std::time::Duration;

use wsgi_telemetry::status::{
    self, ApplicationStatus, Status, TextStyle, render_json, render_text,
};
use wsgi_telemetry::{Segment, Snapshot};

use crate::cli::TopArgs;
use crate::output::failure::Outcome;
use crate::output::terminal::{self, Keys, Written};
use crate::segment::find;

/// Shows the state of a server until a key or a signal ends it.
pub(crate) fn top(args: &TopArgs) -> Outcome<ExitCode> {
    let server = find::open(args.segment.segment.as_deref())?;
    server.look()?;
    let interval = Duration::from_secs_f64(args.interval);
    let keys = Keys::listen()?;
    let screen = (terminal::is_terminal() && !args.json).then(Screen::begin);
    let mut earlier = None;
    let mut shown = 0;
    loop {
        let segment = server.look()?;
        let snapshot = server.snapshot(segment)?;
        let mut status = status(&segment, &snapshot, earlier.as_ref());
        server.note_end(&mut status);
        let written = match &screen {
            Some(screen) => screen.show(&status)?,
            None if args.json => terminal::write_json(&(render_json(&status) + "\n"))?,
            None => terminal::write(&block(&status))?,
        };
        earlier = Some(snapshot);
        shown += 1;
        if written == Written::Closed
            || args.count.is_some_and(|count| shown >= count)
            || !keys.wait(interval)
        {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Returns the status since the last refresh, with the busiest applications first.
fn status(segment: &Segment, snapshot: &Snapshot, earlier: Option<&Snapshot>) -> Status {
    let history = segment.history();
    let mut status = match earlier {
        Some(earlier) => Status::since(snapshot, earlier, &history),
        None => Status::new(snapshot, &history),
    };
    let load = |application: &ApplicationStatus| {
        let recent = application.recent.as_ref();
        let rate = recent.map_or(0.0, |recent| recent.requests_per_second);
        (application.in_flight, rate)
    };
    status.applications.sort_by(|a, b| {
        let ((a_runs, a_rate), (b_runs, b_rate)) = (load(a), load(b));
        b_runs.cmp(&a_runs).then(b_rate.total_cmp(&a_rate))
    });
    status
}

/// Renders the status for files and pipes, with the time above it.
fn block(status: &Status) -> String {
    let style = TextStyle {
        width: terminal::size().0,
        colours: false,
        rows: ROWS,
    };
    let time = status::date_and_time(status.timestamp_seconds);
    format!("--- {time}\n{}\n", render_text(status, style))
}

/// The whole terminal; dropping this restores what it showed.
struct Screen;

impl Screen {
    fn begin() -> Self {
        let _ = terminal::control("\x1b[?1049h\x1b[?25l");
        Screen
    }

    /// Overwrites the screen, as far as there is room.
    fn show(&self, status: &Status) -> Outcome<Written> {
        let (width, height) = terminal::size();
        // Rows that the summary, the findings and the applications take; requests and children share the rest.
        let taken = 12 + status.health.findings.len() + status.applications.len();
        let style = TextStyle {
            width,
            colours: terminal::wants_colours(),
            rows: (height.saturating_sub(taken) / 2).clamp(3, ROWS),
        };
        let time = status::date_and_time(status.timestamp_seconds);
        let text = render_text(status, style);
        // Text and sequences are written separately: the terminal obeys only the sequences in this file.
        terminal::control("\x1b[H")?;
        terminal::write(&format!("wsgictl top, {time}, q ends"))?;
        terminal::control("\x1b[K")?;
        for line in text.lines().take(height.saturating_sub(1)) {
            terminal::control("\r\n")?;
            terminal::write_painted(line)?;
            terminal::control("\x1b[K")?;
        }
        terminal::control("\x1b[J")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = terminal::control("\x1b[?25h\x1b[?1049l");
    }
}

/// Most rows in each of the tables of running requests, events and children.
const ROWS: usize = 40;
