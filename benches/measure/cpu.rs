//! CPU time per request of the server's children, with throughput and latency, in alternating runs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::measure::clocks::{Clocks, Spent, busy};
use crate::print::report::pythons;
use crate::print::table::{Spread, Table, thousands};
use crate::subjects::load::{self, Load};
use crate::subjects::processes;
use crate::subjects::server::{Counted, EVENT_THREADS, Httpd, Mpm, Server, Under};
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
    /// CPU time of the load generator
    pub(crate) client_us: f64,
    /// CPUs that all other processes of the machine used
    pub(crate) others: f64,
    /// How many processes are counted
    pub(crate) processes: usize,
    /// How many of them ended during the run, so that their CPU time is not counted in full
    pub(crate) ended: usize,
    pub(crate) libpython: Option<String>,
}

/// What all runs of a comparison have in common.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) mpm: Mpm,
    pub(crate) connections: usize,
    pub(crate) rounds: usize,
    pub(crate) requests: usize,
    pub(crate) counted: Counted,
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
        let setting = Setting {
            mpm,
            connections,
            rounds,
            requests,
            counted: Counted::Child,
        };
        runs.extend(alternate(httpd, subjects, setting)?);
    }
    Ok(runs)
}

/// Every round runs each subject once, in a fresh server, and begins with another subject than the round before.
pub(crate) fn alternate(httpd: &Httpd, subjects: &[Subject], setting: Setting) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut failed = Vec::new();
    for round in 0..setting.rounds {
        for turn in 0..subjects.len() {
            let subject = &subjects[(round + turn) % subjects.len()];
            if failed.contains(&subject.contender) {
                continue;
            }
            let run = httpd
                .start(subject, setting.mpm, Under::Nothing)
                .and_then(|server| {
                    one(&server, setting, round, subject.contender).with_context(|| server.log())
                });
            match run {
                Ok(run) => runs.push(run),
                Err(failure) => failed.push(subject.left_out(&failure)?),
            }
        }
    }
    Ok(runs)
}

fn one(server: &Server, setting: Setting, round: usize, contender: Contender) -> Result<Run> {
    let Setting {
        mpm,
        connections,
        counted,
        ..
    } = setting;
    let requests = setting.requests / connections * connections;
    if counted == Counted::All {
        load::wait_for_answer(server.address(), PATIENCE)?;
        // The first of several processes may have answered while the others still start.
        thread::sleep(SETTLE);
    }
    let mut before = Clocks::default();
    let (mut begin, mut busy_before, mut client_before) =
        (Instant::now(), Duration::ZERO, Duration::ZERO);
    let Load { wall, latencies } = load::run(
        server.address(),
        connections,
        WARM.min(requests / 4) / connections,
        requests,
        || {
            before = Clocks::of(&server.processes(counted)?)?;
            (begin, busy_before, client_before) = (Instant::now(), busy()?, time_of_this_process());
            Ok(())
        },
    )?;
    let client = time_of_this_process().saturating_sub(client_before);
    let of_machine = busy()?.saturating_sub(busy_before);
    let elapsed = begin.elapsed();
    let all = server.processes(counted)?;
    let Spent {
        cpu,
        user,
        system,
        ended,
    } = before.until(&Clocks::of(&all)?);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / requests as f64;
    let quantile = |part: usize| {
        latencies[(latencies.len() * part / 100).min(latencies.len() - 1)].as_secs_f64() * 1e6
    };
    Ok(Run {
        mpm,
        round,
        contender,
        connections,
        requests,
        cpu_us: each(cpu),
        user_us: each(user),
        system_us: each(system),
        per_second: requests as f64 / wall.as_secs_f64(),
        p50_us: quantile(50),
        p99_us: quantile(99),
        client_us: each(client),
        others: others(of_machine, cpu + client, elapsed),
        processes: all.len(),
        ended,
        libpython: processes::libpython(&all)?,
    })
}

/// Returns the CPUs that the rest of the machine used, if all of it used `of_machine`.
fn others(of_machine: Duration, counted: Duration, elapsed: Duration) -> f64 {
    of_machine.saturating_sub(counted).as_secs_f64() / elapsed.as_secs_f64()
}

fn time_of_this_process() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// Returns the ratio of one subject to another, within each round that has both.
pub(crate) fn paired<'r>(
    runs: impl IntoIterator<Item = &'r Run, IntoIter: Clone>,
    one: Contender,
    other: Contender,
    value: fn(&Run) -> f64,
) -> Option<Spread> {
    let runs = runs.into_iter();
    let of = |contender| {
        runs.clone()
            .filter(move |run: &&Run| run.contender == contender)
    };
    Spread::of(of(one).filter_map(|run| {
        let partner = of(other).find(|partner| partner.round == run.round)?;
        Some(value(run) / value(partner))
    }))
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
/// The longest wait for the first response of a server with several processes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time from the first response of a server with several processes to the warm-up.
const SETTLE: Duration = Duration::from_millis(500);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a run with these figures.
    pub(crate) fn run(round: usize, contender: Contender, per_second: f64, p99_us: f64) -> Run {
        Run {
            mpm: Mpm::Event(EVENT_THREADS),
            round,
            contender,
            connections: EVENT_CONNECTIONS,
            requests: 1,
            cpu_us: 1.0,
            user_us: 1.0,
            system_us: 0.0,
            per_second,
            p50_us: 1.0,
            p99_us,
            client_us: 1.0,
            others: 0.0,
            processes: 1,
            ended: 0,
            libpython: None,
        }
    }

    #[test]
    fn others_are_what_is_not_counted() {
        let seconds = Duration::from_secs;
        assert_eq!(others(seconds(7), seconds(5), seconds(4)), 0.5);
        // The machine counts in clock ticks, and so perhaps less.
        assert_eq!(others(seconds(5), seconds(6), seconds(4)), 0.0);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let runs = [
            run(0, Contender::Ours, 100.0, 1.0),
            run(0, Contender::Rival, 50.0, 1.0),
            run(1, Contender::Rival, 5.0, 1.0),
            run(1, Contender::Ours, 10.0, 1.0),
            run(2, Contender::Ours, 1.0, 1.0),
        ];
        let speed: fn(&Run) -> f64 = |run| run.per_second;
        let ratio = paired(&runs, Contender::Ours, Contender::Rival, speed);
        let ratio = ratio.map(|ratio| (ratio.least, ratio.most));
        assert_eq!(ratio, Some((2.0, 2.0)));
        assert_eq!(
            paired(&runs, Contender::Ours, Contender::Floor, speed),
            None
        );
    }
}
