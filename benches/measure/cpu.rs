//! CPU time per request of the server's children, with throughput and latency, in alternating runs.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::ticks_per_second;
use serde::Serialize;

use crate::print::report::pythons;
use crate::print::table::{Spread, Table, thousands};
use crate::subjects::load::{self, Load};
use crate::subjects::server::{EVENT_THREADS, Httpd, Mpm, Server, Under, process};
use crate::subjects::subject::{Contender, Subject};

/// One run of one subject.
#[derive(Serialize)]
pub(crate) struct Run {
    pub(crate) mpm: Mpm,
    pub(crate) round: usize,
    pub(crate) contender: Contender,
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) cpu_us: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) libpython: Option<String>,
}

/// Measures under both MPMs, with one connection under prefork and several under event.
pub(crate) fn measure(
    httpd: &Httpd,
    subjects: &[Subject],
    rounds: usize,
    requests: usize,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (mpm, connections) in [
        (Mpm::Prefork, 1),
        (Mpm::Event(EVENT_THREADS), EVENT_CONNECTIONS),
    ] {
        eprintln!("wsgi-bench: {rounds} rounds of CPU time under {mpm:?}");
        runs.extend(alternate(
            httpd,
            subjects,
            mpm,
            connections,
            rounds,
            requests,
        )?);
    }
    Ok(runs)
}

/// Every round runs each subject once, in a fresh server, and begins with another subject than the round before.
pub(crate) fn alternate(
    httpd: &Httpd,
    subjects: &[Subject],
    mpm: Mpm,
    connections: usize,
    rounds: usize,
    requests: usize,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut failed = Vec::new();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let subject = &subjects[(round + turn) % subjects.len()];
            if failed.contains(&subject.contender) {
                continue;
            }
            let run = httpd
                .start(subject, mpm, Under::Nothing)
                .and_then(|server| {
                    one(
                        &server,
                        mpm,
                        round,
                        subject.contender,
                        connections,
                        requests,
                    )
                    .with_context(|| server.log())
                });
            match run {
                Ok(run) => runs.push(run),
                Err(failure) => failed.push(subject.left_out(&failure)?),
            }
        }
    }
    Ok(runs)
}

fn one(
    server: &Server,
    mpm: Mpm,
    round: usize,
    contender: Contender,
    connections: usize,
    requests: usize,
) -> Result<Run> {
    let requests = requests / connections * connections;
    let mut before = Clocks::default();
    let Load { wall, latencies } = load::run(
        server.address(),
        connections,
        WARM.min(requests / 4) / connections,
        requests,
        || {
            before = Clocks::of(server.child()?)?;
            Ok(())
        },
    )?;
    let after = Clocks::of(server.child()?)?;
    let each = |from: Duration, to: Duration| {
        to.saturating_sub(from).as_secs_f64() * 1e6 / requests as f64
    };
    let quantile = |part: usize| {
        latencies[(latencies.len() * part / 100).min(latencies.len() - 1)].as_secs_f64() * 1e6
    };
    Ok(Run {
        mpm,
        round,
        contender,
        connections,
        requests,
        cpu_us: each(before.cpu, after.cpu),
        user_us: each(before.user, after.user),
        system_us: each(before.system, after.system),
        per_second: requests as f64 / wall.as_secs_f64(),
        p50_us: quantile(50),
        p99_us: quantile(99),
        libpython: server.libpython()?,
    })
}

/// The kernel's counts for a process.
#[derive(Default)]
struct Clocks {
    /// Exact, to the nanosecond
    cpu: Duration,
    /// Sampled at clock ticks: good enough for a share, not for a difference of a few percent
    user: Duration,
    system: Duration,
}

impl Clocks {
    fn of(pid: u32) -> Result<Self> {
        let process = process(pid)?;
        let mut cpu = Duration::ZERO;
        // The file of the process itself counts only its first thread.
        for thread in process.tasks()? {
            cpu += Duration::from_nanos(thread?.schedstat()?.sum_exec_runtime);
        }
        let stat = process.stat()?;
        let ticks = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64);
        Ok(Self {
            cpu,
            user: ticks(stat.utime),
            system: ticks(stat.stime),
        })
    }
}

/// Prints CPU time, throughput and latency for each MPM, with the ratios of paired runs.
pub(crate) fn print(runs: &[Run]) {
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
        for contender in Contender::ALL {
            let of = |value: fn(&Run) -> f64| {
                Spread::of(
                    runs.iter()
                        .filter(|run| run.contender == contender)
                        .map(|run| value(run)),
                )
            };
            let median = |value: fn(&Run) -> f64| of(value).map_or(0.0, |spread| spread.median);
            let Some(cpu) = of(|run| run.cpu_us) else {
                continue;
            };
            table.row(vec![
                contender.name().to_owned(),
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
        pythons(runs.iter().map(|run| (run.contender, &run.libpython)));
        println!();
    }
}

/// Prints the ratios of ours to the rival, taken within each round.
fn ratios(runs: &[&Run], rounds: usize) {
    let pairs = |value: Ratio| {
        Spread::of((0..rounds).filter_map(|round| {
            let of = |contender| {
                runs.iter()
                    .find(|run| run.round == round && run.contender == contender)
                    .copied()
            };
            value(
                of(Contender::Floor),
                of(Contender::Ours)?,
                of(Contender::Rival)?,
            )
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

/// A ratio of floor, ours and the rival in one round.
type Ratio = fn(Option<&Run>, &Run, &Run) -> Option<f64>;

/// Fewer connections than the child has threads, so that none waits for a thread.
pub(crate) const EVENT_CONNECTIONS: usize = 16;
/// The most requests before the clocks are read.
const WARM: usize = 800;
