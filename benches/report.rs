//! What a person reads, tables and ratios with a line of explanation; and the raw data as JSON.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::cpu::Run;
use crate::instructions::{Count, FEW, MANY};
use crate::metrics::Metrics;
use crate::server::{EVENT_THREADS, Httpd, Mpm};
use crate::subject::Who;
use crate::table::{Spread, Table, thousands};

/// Whether the target was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    /// Met only where all are.
    pub(crate) fn of_all(verdicts: &[Self]) -> Self {
        match verdicts {
            [] => Self::NotMeasured,
            _ if verdicts.contains(&Self::Missed) => Self::Missed,
            _ if verdicts.contains(&Self::NotMeasured) => Self::NotMeasured,
            _ => Self::Met,
        }
    }
}

/// Prints instructions per request, above the floor, and the ratio.
pub(crate) fn instructions(counts: &[Count]) -> Verdict {
    let of = |who: Who| {
        Spread::of(
            counts
                .iter()
                .filter(|count| count.who == who)
                .map(|count| count.per_request),
        )
    };
    let floor = of(Who::Floor).map(|spread| spread.median);
    let above = |who: Who| Some(of(who)?.median - floor?);

    println!(
        "Instructions per request: prefork, one child, one keep-alive connection, by callgrind"
    );
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
    println!(
        "Of the whole child, user space: (I({MANY} requests) − I({FEW})) / {}; start and stop cancel out.",
        MANY - FEW
    );
    pythons(counts.iter().map(|count| (count.who, &count.libpython)));
    if let (Some(with), Some(without)) = (of(Who::Ours), of(Who::Unmeasured)) {
        let share = with.median / without.median - 1.0;
        println!(
            "Metrics: {} instructions, {:.2} % of a request. At most {} %: {}.",
            thousands(with.median - without.median),
            100.0 * share,
            100.0 * METRICS_TARGET,
            if share <= METRICS_TARGET { "yes" } else { "NO" }
        );
    }
    match above(Who::Ours).zip(above(Who::Rival)) {
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

/// Prints instructions per request by where one interpreter holds the application.
pub(crate) fn places(counts: &[Count]) -> Verdict {
    let of = |who: Who| {
        let counts = counts.iter().filter(|count| count.who == who);
        Spread::of(counts.map(|count| count.per_request)).map(|spread| spread.median)
    };
    let python = counts.iter().find_map(|count| count.libpython.as_deref());
    println!(
        "Instructions per request of mod_wsgi_rs by interpreter, {}",
        python.unwrap_or("no Python")
    );
    let all = Who::PLACES.map(of);
    let mut table = Table::new(&["", "instructions", "of the main one"]);
    for (who, count) in Who::PLACES.into_iter().zip(all) {
        let Some(count) = count else { continue };
        table.row(vec![
            who.name().to_owned(),
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

/// Prints CPU time, throughput and latency for each MPM, with the ratios of paired runs.
pub(crate) fn cpu(runs: &[Run]) {
    for mpm in [Mpm::Prefork, Mpm::Event(EVENT_THREADS)] {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.mpm == mpm).collect();
        let Some(first) = runs.first() else { continue };
        let shape = match mpm {
            Mpm::Prefork => "prefork, one child".to_owned(),
            Mpm::Event(threads) => format!("event, one child of {threads} threads"),
        };
        let rounds = runs
            .iter()
            .map(|run| run.round)
            .max()
            .map_or(0, |last| last + 1);
        println!(
            "CPU time per request: {shape}, {} keep-alive connection(s), {} requests, {rounds} rounds",
            first.connections,
            thousands(first.requests as f64)
        );
        let mut table = Table::new(&[
            "",
            "CPU µs",
            "min – max",
            "user µs",
            "system µs",
            "requests/s",
            "p50 µs",
            "p99 µs",
        ]);
        for who in Who::ALL {
            let of = |value: fn(&Run) -> f64| {
                Spread::of(
                    runs.iter()
                        .filter(|run| run.who == who)
                        .map(|run| value(run)),
                )
            };
            let median = |value: fn(&Run) -> f64| of(value).map_or(0.0, |spread| spread.median);
            let Some(cpu) = of(|run| run.cpu_us) else {
                continue;
            };
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
        println!(
            "Medians over the rounds. CPU is what the kernel counted for all threads of the child, exact;"
        );
        println!(
            "its division into user and system is sampled. The load shares the machine's cores."
        );
        ratios(&runs, rounds);
        pythons(runs.iter().map(|run| (run.who, &run.libpython)));
        println!();
    }
}

/// Ratios ours to rival, taken within each round.
fn ratios(runs: &[&Run], rounds: usize) {
    let pairs = |value: Ratio| {
        Spread::of((0..rounds).filter_map(|round| {
            let of = |who| {
                runs.iter()
                    .find(|run| run.round == round && run.who == who)
                    .copied()
            };
            value(of(Who::Floor), of(Who::Ours)?, of(Who::Rival)?)
        }))
    };
    let lines = [
        (
            "CPU time",
            pairs(|_, ours, rival| Some(ours.cpu_us / rival.cpu_us)),
        ),
        (
            "CPU time above the floor",
            pairs(|floor, ours, rival| {
                Some((ours.cpu_us - floor?.cpu_us) / (rival.cpu_us - floor?.cpu_us))
            }),
        ),
        (
            "requests/s",
            pairs(|_, ours, rival| Some(ours.per_second / rival.per_second)),
        ),
        (
            "p99",
            pairs(|_, ours, rival| Some(ours.p99_us / rival.p99_us)),
        ),
    ];
    for (name, spread) in lines {
        if let Some(Spread {
            least,
            median,
            most,
        }) = spread
        {
            println!(
                "mod_wsgi_rs / mod_wsgi, {name}: {median:.2} ({least:.2} – {most:.2}, paired)"
            );
        }
    }
}

/// Of floor, ours and rival in one round.
type Ratio = fn(Option<&Run>, &Run, &Run) -> Option<f64>;

/// Says which Python ran, and warns if it was not the same for both.
fn pythons<'r>(ran: impl Iterator<Item = (Who, &'r Option<String>)>) {
    let ran: Vec<(Who, &str)> = ran
        .filter_map(|(who, python)| Some((who, python.as_deref()?)))
        .collect();
    let of = |who| {
        ran.iter()
            .find(|(one, _)| *one == who)
            .map(|(_, python)| *python)
    };
    match (of(Who::Ours), of(Who::Rival)) {
        (Some(ours), Some(rival)) if ours != rival => {
            println!("NOT A FAIR PAIR: ours runs {ours}, the rival {rival}. Use --python.");
        }
        (ours, rival) => println!("Python: {}.", ours.or(rival).unwrap_or("none")),
    }
}

/// The libpython that ran; all that ran, if they differ, and then nothing is a fair comparison.
pub(crate) fn one_python<'r>(ran: impl Iterator<Item = Option<&'r str>>) -> String {
    let mut names: Vec<&str> = ran.map(|name| name.unwrap_or("no Python")).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [one] => one.to_owned(),
        _ => format!("NOT A FAIR PAIR: {}", names.join(" and ")),
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
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .map(str::to_owned)
    };
    format!(
        "{}; {}; {} × {processor}; load {}",
        version(&httpd.program, "-v").unwrap_or_default(),
        version(Path::new("valgrind"), "--version").unwrap_or_else(|| "no valgrind".to_owned()),
        std::thread::available_parallelism().map_or(0, usize::from),
        fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .split_whitespace()
            .next()
            .unwrap_or("?"),
    )
}

/// Writes the raw data, one file a measurement, named by the second it ended.
pub(crate) fn keep(out: &Path, name: &str, httpd: &Httpd, data: &impl Serialize) -> Result<()> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let file = out.join(format!("{name}-{second}.json"));
    fs::write(
        &file,
        serde_json::to_vec_pretty(&json!({ "machine": machine(httpd), name: data }))?,
    )?;
    println!("Raw data: {}\n", file.display());
    Ok(())
}

/// Prints what recording and scraping cost.
pub(crate) fn metrics(measured: &Metrics) {
    println!(
        "Recording one request: its nine histogram observations and counters, without the clock"
    );
    let mut table = Table::new(&["", "ns", "min – max", "of a plain counter"]);
    let plain = Spread::of(measured.recording[0].1.iter().copied());
    for (name, runs) in &measured.recording {
        let Some(spread) = Spread::of(runs.iter().copied()) else {
            continue;
        };
        table.row(vec![
            name.clone(),
            format!("{:.1}", spread.median),
            format!("{:.1} – {:.1}", spread.least, spread.most),
            plain.as_ref().map_or("–".to_owned(), |plain| {
                format!("{:.0}×", spread.median / plain.median)
            }),
        ]);
    }
    println!("{table}");
    println!(
        "A scrape of prefork children: reading the two arenas and the memory of each, and writing the text; 10 applications"
    );
    let mut table = Table::new(&["children", "ms", "min – max", "reading ms", "text kB"]);
    for scrape in &measured.scrapes {
        let (Some(whole), Some(reading)) = (
            Spread::of(scrape.whole_ms.iter().copied()),
            Spread::of(scrape.reading_ms.iter().copied()),
        ) else {
            continue;
        };
        table.row(vec![
            scrape.children.to_string(),
            format!("{:.2}", whole.median),
            format!("{:.2} – {:.2}", whole.least, whole.most),
            format!("{:.2}", reading.median),
            format!("{:.0}", scrape.bytes as f64 / 1000.0),
        ]);
    }
    println!("{table}");
}

/// Of the instructions of a request, for the metrics.
const METRICS_TARGET: f64 = 0.02;

/// Of the instructions of a request, between interpreters.
const APART_TARGET: f64 = 0.1;

/// Of the rival's instructions above the floor.
const TARGET: f64 = 0.25;
