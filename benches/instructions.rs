//! Instructions per request of the one prefork child, by difference between two runs under callgrind.

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
}

pub(crate) fn measure(httpd: &Httpd, subjects: &[Subject], repeat: usize) -> Result<Vec<Count>> {
    let mut counts = Vec::new();
    for _ in 0..repeat {
        for subject in subjects {
            eprintln!("wsgi-bench: counting instructions of {}", subject.who.name());
            let after_few = callgrind::total(&dump_after(httpd, subject, FEW)?)?;
            let after_many = callgrind::total(&dump_after(httpd, subject, MANY)?)?;
            let per_request = (after_many - after_few) as f64 / (MANY - FEW) as f64;
            counts.push(Count { who: subject.who, after_few, after_many, per_request });
        }
    }
    Ok(counts)
}

/// Callgrind's file of a child that has answered `requests` on one connection.
pub(crate) fn dump_after(httpd: &Httpd, subject: &Subject, requests: usize) -> Result<String> {
    let server = httpd.start(subject, Mpm::Prefork, Under::Callgrind)?;
    let mut connection = Connection::open(server.address())?;
    connection
        .get_many(requests)
        .with_context(|| format!("{} under callgrind\n{}", subject.who.name(), server.log()))?;
    let child = server.child()?;
    drop(connection);
    server.stop_and_dump(child)
}

/// Requests of the shorter run: start, first load of the application, and the caches warm.
pub(crate) const FEW: usize = 200;
/// Requests of the longer run.
pub(crate) const MANY: usize = 1_200;
