//! The rounds of each row, and their results.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::executors::cell::{Cell, Row};
use crate::executors::column::Column;
use crate::executors::plan::Plan;
use crate::executors::workload::Pace;
use crate::executors::{print, verdict};
use crate::print::verdict::Verdict;
use crate::subjects::interrupt;
use crate::subjects::server::Httpd;
use crate::subjects::subject::Subject;

/// The results of the measurement.
#[derive(Serialize)]
pub(crate) struct Executors {
    pace: Pace,
    cells: Vec<Cell>,
}

impl Executors {
    /// Measures row by row. Each round of a row runs each column once in a fresh server, and begins with another column
    /// than the round before. Prints each row when it is complete.
    pub(crate) fn measure(httpd: &Httpd, plan: &Plan) -> Result<Self> {
        for (place, column) in plan.columns.iter().enumerate() {
            let names = || plan.columns[..place].iter().map(|earlier| &earlier.name);
            ensure!(
                names().all(|name| *name != column.name),
                "two columns are called {}: NAME=DIRECTIVES gives one another name",
                column.name
            );
        }
        let pace = Pace::measure(plan.interpreter)?;
        println!(
            "A turn of spin.wsgi takes {:.1} ns of processor in {}.\n",
            pace.nanoseconds_per_turn(),
            plan.interpreter.display()
        );
        let columns: Vec<(&Column, Subject)> = plan
            .columns
            .iter()
            .filter_map(|column| Some((column, column.subject(plan.home, &plan.files)?)))
            .collect();
        ensure!(!columns.is_empty(), "no column to measure");
        let rows = plan.threads.len() * plan.workloads.len();
        let mut progress = Progress::of(rows * plan.rounds * columns.len());
        let mut cells: Vec<Cell> = Vec::new();
        for &threads in &plan.threads {
            for &workload in &plan.workloads {
                let connections = plan.connections.unwrap_or(threads);
                let row = Row {
                    threads,
                    connections,
                    workload,
                    asks: &workload.asks(pace),
                    requests: workload.requests(connections, plan.seconds),
                    at_most: Duration::from_secs_f64(2.0 * plan.seconds * workload.patience()),
                };
                let first = cells.len();
                alternate(
                    httpd,
                    &row,
                    &columns,
                    plan.rounds,
                    &mut progress,
                    &mut cells,
                )?;
                print::row(&row, &plan.columns, &cells[first..]);
            }
        }
        Ok(Self { pace, cells })
    }

    /// Prints all rows side by side, and whether the targets are met.
    pub(crate) fn print(&self, plan: &Plan) -> Verdict {
        print::overview(plan, &self.cells);
        verdict::print(plan, &self.cells)
    }
}

/// Returns the rounds of one row.
fn alternate(
    httpd: &Httpd,
    row: &Row,
    columns: &[(&Column, Subject)],
    rounds: usize,
    progress: &mut Progress,
    cells: &mut Vec<Cell>,
) -> Result<()> {
    let mut failed = Vec::new();
    for round in 0..rounds {
        for turn in 0..columns.len() {
            let (column, subject) = &columns[(round + turn) % columns.len()];
            let name = &column.name;
            if failed.contains(&name) {
                progress.pass();
                continue;
            }
            let place = format!(
                "{} threads, {}, round {} of {rounds}, {name}",
                row.threads,
                row.workload.name(),
                round + 1
            );
            match row.measure(httpd, subject, name, round) {
                Ok(cell) => {
                    progress.step(&format!(
                        "{place}: {}/s, p99 {} ms",
                        print::figure(cell.per_second),
                        print::figure(cell.p99_us / 1e3)
                    ));
                    cells.push(cell);
                }
                Err(failure) => {
                    interrupt::check()?;
                    progress.step(&format!("{place} is left out of this row: {failure:#}"));
                    failed.push(name);
                }
            }
        }
    }
    Ok(())
}

/// Prints a line for each cell on standard error.
struct Progress {
    begin: Instant,
    done: usize,
    of: usize,
}

impl Progress {
    fn of(of: usize) -> Self {
        Self {
            begin: Instant::now(),
            done: 0,
            of,
        }
    }

    /// Counts one cell as done.
    fn pass(&mut self) {
        self.done += 1;
    }

    fn step(&mut self, text: &str) {
        self.pass();
        let left =
            self.begin.elapsed().as_secs_f64() / self.done as f64 * (self.of - self.done) as f64;
        eprintln!(
            "wsgi-bench: {text} ({} of {}, about {} left)",
            self.done,
            self.of,
            if left < 90.0 {
                format!("{left:.0} s")
            } else {
                format!("{:.0} min", left / 60.0)
            }
        );
    }
}
