//! Process groups beside mod_wsgi's daemon mode, and beside gunicorn and uWSGI behind mod_proxy: requests/s, latency,
//! and the CPU time of all processes of each server.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::measure::cpu::{self, EVENT_CONNECTIONS, Run, Setting};
use crate::print::report;
use crate::print::table::{Spread, Table, thousands};
use crate::print::verdict::{Target, Verdict, judge};
use crate::subjects::backend::{PROCESSES, THREADS};
use crate::subjects::packages::Environment;
use crate::subjects::server::{Counted, EVENT_THREADS, Httpd, Mpm};
use crate::subjects::subject::{self, Contender, Subject};

/// Where the subjects come from.
pub(crate) struct Sources<'a> {
    pub(crate) ours: &'a Path,
    pub(crate) rival: &'a Path,
    /// The prefix of the Python of both modules
    pub(crate) home: Option<&'a Path>,
    /// The program of that Python
    pub(crate) interpreter: &'a Path,
    /// The folder for the virtual environment with gunicorn and uWSGI
    pub(crate) environments: &'a Path,
}

/// Returns the subjects; prints a message for each that is missing. `options` are further ones of the groups.
pub(crate) fn subjects(sources: &Sources, options: &str) -> Result<Vec<Subject>> {
    let environment = Environment::make(sources.interpreter, sources.environments);
    let mut found = Vec::new();
    for contender in Contender::DAEMONS {
        let subject = subject::daemon(contender, sources.home, options);
        let program = contender.package().map(|package| match &environment {
            Ok(environment) => environment.program(package),
            Err(failure) => Err(anyhow!("no virtual environment: {failure:#}")),
        });
        match program {
            Some(Ok(program)) => found.extend(subject.with_module(&program)),
            Some(Err(failure)) => {
                subject.left_out(&failure)?;
            }
            None if contender == Contender::RivalDaemon => {
                found.extend(subject.with_module(sources.rival));
            }
            None => found.extend(subject.with_module(sources.ours)),
        }
    }
    Ok(found)
}

/// Measures with several connections, then with one. A subject that fails with several is left out then.
pub(crate) fn measure(
    httpd: &Httpd,
    mut subjects: Vec<Subject>,
    rounds: usize,
    requests: usize,
) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for (connections, requests) in [
        (EVENT_CONNECTIONS, requests),
        (1, requests / FEWER_OF_ONE_CONNECTION),
    ] {
        eprintln!("wsgi-bench: {rounds} rounds of daemons, {connections} connection(s)");
        let setting = Setting {
            mpm: Mpm::Event(EVENT_THREADS),
            connections,
            rounds,
            requests,
            counted: Counted::All,
        };
        runs.extend(cpu::alternate(httpd, &subjects, setting)?);
        subjects.retain(|subject| has_all_rounds(&runs, subject.contender, rounds));
    }
    Ok(runs)
}

fn has_all_rounds(runs: &[Run], contender: Contender, rounds: usize) -> bool {
    let of_contender = runs.iter().filter(|run| run.contender == contender);
    of_contender.count() >= rounds
}

/// Prints a table for each number of connections, and whether the targets are met.
pub(crate) fn print(runs: &[Run]) -> Verdict {
    for connections in [EVENT_CONNECTIONS, 1] {
        table(&of_connections(runs, connections));
    }
    println!("With {EVENT_CONNECTIONS} connections, process group / mod_wsgi's daemon mode:");
    let verdicts = verdicts(runs);
    println!();
    Verdict::of_all(&verdicts)
}

fn of_connections(runs: &[Run], connections: usize) -> Vec<&Run> {
    let has_them = |run: &&Run| run.connections == connections;
    runs.iter().filter(has_them).collect()
}

fn verdicts(runs: &[Run]) -> [Verdict; 3] {
    let runs = of_connections(runs, EVENT_CONNECTIONS);
    TARGETS.map(|(name, value, target)| {
        let runs = runs.iter().copied();
        let ratio = cpu::paired(runs, Contender::Grouped, Contender::RivalDaemon, value);
        judge(name, ratio, target)
    })
}

fn table(runs: &[&Run]) {
    let Some(first) = runs.first() else { return };
    let rounds = runs.iter().map(|run| run.round + 1).max().unwrap_or(0);
    let of_modules = runs.iter().filter(|run| run.contender.package().is_none());
    println!(
        "Daemons, {PROCESSES} processes of {THREADS} threads: event, one child of {EVENT_THREADS} threads, {} keep-alive connection(s), {} requests, {rounds} rounds, {}",
        first.connections,
        thousands(first.requests as f64),
        report::one_python(of_modules.map(|run| run.libpython.as_deref())),
    );
    let mut table = Table::new(&[
        "",
        "requests/s",
        "min – max",
        "of mod_wsgi",
        "p50 µs",
        "p99 µs",
        "CPU µs",
        "min – max",
        "client µs",
        "processes",
    ]);
    for contender in Contender::DAEMONS {
        let of = |value: fn(&Run) -> f64| {
            let runs = runs.iter().filter(|run| run.contender == contender);
            Spread::of(runs.map(|run| value(run)))
        };
        let (Some(speed), Some(cpu)) = (of(|run| run.per_second), of(|run| run.cpu_us)) else {
            continue;
        };
        let median = |value| of(value).map_or(0.0, |spread: Spread| spread.median);
        let ratio = cpu::paired(
            runs.iter().copied(),
            contender,
            Contender::RivalDaemon,
            |run| run.per_second,
        );
        table.row(vec![
            contender.name().to_owned(),
            thousands(speed.median),
            format!("{} – {}", thousands(speed.least), thousands(speed.most)),
            ratio.map_or("–".to_owned(), |ratio| format!("{:.2}", ratio.median)),
            thousands(median(|run| run.p50_us)),
            thousands(median(|run| run.p99_us)),
            thousands(cpu.median),
            format!("{} – {}", thousands(cpu.least), thousands(cpu.most)),
            thousands(median(|run| run.client_us)),
            thousands(median(|run| run.processes as f64)),
        ]);
    }
    println!("{table}");
    println!(
        "Medians over the rounds. CPU is what the kernel counted for httpd's parent and all of its descendants, and for"
    );
    println!(
        "gunicorn or uWSGI and theirs; client is the load's own, on the same cores. Embedded is the one child alone."
    );
    report::others(runs.iter().map(|run| run.others));
    for (name, ended) in ended(runs) {
        println!(
            "NOT COUNTED IN FULL: {ended} process(es) of {name} ended during a run, with their CPU time."
        );
    }
    println!();
}

/// Returns the subjects of which processes ended during a run, and how many.
fn ended(runs: &[&Run]) -> Vec<(&'static str, usize)> {
    let count = |contender: Contender| {
        let runs = runs.iter().filter(|run| run.contender == contender);
        (contender.name(), runs.map(|run| run.ended).sum())
    };
    let mut found = Contender::DAEMONS.map(count).to_vec();
    found.retain(|(_, ended)| *ended > 0);
    found
}

/// A figure of a run.
type Figure = fn(&Run) -> f64;

/// The targets of a process group, as ratios to mod_wsgi's daemon mode.
const TARGETS: [(&str, Figure, Target); 3] = [
    ("requests/s", |run| run.per_second, Target::AtLeast(2.8)),
    (
        "CPU time per request",
        |run| run.cpu_us,
        Target::AtMost(0.4),
    ),
    ("p99", |run| run.p99_us, Target::AtMost(1.0)),
];
/// With one connection the requests come one after the other, and the run takes longer.
const FEWER_OF_ONE_CONNECTION: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::cpu::tests::run;

    fn runs(ours: (f64, f64, f64), connections: usize) -> Vec<Run> {
        let mut runs = vec![
            run(0, Contender::Grouped, ours.0, ours.2),
            run(0, Contender::RivalDaemon, 1_000.0, 50.0),
        ];
        runs[0].cpu_us = ours.1;
        runs[1].cpu_us = 100.0;
        for run in &mut runs {
            run.connections = connections;
        }
        runs
    }

    #[test]
    fn each_target_is_judged_by_its_own_figure() {
        use Verdict::{Met, Missed};
        let of = |ours| verdicts(&runs(ours, EVENT_CONNECTIONS));
        assert_eq!(of((2_800.0, 40.0, 50.0)), [Met, Met, Met]);
        assert_eq!(of((2_700.0, 40.0, 50.0)), [Missed, Met, Met]);
        assert_eq!(of((2_900.0, 41.0, 50.0)), [Met, Missed, Met]);
        assert_eq!(of((2_900.0, 39.0, 51.0)), [Met, Met, Missed]);
    }

    #[test]
    fn one_connection_has_no_targets() {
        let runs = runs((9_000.0, 1.0, 1.0), 1);
        assert_eq!(verdicts(&runs), [Verdict::NotMeasured; 3]);
    }

    #[test]
    fn a_subject_that_failed_is_not_measured_again() {
        let runs = [
            run(0, Contender::Grouped, 1.0, 1.0),
            run(0, Contender::Gunicorn, 1.0, 1.0),
            run(1, Contender::Grouped, 1.0, 1.0),
        ];
        assert!(has_all_rounds(&runs, Contender::Grouped, 2));
        assert!(!has_all_rounds(&runs, Contender::Gunicorn, 2));
    }

    #[test]
    fn processes_that_ended_are_named() {
        let mut runs = runs((1.0, 1.0, 1.0), 1);
        runs[1].ended = 2;
        let name = Contender::RivalDaemon.name();
        assert_eq!(ended(&runs.iter().collect::<Vec<_>>()), [(name, 2)]);
    }
}
