//! `wsgictl status` and `wsgictl metrics`.

use std::process::ExitCode;

use wsgi_telemetry::status::{Status, TextStyle, render_json, render_text};
use wsgi_telemetry::{Format, render};

use crate::cli::{MetricsArgs, StatusArgs};
use crate::output::failure::{Failure, Outcome};
use crate::output::terminal::{self, Written};
use crate::segment::find;

/// Prints the state of a server.
pub(crate) fn status(args: &StatusArgs) -> Outcome<ExitCode> {
    let server = find::open(args.segment.segment.as_deref())?;
    let segment = server.look()?;
    let mut status = Status::new(&server.snapshot(segment)?, &segment.history());
    server.note_end(&mut status);
    if args.json {
        let text = render_json(&status) + "\n";
        return done(terminal::write_json(&text)?);
    }
    let style = TextStyle {
        width: terminal::size().0,
        colours: terminal::wants_colours(),
        rows: ROWS,
    };
    let text = render_text(&status, style);
    done(terminal::write_painted(&text)?)
}

/// Prints the metrics of a server.
pub(crate) fn metrics(args: &MetricsArgs) -> Outcome<ExitCode> {
    let server = find::open(args.segment.segment.as_deref())?;
    let snapshot = server.snapshot(server.look()?)?;
    if !snapshot.records {
        return Err(Failure::new(
            "this server measures nothing: WSGIMetrics is off.",
        ));
    }
    let format = if args.openmetrics {
        Format::OpenMetrics
    } else {
        Format::Text
    };
    let mut text = String::new();
    render(&snapshot, format, &mut text);
    done(terminal::write_for_programs(&text)?)
}

/// Returns success even if the reader has closed its end.
fn done(_: Written) -> Outcome<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

/// Most rows in each of the tables of running requests, events and children.
const ROWS: usize = 40;
