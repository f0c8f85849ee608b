//! Instructions per request of the one child, by difference between two runs under callgrind.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::callgrind;
use crate::load::Connection;
use crate::server::{Httpd, Mpm, Under};
use crate::subject::{Subject, Who};

/// Both totals of one repetition.
#[derive(Serialize)]
pub(crate) struct Count {
    pub(crate) who: Who,
    after_few: i64,
    after_many: i64,
    pub(crate) per_request: f64,
    pub(crate) libpython: Option<String>,
}

pub(crate) fn measure(
    httpd: &Httpd,
    subjects: &[Subject],
    mpm: Mpm,
    repeat: usize,
) -> Result<Vec<Count>> {
    let mut counts = Vec::new();
    let mut failed = Vec::new();
    for repetition in 1..=repeat {
        for subject in subjects {
            if failed.contains(&subject.who) {
                continue;
            }
            eprintln!(
                "wsgi-bench: counting instructions of {}, {repetition} of {repeat}",
                subject.who.name()
            );
            match count(httpd, subject, mpm) {
                Ok(count) => counts.push(count),
                Err(failure) => failed.push(subject.left_out(&failure)?),
            }
        }
    }
    Ok(counts)
}

fn count(httpd: &Httpd, subject: &Subject, mpm: Mpm) -> Result<Count> {
    let (few, _) = dump_after(httpd, subject, mpm, FEW)?;
    let (many, libpython) = dump_after(httpd, subject, mpm, MANY)?;
    let (after_few, after_many) = (callgrind::total(&few)?, callgrind::total(&many)?);
    let per_request = (after_many - after_few) as f64 / (MANY - FEW) as f64;
    Ok(Count {
        who: subject.who,
        after_few,
        after_many,
        per_request,
        libpython,
    })
}

/// Callgrind's file of a child that has answered `requests` on one connection, and the Python that it ran.
pub(crate) fn dump_after(
    httpd: &Httpd,
    subject: &Subject,
    mpm: Mpm,
    requests: usize,
) -> Result<(String, Option<String>)> {
    let server = httpd.start(subject, mpm, Under::Callgrind)?;
    let mut connection = Connection::open(server.address())?;
    connection
        .get_many(requests)
        .with_context(|| server.log())?;
    let (child, libpython) = (server.child()?, server.libpython()?);
    drop(connection);
    Ok((server.stop_and_dump(child)?, libpython))
}

/// Requests of the shorter run: start, first load of the application, and the caches warm.
pub(crate) const FEW: usize = 200;
/// Requests of the longer run.
pub(crate) const MANY: usize = 1_200;
