//! Counts the instructions per request of a process group and of mod_wsgi's daemon mode: of all processes of each server
//! together, as the difference between two runs under callgrind.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::measure::callgrind;
use crate::measure::instructions::{FEW, MANY, per_request};
use crate::print::table::{Table, thousands};
use crate::subjects::load::Connection;
use crate::subjects::server::{Httpd, Mpm, Under};
use crate::subjects::subject::{Contender, Subject};

/// The totals of both runs.
#[derive(Serialize)]
pub(crate) struct Count {
    contender: Contender,
    after_few: i64,
    after_many: i64,
    per_request: f64,
}

/// Counts for each subject that is a module of httpd. A subject that fails is left out.
pub(crate) fn measure(httpd: &Httpd, subjects: &[Subject]) -> Result<Vec<Count>> {
    let mut counts = Vec::new();
    for subject in subjects {
        if subject.contender.package().is_some() {
            continue;
        }
        eprintln!(
            "wsgi-bench: counting instructions of {}",
            subject.contender.name()
        );
        match count(httpd, subject) {
            Ok(count) => counts.push(count),
            Err(failure) => {
                subject.left_out(&failure)?;
            }
        }
    }
    Ok(counts)
}

fn count(httpd: &Httpd, subject: &Subject) -> Result<Count> {
    let (after_few, of_few) = total_after(httpd, subject, FEW)?;
    let (after_many, of_many) = total_after(httpd, subject, MANY)?;
    ensure!(
        of_few == of_many,
        "{of_few} processes were counted in one run, {of_many} in the other"
    );
    Ok(Count {
        contender: subject.contender,
        after_few,
        after_many,
        per_request: per_request(after_few, after_many),
    })
}

/// Returns the instructions of all processes of a server that has answered `requests` requests on one connection, and
/// how many processes that were.
fn total_after(httpd: &Httpd, subject: &Subject, requests: usize) -> Result<(i64, usize)> {
    let server = httpd.start(subject, Mpm::Prefork, Under::Callgrind)?;
    let mut connection = Connection::open(server.address())?;
    connection
        .get_many(requests)
        .with_context(|| server.log())?;
    drop(connection);
    let dumps = server.stop_and_dump_all()?;
    let totals: Vec<i64> = dumps
        .iter()
        .map(|dump| callgrind::total(dump))
        .collect::<Result<_>>()?;
    Ok((totals.iter().sum(), totals.len()))
}

/// Prints the instructions per request, and the ratio.
pub(crate) fn print(counts: &[Count]) {
    let of = |contender: Contender| {
        let mut counts = counts.iter();
        counts.find(|count| count.contender == contender)
    };
    println!(
        "Instructions per request of all processes, user space: prefork, one child, one keep-alive connection, by callgrind"
    );
    let mut table = Table::new(&["", "instructions", "of mod_wsgi"]);
    let rival = of(Contender::RivalDaemon).map(|count| count.per_request);
    for count in counts {
        let ratio = rival.map(|rival| count.per_request / rival);
        table.row(vec![
            count.contender.name().to_owned(),
            thousands(count.per_request),
            ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    println!("{table}");
}
