//! The cost of letting a request into Python when no other request waits: instructions, compared with a build that has
//! no executors.

use std::path::Path;

use anyhow::Result;

use crate::measure::instructions::{self, Count};
use crate::print::table::{Spread, Table, thousands};
use crate::print::verdict::Verdict;
use crate::subjects::server::{EVENT_THREADS, Httpd, Mpm};
use crate::subjects::subject::{Application, Contender, Subject, directed};

/// Counts the instructions of `app.wsgi` under event with one connection. Without a baseline there is no verdict.
pub(crate) fn measure(
    httpd: &Httpd,
    home: Option<&Path>,
    module: &Path,
    baseline: Option<&Path>,
    repeat: usize,
) -> Result<Vec<Count>> {
    let subjects: Vec<Subject> = Contender::ADMITTING
        .into_iter()
        .filter_map(|contender| {
            let (file, directives) = match contender {
                Contender::Direct => (module, "WSGIExecutor direct\n"),
                Contender::Delegate => (module, "WSGIExecutor delegate\n"),
                _ => (baseline?, ""),
            };
            directed(contender, home, Application::Hello, directives).with_module(file)
        })
        .collect();
    instructions::measure(httpd, &subjects, Mpm::Event(EVENT_THREADS), repeat)
}

/// Prints the instructions per request, and those of the baseline.
pub(crate) fn print(counts: &[Count]) -> Verdict {
    println!(
        "Instructions per request: event, one child of {EVENT_THREADS} threads, one keep-alive connection, by callgrind"
    );
    let of = |contender: Contender| {
        let counts = counts.iter().filter(|count| count.contender == contender);
        Spread::of(counts.map(|count| count.per_request))
    };
    let baseline = of(Contender::ADMITTING[0]);
    let mut table = Table::new(&["", "instructions", "min – max", "of the baseline"]);
    let mut verdicts = Vec::new();
    for contender in Contender::ADMITTING {
        let Some(spread) = of(contender) else {
            verdicts.push(Verdict::NotMeasured);
            continue;
        };
        let ratio = baseline
            .as_ref()
            .map(|baseline| spread.median / baseline.median);
        table.row(vec![
            contender.name().to_owned(),
            thousands(spread.median),
            format!("{} – {}", thousands(spread.least), thousands(spread.most)),
            ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.3}")),
        ]);
        verdicts.push(match ratio {
            None => Verdict::NotMeasured,
            Some(ratio) if ratio <= TARGET => Verdict::Met,
            Some(_) => Verdict::Missed,
        });
    }
    println!("{table}");
    let verdict = Verdict::of_all(&verdicts);
    println!(
        "At most {TARGET} of the baseline: {}.\n",
        match verdict {
            Verdict::Met => "yes",
            Verdict::Missed => "NO",
            Verdict::NotMeasured => "not measured, that needs all three (--baseline FILE)",
        }
    );
    verdict
}

/// The most instructions of a request, as a multiple of the baseline's.
const TARGET: f64 = 1.03;
