//! What a person reads: aligned tables, medians with their spread, ratios of paired runs; and the raw data as JSON.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::cpu::Run;
use crate::instructions::{Count, FEW, MANY};
use crate::server::{EVENT_THREADS, Httpd, Mpm};
use crate::subject::Who;

/// Whether the target was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

/// Prints instructions per request, above the floor, and the ratio.
pub(crate) fn instructions(counts: &[Count]) -> Verdict {
    let of = |who: Who| Spread::of(counts.iter().filter(|count| count.who == who).map(|count| count.per_request));
    let floor = of(Who::Floor).map(|spread| spread.median);
    let above = |who: Who| Some(of(who)?.median - floor?);

    println!("Instructions per request: prefork, one child, one keep-alive connection, by callgrind");
    let mut table = Table::new(&["", "instructions", "min – max", "above the floor"]);
    for who in Who::ALL {
        let Some(spread) = of(who) else { continue };
        let higher = above(who).filter(|_| who != Who::Floor);
        table.row(vec![
            who.name().to_owned(),
            thousands(spread.median),
            format!("{} – {}", thousands(spread.least), thousands(spread.most)),
            higher.map_or("–".to_owned(), thousands),
        ]);
    }
    println!("{table}");
    println!("Of the whole child, user space: (I({MANY} requests) − I({FEW})) / {}; start and stop cancel out.", MANY - FEW);
    let verdict = match above(Who::Ours).zip(above(Who::Rival)) {
        None => {
            println!("No ratio: that needs all three subjects.\n");
            return Verdict::NotMeasured;
        }
        Some((ours, rival)) if ours <= rival * TARGET => {
            println!("mod_wsgi_rs / mod_wsgi above the floor: {:.3}. At most one quarter: yes.\n", ours / rival);
            Verdict::Met
        }
        Some((ours, rival)) => {
            println!("mod_wsgi_rs / mod_wsgi above the floor: {:.3}. At most one quarter: NO.\n", ours / rival);
            Verdict::Missed
        }
    };
    verdict
}

/// Prints CPU time, throughput and latency for each MPM, with the ratios of paired runs.
pub(crate) fn cpu(runs: &[Run]) {
    for mpm in [Mpm::Prefork, Mpm::Event] {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.mpm == mpm).collect();
        let Some(first) = runs.first() else { continue };
        let shape = match mpm {
            Mpm::Prefork => "prefork, one child".to_owned(),
            Mpm::Event => format!("event, one child of {EVENT_THREADS} threads"),
        };
        let rounds = runs.iter().map(|run| run.round).max().map_or(0, |last| last + 1);
        println!(
            "CPU time per request: {shape}, {} keep-alive connection(s), {} requests, {rounds} rounds",
            first.connections,
            thousands(first.requests as f64)
        );
        let mut table =
            Table::new(&["", "CPU µs", "min – max", "user µs", "system µs", "requests/s", "p50 µs", "p99 µs"]);
        for who in Who::ALL {
            let of = |value: fn(&Run) -> f64| Spread::of(runs.iter().filter(|run| run.who == who).map(|run| value(run)));
            let median = |value: fn(&Run) -> f64| of(value).map_or(0.0, |spread| spread.median);
            let Some(cpu) = of(|run| run.cpu_us) else { continue };
            table.row(vec![
                who.name().to_owned(),
                format!("{:.1}", cpu.median),
                format!("{:.1} – {:.1}", cpu.least, cpu.most),
                format!("{:.1}", median(|run| run.user_us)),
                format!("{:.1}", median(|run| run.system_us)),
                thousands(median(|run| run.per_second)),
                format!("{:.0}", median(|run| run.p50_us)),
                format!("{:.0}", median(|run| run.p99_us)),
            ]);
        }
        println!("{table}");
        println!("Medians over the rounds. CPU is what the kernel counted for all threads of the child, exact;");
        println!("its division into user and system is sampled. The load shares the machine's cores.");
        ratios(&runs, rounds);
        same_python(&runs);
        println!();
    }
}

/// Ratios ours to rival, taken within each round.
fn ratios(runs: &[&Run], rounds: usize) {
    let pairs = |value: &dyn Fn(Option<&Run>, &Run, &Run) -> Option<f64>| {
        Spread::of((0..rounds).filter_map(|round| {
            let of = |who| runs.iter().find(|run| run.round == round && run.who == who).copied();
            value(of(Who::Floor), of(Who::Ours)?, of(Who::Rival)?)
        }))
    };
    let lines = [
        ("CPU time", pairs(&|_, ours, rival| Some(ours.cpu_us / rival.cpu_us))),
        (
            "CPU time above the floor",
            pairs(&|floor, ours, rival| Some((ours.cpu_us - floor?.cpu_us) / (rival.cpu_us - floor?.cpu_us))),
        ),
        ("requests/s", pairs(&|_, ours, rival| Some(ours.per_second / rival.per_second))),
        ("p99", pairs(&|_, ours, rival| Some(ours.p99_us / rival.p99_us))),
    ];
    for (name, spread) in lines {
        if let Some(Spread { least, median, most }) = spread {
            println!("mod_wsgi_rs / mod_wsgi, {name}: {median:.2} ({least:.2} – {most:.2}, paired)");
        }
    }
}

fn same_python(runs: &[&Run]) {
    let of = |who| runs.iter().find(|run| run.who == who).and_then(|run| run.libpython.as_deref());
    if let (Some(ours), Some(rival)) = (of(Who::Ours), of(Who::Rival))
        && ours != rival
    {
        println!("NOT A FAIR PAIR: ours runs {ours}, the rival {rival}. Use --python.");
    }
}

/// What it was measured on, in one line.
pub(crate) fn machine(httpd: &Httpd) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let version = |program: &Path, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    };
    format!(
        "{}; {}; {} × {processor}; load {}",
        version(&httpd.program, "-v").unwrap_or_default(),
        version(Path::new("valgrind"), "--version").unwrap_or_else(|| "no valgrind".to_owned()),
        std::thread::available_parallelism().map_or(0, usize::from),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split_whitespace().next().unwrap_or("?"),
    )
}

/// Writes the raw data, one file a measurement, named by the second it ended.
pub(crate) fn keep(out: &Path, name: &str, httpd: &Httpd, data: &impl Serialize) -> Result<()> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let file = out.join(format!("{name}-{second}.json"));
    fs::write(&file, serde_json::to_vec_pretty(&json!({ "machine": machine(httpd), name: data }))?)?;
    println!("Raw data: {}\n", file.display());
    Ok(())
}

/// Least, middle and most of some figures.
#[derive(Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { least, median, most })
    }
}

/// `221,000`
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// Columns as wide as their widest cell; heads that begin with a space, and the first column, to the left.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let head = &self.rows[0][column];
                if head.is_empty() || head.starts_with(' ') {
                    line += &format!("  {cell:<width$}");
                } else {
                    line += &format!("  {cell:>width$}");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Of the rival's instructions above the floor.
const TARGET: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 2.0, 9.0].into_iter());
        assert_eq!(spread, Some(Spread { least: 1.0, median: 3.0, most: 9.0 }));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn figures_are_grouped_by_three() {
        assert_eq!(["0", "999", "1,000", "-221,000"], [0.2, 999.0, 999.9, -221_000.4].map(thousands).each_ref().map(String::as_str));
    }

    #[test]
    fn a_table_aligns_by_characters() {
        let mut table = Table::new(&["", "µs"]);
        table.row(vec!["ours".into(), "10.5".into()]);
        assert_eq!(table.to_string(), "          µs\n  ours  10.5\n");
    }
}
