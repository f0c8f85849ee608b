//! Counts the instructions per request of the only child, as the difference between two runs under callgrind.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::callgrind;
use crate::print::report::pythons;
use crate::print::table::{Spread, Table, thousands};
use crate::print::verdict::Verdict;
use crate::subjects::load::Connection;
use crate::subjects::server::{Httpd, Mpm, Under};
use crate::subjects::subject::{Contender, Subject};

/// The totals of both runs of one repetition.
#[derive(Serialize)]
pub(crate) struct Count {
    pub(crate) contender: Contender,
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
            if failed.contains(&subject.contender) {
                continue;
            }
            eprintln!(
                "wsgi-bench: counting instructions of {}, {repetition} of {repeat}",
                subject.contender.name()
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
    Ok(Count {
        contender: subject.contender,
        after_few,
        after_many,
        per_request: per_request(after_few, after_many),
        libpython,
    })
}

/// Returns the instructions per request, from the totals after [`FEW`] and after [`MANY`] requests.
pub(crate) fn per_request(after_few: i64, after_many: i64) -> f64 {
    (after_many - after_few) as f64 / (MANY - FEW) as f64
}

/// Returns callgrind's file of a child that has answered `requests` requests on one connection, and the file name of
/// its libpython.
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

/// The number of requests of the shorter run, which covers the start, the load of the application and the first
/// requests.
pub(crate) const FEW: usize = 200;
/// The number of requests of the longer run.
pub(crate) const MANY: usize = 1_200;

/// Prints the instructions per request, those above the floor, and the ratio.
pub(crate) fn print(counts: &[Count]) -> Verdict {
    let of = |contender: Contender| {
        Spread::of(
            counts
                .iter()
                .filter(|count| count.contender == contender)
                .map(|count| count.per_request),
        )
    };
    let floor = of(Contender::Floor).map(|spread| spread.median);
    let above = |contender: Contender| Some(of(contender)?.median - floor?);

    println!(
        "Instructions per request: prefork, one child, one keep-alive connection, by callgrind"
    );
    let mut table = Table::new(&["", "instructions", "min – max", "above the floor"]);
    for contender in Contender::ALL {
        let Some(spread) = of(contender) else {
            continue;
        };
        let higher = above(contender).filter(|_| contender != Contender::Floor);
        table.row(vec![
            contender.name().to_owned(),
            thousands(spread.median),
            format!("{} – {}", thousands(spread.least), thousands(spread.most)),
            higher.map_or("–".to_owned(), thousands),
        ]);
    }
    println!("{table}");
    println!(
        "Of the whole child, user space: (I({MANY} requests) − I({FEW})) / {}; start and stop cancel out.",
        MANY - FEW
    );
    pythons(
        counts
            .iter()
            .map(|count| (count.contender, &count.libpython)),
    );
    if let (Some(with), Some(without)) = (of(Contender::Ours), of(Contender::Unmeasured)) {
        let share = with.median / without.median - 1.0;
        println!(
            "Metrics: {} instructions, {:.2} % of a request. At most {} %: {}.",
            thousands(with.median - without.median),
            100.0 * share,
            100.0 * METRICS_TARGET,
            if share <= METRICS_TARGET { "yes" } else { "NO" }
        );
    }
    match above(Contender::Ours).zip(above(Contender::Rival)) {
        None => {
            println!("No ratio: that needs all three subjects.\n");
            Verdict::NotMeasured
        }
        Some((ours, rival)) if ours <= rival * TARGET => {
            println!(
                "mod_wsgi_rs / mod_wsgi above the floor: {:.3}. At most one quarter: yes.\n",
                ours / rival
            );
            Verdict::Met
        }
        Some((ours, rival)) => {
            println!(
                "mod_wsgi_rs / mod_wsgi above the floor: {:.3}. At most one quarter: NO.\n",
                ours / rival
            );
            Verdict::Missed
        }
    }
}

/// Prints the instructions per request for each interpreter that can hold the application.
pub(crate) fn print_places(counts: &[Count]) -> Verdict {
    let of = |contender: Contender| {
        let counts = counts.iter().filter(|count| count.contender == contender);
        Spread::of(counts.map(|count| count.per_request)).map(|spread| spread.median)
    };
    let python = counts.iter().find_map(|count| count.libpython.as_deref());
    println!(
        "Instructions per request of mod_wsgi_rs by interpreter, {}",
        python.unwrap_or("no Python")
    );
    let all = Contender::PLACES.map(of);
    let mut table = Table::new(&["", "instructions", "of the main one"]);
    for (contender, count) in Contender::PLACES.into_iter().zip(all) {
        let Some(count) = count else { continue };
        table.row(vec![
            contender.name().to_owned(),
            thousands(count),
            all[0].map_or("–".to_owned(), |main| format!("{:.3}", count / main)),
        ]);
    }
    println!("{table}");
    let [Some(main), Some(sub), Some(own)] = all else {
        println!("No comparison: that needs all three.\n");
        return Verdict::NotMeasured;
    };
    let least = main.min(sub).min(own);
    let apart = main.max(sub).max(own) / least - 1.0;
    let met = apart <= APART_TARGET;
    println!(
        "The most are {:.1} % above the least. At most {} %: {}.\n",
        100.0 * apart,
        100.0 * APART_TARGET,
        if met { "yes" } else { "NO" }
    );
    if met { Verdict::Met } else { Verdict::Missed }
}

/// The most instructions that the metrics may add, as a share of those of a request.
const METRICS_TARGET: f64 = 0.02;

/// The largest difference that interpreters may have, as a share of the least count.
const APART_TARGET: f64 = 0.1;

/// The most instructions that our module may add to the floor, as a share of those that the rival adds.
const TARGET: f64 = 0.25;
