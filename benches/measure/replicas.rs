//! One httpd child on several cores: a CPU-bound application, in one interpreter and in two replicas; and the smallest
//! application, in two replicas and under mod_wsgi.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::measure::cpu::{self, EVENT_CONNECTIONS, Run, Setting};
use crate::print::report;
use crate::print::table::{Spread, Table, thousands};
use crate::print::verdict::{Target, Verdict, judge};
use crate::subjects::server::{Counted, EVENT_THREADS, Httpd, Mpm};
use crate::subjects::subject::{Application, Contender, Subject, placed};

/// The results of both comparisons.
#[derive(Serialize)]
pub(crate) struct Replicas {
    work: Vec<Run>,
    hello: Vec<Run>,
}

/// Measures both comparisons. `rival` must be of the same Python as `python`.
pub(crate) fn measure(
    httpd: &Httpd,
    python: &Path,
    module: &Path,
    rival: &Path,
    rounds: usize,
    requests: usize,
) -> Result<Replicas> {
    let subjects = |application, wanted: &[Contender]| -> Vec<Subject> {
        let file = |contender| {
            if contender == Contender::Rival {
                rival
            } else {
                module
            }
        };
        wanted
            .iter()
            .filter_map(|&contender| {
                placed(contender, python, application).with_module(file(contender))
            })
            .collect()
    };
    let run = |subjects: &[Subject], requests| {
        let setting = Setting {
            mpm: Mpm::Event(EVENT_THREADS),
            connections: EVENT_CONNECTIONS,
            rounds,
            requests,
            counted: Counted::Child,
        };
        cpu::alternate(httpd, subjects, setting)
    };
    eprintln!("wsgi-bench: {rounds} rounds of replicas");
    Ok(Replicas {
        // A request of the first kind takes as long as some hundred of the second. The number of requests makes the end
        // of the run negligible, when not all connections have work.
        work: run(
            &subjects(Application::Work, &[Contender::Main, Contender::Replicas]),
            requests / 20,
        )?,
        hello: run(
            &subjects(
                Application::Hello,
                &[Contender::Main, Contender::Replicas, Contender::Rival],
            ),
            requests,
        )?,
    })
}

/// Prints both comparisons, and whether the targets are met.
pub(crate) fn print(measured: &Replicas) -> Verdict {
    table("An application bound by the processor", &measured.work);
    let faster = ratio(&measured.work, Contender::Main, |run| run.per_second);
    let first = judge(
        "two replicas / one interpreter, requests/s",
        faster,
        AT_LEAST_WORK,
    );
    println!();
    table("Hello world", &measured.hello);
    let faster = ratio(&measured.hello, Contender::Rival, |run| run.per_second);
    let second = judge(
        "two replicas / mod_wsgi, requests/s",
        faster,
        AT_LEAST_HELLO,
    );
    let slower = ratio(&measured.hello, Contender::Rival, |run| run.p99_us);
    let third = judge("two replicas / mod_wsgi, p99", slower, AT_MOST_P99);
    println!();
    Verdict::of_all(&[first, second, third])
}

fn table(title: &str, runs: &[Run]) {
    let Some(first) = runs.first() else { return };
    let rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(0);
    println!(
        "{title}: event, one child of {EVENT_THREADS} threads, {} connections, {} requests, {rounds} rounds, {}",
        first.connections,
        thousands(first.requests as f64),
        report::one_python(runs.iter().map(|run| run.libpython.as_deref())),
    );
    let mut table = Table::new(&["", "requests/s", "min – max", "CPU µs", "p50 µs", "p99 µs"]);
    for contender in [Contender::Main, Contender::Replicas, Contender::Rival] {
        let of = |value: fn(&Run) -> f64| {
            Spread::of(
                runs.iter()
                    .filter(|run| run.contender == contender)
                    .map(value),
            )
        };
        let Some(speed) = of(|run| run.per_second) else {
            continue;
        };
        let median = |value| of(value).map_or(0.0, |spread: Spread| spread.median);
        table.row(vec![
            contender.name().to_owned(),
            thousands(speed.median),
            format!("{} – {}", thousands(speed.least), thousands(speed.most)),
            thousands(median(|run| run.cpu_us)),
            thousands(median(|run| run.p50_us)),
            thousands(median(|run| run.p99_us)),
        ]);
    }
    println!("{table}");
}

/// Returns the ratio of two replicas to `other`, within each round.
fn ratio(runs: &[Run], other: Contender, value: fn(&Run) -> f64) -> Option<Spread> {
    cpu::paired(runs, Contender::Replicas, other, value)
}

const AT_LEAST_WORK: Target = Target::AtLeast(1.8);
const AT_LEAST_HELLO: Target = Target::AtLeast(2.5);
const AT_MOST_P99: Target = Target::AtMost(0.5);
